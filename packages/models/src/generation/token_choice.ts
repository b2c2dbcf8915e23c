import type { BoundPlan, Tensor } from '@mambalab/kernels';
import { ReadbackRing } from '@mambalab/kernels';
import type { SamplingFeatures } from '../graph/sampling.ts';
import { guarded } from './allocate.ts';
import type { ModelRuntime } from './runtime.ts';
import type { SampledToken, SamplingSettings } from './sampling_control.ts';
import { SamplingControl } from './sampling_control.ts';

/**
 * Tokens that may be on their way from the GPU: it starts the next while JavaScript looks at the last ones. After a
 * stop, at most this many steps were run for nothing.
 */
export const TOKENS_IN_FLIGHT = 3;

/** Tokens that one pass may choose: a guess of seven, and what follows it. */
const PASS_TOKENS = 8;

/** How the tokens of one sequence are chosen, and how they are read back. */
export class TokenChoice {
  readonly #runtime: ModelRuntime;
  readonly #token: Tensor;
  readonly #control: SamplingControl;
  readonly #ring: ReadbackRing;
  /** Reads log-probabilities too, once a text asks for them. */
  #logprobRing: ReadbackRing | undefined;
  /** By how much they read beside the tokens. */
  readonly #passRings = new Map<number, ReadbackRing>();
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
   * Makes what settings need, so that {@link set} makes nothing. Returns whether something was missing.
   *
   * @throws OutOfMemoryError
   */
  async prepare(settings: SamplingSettings): Promise<boolean> {
    const before = this.#control.tensors.size;
    await this.#control.prepareRow(0, settings);
    if (settings.logprobs !== undefined) {
      this.#logprobRing ??= await this.#guardedRing(TOKENS_IN_FLIGHT, this.#control.readback);
    }
    return this.#control.tensors.size > before;
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
    if (settings.logprobs !== undefined) this.#logprobRing ??= this.#ringFor(TOKENS_IN_FLIGHT, this.#control.readback);
    return this.#control.tensors.size > before;
  }

  /** Allows the tokens whose bits are set, for the next choice. */
  setMask(words: Uint32Array): void {
    this.#control.setMask(0, words);
  }

  /** The ring for the tokens of one pass, up to {@link PASS_TOKENS}; made when it is first asked for. @throws OutOfMemoryError */
  async passRing(): Promise<ReadbackRing> {
    const others = this.logprobs === undefined ? [] : this.#control.readback;
    const made = this.#passRings.get(others.length) ?? (await this.#guardedRing(PASS_TOKENS, others));
    this.#passRings.set(others.length, made);
    return made;
  }

  /** Submits a recording that chooses a token, and reads what it chose. */
  async read(plan: BoundPlan, ring: ReadbackRing = this.#activeRing): Promise<SampledToken> {
    const { logprobs } = this;
    return this.#control.sampled(0, await ring.submit(plan), logprobs);
  }

  dispose(): void {
    this.#ring.dispose();
    this.#logprobRing?.dispose();
    for (const ring of this.#passRings.values()) ring.dispose();
    this.#control.dispose();
  }

  #ringFor(slots: number, others: readonly Tensor[]): ReadbackRing {
    return new ReadbackRing(this.#runtime.device, [this.#token, ...others], slots);
  }

  async #guardedRing(slots: number, others: readonly Tensor[]): Promise<ReadbackRing> {
    const make = (): ReadbackRing => this.#ringFor(slots, others);
    return await guarded(this.#runtime.device, 'Reading tokens back', make, (ring) => ring.dispose());
  }

  get #activeRing(): ReadbackRing {
    return this.logprobs === undefined ? this.#ring : (this.#logprobRing ?? this.#ring);
  }
}
