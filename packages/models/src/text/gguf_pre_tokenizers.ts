/** How byte-level BPE prepares a text, by the name that GGUF files have for it. */
export interface PreTokenizer {
  /** What comes first. llama.cpp leaves it out; the tokenizers that the name stands for have it. */
  readonly normalizer?: 'NFC';
  /** Patterns whose matches are words, one after another. */
  readonly splits: readonly string[];
  /** Words that are tokens are not taken apart. */
  readonly ignoreMerges?: boolean;
  /** Whether a text begins with the token of its beginning where a file does not say. */
  readonly addBos?: boolean;
}

/** Contractions in either case: not every engine knows `(?i:...)`. */
const CONTRACTIONS = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])";
/** Runs of space: up to the last one, which goes to the word behind, or to the end. */
const SPACES = String.raw`\s+(?!\S)|\s+`;
const LINES = String.raw`\s*[\r\n]+`;

const GPT2 = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|${SPACES}`;
const DIGIT = String.raw`\p{N}`;

/** Words with the character in front of them, numbers of some digits, signs with the ends of lines behind them. */
const modern = (digits: string): string =>
  String.raw`${CONTRACTIONS}|[^\r\n\p{L}\p{N}]?\p{L}+|${digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|${LINES}|${SPACES}`;

const LLAMA3 = modern(String.raw`\p{N}{1,3}`);
const QWEN2 = modern(String.raw`\p{N}`);
const QWEN35 = String.raw`${CONTRACTIONS}|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|${LINES}|${SPACES}`;

/** Words by their case: capitals, if any, and then small letters. */
const byCase = (behind: string, digits: string): string => {
  const [upper, lower] = [String.raw`[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`, String.raw`[\p{Ll}\p{Lm}\p{Lo}\p{M}]`];
  const before = String.raw`[^\r\n\p{L}\p{N}]?`;
  const words = `${before}${upper}*${lower}+${behind}|${before}${upper}+${lower}*${behind}`;
  return String.raw`${words}|${digits}| ?[^\s\p{L}\p{N}]+[\r\n/]*|${LINES}|${SPACES}`;
};

const TEKKEN = byCase('', String.raw`\p{N}`);
const GPT4O = byCase(`${CONTRACTIONS}?`, String.raw`\p{N}{1,3}`);

const llama3 = { splits: [LLAMA3], ignoreMerges: true, addBos: true } as const;

/** By `tokenizer.ggml.pre`. Names whose rules are not known exactly are left out. */
export const PRE_TOKENIZERS: Readonly<Record<string, PreTokenizer>> = {
  'gpt-2': { splits: [GPT2] },
  'phi-2': { splits: [GPT2] },
  jais: { splits: [GPT2] },
  mpt: { splits: [GPT2], normalizer: 'NFC' },
  olmo: { splits: [GPT2], normalizer: 'NFC' },
  'granite-docling': { splits: [GPT2] },
  starcoder: { splits: [DIGIT, GPT2] },
  refact: { splits: [DIGIT, GPT2] },
  smollm: { splits: [DIGIT, GPT2] },
  'command-r': { splits: [DIGIT, GPT2], normalizer: 'NFC' },
  llama3,
  'llama-v3': llama3,
  'llama-bpe': llama3,
  falcon3: llama3,
  'falcon-h1': llama3,
  lfm2: llama3,
  dbrx: { splits: [LLAMA3] },
  'smaug-bpe': { splits: [LLAMA3] },
  qwen2: { splits: [QWEN2], normalizer: 'NFC' },
  'deepseek-r1-qwen': { splits: [QWEN2], normalizer: 'NFC' },
  qwen35: { splits: [QWEN35], normalizer: 'NFC' },
  tekken: { splits: [TEKKEN], ignoreMerges: true, addBos: true },
  'gpt-4o': { splits: [GPT4O] },
  llama4: { splits: [GPT4O] },
};
