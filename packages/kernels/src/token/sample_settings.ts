import { requireArgument, requireSeed } from '../core/checks.ts';

/** Words of a row of settings: 64 bytes. The first three are all that plain sampling reads. */
export const SAMPLE_SETTINGS_WORDS = 16;

/** How the tokens of one sequence are chosen. What is left out changes nothing. */
export interface SampleSettings {
  /** 0, the default: the most probable token. */
  readonly temperature?: number;
  /** Keep the k most probable tokens, all of those that tie for the last place; 0, the default: all. */
  readonly topK?: number;
  /** Keep the most probable tokens until their mass is at least this, from 0 to 1, the default. */
  readonly topP?: number;
  /** Keep the tokens at least this times as probable as the most probable one, from 0, the default, to 1. */
  readonly minP?: number;
  /** Divides positive and multiplies negative logits of recent tokens; 1 is the default. */
  readonly repetitionPenalty?: number;
  /** Is subtracted from the logits of recent tokens; 0 is the default. */
  readonly presencePenalty?: number;
  /** Is subtracted from the logits of recent tokens, as often as each occurs; 0 is the default. */
  readonly frequencyPenalty?: number;
  /** How many of the recent tokens count, the newest; 0, the default: all that are remembered. */
  readonly penaltyWindow?: number;
  /** 53 bits as a whole number, or 64 as a low and a high word; 0 is the default. */
  readonly seed?: number | readonly [number, number];
}

const SMALLEST_NORMAL = 2 ** -126;
const LARGEST_FLOAT = 3.4028234663852886e38;

/**
 * One row of the `settings` of {@link sample}: {@link SAMPLE_SETTINGS_WORDS} u32.
 *
 * Words: bits of the f32 temperature, low and high word of the seed, top-k, bits of top-p, min-p, repetition, presence
 * and frequency penalty, penalty window, zeros. Zero words switch their feature off.
 *
 * @throws ArgumentError if a value is not a number that its setting can have
 */
export function sampleSettings(settings: SampleSettings = {}): Uint32Array {
  const { temperature = 0, topK = 0, topP = 1, minP = 0, repetitionPenalty = 1 } = settings;
  const { presencePenalty = 0, frequencyPenalty = 0, penaltyWindow = 0, seed = 0 } = settings;
  const within = (name: string, value: number, low: number, high: number, hint: string): void =>
    requireArgument(value >= low && value <= high, `sampleSettings: '${name}' is ${value}.`, hint);
  within('temperature', temperature, 0, LARGEST_FLOAT, 'Give 0 for the most probable token, or a positive number.');
  within('topP', topP, 0, 1, 'Give a probability from 0 to 1; 1 keeps every token.');
  within('minP', minP, 0, 1, 'Give a ratio from 0 to 1; 0 keeps every token.');
  within('repetitionPenalty', repetitionPenalty, SMALLEST_NORMAL, LARGEST_FLOAT, 'Give a positive number; 1 is none.');
  for (const [name, value] of Object.entries({ presencePenalty, frequencyPenalty })) {
    within(name, value, -LARGEST_FLOAT, LARGEST_FLOAT, 'Give a finite number; 0 is none.');
  }
  for (const [name, value] of Object.entries({ topK, penaltyWindow })) {
    const isCount = Number.isInteger(value) && value >= 0 && value <= 0xffffffff;
    requireArgument(isCount, `sampleSettings: '${name}' is ${value}.`, 'Give a whole number; 0 is no limit.');
  }
  const words = new Uint32Array(SAMPLE_SETTINGS_WORDS);
  const floats = new Float32Array(words.buffer);
  // A positive number is never 0, which would switch it off, and a probability below 1 never 1, which keeps everything.
  floats[0] = temperature > 0 ? Math.max(temperature, SMALLEST_NORMAL) : 0;
  words.set(requireSeed('sampleSettings', seed), 1);
  words[3] = topK;
  floats[4] = topP < 1 ? Math.min(Math.max(topP, SMALLEST_NORMAL), 1 - 2 ** -24) : 1;
  floats[5] = minP > 0 ? Math.max(minP, SMALLEST_NORMAL) : 0;
  floats.set([repetitionPenalty, presencePenalty, frequencyPenalty], 6);
  words[9] = penaltyWindow;
  return words;
}
