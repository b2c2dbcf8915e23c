import type { Tensor } from '@mambalab/kernels';
import { ArgumentError, ContextLengthError, copyParts } from '@mambalab/kernels';
import type { StateTensor } from '../graph/names.ts';
import { stateTensors } from '../graph/names.ts';
import { createTensors, guarded } from './allocate.ts';
import type { ModelRuntime } from './runtime.ts';
import type { SequenceSlot } from './sequence_slot.ts';
import type { Snapshot, SnapshotScope, UsedState } from './snapshot.ts';
import { ringsHold, snapshotStore, usedStates } from './snapshot.ts';

/** What one sequence remembers on the GPU: recurrent states, KV caches, and how many tokens they hold. */
export class SequenceMemory {
  readonly #runtime: ModelRuntime;
  /** The number of tokens, where the kernels read it. */
  readonly #position: Tensor;
  #states = new Map<string, Tensor>();
  readonly #marked = new Map<string, Tensor>();
  #markedLength = 0;
  #capacity = 0;
  #length = 0;
  /** The most tokens that the rings of pages held since they were last whole. */
  #furthest = 0;
  #isDisposed = false;
  /** Where the states are instead, while the sequence is in a batch. */
  slot: SequenceSlot | undefined;
  /** Called whenever the length changed in a call: by a chunk of a prompt, a step, or guesses that were wrong. */
  onAdvance: (() => void) | undefined;

  constructor(runtime: ModelRuntime, position: Tensor) {
    this.#runtime = runtime;
    this.#position = position;
  }

  /** States and caches by name. */
  get tensors(): ReadonlyMap<string, Tensor> {
    return this.#states;
  }

  /** Tokens that were submitted to the GPU, those on their way included. */
  get length(): number {
    return this.#length;
  }

  /** Tokens that the caches have room for. */
  get capacity(): number {
    return this.#capacity;
  }

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
    this.#runtime.device.clear([...this.#states.values(), this.#position]);
    this.#length = 0;
    this.#furthest = 0;
  }

  /** Counts tokens that were submitted. */
  advance(count: number): void {
    this.#length += count;
    this.#furthest = Math.max(this.#furthest, this.#length);
    this.onAdvance?.();
  }

  /**
   * Makes room for `length` tokens: caches grow by doubling and keep what they hold. Returns whether there are other
   * tensors now. Where it fails, everything is as it was.
   *
   * @throws ContextLengthError if the model's context is shorter; OutOfMemoryError
   */
  async reserve(length: number): Promise<boolean> {
    this.refuseDisposed();
    const { contextLength, device } = this.#runtime;
    if (length > contextLength) {
      throw new ContextLengthError(
        `The sequence would have ${length} tokens; the context is ${contextLength}.`,
        "Shorten the prompt, or load the model with a larger 'contextLength' if it was trained for one.",
      );
    }
    const capacity = this.#runtime.capacityFor(length);
    if (capacity <= this.#capacity) return false;
    const previous = this.#states;
    const grown = new Map<string, Tensor>();
    try {
      await device.guard('Allocating the state of a sequence', () => {
        for (const { name, kind, dtype, shape } of this.#stateTensors(capacity)) {
          const old = previous.get(name);
          // A ring of pages is as long for every capacity.
          const kept = kind === 'state' || sameShape(old?.shape, shape) ? old : undefined;
          grown.set(name, kept ?? device.createTensor(`sequence/${name}`, dtype, shape));
        }
      });
      this.refuseDisposed();
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
    return true;
  }

  /**
   * Copies what the sequence remembers, after everything that was submitted. Makes its store in the calling
   * {@link Device.guard}, unless one of at least the size is given.
   *
   * @param scope `states`: what {@link restore} needs in this same sequence, where caches are shortened in place
   */
  snapshot(scope: SnapshotScope, store?: Tensor): Snapshot {
    const { slot } = this;
    const kept = this.#keptBy(scope);
    let end = 0;
    const regions = kept.map(({ name, usedBytes }) => {
      const byteOffset = end;
      end += usedBytes;
      return { name, byteOffset, byteLength: usedBytes };
    });
    const target = store ?? snapshotStore(this.#runtime.device, end);
    const slotBytes = new Map(kept.map(({ name, byteLength }) => [name, byteLength]));
    copyParts(
      this.#runtime.device,
      regions.flatMap(({ name, byteOffset, byteLength }) => {
        const source = (slot?.tensors ?? this.#states).get(name);
        if (source === undefined || target === undefined) return [];
        const sourceOffset = (slot?.index ?? 0) * (slotBytes.get(name) ?? 0);
        return [{ source, sourceOffset, target, targetOffset: byteOffset, byteLength }];
      }),
    );
    const capacity = slot?.capacity ?? this.#capacity;
    return { length: this.#length, furthest: this.#furthest, capacity, regions, store: target };
  }

  /** Bytes of a {@link snapshot} now. */
  snapshotBytes(scope: SnapshotScope): number {
    return this.#keptBy(scope).reduce((sum, { usedBytes }) => sum + usedBytes, 0);
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

  /** Makes what {@link mark} needs. @throws OutOfMemoryError */
  async prepareMark(): Promise<void> {
    this.refuseDisposed();
    const missing = this.#stateTensors(this.#capacity).filter(
      ({ name, kind }) => kind === 'state' && !this.#marked.has(name),
    );
    if (missing.length === 0) return;
    const { device } = this.#runtime;
    const free = (made: ReadonlyMap<string, Tensor>): void => {
      for (const tensor of made.values()) tensor.dispose();
    };
    const made = await guarded(device, 'Making room for guesses', () => createTensors(device, 'mark', missing), free);
    if (this.#isDisposed) free(made);
    this.refuseDisposed();
    for (const [name, tensor] of made) this.#marked.set(name, tensor);
  }

  /** Keeps the recurrent states as they are now, for {@link rewindToMark}; the last mark counts. */
  mark(): void {
    for (const { name, kind } of this.#stateTensors(this.#capacity)) {
      const [state, kept] = [this.#states.get(name), this.#marked.get(name)];
      if (kind !== 'state' || state === undefined) continue;
      if (kept === undefined) throw new RangeError(`No room was made for a mark of '${name}'.`);
      this.#runtime.device.copy(state, kept);
    }
    this.#markedLength = this.#length;
  }

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

  dispose(): void {
    for (const tensor of [...this.#states.values(), ...this.#marked.values()]) tensor.dispose();
    this.#states.clear();
    this.#marked.clear();
    this.#isDisposed = true;
  }

  /** Work on freed buffers would fail on the GPU, where whoever uses the device next would be told of it. */
  refuseDisposed(): void {
    if (this.#isDisposed) throw new ArgumentError('The sequence, or its model, is disposed.', 'Load the model again.');
  }

  #setLength(length: number, furthest: number): void {
    this.#runtime.device.write(this.#position, Uint32Array.of(length));
    this.#length = length;
    this.#furthest = furthest;
  }

  #keptBy(scope: SnapshotScope): UsedState[] {
    return usedStates(this.#runtime, this.slot?.capacity ?? this.#capacity, this.#length).filter(
      ({ kind, isRing, usedBytes }) => usedBytes > 0 && (scope === 'all' || kind === 'state' || isRing),
    );
  }

  #isRing(name: string): boolean {
    return usedStates(this.#runtime, this.#capacity, 0).some((state) => state.isRing && state.name === name);
  }

  #stateTensors(capacity: number): StateTensor[] {
    return stateTensors(this.#runtime.spec, 1, capacity, this.#runtime.cacheDtype);
  }
}

const sameShape = (a: readonly number[] | undefined, b: readonly number[]): boolean =>
  a !== undefined && a.length === b.length && a.every((size, axis) => size === b[axis]);
