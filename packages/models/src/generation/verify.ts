import { WeightFormatError } from '@mambalab/kernels';
import { toFloat32 } from '../weights/convert.ts';
import type { SourceDtype, TensorSource } from '../weights/source.ts';
import type { Model } from './model.ts';

/** What another implementation computed for the same weights. */
export interface Golden {
  /** Prompts, one a row. */
  readonly inputIds: readonly (readonly number[])[];
  /** Logits of a full pass over each prompt: (L, V) row-major. */
  readonly logits: readonly Float32Array[];
  /** What greedy decoding wrote after each prompt. */
  readonly greedy: readonly (readonly number[])[];
  /** Logits at each of those steps, (steps, V) row-major, where they were kept. */
  readonly stepLogits?: readonly Float32Array[];
}

export interface Verification {
  /** Largest |difference| of any logit. */
  readonly maxAbsError: number;
  /** The same over the largest |logit| of the golden. */
  readonly maxRelError: number;
  /**
   * Share of greedy tokens that are equal, up to and including the first difference of each row. Where the golden's own
   * logits of both tokens are closer than the tolerance, the difference is none, and the row ends.
   */
  readonly greedyAgreement: number;
  readonly passed: boolean;
}

/** Logits may differ by this part of the largest one where weights are stored exactly. */
export const GOLDEN_TOLERANCE = 2e-4;

/**
 * Compares this device's logits and greedy tokens with stored ones. NaN never passes.
 *
 * @param tolerance allowed error over the largest |logit|
 */
export async function verifyModel(
  model: Model,
  golden: Golden,
  tolerance: number = GOLDEN_TOLERANCE,
): Promise<Verification> {
  let maxAbsError = 0;
  let largest = 0;
  let equal = 0;
  let compared = 0;
  const compare = (actual: Float32Array, expected: Float32Array): void => {
    if (actual.length !== expected.length)
      throw new WeightFormatError(
        `The golden has ${expected.length} logits where the model gives ${actual.length}.`,
        'Use the golden of this model.',
      );
    for (const [i, value] of expected.entries()) {
      const error = Math.abs((actual[i] ?? NaN) - value);
      // A NaN must win every comparison.
      if (!(error <= maxAbsError)) maxAbsError = Number.isNaN(error) ? Infinity : error;
      largest = Math.max(largest, Math.abs(value));
    }
  };
  for (const [row, tokens] of golden.inputIds.entries()) {
    compare(await model.logits(tokens, { positions: 'all' }), golden.logits[row] ?? new Float32Array());
    const expected = golden.greedy[row] ?? [];
    const { tokens: written, logits } = await decodeGreedily(model, tokens, expected.length);
    const steps = golden.stepLogits?.[row];
    const difference = expected.findIndex((token, index) => written[index] !== token);
    const agreed = difference < 0 ? expected.length : difference;
    const { vocabSize } = model.spec;
    const at = steps?.subarray(difference * vocabSize, (difference + 1) * vocabSize);
    const tie =
      difference >= 0 &&
      at !== undefined &&
      isTie(at, expected[difference] ?? NaN, written[difference] ?? NaN, tolerance);
    equal += agreed;
    compared += difference < 0 || tie ? agreed : agreed + 1;
    // After a different token the contexts differ, and so may the logits.
    if (steps !== undefined) {
      const count = Math.min(agreed + 1, expected.length) * vocabSize;
      compare(logits.subarray(0, count), steps.subarray(0, count));
    }
  }
  const maxRelError = maxAbsError / largest;
  const greedyAgreement = compared === 0 ? 1 : equal / compared;
  return { maxAbsError, maxRelError, greedyAgreement, passed: maxRelError <= tolerance && greedyAgreement === 1 };
}

/** Whether the golden's own logits (V) of two tokens lie closer together than results may differ. */
function isTie(logits: Float32Array, expected: number, written: number, tolerance: number): boolean {
  const margin = (logits[expected] ?? NaN) - (logits[written] ?? NaN);
  return margin <= 2 * tolerance * logits.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
}

/** Greedy decoding one awaited step at a time, with the logits that each token was chosen from. */
async function decodeGreedily(
  model: Model,
  prompt: readonly number[],
  count: number,
): Promise<{ tokens: number[]; logits: Float32Array }> {
  const { vocabSize } = model.spec;
  const tokens: number[] = [];
  const logits = new Float32Array(count * vocabSize);
  if (count === 0) return { tokens, logits };
  // The last token is written, but not read again.
  await model.withSequence(prompt.length + count - 1, async (sequence) => {
    await sequence.prefill(prompt);
    sequence.setSampling({ temperature: 0, seed: [0, 0] });
    await sequence.prepareSteps(count - 1);
    for (let step = 0; step < count; step++) {
      // The logits on the GPU are those of the last pass: read them before the next one replaces them.
      const token = step === 0 ? await sequence.sampleFirst() : await sequence.step();
      logits.set(await sequence.lastLogits(), step * vocabSize);
      tokens.push(token);
    }
  });
  return { tokens, logits };
}

/** Reads a golden from a safetensors file: `input_ids`, `logits`, `greedy` and, if there, `step_logits`. */
export async function readGolden(source: TensorSource): Promise<Golden> {
  const inputIds = await readRows(source, 'input_ids', integers);
  const greedy = await readRows(source, 'greedy', integers);
  const floats = (name: string): Promise<Float32Array[]> => readRows(source, name, toFloat32);
  const logits = await floats('logits');
  const stepLogits = source.tensors.has('step_logits') ? await floats('step_logits') : undefined;
  return { inputIds, logits, greedy, ...(stepLogits && { stepLogits }) };
}

function integers(bytes: Uint8Array, dtype: SourceDtype): number[] {
  const copy = bytes.slice().buffer;
  if (dtype === 'I64') return [...new BigInt64Array(copy)].map(Number);
  if (dtype === 'I32') return [...new Int32Array(copy)];
  throw new WeightFormatError(`The golden stores token ids as ${dtype}.`, 'Store them as I32 or I64.');
}

async function readRows<T>(
  source: TensorSource,
  name: string,
  parse: (bytes: Uint8Array, dtype: SourceDtype) => T,
): Promise<T[]> {
  const info = source.tensors.get(name);
  if (info === undefined)
    throw new WeightFormatError(
      `The golden has no tensor '${name}'.`,
      'Make it anew with input_ids, logits and greedy.',
    );
  const rows = info.shape[0] ?? 0;
  const rowBytes = info.byteLength / rows;
  return await Promise.all(
    Array.from({ length: rows }, async (_, row) =>
      parse(await source.read(name, row * rowBytes, (row + 1) * rowBytes), info.dtype),
    ),
  );
}
