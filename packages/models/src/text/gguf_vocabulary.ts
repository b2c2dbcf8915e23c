import { MambalabError, UnsupportedModelError, WeightFormatError } from '@mambalab/kernels';
import type { PreTokenizer } from './gguf_pre_tokenizers.ts';
import { PRE_TOKENIZERS } from './gguf_pre_tokenizers.ts';
import { spmMerges } from './gguf_merges.ts';
import { spaceMarks } from './space_marks.ts';
import type { Normalization } from './space_marks.ts';
import type { AddedTokenJson } from './tokenizer_json.ts';

/** The vocabulary of a GGUF file: what stands under `tokenizer.`, undecoded where it is long. */
export interface GgufVocabulary {
  /** `tokenizer.ggml.model`: `llama` for SentencePiece's BPE, `gpt2` for byte-level BPE. */
  readonly model: string | undefined;
  /** `tokenizer.ggml.pre`: how byte-level BPE cuts texts into words. */
  readonly pre: string | undefined;
  readonly tokens: () => readonly string[] | undefined;
  readonly types: () => readonly number[] | undefined;
  readonly scores: () => readonly number[] | undefined;
  readonly merges: () => readonly string[] | undefined;
  readonly roles: Readonly<Record<'bos' | 'eos' | 'pad' | 'unk', number | undefined>>;
  /** What is put around a text, where the file says. */
  readonly addBos: boolean | undefined;
  readonly addEos: boolean | undefined;
  readonly addSpacePrefix: boolean | undefined;
  /** Whether the file holds rules of normalisation, which nothing here applies. */
  readonly hasCharacterMap: boolean;
  /** For SentencePiece's BPE, from other files than GGUF. */
  readonly normalization?: Omit<Normalization, 'prefix'>;
  /** Whether what the vocabulary lacks becomes bytes, and not the unknown token; true when absent. */
  readonly byteFallback?: boolean;
  /** Templates of conversations by name, `default` the one without. */
  readonly chatTemplates: ReadonlyMap<string, string>;
  /** `tokenizer.huggingface.json`, parsed: a whole tokenizer.json. */
  readonly json: unknown;
}

/** The files of a tokenizer as Hugging Face has them. */
export interface RebuiltTokenizer {
  /** undefined where there is no vocabulary, or `problem` says why it cannot be rebuilt. */
  readonly tokenizerJson: unknown;
  readonly tokenizerConfig: Readonly<Record<string, unknown>>;
  readonly problem: MambalabError | undefined;
}

/** Types of tokens by their numbers in the format. */
const UNKNOWN = 2;
const CONTROL = 3;
const USER_DEFINED = 4;
const UNUSED = 5;
const NORMAL = 1;

interface Token {
  readonly id: number;
  readonly text: string;
  readonly type: number;
}

/**
 * Rebuilds a tokenizer from the vocabulary of a GGUF file. A tokenizer that cannot be rebuilt exactly is left out, and
 * `problem` says why: the model takes token ids all the same.
 */
export function rebuildTokenizer(vocabulary: GgufVocabulary): RebuiltTokenizer {
  let tokens: readonly Token[] | undefined;
  let tokenizerJson: unknown;
  let problem: MambalabError | undefined;
  try {
    tokens = tokensOf(vocabulary);
    if (tokens !== undefined) tokenizerJson = vocabulary.json ?? jsonOf(vocabulary, tokens);
  } catch (error) {
    if (!(error instanceof MambalabError)) throw error;
    problem = error;
  }
  const named = Object.entries(vocabulary.roles).flatMap(([role, id]) => {
    const text = id === undefined ? undefined : tokens?.[id]?.text;
    return text === undefined ? [] : [[`${role}_token`, text] as const];
  });
  const templates = [...vocabulary.chatTemplates].map(([name, template]) => ({ name, template }));
  const tokenizerConfig = {
    ...Object.fromEntries(named),
    clean_up_tokenization_spaces: false,
    ...(templates.length > 0 && { chat_template: templates }),
  };
  return { tokenizerJson, tokenizerConfig, problem };
}

function tokensOf(vocabulary: GgufVocabulary): readonly Token[] | undefined {
  const texts = vocabulary.tokens();
  if (texts === undefined) return undefined;
  const types = vocabulary.types();
  if (types !== undefined && types.length !== texts.length) {
    throw new WeightFormatError(
      `'tokenizer.ggml.token_type' has ${types.length} entries for ${texts.length} tokens.`,
      'Download or convert the model again.',
    );
  }
  const seen = new Map<string, number>();
  return texts.map((text, id) => {
    const other = seen.get(text);
    if (other !== undefined) {
      throw new WeightFormatError(
        `Tokens ${other} and ${id} of 'tokenizer.ggml.tokens' are both ${JSON.stringify(text).slice(0, 80)}.`,
        'Download or convert the model again.',
      );
    }
    seen.set(text, id);
    return { id, text, type: types?.[id] ?? NORMAL };
  });
}

function jsonOf(vocabulary: GgufVocabulary, tokens: readonly Token[]): unknown {
  switch (vocabulary.model) {
    case 'gpt2':
      return byteLevelJson(vocabulary, tokens);
    case 'llama':
      return sentencePieceJson(vocabulary, tokens);
    default:
      throw unsupported(
        `has a tokenizer of the model '${(vocabulary.model ?? 'none').slice(0, 80)}'`,
        "Supported are 'gpt2' and 'llama'.",
      );
  }
}

function byteLevelJson(vocabulary: GgufVocabulary, tokens: readonly Token[]): unknown {
  const { pre = 'default' } = vocabulary;
  const rules = Object.hasOwn(PRE_TOKENIZERS, pre) ? PRE_TOKENIZERS[pre] : undefined;
  if (rules === undefined) {
    const known = Object.keys(PRE_TOKENIZERS).join(', ');
    throw unsupported(
      `cuts texts into words by the rules '${pre.slice(0, 80)}' ('tokenizer.ggml.pre')`,
      `Supported are: ${known}.`,
    );
  }
  const merges = vocabulary.merges()?.map((merge) => {
    // The first character may be a space of its own.
    const space = merge.indexOf(' ', 1);
    return [merge.slice(0, space), merge.slice(space + 1)];
  });
  if (merges === undefined) throw unsupported("has no 'tokenizer.ggml.merges'", 'Convert the model again.');
  return {
    added_tokens: addedTokens(tokens, { normalized: true }),
    normalizer: rules.normalizer === undefined ? null : { type: rules.normalizer },
    pre_tokenizer: wordSplitter(rules),
    post_processor: surroundings(vocabulary, tokens, rules.addBos ?? false),
    decoder: { type: 'ByteLevel' },
    model: {
      type: 'BPE',
      vocab: Object.fromEntries(inModel(tokens)),
      merges,
      unk_token: null,
      ignore_merges: rules.ignoreMerges ?? false,
    },
  };
}

function wordSplitter({ splits }: PreTokenizer): unknown {
  const isolate = (Regex: string): unknown => ({
    type: 'Split',
    pattern: { Regex },
    behavior: 'Isolated',
    invert: false,
  });
  return {
    type: 'Sequence',
    pretokenizers: [...splits.map(isolate), { type: 'ByteLevel', add_prefix_space: false, use_regex: false }],
  };
}

/** SentencePiece's BPE: spaces are a character, and what the vocabulary lacks usually becomes bytes. */
function sentencePieceJson(vocabulary: GgufVocabulary, tokens: readonly Token[]): unknown {
  if (vocabulary.hasCharacterMap) {
    throw unsupported(
      "normalises texts by a map ('tokenizer.ggml.precompiled_charsmap')",
      'Give prompts as token ids, made by the tokenizer of the original model.',
    );
  }
  const scores = vocabulary.scores();
  const pieces = tokens.filter(({ type }) => type === NORMAL || type === USER_DEFINED);
  checkScores(scores, tokens);
  const prefix = vocabulary.addSpacePrefix ?? true;
  const unknown = tokens.find(({ type }) => type === UNKNOWN)?.text;
  return {
    added_tokens: addedTokens(tokens, { normalized: false }),
    ...spaceMarks({ prefix, ...vocabulary.normalization }),
    pre_tokenizer: null,
    post_processor: surroundings(vocabulary, tokens, true),
    model: {
      type: 'BPE',
      vocab: Object.fromEntries(inModel(tokens)),
      merges: spmMerges(pieces, scores ?? []),
      unk_token: unknown ?? null,
      fuse_unk: true,
      byte_fallback: vocabulary.byteFallback ?? true,
    },
  };
}

/** Scores of SentencePiece's BPE are the negative ranks of merges; those of its unigram model are logarithms. */
function checkScores(scores: readonly number[] | undefined, tokens: readonly Token[]): void {
  if (scores?.length !== tokens.length) {
    throw unsupported(
      `has ${scores?.length ?? 0} scores ('tokenizer.ggml.scores') for ${tokens.length} tokens`,
      'Convert the model again, with its tokenizer.model beside it.',
    );
  }
  const ofPieces = tokens.filter(({ type, text }) => type === NORMAL && [...text].length > 1);
  const distinct = new Set(ofPieces.map(({ id }) => scores[id]));
  if (distinct.size === ofPieces.length && [...distinct].every(Number.isInteger)) return;
  throw unsupported(
    "has scores ('tokenizer.ggml.scores') that are no ranks of merges",
    'Convert the model again, with its tokenizer.model beside it, or give prompts as token ids.',
  );
}

/** What of the vocabulary the model itself may give: padding, and tokens that only a role brings about, are left out. */
const inModel = (tokens: readonly Token[]): [string, number][] =>
  tokens.filter(({ type }) => type !== CONTROL && type !== UNUSED).map(({ text, id }) => [text, id]);

/** Tokens that are found in texts before anything else is. */
function addedTokens(tokens: readonly Token[], userDefined: { readonly normalized: boolean }): AddedTokenJson[] {
  return tokens
    .filter(({ type }) => type === CONTROL || type === USER_DEFINED || type === UNKNOWN)
    .map(({ id, text, type }) => ({
      id,
      content: text,
      special: type !== USER_DEFINED,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: type === USER_DEFINED && userDefined.normalized,
    }));
}

/** What is put around a text, as a template; null for nothing. */
function surroundings(vocabulary: GgufVocabulary, tokens: readonly Token[], addsBos: boolean): unknown {
  const { roles, addBos = addsBos, addEos = false } = vocabulary;
  const bos = addBos && roles.bos !== undefined ? tokens[roles.bos] : undefined;
  const eos = addEos && roles.eos !== undefined ? tokens[roles.eos] : undefined;
  if (bos === undefined && eos === undefined) return null;
  const item = ({ text }: Token): unknown => ({ SpecialToken: { id: text, type_id: 0 } });
  const around = (sequence: string): unknown[] => [
    ...(bos === undefined ? [] : [item(bos)]),
    { Sequence: { id: sequence, type_id: 0 } },
    ...(eos === undefined ? [] : [item(eos)]),
  ];
  const used = [bos, eos].filter((token) => token !== undefined);
  return {
    type: 'TemplateProcessing',
    single: around('A'),
    pair: [...around('A'), ...around('B')],
    special_tokens: Object.fromEntries(used.map(({ id, text }) => [text, { id: text, ids: [id], tokens: [text] }])),
  };
}

const unsupported = (problem: string, hint: string): UnsupportedModelError =>
  new UnsupportedModelError(`The vocabulary of this GGUF file ${problem}; it cannot be rebuilt here.`, hint);
