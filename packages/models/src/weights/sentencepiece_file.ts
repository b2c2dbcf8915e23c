import type { MambalabError } from '@mambalab/kernels';
import { WeightFormatError } from '@mambalab/kernels';
import { readSentencePiece } from '../text/sentencepiece.ts';
import type { Folder } from './source.ts';

/** Names under which checkpoints keep it. */
const NAMES = ['tokenizer.model', 'spiece.model'] as const;
/** Vocabularies of a quarter of a million tokens take a tenth of it. */
const MAX_BYTES = 64 * 2 ** 20;

/** What a checkpoint says of its tokenizer, beside tokenizer_config.json. */
export interface NamedTokenizer {
  /** The `.model` file, without a path. */
  readonly file?: string;
  /** Whether texts begin with a token of their own. */
  readonly addsBos?: boolean;
}

/** A tokenizer as other checkpoints bring it. */
export interface SentencePieceTokenizer {
  readonly tokenizerJson: unknown;
  readonly tokenizerConfig: unknown;
  readonly tokenizerProblem: MambalabError | undefined;
}

/**
 * The tokenizer of a folder that keeps it as a `.model` file of SentencePiece: the one that the checkpoint names
 * (Megatron's), `tokenizer.model`, `spiece.model`, or where the place can list its files, the only one that ends so.
 *
 * @param config tokenizer_config.json, which counts more than what the file and the checkpoint say
 * @returns undefined if there is none, and none was named
 * @throws WeightFormatError if the file is damaged
 */
export async function openSentencePiece(
  folder: Folder,
  config: unknown,
  { file: named, addsBos = false }: NamedTokenizer = {},
  signal?: AbortSignal,
): Promise<SentencePieceTokenizer | undefined> {
  const listed = ((await folder.list?.()) ?? []).filter((name) => name.endsWith('.model'));
  const [only] = listed;
  const given = { ...(addsBos && { add_bos_token: true }), ...(typeof config === 'object' && config) };
  const names = [
    ...(named === undefined ? [] : [named]),
    ...NAMES,
    ...(only !== undefined && listed.length === 1 ? [only] : []),
  ];
  for (const name of names) {
    const file = await folder.file(name, signal);
    if (file === undefined) continue;
    const size = await file.size(signal);
    if (size > MAX_BYTES) {
      throw new WeightFormatError(
        `${name} has ${size} bytes, more than ${MAX_BYTES}: no tokenizer is so large.`,
        'Remove it, or put a tokenizer.json beside it.',
      );
    }
    const { tokenizerJson, tokenizerConfig, problem } = readSentencePiece(
      await file.read(0, size, signal),
      name,
      given,
    );
    return { tokenizerJson, tokenizerConfig: { ...tokenizerConfig, ...given }, tokenizerProblem: problem };
  }
  if (named === undefined) return undefined;
  const tokenizerProblem = new WeightFormatError(
    `The tokenizer of this checkpoint, ${named}, is not in ${folder.label}.`,
    'Put it there, or a tokenizer.json, or give prompts as token ids.',
  );
  return { tokenizerJson: undefined, tokenizerConfig: config, tokenizerProblem };
}
