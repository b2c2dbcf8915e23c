// Longer than most files, because all that touches the buffers of one sequence is here.
import type { BoundPlan, Plan, Tensor } from '@mambalab/kernels';
import { ArgumentError, ContextLengthError, copyParts, ReadbackRing } from '@mambalab/kernels';
import { LENGTH } from '../graph/build.ts';
import type { SamplingFeatures } from '../graph/sampling.ts';
import type { PrefillHead } from '../graph/build.ts';
import type { StateTensor } from '../graph/names.ts';
import { MAXIMUM_CHUNK, stateTensors } from '../graph/names.ts';
import type { ModelRuntime } from './runtime.ts';
import type { SampledToken, SamplingSettings } from './sampling_control.ts';
import { SamplingControl } from './sampling_control.ts';
import type { Scheduler } from './scheduler.ts';
import type { Snapshot, SnapshotScope, UsedState } from './snapshot.ts';
import { ringsHold, snapshotStore, usedStates } from './snapshot.ts';

/**
 * Tokens that may be on their way from the GPU: it starts the next while JavaScript looks at the last ones. After a
 * stop, at most this many steps were run for nothing.
 */
export const TOKENS_IN_FLIGHT = 3;

/** What {@link Sequence.prefillRows} hands out: the logits of each token, or its hidden state. */
export type RowHead = 'all' | 'hidden';

export interface RowOptions {
  readonly signal?: AbortSignal | undefined;
  /** Hand out the row of the last token alone. */
  readonly lastOnly?: boolean;
}

const HEAD_OUTPUTS: Readonly<Record<RowHead, string>> = { all: 'allLogits', hidden: 'hidden' };

/** Bytes of rows that are read back at a time. */
const ROWS_BYTES = 64 * 2 ** 20;

/** Tokens of a chunk whose rows of `width` values take no more than {@link ROWS_BYTES}. */
function chunkLimitFor(width: number): number {
  return Math.min(MAXIMUM_CHUNK, Math.max(8, Math.floor(ROWS_BYTES / (4 * width))));
}

/** A place in the tensors of a batch, where a sequence is while it is decoded together with others. */
export interface SequenceSlot {
  /** State tensors (B, ...), `token` and `position`. */
  readonly tensors: ReadonlyMap<string, Tensor>;
  readonly index: number;
  /** Slots of the batch. */
  readonly batch: number;
  /** Tokens that the caches of the batch have room for. */
  readonly capacity: number;
}

/** What goes with the states into a slot, and what of it comes back: the rest does not change. */
const INTO_SLOT: readonly string[] = ['token', 'position', 'settings', 'recent', 'bias', 'mask'];
const OUT_OF_SLOT: readonly string[] = ['token', 'position', 'recent'];

/** One sequence on the GPU: its states, caches, position and the plans bound to them. */
export class Sequence {
  readonly #runtime: ModelRuntime;
  readonly #control: ReadonlyMap<string, Tensor>;
  readonly #ring: ReadbackRing;
  readonly #sampling: SamplingControl;
  /** Reads log-probabilities too, once a text asks for them. */
  #logprobRing: ReadbackRing | undefined;
  #logprobs: number | undefined;
  #states = new Map<string, Tensor>();
  #bound = new WeakMap<Plan, BoundPlan>();
  #capacity = 0;
  #length = 0;
  #furthest = 0;
  #slot: SequenceSlot | undefined;
  #disposed = false;
  /** Called whenever the length changed in a call: by a chunk of a prompt, a step, or guesses that were wrong. */
  onAdvance: (() => void) | undefined;

  private constructor(runtime: ModelRuntime) {
    this.#runtime = runtime;
    const { device, spec } = runtime;
    const make = (name: string, dtype: 'f32' | 'u32', shape: readonly number[]): [string, Tensor] => [
      name,
      device.createTensor(`sequence/${name}`, dtype, shape),
    ];
    this.#control = new Map([
      make('tokens', 'u32', [MAXIMUM_CHUNK]),
      make('token', 'u32', [1]),
      make('position', 'u32', [1]),
      make('logits', 'f32', [1, spec.vocabSize]),
    ]);
    this.#sampling = new SamplingControl(device, 1, spec.vocabSize);
    this.#ring = new ReadbackRing(device, this.#tensor('token'), TOKENS_IN_FLIGHT);
  }

  /** An empty sequence with room for `length` tokens; it grows when it needs more. */
  static async create(runtime: ModelRuntime, length = 1): Promise<Sequence> {
    const sequence = await runtime.device.guard('Making a sequence', () => new Sequence(runtime));
    try {
      await sequence.#reserve(length);
      return sequence;
    } catch (error) {
      sequence.dispose();
      throw error;
    }
  }

  /** Tokens that were submitted to the GPU, those on their way included. */
  get length(): number {
    return this.#length;
  }

  /** How many further steps may be submitted before a result is awaited. */
  get freeSlots(): number {
    return this.#activeRing.free - this.#shared;
  }

  /** Whether results of its own steps are on their way. */
  get isAwaited(): boolean {
    return this.#activeRing.free < TOKENS_IN_FLIGHT;
  }

  /** How its tokens are chosen. */
  get settings(): SamplingSettings {
    return this.#settings;
  }
  #settings: SamplingSettings = { temperature: 0, seed: [0, 0] };

  /** What its sampling uses. */
  get features(): SamplingFeatures {
    return this.#sampling.features;
  }

  /** How many log-probabilities its tokens have beside their own; undefined for none. */
  get logprobs(): number | undefined {
    return this.#logprobs;
  }

  /** Lets {@link next} run together with the steps of other sequences. */
  scheduler: Scheduler | undefined;
  /** Steps in a batch whose results are on their way. */
  #shared = 0;

  /** Bytes of the recurrent states and of the KV caches, as allocated. */
  bytes(): { readonly stateBytes: number; readonly kvBytes: number } {
    let stateBytes = 0;
    let kvBytes = 0;
    for (const { name, kind } of this.#stateTensors(this.#capacity)) {
      const bytes = this.#states.get(name)?.byteLength ?? 0;
      if (kind === 'cache') kvBytes += bytes;
      else stateBytes += bytes;
    }
    return { stateBytes, kvBytes };
  }

  /** Forgets everything: zero states, position 0. Memory stays allocated. */
  reset(): void {
    this.#runtime.device.clear([...this.#states.values(), this.#tensor('position')]);
    this.#length = 0;
    this.#furthest = 0;
  }

  /** Tokens that the caches have room for. */
  get capacity(): number {
    return this.#capacity;
  }

  /** Whether it is in a batch: {@link step} and prompts must wait until it left. */
  get isInSlot(): boolean {
    return this.#slot !== undefined;
  }

  /** Counts a step of the batch that the sequence is in. */
  countStep(): void {
    this.#advanced(1);
  }

  /** Moves the sequence into a slot of a batch, after everything that was submitted. */
  enterSlot(slot: SequenceSlot): void {
    this.#move(slot, true);
    this.#slot = slot;
  }

  /** Moves the sequence back out of its slot. */
  leaveSlot(): void {
    const slot = this.#slot;
    if (slot === undefined) return;
    this.#move(slot, false);
    this.#slot = undefined;
  }

  /** Leaves the slot without a copy: for a sequence that nobody goes on with. */
  abandonSlot(): void {
    this.#slot = undefined;
  }

  #move(slot: SequenceSlot, entering: boolean): void {
    const { device } = this.#runtime;
    const sizes = new Map(usedStates(this.#runtime, slot.capacity, 0).map((state) => [state.name, state.byteLength]));
    const used = usedStates(this.#runtime, entering ? this.#capacity : slot.capacity, this.#length);
    const regions: (readonly [string, number, number, Tensor | undefined])[] = [
      ...used.map(
        (state) => [state.name, state.usedBytes, sizes.get(state.name) ?? 0, this.#states.get(state.name)] as const,
      ),
      ...(entering ? INTO_SLOT : OUT_OF_SLOT).map((name) => {
        const own = this.#control.get(name) ?? this.#sampling.tensors.get(name);
        const bytes = own === undefined ? 0 : 4 * own.shape.reduce((product, size) => product * size, 1);
        return [name, bytes, bytes, own] as const;
      }),
    ];
    copyParts(
      device,
      regions.flatMap(([name, byteLength, slotBytes, own]) => {
        const there = slot.tensors.get(name);
        if (own === undefined || there === undefined || byteLength === 0) return [];
        const offset = slot.index * slotBytes;
        return entering
          ? [{ source: own, sourceOffset: 0, target: there, targetOffset: offset, byteLength }]
          : [{ source: there, sourceOffset: offset, target: own, targetOffset: 0, byteLength }];
      }),
    );
  }

  /**
   * Copies what the sequence remembers, after everything that was submitted. Makes its store in the calling
   * {@link Device.guard}, unless one of at least the size is given.
   *
   * @param scope `states`: what {@link restore} needs in this same sequence, where caches are shortened in place
   */
  snapshot(scope: SnapshotScope, store?: Tensor): Snapshot {
    const capacity = this.#slot?.capacity ?? this.#capacity;
    const kept = this.#keptBy(scope);
    let end = 0;
    const regions = kept.map(({ name, usedBytes }) => {
      const byteOffset = end;
      end += usedBytes;
      return { name, byteOffset, byteLength: usedBytes };
    });
    const target = store ?? snapshotStore(this.#runtime.device, end);
    const slotBytes = new Map(kept.map(({ name, byteLength }) => [name, byteLength]));
    const slot = this.#slot;
    copyParts(
      this.#runtime.device,
      regions.flatMap(({ name, byteOffset, byteLength }) => {
        const source = (slot?.tensors ?? this.#states).get(name);
        if (source === undefined || target === undefined) return [];
        const sourceOffset = (slot?.index ?? 0) * (slotBytes.get(name) ?? 0);
        return [{ source, sourceOffset, target, targetOffset: byteOffset, byteLength }];
      }),
    );
    return { length: this.#length, furthest: this.#furthest, capacity, regions, store: target };
  }

  /** The dtype of a state tensor. */
  dtypeOf(name: string): 'f32' | 'f16' {
    return this.#states.get(name)?.dtype === 'f16' ? 'f16' : 'f32';
  }

  /** Bytes of a {@link snapshot} now. */
  snapshotBytes(scope: SnapshotScope): number {
    return this.#keptBy(scope).reduce((sum, { usedBytes }) => sum + usedBytes, 0);
  }

  #keptBy(scope: SnapshotScope): UsedState[] {
    return usedStates(this.#runtime, this.#slot?.capacity ?? this.#capacity, this.#length).filter(
      ({ kind, isRing, usedBytes }) => usedBytes > 0 && (scope === 'all' || kind === 'state' || isRing),
    );
  }

  /** Makes room for what a snapshot of another sequence holds, and then {@link restore}s it. */
  async adopt(snapshot: Snapshot): Promise<void> {
    await this.#reserve(Math.max(snapshot.capacity, snapshot.length));
    this.restore(snapshot);
  }

  /** Goes back to a snapshot. What it does not hold must be in the caches still: see {@link holds}. */
  restore({ length, furthest, regions, store }: Snapshot): void {
    copyParts(
      this.#runtime.device,
      regions.flatMap(({ name, byteOffset, byteLength }) => {
        const target = this.#states.get(name);
        if (target === undefined || store === undefined) return [];
        return [{ source: store, sourceOffset: byteOffset, target, targetOffset: 0, byteLength }];
      }),
    );
    const hasRings = regions.some(({ name }) => this.#isRing(name));
    this.#setLength(length, hasRings ? furthest : Math.max(furthest, this.#furthest));
  }

  /** Whether {@link restore} of one of its own snapshots gives back everything, though caches were written further. */
  holds(snapshot: Snapshot): boolean {
    if (snapshot.regions.some(({ name }) => this.#isRing(name))) return true;
    return this.holdsCaches(snapshot.length);
  }

  /** Whether the caches hold everything that tokens after the first `length` see. */
  holdsCaches(length: number): boolean {
    return ringsHold(this.#runtime, this.#capacity, length, this.#furthest);
  }

  /** Forgets all tokens but the first `length`, where caches are all that there is and {@link holdsCaches} them. */
  truncate(length: number): void {
    this.#setLength(length, this.#furthest);
  }

  #setLength(length: number, furthest: number): void {
    this.#runtime.device.write(this.#tensor('position'), Uint32Array.of(length));
    this.#length = length;
    this.#furthest = furthest;
  }

  #isRing(name: string): boolean {
    return usedStates(this.#runtime, this.#capacity, 0).some((state) => state.isRing && state.name === name);
  }

  #advanced(count: number): void {
    this.#length += count;
    this.#furthest = Math.max(this.#furthest, this.#length);
    this.onAdvance?.();
  }

  /**
   * Processes prompt tokens in chunks and leaves the logits of the last one on the GPU.
   *
   * @throws ContextLengthError if the sequence would outgrow the model's context; ArgumentError for a token id outside
   *   the vocabulary, or no token at all
   */
  async prefill(tokens: readonly number[], signal?: AbortSignal): Promise<void> {
    await this.#chunks(
      tokens,
      { signal },
      (last) => (last ? 'last' : 'none'),
      () => Promise.resolve(),
    );
  }

  /** As {@link prefill}, without logits: for what is followed by more. */
  async advance(tokens: readonly number[], signal?: AbortSignal): Promise<void> {
    await this.#chunks(
      tokens,
      { signal },
      () => 'none',
      () => Promise.resolve(),
    );
  }

  /** As {@link prefill}, and returns the logits of every token: (L, V) f32. */
  async prefillLogits(tokens: readonly number[], signal?: AbortSignal): Promise<Float32Array> {
    const { vocabSize } = this.#runtime.spec;
    const logits = new Float32Array(tokens.length * vocabSize);
    await this.prefillRows(tokens, 'all', { signal }, (row, index) => logits.set(row, index * vocabSize));
    return logits;
  }

  /**
   * As {@link prefill}, and hands out a row for every token, in their order: its logits (V), or its hidden state after
   * the last norm (D). A row is valid during the call alone; memory does not grow with the number of tokens.
   */
  async prefillRows(
    tokens: readonly number[],
    head: RowHead,
    { signal, lastOnly = false }: RowOptions,
    visit: (row: Float32Array, index: number) => void,
  ): Promise<void> {
    const { vocabSize, hiddenSize } = this.#runtime.spec;
    const width = head === 'all' ? vocabSize : hiddenSize;
    const limit = chunkLimitFor(width);
    const last = tokens.length - 1;
    await this.#chunks(
      tokens,
      { signal, limit },
      (isLast) => (lastOnly && !isLast ? 'none' : head),
      async (plan, first, count) => {
        const skipped = lastOnly ? last - first : 0;
        if (skipped >= count) return;
        const { buffer, rowStride } = plan.output(HEAD_OUTPUTS[head]);
        const bytes = (count - skipped) * rowStride * 4;
        const read = await this.#runtime.device.readBuffer(buffer, skipped * rowStride * 4, bytes);
        const values = new Float32Array(read);
        for (let row = 0; row < count - skipped; row++) {
          visit(values.subarray(row * rowStride, row * rowStride + width), first + skipped + row);
        }
      },
    );
  }

  /** The logits that the last pass left on the GPU: (V) f32. */
  async lastLogits(): Promise<Float32Array> {
    const { data } = await this.#runtime.device.read(this.#tensor('logits'));
    return new Float32Array(data.buffer, 0, this.#runtime.spec.vocabSize);
  }

  /**
   * Sets how {@link sample} and {@link next} choose tokens.
   *
   * @param history tokens before the next one, which penalties look at
   */
  setSampling(settings: SamplingSettings, history: readonly number[] = []): void {
    this.#refuseDisposed();
    const before = this.#sampling.tensors.size;
    this.#sampling.setRow(0, settings, history);
    this.#logprobs = settings.logprobs;
    this.#settings = settings;
    this.#step = undefined;
    this.#forward = undefined;
    // A plan that was bound before lacks tensors that are new.
    if (this.#sampling.tensors.size > before) this.#bound = new WeakMap();
    if (settings.logprobs === undefined || this.#logprobRing !== undefined) return;
    const sources = [this.#tensor('token'), ...this.#sampling.readback];
    this.#logprobRing = new ReadbackRing(this.#runtime.device, sources, TOKENS_IN_FLIGHT);
  }

  /** Allows the tokens whose bits are set, for the next choice; for settings that are `masked`. */
  setMask(words: Uint32Array): void {
    this.#refuseDisposed();
    this.#sampling.setMask(0, words);
  }

  /** Replaces the logits (V) that the next token is chosen from. */
  setLogits(logits: Float32Array): void {
    this.#runtime.device.write(this.#tensor('logits'), logits);
  }

  /** Chooses a token from the logits that are there. */
  async sample(): Promise<SampledToken> {
    return await this.#read(this.#bind(await this.#runtime.samplePlan(this.#sampling.features)));
  }

  /** As {@link sample}, the token alone. */
  async sampleFirst(): Promise<number> {
    return (await this.sample()).token;
  }

  /** Gets everything ready that {@link next} needs for `count` further tokens, so that it can submit at once. */
  async prepareSteps(count: number): Promise<void> {
    await this.#reserve(this.#length + count);
    this.#step = this.#bind(await this.#runtime.decodePlan(this.#capacity, 1, this.#sampling.features));
  }
  #step: BoundPlan | undefined;

  /** As {@link prepareSteps}, for {@link forward}. */
  async prepareForward(count: number): Promise<void> {
    await this.#reserve(this.#length + count);
    this.#forward = this.#bind(await this.#runtime.decodePlan(this.#capacity, 1, 'none'));
  }
  #forward: BoundPlan | undefined;

  /** Consumes the token that was chosen last, and leaves the logits after it on the GPU. Submits at once. */
  forward(): void {
    this.#refuseDisposed();
    const plan = this.#prepared(this.#forward);
    plan.submit();
    this.#advanced(1);
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
      this.#refuseDisposed();
      throw error;
    } finally {
      this.#shared -= 1;
    }
  }

  /** As {@link next}, whoever else is there. */
  async nextAlone(): Promise<SampledToken> {
    const plan = this.#prepared(this.#step);
    // A step that the ring refuses is none.
    const isSubmitted = this.#activeRing.free > 0;
    const token = this.#read(plan);
    token.catch(() => undefined);
    // Behind the step on the GPU.
    if (isSubmitted) this.#advanced(1);
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
    await this.#reserve(this.#length + tokens.length);
    const { device, spec } = this.#runtime;
    const sample = this.#bind(await this.#runtime.samplePlan(this.#sampling.features));
    const sources = [this.#tensor('token'), ...(this.#logprobs === undefined ? [] : this.#sampling.readback)];
    using ring = new ReadbackRing(device, sources, tokens.length);
    const base = this.#length;
    const chosen: Promise<SampledToken>[] = [];
    await this.#chunks(
      tokens,
      { signal },
      () => 'all',
      (plan, _first, count) => {
        // At once: the next run of the plan, of whatever sequence, has other logits.
        const rows = plan.output('allLogits');
        for (let row = 0; row < count; row++) {
          const source = { ...rows, byteOffset: row * rows.rowStride * 4, byteLength: spec.vocabSize * 4 };
          device.copy(source, this.#tensor('logits'));
          device.write(this.#tensor('position'), Uint32Array.of(base + row + 1));
          chosen.push(this.#read(sample, ring));
        }
        return Promise.resolve();
      },
    );
    return await Promise.all(chosen);
  }

  /** Keeps the recurrent states as they are now, for {@link rewindToMark}; the last mark counts. */
  mark(): void {
    const { device } = this.#runtime;
    for (const { name, kind, dtype, shape } of this.#stateTensors(this.#capacity)) {
      const state = this.#states.get(name);
      if (kind !== 'state' || state === undefined) continue;
      const kept = this.#marked.get(name) ?? device.createTensor(`mark/${name}`, dtype, shape);
      this.#marked.set(name, kept);
      device.copy(state, kept);
    }
    this.#markedLength = this.#length;
  }
  readonly #marked = new Map<string, Tensor>();
  #markedLength = 0;

  /** Forgets what was consumed since the mark. Caches keep it, behind the position, until it is written over. */
  rewindToMark(): void {
    const { device } = this.#runtime;
    for (const [name, kept] of this.#marked) {
      const state = this.#states.get(name);
      if (state !== undefined) device.copy(kept, state);
    }
    this.#setLength(this.#markedLength, this.#furthest);
    this.onAdvance?.();
  }

  /** Sets the token that the next {@link step} consumes, as if it had been sampled. */
  setToken(token: number): void {
    this.checkTokens([token]);
    this.#runtime.device.write(this.#tensor('token'), Uint32Array.of(token));
  }

  dispose(): void {
    this.#ring.dispose();
    this.#logprobRing?.dispose();
    this.#sampling.dispose();
    for (const tensor of [...this.#states.values(), ...this.#control.values(), ...this.#marked.values()])
      tensor.dispose();
    this.#states.clear();
    this.#disposed = true;
  }

  /** Work on freed buffers would fail on the GPU, where whoever uses the device next would be told of it. */
  #refuseDisposed(): void {
    if (this.#disposed) throw new ArgumentError('The sequence, or its model, is disposed.', 'Load the model again.');
  }

  get #activeRing(): ReadbackRing {
    return this.#logprobs === undefined ? this.#ring : (this.#logprobRing ?? this.#ring);
  }

  #prepared(plan: BoundPlan | undefined): BoundPlan {
    if (plan !== undefined && (this.#capacity === 1 || this.#length < this.#capacity)) return plan;
    throw new ArgumentError('No room was prepared for this step.', 'Call prepareSteps first.');
  }

  async #read(plan: BoundPlan, ring: ReadbackRing = this.#activeRing): Promise<SampledToken> {
    this.#refuseDisposed();
    try {
      return this.#sampling.sampled(0, await ring.submit(plan), this.#logprobs);
    } catch (error) {
      // Disposing cancels what is on its way.
      this.#refuseDisposed();
      throw error;
    }
  }

  async #chunks(
    tokens: readonly number[],
    { signal, limit = MAXIMUM_CHUNK }: { readonly signal: AbortSignal | undefined; readonly limit?: number },
    headOf: (last: boolean) => PrefillHead,
    after: (plan: Plan, first: number, count: number) => Promise<void>,
  ): Promise<void> {
    this.checkTokens(tokens);
    if (tokens.length === 0) {
      throw new ArgumentError(
        'There is no token to process.',
        'Give a prompt, or start with the beginning-of-sequence token.',
      );
    }
    await this.#reserve(this.#length + tokens.length);
    let previous: Promise<void> | undefined;
    for (let first = 0; first < tokens.length; first += limit) {
      signal?.throwIfAborted();
      const chunk = Uint32Array.from(tokens.slice(first, first + limit));
      const head = headOf(first + chunk.length === tokens.length);
      this.#refuseDisposed();
      const plan = await this.#runtime.prefillPlan(chunk.length, head, this.#capacity);
      this.#runtime.device.write(this.#tensor('tokens'), chunk);
      this.#bind(plan).submit({ [LENGTH]: chunk.length });
      this.#advanced(chunk.length);
      await after(plan, first, chunk.length);
      // Two chunks are on their way at most: an abort takes effect before the next, and others get their turn.
      const submitted = first + limit < tokens.length ? this.#runtime.device.idle() : undefined;
      submitted?.catch(() => undefined);
      await previous;
      previous = submitted;
    }
  }

  /** @throws ArgumentError for a token id outside the vocabulary */
  checkTokens(tokens: readonly number[]): void {
    const { vocabSize } = this.#runtime.spec;
    const wrong = tokens.findIndex((token) => !Number.isInteger(token) || token < 0 || token >= vocabSize);
    if (wrong < 0) return;
    throw new ArgumentError(
      `Token ${wrong} is ${String(tokens[wrong])}; ids of this model run from 0 to ${vocabSize - 1}.`,
      'Encode the text with the tokenizer of this model.',
    );
  }

  /** Makes room for `length` tokens: caches grow by doubling and keep what they hold. */
  async #reserve(length: number): Promise<void> {
    this.#refuseDisposed();
    const { contextLength, device } = this.#runtime;
    if (length > contextLength) {
      throw new ContextLengthError(
        `The sequence would have ${length} tokens; the context is ${contextLength}.`,
        "Shorten the prompt, or load the model with a larger 'contextLength' if it was trained for one.",
      );
    }
    const capacity = this.#runtime.capacityFor(length);
    if (capacity <= this.#capacity) return;
    const previous = this.#states;
    const needed = this.#stateTensors(capacity);
    const grown = new Map<string, Tensor>();
    try {
      await device.guard('Allocating the state of a sequence', () => {
        for (const { name, kind, dtype, shape } of needed) {
          const old = previous.get(name);
          // A ring of pages is as long for every capacity.
          const kept = kind === 'state' || sameShape(old?.shape, shape) ? old : undefined;
          grown.set(name, kept ?? device.createTensor(`sequence/${name}`, dtype, shape));
        }
      });
      this.#refuseDisposed();
    } catch (error) {
      for (const [name, tensor] of grown) if (tensor !== previous.get(name)) tensor.dispose();
      throw error;
    }
    for (const [name, tensor] of grown) {
      const old = previous.get(name);
      if (old === undefined || old === tensor) continue;
      // Tokens are the outermost dimension of a cache, and a ring begins with its first page: what there is comes first.
      device.copy(old, tensor);
      old.dispose();
    }
    this.#states = grown;
    this.#capacity = capacity;
    this.#bound = new WeakMap();
    this.#step = undefined;
    this.#forward = undefined;
  }

  #stateTensors(capacity: number): StateTensor[] {
    return stateTensors(this.#runtime.spec, 1, capacity, this.#runtime.cacheDtype);
  }

  #bind(plan: Plan): BoundPlan {
    this.#refuseDisposed();
    const cached = this.#bound.get(plan);
    if (cached !== undefined) return cached;
    const { constants } = this.#runtime;
    const pages = this.#runtime.pageTables(this.#capacity);
    const bound = plan.bind(
      new Map([...constants, ...pages, ...this.#states, ...this.#control, ...this.#sampling.tensors]),
    );
    this.#bound.set(plan, bound);
    return bound;
  }

  #tensor(name: string): Tensor {
    this.#refuseDisposed();
    const tensor = this.#control.get(name);
    if (tensor === undefined) throw new RangeError(`A sequence has no tensor '${name}'.`);
    return tensor;
  }
}

const sameShape = (a: readonly number[] | undefined, b: readonly number[]): boolean =>
  a !== undefined && a.length === b.length && a.every((size, axis) => size === b[axis]);
