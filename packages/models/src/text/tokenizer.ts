import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import { MambalabError, UnsupportedModelError } from '@mambalab/kernels';
import { useCharacterMaps } from './character_map.ts';
import { cleanUpStage } from './clean_up.ts';
import { createDecodeStages } from './decoder.ts';
import { createDetokenizer } from './detokenizer.ts';
import type { Detokenizer } from './detokenizer.ts';
import { checkTokenizerJson } from './tokenizer_checks.ts';
import { field, namedToken, prepareTokenizerJson } from './tokenizer_json.ts';

/** Options of {@link Tokenizer.encode}. */
export interface EncodeOptions {
  /** Add what the tokenizer puts around a text (a beginning-of-sequence token, usually). Default true. */
  readonly addSpecialTokens?: boolean;
}

/** Options of {@link Tokenizer.decode} and {@link Tokenizer.detokenizer}. */
export interface DecodeOptions {
  /** Leave out special tokens such as end-of-sequence. Default false. */
  readonly skipSpecialTokens?: boolean;
}

/** Ids of the tokens with a role; undefined where the tokenizer has none. */
export interface SpecialIds {
  readonly bos: number | undefined;
  readonly eos: number | undefined;
  readonly pad: number | undefined;
  readonly unk: number | undefined;
  /** All special tokens: what `skipSpecialTokens` leaves out. */
  readonly all: ReadonlySet<number>;
}

/** Text to token ids and back, with the same results as Hugging Face's `AutoTokenizer`. */
export interface Tokenizer {
  encode(text: string, options?: EncodeOptions): number[];
  /** Ids that are not in the vocabulary add no text. */
  decode(ids: Iterable<number>, options?: DecodeOptions): string;
  /** A fresh {@link Detokenizer} for one text. */
  detokenizer(options?: DecodeOptions): Detokenizer;
  tokenToId(token: string): number | undefined;
  /** The token as the vocabulary spells it (`Ġthe`, `▁the`, `<0x0A>`), not as text. */
  idToToken(id: number): string | undefined;
  /** Number of tokens, added ones included. A model's embedding may have more rows. */
  readonly vocabSize: number;
  readonly specialIds: SpecialIds;
}

/**
 * A tokenizer from the parsed `tokenizer.json` and `tokenizer_config.json` (the latter may be undefined).
 *
 * @throws WeightFormatError if `tokenizerJson` is not a tokenizer.json; UnsupportedModelError if it uses a part that is
 * not known here.
 */
export function createTokenizer(tokenizerJson: unknown, tokenizerConfig?: unknown): Tokenizer {
  const { json, addedTokens, decoder, modelType } = prepareTokenizerJson(tokenizerJson, tokenizerConfig);
  const createStages = (): ReturnType<typeof createDecodeStages> => {
    const stages = createDecodeStages(decoder);
    return shouldCleanUp(tokenizerConfig, modelType) ? [...stages, cleanUpStage()] : stages;
  };
  // An unknown decoder shows here, not at the first token.
  createStages();
  checkTokenizerJson(json);
  // Decoding is done here, whatever the library makes of a decoder.
  const encoder = createEncoder({ ...json, decoder: null });
  // The library falls back to bytes for BPE alone.
  const model = field(json, 'model');
  const hasFallback = modelType === 'Unigram' && field(model, 'byte_fallback') === true;
  const all = new Set(addedTokens.filter((token) => token.special).map((token) => token.id));
  const idOf = (name: string): number | undefined => {
    const token = namedToken(tokenizerConfig, name);
    return token === undefined ? undefined : encoder.token_to_id(token);
  };

  const detokenizer = ({ skipSpecialTokens = false }: DecodeOptions = {}): Detokenizer =>
    createDetokenizer((id) => (skipSpecialTokens && all.has(id) ? undefined : encoder.id_to_token(id)), createStages());
  return {
    encode: (text, { addSpecialTokens = true } = {}) => {
      const { ids: found, tokens } = encoder.encode(text, { add_special_tokens: addSpecialTokens });
      const ids = hasFallback ? withBytes(found, tokens, encoder) : found;
      // Lists of the library hold undefined for what has no token, whatever their type says.
      const missing = ids.findIndex((id) => !Number.isInteger(id));
      if (missing < 0) return ids;
      throw new UnsupportedModelError(
        `The tokenizer has no token for '${(tokens[missing] ?? '').slice(0, 80)}', and none for what is unknown.`,
        'Leave these characters out, or give the prompt as token ids.',
      );
    },
    decode: (ids, options) => {
      const stream = detokenizer(options);
      const pieces: string[] = [];
      for (const id of ids) pieces.push(stream.push(id));
      return pieces.join('') + stream.flush();
    },
    detokenizer,
    tokenToId: (token) => encoder.token_to_id(token),
    idToToken: (id) => encoder.id_to_token(id),
    vocabSize: encoder.get_vocab().size,
    specialIds: { bos: idOf('bos_token'), eos: idOf('eos_token'), pad: idOf('pad_token'), unk: idOf('unk_token'), all },
  };
}

/** The tokens of its bytes for whatever has no token. The library hands it on as text, with the id of the unknown token. */
function withBytes(ids: readonly number[], tokens: readonly string[], encoder: HuggingFaceTokenizer): number[] {
  return ids.flatMap((id, index) => {
    const text = tokens[index] ?? '';
    if (encoder.token_to_id(text) !== undefined) return [id];
    const bytes = Array.from(new TextEncoder().encode(text), (byte) => {
      const hex = byte.toString(16).toUpperCase().padStart(2, '0');
      return encoder.token_to_id(`<0x${hex}>`);
    });
    return bytes.every((byte) => byte !== undefined) ? bytes : [id];
  });
}

function createEncoder(json: object): HuggingFaceTokenizer {
  try {
    const encoder = new HuggingFaceTokenizer(json, {});
    useCharacterMaps(encoder.normalizer, field(json, 'normalizer'));
    return encoder;
  } catch (cause) {
    if (cause instanceof MambalabError) throw cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new UnsupportedModelError(
      `This tokenizer.json cannot be used: ${reason}.`,
      'Check that it is complete and written by Hugging Face tokenizers.',
      { cause },
    );
  }
}

/** Spaces are cleaned up only for the word-piece tokenizers that it was made for: BPE would lose real spaces. */
function shouldCleanUp(tokenizerConfig: unknown, modelType: string | undefined): boolean {
  if (field(tokenizerConfig, 'clean_up_tokenization_spaces') !== true) return false;
  const isForced = field(tokenizerConfig, 'clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output');
  return modelType !== 'BPE' || isForced === true;
}
