import type { MambalabError } from '@mambalab/kernels';
import { WeightFormatError } from '@mambalab/kernels';
import { readSentencePiece } from '../text/sentencepiece.ts';
import type { Folder } from './source.ts';

/** Names under which checkpoints keep it. */
const NAMES = ['tokenizer.model', 'spiece.model'] as const;
/** Vocabularies of a quarter of a million tokens take a tenth of it. */
const MAX_BYTES = 64 * 2 ** 20;

/** A tokenizer as other checkpoints bring it. */
export interface SentencePieceTokenizer {
  readonly tokenizerJson: unknown;
  readonly tokenizerConfig: Readonly<Record<string, unknown>>;
  readonly tokenizerProblem: MambalabError | undefined;
}

/**
 * The tokenizer of a folder that keeps it as a `.model` file of SentencePiece: `tokenizer.model`, `spiece.model`, or where
 * the place can list its files, the only one that ends so (Megatron's checkpoints).
 *
 * @param config tokenizer_config.json, which counts more than what the file says
 * @returns undefined if there is none
 * @throws WeightFormatError if the file is damaged
 */
export async function openSentencePiece(
  folder: Folder,
  config: unknown,
  signal?: AbortSignal,
): Promise<SentencePieceTokenizer | undefined> {
  const listed = ((await folder.list?.()) ?? []).filter((name) => name.endsWith('.model'));
  const [only] = listed;
  const names = only !== undefined && listed.length === 1 ? [...NAMES, only] : NAMES;
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
      config,
    );
    const given = typeof config === 'object' && config !== null ? config : {};
    return { tokenizerJson, tokenizerConfig: { ...tokenizerConfig, ...given }, tokenizerProblem: problem };
  }
  return undefined;
}
