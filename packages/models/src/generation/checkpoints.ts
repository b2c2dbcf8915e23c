import type { Device, Tensor } from '@mambalab/kernels';
import { createStore } from '@mambalab/kernels';
import type { Sequence } from './sequence.ts';
import type { Snapshot } from './snapshot.ts';

/** Why a checkpoint was made: the later in this order, the longer it is kept. */
const KINDS = ['step', 'turn', 'asked'] as const;
export type CheckpointKind = (typeof KINDS)[number];

/** Tokens between two checkpoints of a text in the making, at least. */
export const CHECKPOINT_DISTANCE = 64;

/** Checkpoints that are always allowed: a stop may be found up to a few tokens before the newest. */
const FEWEST = 3;

interface Checkpoint {
  readonly snapshot: Snapshot;
  kind: CheckpointKind;
}

/**
 * The checkpoints of one sequence: copies of its recurrent states (and of rings of pages) at some lengths. KV caches are
 * not copied: they are shortened.
 *
 * Policy: one where each turn begins and wherever the user asks, and, while a text is processed or written, one whenever
 * it grew by 64 tokens (in a prompt: by a chunk). Where there are more than `maximumBytes` allow, the one goes whose
 * neighbours are nearest to each other in relation to their distance from the end, those of the making first, then those
 * of turns, then those that were asked for: what stays is spaced exponentially, dense near the end.
 */
export class Checkpoints {
  readonly #device: Device;
  readonly #bytes: number;
  readonly #most: number;
  readonly #entries: Checkpoint[] = [];
  readonly #free: Tensor[] = [];

  /** @param bytes of one checkpoint; 0 where shortening a sequence is all it takes, and then none are kept */
  constructor(device: Device, bytes: number, maximumBytes: number) {
    this.#device = device;
    this.#bytes = bytes;
    this.#most = bytes === 0 ? 0 : Math.max(FEWEST, Math.floor(maximumBytes / bytes));
  }

  /** Bytes of all checkpoints, and of their free stores. */
  get bytes(): number {
    return this.#bytes * (this.#entries.length + this.#free.length);
  }

  get lengths(): readonly number[] {
    return this.#entries.map(({ snapshot }) => snapshot.length);
  }

  /**
   * Makes room for what {@link consider} and {@link take} keep next. They copy and allocate nothing.
   *
   * @throws OutOfMemoryError
   */
  async prepare(): Promise<void> {
    const missing = Math.min(this.#most - this.#entries.length, 4) - this.#free.length;
    if (missing <= 0) return;
    const made: Tensor[] = [];
    try {
      await this.#device.guard('Making room for checkpoints', () => {
        while (made.length < missing) made.push(createStore(this.#device, 'sequence/checkpoint', this.#bytes));
      });
    } catch (error) {
      for (const store of made) store.dispose();
      throw error;
    }
    this.#free.push(...made);
  }

  /** Keeps a checkpoint if the text grew enough since the last one. */
  consider(sequence: Sequence): void {
    // Guesses that were wrong are no part of the text.
    this.forgetAfter(sequence.length);
    const last = this.#entries.at(-1)?.snapshot.length ?? 0;
    if (sequence.length - last >= CHECKPOINT_DISTANCE) this.take(sequence, 'step');
  }

  /** Keeps a checkpoint of the sequence as it is now. */
  take(sequence: Sequence, kind: CheckpointKind): void {
    if (this.#most === 0 || sequence.length === 0) return;
    const last = this.#entries.at(-1);
    if (last?.snapshot.length === sequence.length && sequence.holds(last.snapshot)) {
      if (KINDS.indexOf(kind) > KINDS.indexOf(last.kind)) last.kind = kind;
      return;
    }
    const store = this.#free.pop() ?? this.#evict(sequence.length);
    if (store !== undefined) this.#entries.push({ snapshot: sequence.snapshot('states', store), kind });
  }

  /** The newest checkpoint of at most `length` tokens that the sequence can go back to. */
  before(sequence: Sequence, length: number): Snapshot | undefined {
    return this.#entries.findLast(({ snapshot }) => snapshot.length <= length && sequence.holds(snapshot))?.snapshot;
  }

  /** Forgets the checkpoints of more than `length` tokens. */
  forgetAfter(length: number): void {
    while ((this.#entries.at(-1)?.snapshot.length ?? 0) > length) this.#release(this.#entries.length - 1);
  }

  dispose(): void {
    for (const { snapshot } of this.#entries) snapshot.store?.dispose();
    for (const store of this.#free) store.dispose();
    this.#entries.length = 0;
    this.#free.length = 0;
  }

  /** Gives up the least useful checkpoint of a text of `length` tokens, and returns its store. */
  #evict(length: number): Tensor | undefined {
    const kind = KINDS.find((candidate) => this.#entries.some((entry) => entry.kind === candidate));
    let worst = -1;
    let smallest = Infinity;
    for (const [index, entry] of this.#entries.entries()) {
      if (entry.kind !== kind) continue;
      const before = this.#entries[index - 1]?.snapshot.length ?? 0;
      const after = this.#entries[index + 1]?.snapshot.length ?? length;
      // How much more must be processed again without it, over how far back that is.
      const worth = (after - before) / (length - before);
      if (worth < smallest) [worst, smallest] = [index, worth];
    }
    this.#release(worst);
    return this.#free.pop();
  }

  #release(index: number): void {
    const [entry] = this.#entries.splice(index, 1);
    if (entry?.snapshot.store !== undefined) this.#free.push(entry.snapshot.store);
  }
}
