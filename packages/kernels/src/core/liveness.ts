import { storageBytes } from './dtype.ts';
import type { RecordedDispatch, Recording, StorageRef } from './recording.ts';
import { maximumSize } from './size.ts';

/** Where each storage of a recording lives: scratch storages that are never alive together share a slot. */
export interface ScratchPlan {
  /** Slot of each scratch storage, by storage id. */
  readonly slotOf: ReadonlyMap<number, number>;
  /** Bytes of each slot. */
  readonly slots: readonly number[];
  /** Number of times the GPU must wait for earlier dispatches: groups of dispatches that may overlap. */
  readonly stages: number;
}

/** Bytes of a storage at its largest, a multiple of 16 so that it can be read as an array of vec4. */
export function storageRefBytes(storage: StorageRef): number {
  const bytes = storageBytes(storage.dtype, maximumSize(storage.rows), storage.rowStride);
  return Math.max(16, Math.ceil(bytes / 16) * 16);
}

/**
 * The stage of each dispatch: it grows by one wherever a dispatch touches a storage that the current stage writes, or
 * writes one that it touches. Dispatches of one stage are independent and may run at the same time.
 */
export function stagesOf(dispatches: readonly RecordedDispatch[]): number[] {
  const touched = new Set<number>();
  const written = new Set<number>();
  let stage = 0;
  return dispatches.map((dispatch) => {
    const uses = dispatch.bindings.map((tensor, index) => ({
      id: tensor.storage.id,
      writes: dispatch.shader.bindings[index]?.access === 'read_write',
    }));
    if (uses.some(({ id, writes }) => written.has(id) || (writes && touched.has(id)))) {
      stage += 1;
      touched.clear();
      written.clear();
    }
    for (const { id, writes } of uses) {
      touched.add(id);
      if (writes) written.add(id);
    }
    return stage;
  });
}

/**
 * Assigns scratch storages to slots by liveness. A slot is free again only in the stage after its last use, so that
 * sharing never makes two independent dispatches wait for each other.
 */
export function planScratch(recording: Recording): ScratchPlan {
  const stages = stagesOf(recording.dispatches);
  const lives = new Map<StorageRef, { first: number; last: number }>();
  recording.dispatches.forEach((dispatch, index) => {
    const stage = stages[index] ?? 0;
    for (const { storage } of dispatch.bindings) {
      if (storage.role !== 'scratch') continue;
      const life = lives.get(storage);
      if (life === undefined) lives.set(storage, { first: stage, last: stage });
      else life.last = stage;
    }
  });
  const slots: { bytes: number; freeFrom: number }[] = [];
  const slotOf = new Map<number, number>();
  for (const [storage, life] of [...lives].sort(([, a], [, b]) => a.first - b.first)) {
    const bytes = storageRefBytes(storage);
    // The free slot whose size is nearest: growing a small one costs less than wasting a large one.
    let best = -1;
    for (const [index, slot] of slots.entries()) {
      if (slot.freeFrom > life.first) continue;
      const current = slots[best];
      if (current === undefined || Math.abs(slot.bytes - bytes) < Math.abs(current.bytes - bytes)) best = index;
    }
    const chosen = slots[best];
    if (chosen === undefined) {
      slotOf.set(storage.id, slots.length);
      slots.push({ bytes, freeFrom: life.last + 1 });
    } else {
      slotOf.set(storage.id, best);
      chosen.bytes = Math.max(chosen.bytes, bytes);
      chosen.freeFrom = life.last + 1;
    }
  }
  return { slotOf, slots: slots.map((slot) => slot.bytes), stages: (stages[stages.length - 1] ?? -1) + 1 };
}
