import type { Device, Tensor } from '@mambalab/kernels';
import { createStore } from '@mambalab/kernels';
import type { PageRing, StateTensor } from '../graph/names.ts';
import { PAGE, pageRing, stateTensors } from '../graph/names.ts';
import { blocksOf } from '../spec/model_spec.ts';
import { guarded } from './allocate.ts';
import type { ModelRuntime } from './runtime.ts';

/** What a snapshot holds: what cannot be had back by shortening a sequence, or everything. */
export type SnapshotScope = 'states' | 'all';

/** A part of a sequence's memory within a snapshot. */
export interface SnapshotRegion {
  readonly name: string;
  readonly byteOffset: number;
  readonly byteLength: number;
}

/** A copy of what a sequence remembered after some tokens, on the GPU. */
export interface Snapshot {
  /** Tokens that were processed. */
  readonly length: number;
  /** The most tokens that the rings of pages held since they were last whole: those behind are written over. */
  readonly furthest: number;
  /** Tokens that the caches had room for. */
  readonly capacity: number;
  readonly regions: readonly SnapshotRegion[];
  /** Absent where there is nothing to keep. */
  readonly store: Tensor | undefined;
}

/** A state tensor of one sequence with the bytes that matter. */
export interface UsedState {
  readonly name: string;
  readonly isRing: boolean;
  readonly kind: StateTensor['kind'];
  /** All of it. */
  readonly byteLength: number;
  /** What the tokens so far have written. */
  readonly usedBytes: number;
}

/** The state tensors of one sequence after `length` tokens. */
export function usedStates(runtime: ModelRuntime, capacity: number, length: number): UsedState[] {
  return stateTensors(runtime.spec, 1, capacity, runtime.cacheDtype).map(({ name, kind, dtype, shape }) => {
    const values = shape.reduce((product, size) => product * size, 1);
    const byteLength = values * (dtype === 'f16' ? 2 : 4);
    const [first = 1, second = 1] = shape;
    const tokenBytes = byteLength / (first * second);
    const usedBytes = kind === 'state' ? byteLength : Math.min(byteLength, length * tokenBytes);
    return { name, kind, isRing: kind === 'cache' && first > 1, byteLength, usedBytes };
  });
}

/** Bytes of a snapshot of the states alone: the same for every length. */
export function stateSnapshotBytes(runtime: ModelRuntime, capacity: number): number {
  return usedStates(runtime, capacity, 0).reduce(
    (sum, { kind, isRing, byteLength }) => sum + (kind === 'state' || isRing ? byteLength : 0),
    0,
  );
}

/** Whether a sequence remembers anything that cannot be had back by shortening it. */
export function hasStates(runtime: ModelRuntime): boolean {
  return stateTensors(runtime.spec, 1, 1, runtime.cacheDtype).some(({ kind }) => kind === 'state');
}

/** Whether everything that a token after `length` others sees is still there, where `furthest` tokens were written. */
export function ringsHold(runtime: ModelRuntime, capacity: number, length: number, furthest: number): boolean {
  return [...blocksOf(runtime.spec)].every(({ block }) => {
    if (block.kind !== 'attention' || block.window === undefined) return true;
    const ring: PageRing | undefined = pageRing(block, capacity);
    const first = Math.floor(Math.max(0, length - block.window) / PAGE);
    return ring === undefined || furthest <= (first + ring.ring) * PAGE;
  });
}

/** A store for a snapshot; none where there is nothing to keep. */
export function snapshotStore(device: Device, bytes: number): Tensor | undefined {
  return bytes === 0 ? undefined : createStore(device, 'sequence/snapshot', bytes);
}

/** A snapshot of everything. @throws OutOfMemoryError, and then nothing is left of it */
export async function guardedSnapshot(
  device: Device,
  what: string,
  sequence: { snapshot(scope: SnapshotScope): Snapshot },
): Promise<Snapshot> {
  return await guarded(
    device,
    what,
    () => sequence.snapshot('all'),
    ({ store }) => store?.dispose(),
  );
}
