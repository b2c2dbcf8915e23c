import { WeightFormatError } from '@mambalab/kernels';

/** A token beside the vocabulary proper, as tokenizer.json lists it. */
export interface AddedTokenJson {
  readonly id: number;
  readonly content: string;
  readonly special: boolean;
  readonly single_word: boolean;
  readonly lstrip: boolean;
  readonly rstrip: boolean;
  readonly normalized: boolean;
}

/** tokenizer.json after {@link prepareTokenizerJson}. */
export interface PreparedTokenizer {
  /** In the form that `@huggingface/tokenizers` takes. */
  readonly json: Readonly<Record<string, unknown>>;
  readonly addedTokens: readonly AddedTokenJson[];
  readonly decoder: unknown;
  /** `BPE`, `Unigram`, ... */
  readonly modelType: string | undefined;
}

/** The tokens that tokenizer_config.json names for a role. */
export const NAMED_TOKENS = ['bos_token', 'eos_token', 'pad_token', 'unk_token'] as const;

/** The value of a field of parsed JSON; undefined where `value` is no object or has no such field. */
export function field(value: unknown, name: string): unknown {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, name)) return undefined;
  return Object.getOwnPropertyDescriptor(value, name)?.value;
}

/** The `type` of a component of tokenizer.json. */
export function typeOf(config: unknown): string | undefined {
  const type = field(config, 'type');
  return typeof type === 'string' ? type : undefined;
}

/** The components of a `Sequence`. */
export function childConfigs(config: unknown, name: string): readonly unknown[] {
  const children = field(config, name);
  return Array.isArray(children) ? children : [];
}

/** A named token of tokenizer_config.json: a string, or an object with `content`. */
export function namedToken(config: unknown, name: string): string | undefined {
  const value = field(config, name);
  const content = typeof value === 'string' ? value : field(value, 'content');
  return typeof content === 'string' ? content : undefined;
}

/**
 * Checks tokenizer.json and brings into it what Hugging Face's `AutoTokenizer` takes from tokenizer_config.json:
 * further added tokens, the named tokens as special ones, and the prefix space of the Llama class.
 *
 * @throws WeightFormatError if it is not a tokenizer.json.
 */
export function prepareTokenizerJson(tokenizerJson: unknown, tokenizerConfig: unknown): PreparedTokenizer {
  const model = field(tokenizerJson, 'model');
  if (typeof tokenizerJson !== 'object' || tokenizerJson === null || field(model, 'vocab') === undefined) {
    throw new WeightFormatError(
      'tokenizer.json has no `model.vocab`.',
      'Give the tokenizer.json that Hugging Face tokenizers write, parsed.',
    );
  }
  const addedTokens = mergeAddedTokens(tokenizerJson, tokenizerConfig, model);
  const json = {
    normalizer: null,
    post_processor: null,
    decoder: null,
    ...tokenizerJson,
    added_tokens: addedTokens,
    pre_tokenizer: withUnicodeSpaces(field(tokenizerJson, 'pre_tokenizer') ?? null),
    ...llamaComponents(tokenizerJson, tokenizerConfig, model),
  };
  return { json, addedTokens, decoder: json.decoder, modelType: typeOf(model) };
}

/** How byte-level BPE (GPT-2) cuts text into words. */
const BYTE_LEVEL_WORDS = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;

/**
 * Spells out the pattern that a ByteLevel pre-tokenizer implies: `@huggingface/tokenizers` gives the spelled-out one
 * Unicode's white space, as the Rust library has it, but the implied one JavaScript's, which differs for U+0085 and for
 * U+FEFF, the byte order mark of many a text file.
 */
function withUnicodeSpaces(preTokenizer: unknown): unknown {
  const type = typeOf(preTokenizer);
  if (typeof preTokenizer !== 'object' || preTokenizer === null) return preTokenizer;
  if (type === 'Sequence') {
    return { ...preTokenizer, pretokenizers: childConfigs(preTokenizer, 'pretokenizers').map(withUnicodeSpaces) };
  }
  const isImplied = type === 'ByteLevel' && field(preTokenizer, 'use_regex') !== false;
  // With a prefix space the order matters: space, then words, within the one step.
  if (!isImplied || field(preTokenizer, 'add_prefix_space') !== false) return preTokenizer;
  const split = { type: 'Split', pattern: { Regex: BYTE_LEVEL_WORDS }, behavior: 'Isolated', invert: false };
  return { type: 'Sequence', pretokenizers: [split, { ...preTokenizer, use_regex: false }] };
}

function mergeAddedTokens(tokenizerJson: unknown, tokenizerConfig: unknown, model: unknown): AddedTokenJson[] {
  const byContent = new Map<string, AddedTokenJson>();
  const add = (value: unknown, id: unknown): void => {
    const content = field(value, 'content');
    if (typeof content !== 'string' || typeof id !== 'number' || byContent.has(content)) return;
    const flag = (name: string): boolean => field(value, name) === true;
    byContent.set(content, {
      id,
      content,
      special: flag('special'),
      single_word: flag('single_word'),
      lstrip: flag('lstrip'),
      rstrip: flag('rstrip'),
      normalized: flag('normalized'),
    });
  };
  for (const token of childConfigs(tokenizerJson, 'added_tokens')) add(token, field(token, 'id'));
  const fromConfig = field(tokenizerConfig, 'added_tokens_decoder');
  if (typeof fromConfig === 'object' && fromConfig !== null) {
    for (const [id, token] of Object.entries(fromConfig)) add(token, Number(id));
  }
  for (const name of NAMED_TOKENS) {
    const content = namedToken(tokenizerConfig, name);
    if (content === undefined) continue;
    const known = byContent.get(content);
    // A token that has no id has no embedding either: it is left out.
    if (known === undefined) add({ content, special: true }, field(field(model, 'vocab'), content));
    else byContent.set(content, { ...known, special: true });
  }
  return [...byContent.values()];
}

/**
 * transformers (from version 5) builds tokenizers of the Llama class anew from their vocabulary, and so does this:
 * the space in front is added only where the text does not begin with one, and with `legacy: false` (the default) only
 * at the very beginning. SentencePiece-like files only: some byte-level tokenizers carry the class name wrongly.
 */
function llamaComponents(tokenizerJson: unknown, tokenizerConfig: unknown, model: unknown): Record<string, unknown> {
  const className = field(tokenizerConfig, 'tokenizer_class');
  const isLlama = className === 'LlamaTokenizer' || className === 'LlamaTokenizerFast';
  const components = [field(tokenizerJson, 'normalizer'), field(tokenizerJson, 'pre_tokenizer')];
  const isMetaspace = JSON.stringify(components).includes('\u2581');
  if (!isLlama || !isMetaspace || field(model, 'byte_fallback') !== true) return {};
  const addPrefixSpace = field(tokenizerConfig, 'add_prefix_space') !== false;
  const isLegacy = field(tokenizerConfig, 'legacy') === true;
  const scheme = addPrefixSpace ? (isLegacy ? 'always' : 'first') : 'never';
  const decoders: unknown[] = [
    { type: 'Replace', pattern: { String: '\u2581' }, content: ' ' },
    { type: 'ByteFallback' },
    { type: 'Fuse' },
  ];
  if (addPrefixSpace) decoders.push({ type: 'Strip', content: ' ', start: 1, stop: 0 });
  return {
    normalizer: null,
    pre_tokenizer: { type: 'Metaspace', replacement: '\u2581', prepend_scheme: scheme, split: false },
    decoder: { type: 'Sequence', decoders },
  };
}
