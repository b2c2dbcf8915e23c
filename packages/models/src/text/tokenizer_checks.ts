import { UnsupportedModelError, WeightFormatError } from '@mambalab/kernels';
import { field, typeOf } from './tokenizer_json.ts';

/**
 * What a field of tokenizer.json must hold. With a `?` it may be absent or null. The library that encodes takes all of it
 * on trust: it would fail at the first text, loop, or write ids that are not numbers.
 */
type Kind =
  | 'boolean?'
  | 'string'
  | 'string?'
  | 'length'
  | 'pattern'
  | 'behavior'
  | 'scheme?'
  | 'marker'
  | 'template'
  | 'components';

type Components = Readonly<Record<string, Readonly<Record<string, Kind>>>>;

const NORMALIZERS: Components = {
  BertNormalizer: {
    clean_text: 'boolean?',
    handle_chinese_chars: 'boolean?',
    strip_accents: 'boolean?',
    lowercase: 'boolean?',
  },
  Lowercase: {},
  NFC: {},
  NFD: {},
  NFKC: {},
  NFKD: {},
  Precompiled: { precompiled_charsmap: 'string?' },
  Prepend: { prepend: 'string' },
  Replace: { pattern: 'pattern', content: 'string' },
  Sequence: { normalizers: 'components' },
  Strip: { strip_left: 'boolean?', strip_right: 'boolean?' },
  StripAccents: {},
};

const PRE_TOKENIZERS: Components = {
  BertPreTokenizer: {},
  ByteLevel: { add_prefix_space: 'boolean?', trim_offsets: 'boolean?', use_regex: 'boolean?' },
  Digits: { individual_digits: 'boolean?' },
  FixedLength: { length: 'length' },
  Metaspace: { replacement: 'string?', str_rep: 'string?', prepend_scheme: 'scheme?', split: 'boolean?' },
  Punctuation: {},
  Replace: { pattern: 'pattern', content: 'string' },
  Sequence: { pretokenizers: 'components' },
  Split: { pattern: 'pattern', behavior: 'behavior', invert: 'boolean?' },
  Whitespace: {},
  WhitespaceSplit: {},
};

const POST_PROCESSORS: Components = {
  BertProcessing: { sep: 'marker', cls: 'marker' },
  ByteLevel: {},
  RobertaProcessing: { sep: 'marker', cls: 'marker' },
  Sequence: { processors: 'components' },
  TemplateProcessing: { single: 'template' },
};

/** Higher ids are taken for those of a damaged file: tokens are kept in a list. */
const LARGEST_ID = 2 ** 24;
/** Sequences within sequences. */
const DEEPEST = 8;

/**
 * Checks the parts of a tokenizer.json that encoding uses, its added tokens merged in.
 *
 * @throws WeightFormatError naming the field that holds something else than the format calls for;
 *   UnsupportedModelError for a component or model of another type
 */
export function checkTokenizerJson(json: Readonly<Record<string, unknown>>): void {
  const tokens = checkModel(json['model']);
  checkAddedTokens(json['added_tokens'], tokens);
  checkComponent('normalizer', json['normalizer'], NORMALIZERS);
  checkComponent('pre_tokenizer', json['pre_tokenizer'], PRE_TOKENIZERS);
  checkComponent('post_processor', json['post_processor'], POST_PROCESSORS, tokens);
  const unknown = field(json['model'], 'unk_token');
  if (typeof unknown === 'string' && !tokens.has(unknown)) {
    throw wrong('model.unk_token', 'a token of the vocabulary', unknown);
  }
}

/** Ids by tokens. */
type Tokens = Map<string, number>;

function checkModel(model: unknown): Tokens {
  const type = typeOf(model);
  const vocab = field(model, 'vocab');
  if (type === 'Unigram') return checkUnigram(model, vocab);
  // Files from before the format named its types are BPE.
  if (type !== undefined && type !== 'BPE' && type !== 'WordPiece') {
    throw new UnsupportedModelError(
      `tokenizer.json has a model of the type ${type.slice(0, 80)}.`,
      'Supported are BPE, Unigram and WordPiece.',
    );
  }
  if (typeof vocab !== 'object' || vocab === null || Array.isArray(vocab)) {
    throw wrong('model.vocab', 'an object of tokens and their ids', vocab);
  }
  const tokens: Tokens = new Map();
  const texts = new Map<number, string>();
  for (const [text, id] of Object.entries(vocab) as [string, unknown][]) {
    if (!isId(id)) throw wrong(`model.vocab[${JSON.stringify(text).slice(0, 80)}]`, ID, id);
    const other = texts.get(id);
    if (other !== undefined) {
      throw wrong('model.vocab', `one token for each id; ${JSON.stringify([other, text])} share one`, id);
    }
    texts.set(id, text);
    tokens.set(text, id);
  }
  const optional = (names: readonly string[], kind: Kind): void => {
    for (const name of names) checkField(`model.${name}`, field(model, name), kind);
  };
  if (type === 'WordPiece') {
    optional(['unk_token', 'continuing_subword_prefix'], 'string');
    if (field(model, 'max_input_chars_per_word') !== undefined) optional(['max_input_chars_per_word'], 'length');
    return tokens;
  }
  optional(['unk_token', 'end_of_word_suffix', 'continuing_subword_suffix'], 'string?');
  optional(['byte_fallback', 'fuse_unk', 'ignore_merges'], 'boolean?');
  checkMerges(field(model, 'merges'));
  return tokens;
}

function checkMerges(merges: unknown): void {
  if (!Array.isArray(merges)) throw wrong('model.merges', 'a list of pairs', merges);
  const isPair = (pair: unknown): boolean =>
    Array.isArray(pair)
      ? pair.length === 2 && pair.every((part) => typeof part === 'string')
      : typeof pair === 'string';
  const bad = merges.findIndex((merge) => !isPair(merge));
  if (bad >= 0) throw wrong(`model.merges[${bad}]`, 'a pair of texts', merges[bad]);
}

function checkUnigram(model: unknown, vocab: unknown): Tokens {
  if (!Array.isArray(vocab) || vocab.length === 0) throw wrong('model.vocab', 'a list of tokens and scores', vocab);
  const tokens: Tokens = new Map();
  for (const [id, item] of vocab.entries() as IterableIterator<[number, unknown]>) {
    const [text, score] = Array.isArray(item) ? (item as unknown[]) : [];
    if (typeof text !== 'string' || typeof score !== 'number') {
      throw wrong(`model.vocab[${id}]`, 'a token and its score', item);
    }
    tokens.set(text, id);
  }
  const unknown = field(model, 'unk_id') ?? undefined;
  if (unknown !== undefined && !(isId(unknown) && unknown < vocab.length)) {
    throw wrong('model.unk_id', 'the id of a token', unknown);
  }
  checkField('model.byte_fallback', field(model, 'byte_fallback'), 'boolean?');
  return tokens;
}

function checkAddedTokens(added: unknown, tokens: Tokens): void {
  for (const [index, token] of (Array.isArray(added) ? (added as unknown[]) : []).entries()) {
    const [id, content] = [field(token, 'id'), field(token, 'content')];
    if (!isId(id)) throw wrong(`added_tokens[${index}].id`, ID, id);
    if (typeof content !== 'string') throw wrong(`added_tokens[${index}].content`, 'a text', content);
    tokens.set(content, id);
  }
}

function checkComponent(
  path: string,
  config: unknown,
  known: Components,
  tokens: Tokens = new Map(),
  depth: number = 0,
): void {
  if (config === null && depth === 0) return;
  const type = typeOf(config);
  if (type === undefined) throw wrong(path, 'an object with a `type`', config);
  const fields = Object.hasOwn(known, type) ? known[type] : undefined;
  if (fields === undefined) {
    throw new UnsupportedModelError(
      `tokenizer.json has the ${path} ${type.slice(0, 80)}.`,
      `Supported are ${Object.keys(known).join(', ')}.`,
    );
  }
  for (const [name, kind] of Object.entries(fields)) {
    const value = field(config, name);
    const at = `${path}.${name}`;
    if (kind === 'components') {
      if (!Array.isArray(value)) throw wrong(at, 'a list of components', value);
      if (depth >= DEEPEST) throw wrong(at, `sequences in at most ${DEEPEST} levels`, value);
      value.forEach((item, index) => checkComponent(`${at}[${index}]`, item, known, tokens, depth + 1));
    } else if (kind === 'template') {
      checkTemplate(at, value, tokens);
    } else if (kind === 'marker') {
      const [text] = Array.isArray(value) ? (value as unknown[]) : [];
      if (typeof text !== 'string' || !tokens.has(text)) throw wrong(at, 'a token and its id', value);
    } else {
      checkField(at, value, kind);
    }
  }
  if (type === 'Split') checkBehavior(path, config);
}

function checkField(path: string, value: unknown, kind: Kind): void {
  if (kind.endsWith('?') && (value === undefined || value === null)) return;
  switch (kind) {
    case 'boolean?':
      if (typeof value !== 'boolean') throw wrong(path, 'true or false', value);
      break;
    case 'string':
    case 'string?':
      if (typeof value !== 'string') throw wrong(path, 'a text', value);
      break;
    case 'length':
      if (!Number.isSafeInteger(value) || Number(value) < 1) throw wrong(path, 'a whole number from 1 up', value);
      break;
    case 'pattern': {
      const text = field(value, 'String') ?? field(value, 'Regex');
      if (typeof text !== 'string' || text === '') throw wrong(path, '`{ String }` or `{ Regex }`', value);
      break;
    }
    case 'scheme?':
      if (!['always', 'first', 'never'].includes(String(value))) throw wrong(path, 'always, first or never', value);
      break;
    default:
  }
}

/** What becomes of the separators: the library knows no other, and would take them for `Isolated`. */
function checkBehavior(path: string, config: unknown): void {
  const behavior = field(config, 'behavior');
  if (behavior === 'Isolated' || behavior === 'Removed') return;
  // Gemma splits at spaces, of which its normalizer leaves none.
  if (behavior === 'MergedWithPrevious' && field(field(config, 'pattern'), 'String') === ' ') return;
  if (typeof behavior !== 'string') throw wrong(`${path}.behavior`, 'a text', behavior);
  throw new UnsupportedModelError(
    `tokenizer.json has a Split pre-tokenizer with the behavior ${behavior.slice(0, 80)}.`,
    'Supported are Isolated and Removed.',
  );
}

function checkTemplate(path: string, template: unknown, tokens: Tokens): void {
  if (!Array.isArray(template)) throw wrong(path, 'a list of special tokens and sequences', template);
  let sequences = 0;
  for (const [index, item] of (template as unknown[]).entries()) {
    const id = field(field(item, 'SpecialToken'), 'id');
    const sequence = field(field(item, 'Sequence'), 'id');
    if (sequence === 'A') sequences++;
    else if (typeof id !== 'string' || !tokens.has(id)) {
      throw wrong(`${path}[${index}]`, 'a special token of the vocabulary, or the sequence A', item);
    }
  }
  if (sequences !== 1) throw wrong(path, 'the sequence A once', template);
}

const ID = `a whole number from 0 to ${LARGEST_ID}`;
const isId = (value: unknown): value is number =>
  typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= LARGEST_ID;

function wrong(path: string, expected: string, found: unknown): WeightFormatError {
  const text = found === undefined ? 'nothing' : JSON.stringify(found).slice(0, 80);
  return new WeightFormatError(
    `tokenizer.json: '${path}' must be ${expected}; found ${text}.`,
    'Download or export the file again.',
  );
}
