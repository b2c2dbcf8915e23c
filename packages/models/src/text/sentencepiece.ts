import { BinaryReader, WireType } from '@bufbuild/protobuf/wire';
import { MambalabError, UnsupportedModelError, WeightFormatError } from '@mambalab/kernels';
import { CharacterMap, toBase64 } from './character_map.ts';
import { rebuildTokenizer } from './gguf_vocabulary.ts';
import type { RebuiltTokenizer } from './gguf_vocabulary.ts';
import { spaceMarks } from './space_marks.ts';
import type { Normalization } from './space_marks.ts';
import { field } from './tokenizer_json.ts';

/** What a `.model` file of SentencePiece holds, as far as encoding needs it; absent fields have the format's defaults. */
interface SentencePieceModel {
  readonly pieces: { text: string; score: number; type: number }[];
  kind: number;
  byteFallback: boolean;
  readonly roles: Record<'unk' | 'bos' | 'eos' | 'pad', number>;
  /** Rules of normalisation, compiled; empty for none. */
  characterMap: Uint8Array;
  /** Whether texts that were decoded are to be changed by such rules. */
  changesDecoded: boolean;
  addDummyPrefix: boolean;
  removeExtraSpaces: boolean;
  escapeSpaces: boolean;
  spacesAtEnd: boolean;
}

/** Kinds of models and types of pieces by their numbers in the format. */
const UNIGRAM = 1;
const BPE = 2;
const CONTROL = 3;
const USER_DEFINED = 4;

type Handlers = Readonly<Record<number, (reader: BinaryReader) => void>>;

/** Reads the fields of a message that have a handler, and skips the others. */
function readMessage(bytes: Uint8Array, handlers: Handlers): void {
  const reader = new BinaryReader(bytes);
  while (reader.pos < reader.len) {
    const [number, type] = reader.tag();
    const read = handlers[number];
    if (read === undefined || type === WireType.StartGroup) reader.skip(type, number);
    else read(reader);
  }
}

/** Source: sentencepiece_model.proto of SentencePiece 0.2. */
function readModel(bytes: Uint8Array): SentencePieceModel {
  const model: SentencePieceModel = {
    pieces: [],
    kind: UNIGRAM,
    byteFallback: false,
    roles: { unk: 0, bos: 1, eos: 2, pad: -1 },
    characterMap: new Uint8Array(0),
    changesDecoded: false,
    addDummyPrefix: true,
    removeExtraSpaces: true,
    escapeSpaces: true,
    spacesAtEnd: false,
  };
  const trainer: Handlers = {
    3: (reader) => void (model.kind = reader.int32()),
    24: (reader) => void (model.spacesAtEnd = reader.bool()),
    35: (reader) => void (model.byteFallback = reader.bool()),
    40: (reader) => void (model.roles.unk = reader.int32()),
    41: (reader) => void (model.roles.bos = reader.int32()),
    42: (reader) => void (model.roles.eos = reader.int32()),
    43: (reader) => void (model.roles.pad = reader.int32()),
  };
  const normalizer: Handlers = {
    2: (reader) => void (model.characterMap = reader.bytes()),
    3: (reader) => void (model.addDummyPrefix = reader.bool()),
    4: (reader) => void (model.removeExtraSpaces = reader.bool()),
    5: (reader) => void (model.escapeSpaces = reader.bool()),
  };
  readMessage(bytes, {
    1: (reader) => {
      const piece = { text: '', score: 0, type: 1 };
      readMessage(reader.bytes(), {
        1: (inner) => void (piece.text = inner.string()),
        2: (inner) => void (piece.score = inner.float()),
        3: (inner) => void (piece.type = inner.int32()),
      });
      model.pieces.push(piece);
    },
    2: (reader) => readMessage(reader.bytes(), trainer),
    3: (reader) => readMessage(reader.bytes(), normalizer),
    5: (reader) =>
      readMessage(reader.bytes(), {
        2: (inner) => void (model.changesDecoded = inner.bytes().byteLength > 0),
      }),
  });
  return model;
}

/**
 * A tokenizer from a `.model` file of SentencePiece: BPE, or a unigram model, with or without byte fallback.
 * Encoding gives what SentencePiece gives. Where a text holds special tokens or symbols of the user's, each part
 * between them begins with a space of its own, as transformers' conversion has it.
 *
 * @param bytes the file
 * @param config tokenizer_config.json, which says whether texts begin with a token of their own
 * @returns `problem` where it cannot be rebuilt exactly: spaces that are treated otherwise, or models of other kinds
 * @throws WeightFormatError if it is no such file
 */
export function readSentencePiece(bytes: Uint8Array, file: string, config?: unknown): RebuiltTokenizer {
  let model: SentencePieceModel;
  try {
    model = readModel(bytes);
  } catch (cause) {
    if (cause instanceof MambalabError) throw cause;
    throw damaged(file, 'ends in the middle of a field, or holds what the format does not know', cause);
  }
  if (model.pieces.length === 0) throw damaged(file, 'holds no pieces');
  const role = (id: number): number | undefined => (id >= 0 && id < model.pieces.length ? id : undefined);
  const { unk, bos, eos, pad } = model.roles;
  const rebuilt = rebuildTokenizer({
    model: 'llama',
    pre: undefined,
    tokens: () => model.pieces.map(({ text }) => text),
    types: () => model.pieces.map(({ type }) => type),
    scores: () => model.pieces.map(({ score }) => score),
    merges: () => undefined,
    roles: { bos: role(bos), eos: role(eos), pad: role(pad), unk: role(unk) },
    addBos: addsToken(config, 'add_bos_token'),
    addEos: field(config, 'add_eos_token') === true,
    addSpacePrefix: model.addDummyPrefix,
    hasCharacterMap: false,
    normalization: normalizationOf(model),
    byteFallback: model.byteFallback,
    chatTemplates: new Map(),
    json: model.kind === UNIGRAM ? {} : undefined,
  });
  const problem = problemOf(model, file) ?? rebuilt.problem;
  if (problem !== undefined) return { ...rebuilt, tokenizerJson: undefined, problem };
  return model.kind === UNIGRAM ? { ...rebuilt, tokenizerJson: unigramJson(model, config) } : rebuilt;
}

function problemOf(model: SentencePieceModel, file: string): UnsupportedModelError | undefined {
  const found =
    !model.escapeSpaces || model.spacesAtEnd
      ? 'treats spaces in a way of its own'
      : model.changesDecoded
        ? 'changes texts that were decoded'
        : model.kind !== UNIGRAM && model.kind !== BPE
          ? 'is a model of words or characters'
          : undefined;
  return found === undefined
    ? undefined
    : new UnsupportedModelError(
        `The tokenizer of ${file} ${found}, which this version does not compute.`,
        'Put a tokenizer.json beside it (transformers: save_pretrained), or give prompts as token ids.',
      );
}

function normalizationOf({ characterMap, removeExtraSpaces }: SentencePieceModel): Omit<Normalization, 'prefix'> {
  if (characterMap.byteLength === 0) return { removeExtraSpaces };
  // Damage shows when the file is read.
  CharacterMap.read(characterMap);
  return { removeExtraSpaces, characterMap: toBase64(characterMap) };
}

/** Llama's and Gemma's classes do where nothing is said. */
function addsToken(config: unknown, name: string): boolean {
  const said = field(config, name);
  if (typeof said === 'boolean') return said;
  const className = field(config, 'tokenizer_class');
  return typeof className === 'string' && /^(?:Llama|Gemma)Tokenizer/.test(className);
}

function unigramJson(model: SentencePieceModel, config: unknown): unknown {
  const { pieces, roles, addDummyPrefix: prefix } = model;
  const bos = pieces[roles.bos];
  const hasBos = bos !== undefined && addsToken(config, 'add_bos_token');
  return {
    added_tokens: pieces.flatMap(({ text, type }, id) =>
      type === CONTROL || type === USER_DEFINED
        ? [{ id, content: text, special: type === CONTROL, normalized: false }]
        : [],
    ),
    ...spaceMarks({ prefix, ...normalizationOf(model) }),
    pre_tokenizer: null,
    post_processor: hasBos
      ? {
          type: 'TemplateProcessing',
          single: [{ SpecialToken: { id: bos.text, type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
          pair: [],
          special_tokens: { [bos.text]: { id: bos.text, ids: [roles.bos], tokens: [bos.text] } },
        }
      : null,
    model: {
      type: 'Unigram',
      unk_id: roles.unk,
      byte_fallback: model.byteFallback,
      vocab: pieces.map(({ text, score }) => [text, score]),
    },
  };
}

function damaged(file: string, problem: string, cause?: unknown): WeightFormatError {
  return new WeightFormatError(
    `${file} is no model of SentencePiece, or a damaged one: it ${problem}.`,
    'Download the file again.',
    cause === undefined ? undefined : { cause },
  );
}
