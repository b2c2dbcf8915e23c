import { float64, type Numbers } from '../arrays.ts';

export interface SampleAdjustedInputs {
  /** (rows, width) */
  readonly logits: Numbers;
  /** (rows, 1 + W): how many tokens were appended so far, then the last W of them, token n at n % W */
  readonly recent?: Numbers | undefined;
  /** (rows, N, 2): tokens and what is added to their logits */
  readonly bias?: Numbers | undefined;
  /** (rows, ceil(width / 32)): bit i % 32 of word i / 32 allows token i */
  readonly mask?: Numbers | undefined;
}

export interface SampleAdjustedOptions {
  readonly rows: number;
  /** V */
  readonly width: number;
  readonly repetitionPenalty?: number | undefined;
  readonly presencePenalty?: number | undefined;
  readonly frequencyPenalty?: number | undefined;
  /** How many of the recent tokens count; 0, the default: all. */
  readonly penaltyWindow?: number | undefined;
}

/**
 * Logits with bias, penalties and mask applied, in this order; NaN where a token is not allowed.
 *
 * Shapes: as above, result (rows, width). Source: arXiv 1909.05858, section 4.1 (repetition); OpenAI's API reference
 * (bias, presence, frequency).
 */
export function sampleAdjusted(inputs: SampleAdjustedInputs, options: SampleAdjustedOptions): Float64Array {
  const { rows, width, repetitionPenalty = 1, presencePenalty = 0, frequencyPenalty = 0 } = options;
  const values = float64('logits', inputs.logits, rows, width);
  const { recent = new Float64Array(2 * rows), bias = [], mask } = inputs;
  const room = recent.length / rows - 1;
  const tokens = float64('recent', recent, rows, 1 + room);
  const entries = float64('bias', bias, rows, bias.length / rows / 2, 2);
  for (let row = 0; row < rows; row++) {
    const biases = new Map<number, number>();
    for (let at = row * (bias.length / rows); at < (row + 1) * (bias.length / rows); at += 2)
      biases.set(entries.at(at), entries.at(at + 1));
    for (const [token, value] of biases) {
      if (token < width) values.set(row * width + token, biased(values.at(row * width + token), value));
    }
    const counts = new Map<number, number>();
    const appended = tokens.at(row * (1 + room));
    const held = Math.min(appended, options.penaltyWindow || room, room);
    for (let n = appended - held; n < appended; n++) {
      const token = tokens.at(row * (1 + room) + 1 + (n % room));
      if (token < width) counts.set(token, (counts.get(token) ?? 0) + 1);
    }
    for (const [token, count] of counts) {
      const logit = values.at(row * width + token);
      if (!Number.isFinite(logit)) continue;
      const scaled = logit > 0 ? logit / repetitionPenalty : logit * repetitionPenalty;
      values.set(row * width + token, scaled - presencePenalty - count * frequencyPenalty);
    }
    if (mask === undefined) continue;
    const words = Math.ceil(width / 32);
    const bits = float64('mask', mask, rows, words);
    for (let i = 0; i < width; i++) {
      if (Math.floor(bits.at(row * words + Math.floor(i / 32)) / 2 ** (i % 32)) % 2 === 0)
        values.set(row * width + i, NaN);
    }
  }
  return values.values;
}

/** A bias that is not finite takes the logit's place. */
const biased = (logit: number, bias: number): number =>
  Number.isFinite(bias) ? (Number.isFinite(logit) ? logit + bias : logit) : bias;
