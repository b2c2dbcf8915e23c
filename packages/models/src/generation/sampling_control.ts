import type { Device, SampleSettings, Tensor } from '@mambalab/kernels';
import { sampleSettings } from '@mambalab/kernels';
import type { SamplingFeatures } from '../graph/sampling.ts';
import { createTensors, guarded } from './allocate.ts';
import { BIAS_ENTRIES, joinFeatures, PLAIN_SAMPLING, RECENT_TOKENS, samplingTensors } from '../graph/sampling.ts';

/** How the next tokens of a sequence are chosen. What is left out changes nothing. */
export interface SamplingSettings extends Omit<SampleSettings, 'temperature' | 'seed'> {
  /** 0 is greedy. */
  readonly temperature: number;
  /** 64 bits as two words; the same seed gives the same text on the same kind of device. */
  readonly seed: readonly [number, number];
  /** What is added to the logits of tokens. */
  readonly logitBias?: ReadonlyMap<number, number>;
  /** Whether {@link SamplingControl.setMask} says before each token which ones are allowed. */
  readonly masked?: boolean;
  /** Log-probabilities of the token and of this many of the most probable ones. */
  readonly logprobs?: number | undefined;
}

/** A token with its log-probability. */
export interface TokenLogprob {
  readonly token: number;
  /** Natural logarithm of the probability, before temperature, penalties and filters. */
  readonly logprob: number;
}

/** A token as it was chosen. */
export interface SampledToken {
  readonly token: number;
  /** Where log-probabilities were asked for. */
  readonly logprob?: number;
  /** The most probable tokens, the best first. */
  readonly topLogprobs?: readonly TokenLogprob[];
}

/** The parts of sampling that settings use. */
export function featuresOf(settings: SamplingSettings): SamplingFeatures {
  const { temperature, topK = 0, topP = 1, minP = 0, logprobs } = settings;
  const { repetitionPenalty = 1, presencePenalty = 0, frequencyPenalty = 0 } = settings;
  return {
    // The most probable token passes every filter.
    filters: temperature > 0 && (topK > 0 || topP < 1 || minP > 0),
    penalties: repetitionPenalty !== 1 || presencePenalty !== 0 || frequencyPenalty !== 0,
    bias: (settings.logitBias?.size ?? 0) > 0,
    mask: settings.masked === true,
    tops: logprobs === undefined ? undefined : topsFor(logprobs),
  };
}

/** Few widths, so that few recordings are compiled. */
const topsFor = (count: number): number => (count === 0 ? 0 : count <= 5 ? 5 : 20);

/**
 * The tensors that say how the tokens of a batch are chosen, one row a sequence. Each is made when a row first needs it
 * and then stays where it is, so that what is bound to it stays valid.
 */
export class SamplingControl {
  readonly #device: Device;
  readonly #batch: number;
  readonly #vocabSize: number;
  readonly #tensors = new Map<string, Tensor>();
  readonly #rows: SamplingFeatures[];

  /** @param features what rows will use, so that everything is there from the beginning */
  constructor(device: Device, batch: number, vocabSize: number, features: SamplingFeatures = PLAIN_SAMPLING) {
    this.#device = device;
    this.#batch = batch;
    this.#vocabSize = vocabSize;
    this.#rows = Array.from({ length: batch }, () => PLAIN_SAMPLING);
    this.#make(features);
  }

  /** What the recording of the next step must hold. */
  get features(): SamplingFeatures {
    return joinFeatures(this.#rows);
  }

  /** By name, as recordings bind them; new ones appear when a row has new features. */
  get tensors(): ReadonlyMap<string, Tensor> {
    return this.#tensors;
  }

  /**
   * Makes what settings of a row need, so that {@link setRow} makes nothing.
   *
   * @throws OutOfMemoryError
   */
  async prepareRow(row: number, settings: SamplingSettings): Promise<void> {
    const features = joinFeatures(this.#rows.with(row, featuresOf(settings)));
    const missing = samplingTensors(features, this.#batch, this.#vocabSize).some(
      ({ name }) => !this.#tensors.has(name),
    );
    if (!missing) return;
    const device = this.#device;
    const free = (names: readonly string[]): void => {
      for (const name of names) {
        this.#tensors.get(name)?.dispose();
        this.#tensors.delete(name);
      }
    };
    await guarded(device, 'Making room for sampling', () => this.#make(features), free);
  }

  /**
   * Sets how the tokens of one sequence are chosen.
   *
   * @param history tokens before the next one, which penalties look at
   */
  setRow(row: number, settings: SamplingSettings, history: readonly number[]): void {
    const features = featuresOf(settings);
    this.#rows[row] = features;
    this.#make(this.features);
    this.#write('settings', row, sampleSettings(settings));
    if (features.penalties) {
      const recent = history.slice(-RECENT_TOKENS);
      this.#write('recent', row, Uint32Array.from([recent.length, ...recent]));
    }
    if (this.#tensors.has('bias')) this.#write('bias', row, biasWords(settings.logitBias));
    if (this.#tensors.has('mask')) this.setMask(row, new Uint32Array(Math.ceil(this.#vocabSize / 32)).fill(0xffffffff));
  }

  /** Allows the tokens whose bits are set, bit i % 32 of word i / 32, until it is called again. */
  setMask(row: number, words: Uint32Array): void {
    this.#write('mask', row, words);
  }

  /** What a row chose, from the words of {@link readback} in this order. */
  sampled(row: number, words: Uint32Array, logprobs: number | undefined): SampledToken {
    const token = words[row] ?? 0;
    if (logprobs === undefined) return { token };
    const floats = new Float32Array(words.buffer, words.byteOffset, words.length);
    // Tensors may be longer than their values.
    const column = wordsOf(this.#tensors.get('logprob'));
    const tops = this.#tensors.get('topTokens');
    const width = tops?.rowStride ?? 0;
    const tokens = 2 * column + row * width;
    const topLogprobs = Array.from({ length: Math.min(logprobs, width) }, (_, at) => ({
      token: words[tokens + at] ?? 0,
      logprob: floats[tokens + wordsOf(tops) + at] ?? NaN,
    }));
    return { token, logprob: floats[column + row] ?? NaN, topLogprobs };
  }

  /** The tensors that a step with log-probabilities is read back from, beside the tokens. */
  get readback(): readonly Tensor[] {
    return ['logprob', 'topTokens', 'topLogprobs'].flatMap((name) => this.#tensors.get(name) ?? []);
  }

  dispose(): void {
    for (const tensor of this.#tensors.values()) tensor.dispose();
    this.#tensors.clear();
  }

  /** Makes what is not there yet. Returns its names. */
  #make(features: SamplingFeatures): string[] {
    const missing = samplingTensors(features, this.#batch, this.#vocabSize).filter(
      ({ name }) => !this.#tensors.has(name),
    );
    for (const [name, tensor] of createTensors(this.#device, 'sampling', missing)) {
      this.#tensors.set(name, tensor);
      const words = tensor.byteLength / 4;
      // Rows that came before allow every token, and their biases name none.
      if (name === 'mask' || name === 'bias') this.#device.write(tensor, new Uint32Array(words).fill(0xffffffff));
    }
    return missing.map(({ name }) => name);
  }

  #write(name: string, row: number, words: Uint32Array): void {
    const tensor = this.#tensors.get(name);
    if (tensor === undefined) throw new RangeError(`The settings of the sequence use no '${name}'.`);
    const values = tensor.shape.reduce((product, size) => product * size, 1);
    this.#device.write(tensor, words, (row * values) / this.#batch);
  }
}

const wordsOf = (tensor: Tensor | undefined): number => (tensor?.byteLength ?? 0) / 4;

/** Pairs of token and bits of its bias; entries that are free name no token. */
function biasWords(bias: ReadonlyMap<number, number> = new Map()): Uint32Array {
  const words = new Uint32Array(2 * BIAS_ENTRIES).fill(0xffffffff);
  const floats = new Float32Array(words.buffer);
  let at = 0;
  for (const [token, value] of bias) {
    words[at] = token;
    floats[at + 1] = value;
    at += 2;
  }
  return words;
}
