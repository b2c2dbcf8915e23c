import type { HostTensor, HostValues, SampleInputs, SampleSettings } from '@mambalab/kernels';
import { NO_TOKEN, sampleSettings } from '@mambalab/kernels';
import { sampleScores } from '@mambalab/kernels/reference';
import { expect } from 'vitest';

/** One sequence; what is absent in one row of a batch is absent in all. */
export interface Row {
  readonly logits: ArrayLike<number>;
  readonly settings?: SampleSettings;
  readonly position?: number;
  readonly recent?: readonly number[];
  readonly bias?: readonly (readonly [token: number, value: number])[];
  readonly mask?: readonly number[];
}

const words = (rows: readonly ArrayLike<number>[], shape: readonly number[]): HostTensor => ({
  data: Uint32Array.from(rows.flatMap((row) => Array.from(row))),
  shape,
  dtype: 'u32',
});
/** An array of what `value` makes of each place. */
export const repeat = <T>(count: number, value: (at: number) => T): T[] =>
  Array.from({ length: count }, (_, at) => value(at));
const bitsOf = (value: number): number => new Uint32Array(Float32Array.of(value).buffer)[0] ?? 0;

/** Logits in rows with a gap between them, which holds what must not be chosen. */
function logitsOf(rows: readonly Row[]): HostTensor {
  const width = rows[0]?.logits.length ?? 0;
  const rowStride = width + 3;
  const data = new Float32Array(rows.length * rowStride).fill(1e30);
  for (const [at, { logits }] of rows.entries()) data.set(Array.from(logits), at * rowStride);
  return { data, shape: [rows.length, width], dtype: 'f32', rowStride };
}

/** The inputs of a batch of rows, all on the host. */
export function inputsOf(rows: readonly Row[]): HostValues<SampleInputs> {
  const batch = rows.length;
  const [first] = rows;
  const ring = first?.recent?.length ?? 0;
  const entries = first?.bias?.length ?? 0;
  return {
    logits: logitsOf(rows),
    token: words([repeat(batch, () => 0xabcdabcd)], [batch]),
    position: words([rows.map(({ position = 0 }) => position)], [batch]),
    settings: words(
      rows.map(({ settings }) => sampleSettings(settings)),
      [batch, 16],
    ),
    ...(ring > 0 && {
      recent: words(
        rows.map(({ recent = [] }) => recent),
        [batch, ring],
      ),
    }),
    ...(entries > 0 && {
      bias: words(
        rows.map(({ bias = [] }) => bias.flatMap(([token, value]) => [token, bitsOf(value)])),
        [batch, entries, 2],
      ),
    }),
    ...(first?.mask && {
      mask: words(
        rows.map(({ mask = [] }) => mask),
        [batch, first.mask.length],
      ),
    }),
  };
}

/** What the reference makes of a row, with the settings as the GPU has them: rounded. */
export function scoresOf({ logits, settings = {}, position = 0, recent, bias, mask }: Row): Float64Array {
  const row = sampleSettings(settings);
  const [temperature = 0, , , , topP = 1, minP = 0, repetition = 1, presence = 0, frequency = 0] = new Float32Array(
    row.buffer,
  );
  return sampleScores(
    { logits: Float32Array.from(logits), position: [position], recent, bias: bias?.flat(), mask },
    {
      rows: 1,
      width: logits.length,
      temperature,
      topK: row[3],
      topP,
      minP,
      repetitionPenalty: repetition,
      presencePenalty: presence,
      frequencyPenalty: frequency,
      penaltyWindow: row[9],
      seed: [row[1] ?? 0, row[2] ?? 0],
    },
  );
}

/** The token is the reference's, or one whose score differs only by the rounding of logarithms. */
export function expectToken(token: number, scores: Float64Array, temperature = 1): void {
  const largest = scores.reduce((best, score) => (Number.isNaN(score) ? best : Math.max(best, score)), -Infinity);
  const isEmpty = scores.every((score) => Number.isNaN(score));
  if (isEmpty) expect(token).toBe(NO_TOKEN);
  else if (!Number.isFinite(largest)) expect(token).toBe(scores.indexOf(largest));
  else
    expect(largest - (scores[token] ?? NaN)).toBeLessThan(2e-5 * Math.max(1, temperature) + 1e-6 * Math.abs(largest));
}
