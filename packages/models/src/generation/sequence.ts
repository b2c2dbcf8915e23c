// Longer than most files: the one face of the memory, the prompts and the choices of a sequence, which have files of their own.
import type { BoundPlan, Plan, Tensor } from '@mambalab/kernels';
import { ArgumentError } from '@mambalab/kernels';
import { MAXIMUM_CHUNK } from '../graph/names.ts';
import type { SamplingFeatures } from '../graph/sampling.ts';
import { createTensors, guarded } from './allocate.ts';
import type { RowHead, RowOptions } from './prompt_pass.ts';
import { PromptPass } from './prompt_pass.ts';
import type { ModelRuntime } from './runtime.ts';
import type { SampledToken, SamplingSettings } from './sampling_control.ts';
import type { Scheduler } from './scheduler.ts';
import { SequenceMemory } from './sequence_memory.ts';
import type { SequenceSlot } from './sequence_slot.ts';
import { copySlot } from './sequence_slot.ts';
import type { Snapshot, SnapshotScope } from './snapshot.ts';
import { TokenChoice, TOKENS_IN_FLIGHT } from './token_choice.ts';

/** One sequence on the GPU: what it remembers, how its tokens are chosen, and the plans bound to both. */
export class Sequence {
  readonly #runtime: ModelRuntime;
  readonly #control: ReadonlyMap<string, Tensor>;
  readonly #memory: SequenceMemory;
  readonly #choice: TokenChoice;
  readonly #prompt: PromptPass;
  #bound = new WeakMap<Plan, BoundPlan>();
  #step: BoundPlan | undefined;
  #forward: BoundPlan | undefined;
  /** Lets {@link next} run together with the steps of other sequences. */
  scheduler: Scheduler | undefined;
  /** Steps in a batch whose results are on their way. */
  #shared = 0;

  private constructor(runtime: ModelRuntime) {
    this.#runtime = runtime;
    const { device, spec } = runtime;
    this.#control = createTensors(device, 'sequence', [
      { name: 'tokens', dtype: 'u32', shape: [MAXIMUM_CHUNK] },
      { name: 'token', dtype: 'u32', shape: [1] },
      { name: 'position', dtype: 'u32', shape: [1] },
      { name: 'logits', dtype: 'f32', shape: [1, spec.vocabSize] },
    ]);
    this.#memory = new SequenceMemory(runtime, this.#own('position'));
    this.#choice = new TokenChoice(runtime, this.#own('token'));
    const memory = this.#memory;
    this.#prompt = new PromptPass(runtime, this.#own('tokens'), {
      get capacity(): number {
        return memory.capacity;
      },
      get length(): number {
        return memory.length;
      },
      reserve: (length) => this.reserve(length),
      bind: (plan) => this.#bind(plan),
      advance: (count) => memory.advance(count),
    });
  }

  /** An empty sequence with room for `length` tokens; it grows when it needs more. */
  static async create(runtime: ModelRuntime, length = 1): Promise<Sequence> {
    const make = (): Sequence => new Sequence(runtime);
    const sequence = await guarded(runtime.device, 'Making a sequence', make, (made) => made.dispose());
    try {
      await sequence.reserve(length);
      return sequence;
    } catch (error) {
      sequence.dispose();
      throw error;
    }
  }

  /** Tokens that were submitted to the GPU, those on their way included. */
  get length(): number {
    return this.#memory.length;
  }

  /** Tokens that the caches have room for. */
  get capacity(): number {
    return this.#memory.capacity;
  }

  /** Called whenever the length changed in a call: by a chunk of a prompt, a step, or guesses that were wrong. */
  set onAdvance(listener: (() => void) | undefined) {
    this.#memory.onAdvance = listener;
  }

  /** Bytes of the recurrent states and of the KV caches, as allocated. */
  bytes(): { readonly stateBytes: number; readonly kvBytes: number } {
    return this.#memory.bytes();
  }

  /** Forgets everything: zero states, position 0. Memory stays allocated. */
  reset(): void {
    this.#memory.reset();
  }

  /** How many further steps may be submitted before a result is awaited. */
  get freeSlots(): number {
    return this.#choice.free - this.#shared;
  }

  /** Whether results of its own steps are on their way. */
  get isAwaited(): boolean {
    return this.#choice.free < TOKENS_IN_FLIGHT;
  }

  /** How its tokens are chosen. */
  get settings(): SamplingSettings {
    return this.#choice.settings;
  }

  /** What its sampling uses. */
  get features(): SamplingFeatures {
    return this.#choice.features;
  }

  /** How many log-probabilities its tokens have beside their own; undefined for none. */
  get logprobs(): number | undefined {
    return this.#choice.logprobs;
  }

  /** Whether it is in a batch: {@link step} and prompts must wait until it left. */
  get isInSlot(): boolean {
    return this.#memory.slot !== undefined;
  }

  /** Moves the sequence into a slot of a batch, after everything that was submitted. */
  enterSlot(slot: SequenceSlot): void {
    this.#copySlot(slot, 'in');
    this.#memory.slot = slot;
  }

  /** Moves the sequence back out of its slot. */
  leaveSlot(): void {
    const { slot } = this.#memory;
    if (slot === undefined) return;
    this.#copySlot(slot, 'out');
    this.#memory.slot = undefined;
  }

  /** Leaves the slot without a copy: for a sequence that nobody goes on with. */
  abandonSlot(): void {
    this.#memory.slot = undefined;
  }

  /** Counts a step of the batch that the sequence is in. */
  countStep(): void {
    this.#memory.advance(1);
  }

  /** Copies what the sequence remembers; see {@link SequenceMemory.snapshot}. */
  snapshot(scope: SnapshotScope, store?: Tensor): Snapshot {
    return this.#memory.snapshot(scope, store);
  }

  /** Bytes of a {@link snapshot} now. */
  snapshotBytes(scope: SnapshotScope): number {
    return this.#memory.snapshotBytes(scope);
  }

  /** The dtype of a state tensor. */
  dtypeOf(name: string): 'f32' | 'f16' {
    return this.#memory.tensors.get(name)?.dtype === 'f16' ? 'f16' : 'f32';
  }

  /**
   * Makes room for `length` tokens in all. Where it fails, everything is as it was.
   *
   * @throws ContextLengthError if the model's context is shorter; OutOfMemoryError
   */
  async reserve(length: number): Promise<void> {
    if (!(await this.#memory.reserve(length))) return;
    this.#bound = new WeakMap();
    this.#step = undefined;
    this.#forward = undefined;
  }

  /** Makes room for what a snapshot of another sequence holds, and then {@link restore}s it. */
  async adopt(snapshot: Snapshot): Promise<void> {
    await this.reserve(Math.max(snapshot.capacity, snapshot.length));
    this.restore(snapshot);
  }

  /** Goes back to a snapshot. What it does not hold must be in the caches still: see {@link holds}. */
  restore(snapshot: Snapshot): void {
    this.#memory.restore(snapshot);
  }

  /** Whether {@link restore} of one of its own snapshots gives back everything, though caches were written further. */
  holds(snapshot: Snapshot): boolean {
    return this.#memory.holds(snapshot);
  }

  /** Whether the caches hold everything that tokens after the first `length` see. */
  holdsCaches(length: number): boolean {
    return this.#memory.holdsCaches(length);
  }

  /** Forgets all tokens but the first `length`, where caches are all that there is and {@link holdsCaches} them. */
  truncate(length: number): void {
    this.#memory.truncate(length);
  }

  /** Makes what {@link mark} needs. @throws OutOfMemoryError */
  async prepareMark(): Promise<void> {
    await this.#memory.prepareMark();
  }

  /** Keeps the recurrent states as they are now, for {@link rewindToMark}; after {@link prepareMark}. */
  mark(): void {
    this.#memory.mark();
  }

  /** Forgets what was consumed since the mark. */
  rewindToMark(): void {
    this.#memory.rewindToMark();
  }

  /**
   * Processes prompt tokens in chunks and leaves the logits of the last one on the GPU.
   *
   * @throws ContextLengthError if the sequence would outgrow the model's context; ArgumentError for a token id outside
   *   the vocabulary, or no token at all
   */
  async prefill(tokens: readonly number[], signal?: AbortSignal): Promise<void> {
    await this.#prompt.run(tokens, { signal }, (isLast) => (isLast ? 'last' : 'none'));
  }

  /** As {@link prefill}, without logits: for what is followed by more. */
  async advance(tokens: readonly number[], signal?: AbortSignal): Promise<void> {
    await this.#prompt.run(tokens, { signal }, () => 'none');
  }

  /** As {@link prefill}, and returns the logits of every token: (L, V) f32. */
  async prefillLogits(tokens: readonly number[], signal?: AbortSignal): Promise<Float32Array> {
    const { vocabSize } = this.#runtime.spec;
    const logits = new Float32Array(tokens.length * vocabSize);
    await this.prefillRows(tokens, 'all', { signal }, (row, index) => logits.set(row, index * vocabSize));
    return logits;
  }

  /** As {@link prefill}, and hands out a row for every token, with flat memory; see {@link PromptPass.rows}. */
  async prefillRows(
    tokens: readonly number[],
    head: RowHead,
    options: RowOptions,
    visit: (row: Float32Array, index: number) => void,
  ): Promise<void> {
    await this.#prompt.rows(tokens, head, options, visit);
  }

  /** @throws ArgumentError for a token id outside the vocabulary */
  checkTokens(tokens: readonly number[]): void {
    this.#prompt.checkTokens(tokens);
  }

  /** The logits that the last pass left on the GPU: (V) f32. */
  async lastLogits(): Promise<Float32Array> {
    const { data } = await this.#runtime.device.read(this.#tensor('logits'));
    return new Float32Array(data.buffer, 0, this.#runtime.spec.vocabSize);
  }

  /** Replaces the logits (V) that the next token is chosen from. */
  setLogits(logits: Float32Array): void {
    this.#runtime.device.write(this.#tensor('logits'), logits);
  }

  /**
   * Makes what {@link setSampling} of these settings needs; without it, a device that has no memory tells whoever uses it
   * next.
   *
   * @throws OutOfMemoryError
   */
  async prepareSampling(settings: SamplingSettings): Promise<void> {
    this.#memory.refuseDisposed();
    // A plan that was bound before lacks tensors that are new.
    if (await this.#choice.prepare(settings)) this.#bound = new WeakMap();
    this.#memory.refuseDisposed();
  }

  /**
   * Sets how {@link sample} and {@link next} choose tokens.
   *
   * @param history tokens before the next one, which penalties look at
   */
  setSampling(settings: SamplingSettings, history: readonly number[] = []): void {
    this.#memory.refuseDisposed();
    const hasMore = this.#choice.set(settings, history);
    this.#step = undefined;
    this.#forward = undefined;
    // A plan that was bound before lacks tensors that are new.
    if (hasMore) this.#bound = new WeakMap();
  }

  /** Allows the tokens whose bits are set, for the next choice; for settings that are `masked`. */
  setMask(words: Uint32Array): void {
    this.#memory.refuseDisposed();
    this.#choice.setMask(words);
  }

  /** Sets the token that the next {@link step} consumes, as if it had been sampled. */
  setToken(token: number): void {
    this.checkTokens([token]);
    this.#runtime.device.write(this.#tensor('token'), Uint32Array.of(token));
  }

  /** Chooses a token from the logits that are there. */
  async sample(): Promise<SampledToken> {
    return await this.#read(this.#bind(await this.#runtime.samplePlan(this.features)));
  }

  /** As {@link sample}, the token alone. */
  async sampleFirst(): Promise<number> {
    return (await this.sample()).token;
  }

  /** Gets everything ready that {@link next} needs for `count` further tokens, so that it can submit at once. */
  async prepareSteps(count: number): Promise<void> {
    await this.reserve(this.length + count);
    this.#step = this.#bind(await this.#runtime.decodePlan(this.capacity, 1, this.features));
  }

  /** As {@link prepareSteps}, for {@link forward}. */
  async prepareForward(count: number): Promise<void> {
    await this.reserve(this.length + count);
    this.#forward = this.#bind(await this.#runtime.decodePlan(this.capacity, 1, 'none'));
  }

  /** Consumes the token that was chosen last, and leaves the logits after it on the GPU. Submits at once. */
  forward(): void {
    this.#memory.refuseDisposed();
    this.#prepared(this.#forward).submit();
    this.#memory.advance(1);
  }

  /**
   * Consumes the token that was chosen last and chooses the next. Submits at once; several may be on their way. Call
   * {@link prepareSteps} first.
   */
  async next(): Promise<SampledToken> {
    const { scheduler } = this;
    if (scheduler === undefined || this.#step === undefined) return await this.nextAlone();
    const isShared = this.isInSlot;
    if (!isShared) return await scheduler.next(this);
    this.#prepared(this.#step);
    this.#shared += 1;
    try {
      return await scheduler.next(this);
    } catch (error) {
      this.#memory.refuseDisposed();
      throw error;
    } finally {
      this.#shared -= 1;
    }
  }

  /** As {@link next}, whoever else is there. */
  async nextAlone(): Promise<SampledToken> {
    const plan = this.#prepared(this.#step);
    // A step that the ring refuses is none.
    const isSubmitted = this.#choice.free > 0;
    const token = this.#read(plan);
    token.catch(() => undefined);
    // Behind the step on the GPU.
    if (isSubmitted) this.#memory.advance(1);
    return await token;
  }

  /** As {@link next}, the token alone. */
  async step(): Promise<number> {
    return (await this.next()).token;
  }

  /**
   * Processes up to 8 tokens in one pass, and chooses a token after each of them as if it had been reached by steps.
   * Later choices take for granted that the earlier ones are the tokens that follow here.
   */
  async sampleAfterEach(tokens: readonly number[], signal?: AbortSignal): Promise<SampledToken[]> {
    await this.reserve(this.length + tokens.length);
    const { device, spec } = this.#runtime;
    const sample = this.#bind(await this.#runtime.samplePlan(this.features));
    const ring = await this.#choice.passRing();
    const base = this.length;
    const chosen: Promise<SampledToken>[] = [];
    const choose = (plan: Plan, _first: number, count: number): Promise<void> => {
      // At once: the next run of the plan, of whatever sequence, has other logits.
      const rows = plan.output('allLogits');
      for (let row = 0; row < count; row++) {
        const source = { ...rows, byteOffset: row * rows.rowStride * 4, byteLength: spec.vocabSize * 4 };
        device.copy(source, this.#tensor('logits'));
        device.write(this.#tensor('position'), Uint32Array.of(base + row + 1));
        chosen.push(this.#choice.read(sample, ring));
      }
      return Promise.resolve();
    };
    await this.#prompt.run(tokens, { signal }, () => 'all', choose);
    return await Promise.all(chosen);
  }

  dispose(): void {
    this.#choice.dispose();
    this.#memory.dispose();
    for (const tensor of this.#control.values()) tensor.dispose();
  }

  #copySlot(slot: SequenceSlot, way: 'in' | 'out'): void {
    const { capacity, length, tensors } = this.#memory;
    const tensor = (name: string): Tensor | undefined =>
      tensors.get(name) ?? this.#control.get(name) ?? this.#choice.tensors.get(name);
    copySlot(this.#runtime, slot, { capacity, length, tensor }, way);
  }

  #prepared(plan: BoundPlan | undefined): BoundPlan {
    if (plan !== undefined && (this.capacity === 1 || this.length < this.capacity)) return plan;
    throw new ArgumentError('No room was prepared for this step.', 'Call prepareSteps first.');
  }

  async #read(plan: BoundPlan): Promise<SampledToken> {
    this.#memory.refuseDisposed();
    try {
      return await this.#choice.read(plan);
    } catch (error) {
      // Disposing cancels what is on its way.
      this.#memory.refuseDisposed();
      throw error;
    }
  }

  #bind(plan: Plan): BoundPlan {
    this.#memory.refuseDisposed();
    const cached = this.#bound.get(plan);
    if (cached !== undefined) return cached;
    const { constants } = this.#runtime;
    const pages = this.#runtime.pageTables(this.capacity);
    const own = [...this.#memory.tensors, ...this.#control, ...this.#choice.tensors];
    const bound = plan.bind(new Map([...constants, ...pages, ...own]));
    this.#bound.set(plan, bound);
    return bound;
  }

  #tensor(name: string): Tensor {
    this.#memory.refuseDisposed();
    return this.#own(name);
  }

  #own(name: string): Tensor {
    const tensor = this.#control.get(name);
    if (tensor === undefined) throw new RangeError(`A sequence has no tensor '${name}'.`);
    return tensor;
  }
}
