import type { BoundPlan, Tensor } from '@mambalab/kernels';
import { ReadbackRing } from '@mambalab/kernels';
import type { SamplingFeatures } from '../graph/sampling.ts';
import type { ModelRuntime } from './runtime.ts';
import type { SampledToken, SamplingSettings } from './sampling_control.ts';
import { SamplingControl } from './sampling_control.ts';

/**
 * Tokens that may be on their way from the GPU: it starts the next while JavaScript looks at the last ones. After a
 * stop, at most this many steps were run for nothing.
 */
export const TOKENS_IN_FLIGHT = 3;

/** How the tokens of one sequence are chosen, and how they are read back. */
export class TokenChoice {
  readonly #runtime: ModelRuntime;
  readonly #token: Tensor;
  readonly #control: SamplingControl;
  readonly #ring: ReadbackRing;
  /** Reads log-probabilities too, once a text asks for them. */
  #logprobRing: ReadbackRing | undefined;
  #settings: SamplingSettings = { temperature: 0, seed: [0, 0] };

  /** @param token where the GPU puts the token that it chose: (1) u32 */
  constructor(runtime: ModelRuntime, token: Tensor) {
    this.#runtime = runtime;
    this.#token = token;
    this.#control = new SamplingControl(runtime.device, 1, runtime.spec.vocabSize);
    this.#ring = new ReadbackRing(runtime.device, token, TOKENS_IN_FLIGHT);
  }

  get settings(): SamplingSettings {
    return this.#settings;
  }

  /** What the recording of the next step must hold. */
  get features(): SamplingFeatures {
    return this.#control.features;
  }

  /** How many log-probabilities tokens have beside their own; undefined for none. */
  get logprobs(): number | undefined {
    return this.#settings.logprobs;
  }

  /** By name, as recordings bind them. */
  get tensors(): ReadonlyMap<string, Tensor> {
    return this.#control.tensors;
  }

  /** How many further steps may be submitted before a result is awaited. */
  get free(): number {
    return this.#activeRing.free;
  }

  /**
   * Sets how the next tokens are chosen. Returns whether there are tensors now that were not there before.
   *
   * @param history tokens before the next one, which penalties look at
   */
  set(settings: SamplingSettings, history: readonly number[]): boolean {
    const before = this.#control.tensors.size;
    this.#control.setRow(0, settings, history);
    this.#settings = settings;
    if (settings.logprobs !== undefined) this.#logprobRing ??= this.ring(TOKENS_IN_FLIGHT);
    return this.#control.tensors.size > before;
  }

  /** Allows the tokens whose bits are set, for the next choice. */
  setMask(words: Uint32Array): void {
    this.#control.setMask(0, words);
  }

  /** A ring of its own for so many results, which the caller frees. */
  ring(slots: number): ReadbackRing {
    const others = this.logprobs === undefined ? [] : this.#control.readback;
    return new ReadbackRing(this.#runtime.device, [this.#token, ...others], slots);
  }

  /** Submits a recording that chooses a token, and reads what it chose. */
  async read(plan: BoundPlan, ring: ReadbackRing = this.#activeRing): Promise<SampledToken> {
    const { logprobs } = this;
    return this.#control.sampled(0, await ring.submit(plan), logprobs);
  }

  dispose(): void {
    this.#ring.dispose();
    this.#logprobRing?.dispose();
    this.#control.dispose();
  }

  get #activeRing(): ReadbackRing {
    return this.logprobs === undefined ? this.#ring : (this.#logprobRing ?? this.#ring);
  }
}
