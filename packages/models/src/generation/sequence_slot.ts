import type { Tensor } from '@mambalab/kernels';
import { copyParts } from '@mambalab/kernels';
import type { ModelRuntime } from './runtime.ts';
import { usedStates } from './snapshot.ts';

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

/** What a sequence has of its own, by the names that a batch has, too. */
export interface SlotOwner {
  readonly capacity: number;
  readonly length: number;
  tensor(name: string): Tensor | undefined;
}

/** What goes with the states into a slot, and what of it comes back: the rest does not change. */
const INTO_SLOT: readonly string[] = ['token', 'position', 'settings', 'recent', 'bias', 'mask'];
const OUT_OF_SLOT: readonly string[] = ['token', 'position', 'recent'];

/** Copies a sequence into a slot of a batch, or back, after everything that was submitted. */
export function copySlot(runtime: ModelRuntime, slot: SequenceSlot, owner: SlotOwner, way: 'in' | 'out'): void {
  const isEntering = way === 'in';
  const sizes = new Map(usedStates(runtime, slot.capacity, 0).map(({ name, byteLength }) => [name, byteLength]));
  const states = usedStates(runtime, isEntering ? owner.capacity : slot.capacity, owner.length).map(
    ({ name, usedBytes }) => [name, usedBytes, sizes.get(name) ?? 0] as const,
  );
  const controls = (isEntering ? INTO_SLOT : OUT_OF_SLOT).map((name) => {
    const bytes = 4 * (owner.tensor(name)?.shape.reduce((product, size) => product * size, 1) ?? 0);
    return [name, bytes, bytes] as const;
  });
  copyParts(
    runtime.device,
    [...states, ...controls].flatMap(([name, byteLength, slotBytes]) => {
      const own = owner.tensor(name);
      const there = slot.tensors.get(name);
      if (own === undefined || there === undefined || byteLength === 0) return [];
      const offset = slot.index * slotBytes;
      return isEntering
        ? [{ source: own, sourceOffset: 0, target: there, targetOffset: offset, byteLength }]
        : [{ source: there, sourceOffset: offset, target: own, targetOffset: 0, byteLength }];
    }),
  );
}
