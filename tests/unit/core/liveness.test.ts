import type { RecordedDispatch, TensorRef } from '@mambalab/kernels';
import { BASELINE_CAPABILITIES, namedSize, planScratch, Recording, stagesOf } from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import { storageRefBytes } from '../../../packages/kernels/src/core/liveness.ts';
import { Random } from '../../support/numbers.ts';
import { accessShader } from './probe_shaders.ts';

const newRecording = (): Recording => new Recording(BASELINE_CAPABILITIES);

/** Records a dispatch that reads and writes these tensors. */
function touch(recording: Recording, reads: readonly TensorRef[], writes: readonly TensorRef[]): void {
  const shader = accessShader(reads.length, writes.length);
  const names = shader.bindings.map(({ name }) => name);
  const tensors = [...reads, ...writes];
  recording.dispatch(shader, {
    bindings: Object.fromEntries(tensors.map((tensor, i) => [names[i] ?? '', tensor])),
    params: {},
    workgroups: [1],
  });
}

const scratch = (recording: Recording, size = 4): TensorRef =>
  recording.scratch(`s${recording.storages.length}`, 'f32', [size]);

describe('stagesOf', () => {
  it('independent dispatches share a stage', () => {
    const recording = newRecording();
    const x = recording.external('x', 'f32', [4]);
    const [q, k, v] = [scratch(recording), scratch(recording), scratch(recording)];
    for (const written of [q, k, v]) touch(recording, [x], [written]);
    touch(recording, [q, k, v], [scratch(recording)]);
    expect(stagesOf(recording.dispatches)).toEqual([0, 0, 0, 1]);
  });

  it('a reader waits for the writer, a writer for readers and writers', () => {
    const recording = newRecording();
    const state = recording.external('state', 'f32', [4]);
    touch(recording, [state], [scratch(recording)]);
    touch(recording, [], [state]);
    touch(recording, [], [state]);
    touch(recording, [state], [scratch(recording)]);
    expect(stagesOf(recording.dispatches)).toEqual([0, 1, 2, 3]);
  });

  it('of nothing are none', () => {
    expect(stagesOf([])).toEqual([]);
    expect(planScratch(newRecording())).toMatchObject({ slots: [], stages: 0 });
  });
});

describe('planScratch', () => {
  it('a chain alternates between two slots', () => {
    const recording = newRecording();
    let last = recording.external('x', 'f32', [4]);
    for (let i = 0; i < 6; i++) {
      const next = scratch(recording);
      touch(recording, [last], [next]);
      last = next;
    }
    const { slots, stages } = planScratch(recording);
    expect(stages).toBe(6);
    expect(slots).toHaveLength(2);
  });

  it('a slot holds the largest of its tensors at their largest', () => {
    const recording = newRecording();
    const x = recording.external('x', 'f32', [4]);
    const [a, b, c] = [
      scratch(recording, 10),
      scratch(recording),
      recording.scratch('c', 'f32', [namedSize('n', 100), 4]),
    ];
    touch(recording, [x], [a]);
    touch(recording, [a], [b]);
    touch(recording, [b], [c]);
    const { slotOf, slots } = planScratch(recording);
    expect(slotOf.get(c.storage.id)).toBe(slotOf.get(a.storage.id));
    expect(slots[slotOf.get(c.storage.id) ?? -1]).toBe(1600);
  });

  it('outputs, externals and placeholders have no slot', () => {
    const recording = newRecording();
    const y = scratch(recording);
    touch(recording, [recording.external('x', 'f32', [4]), recording.placeholder()], [y]);
    recording.keep('y', y);
    expect(planScratch(recording).slotOf.size).toBe(0);
  });

  it('random recordings compute the same in slots, in any order within a stage', () => {
    for (let seed = 1; seed <= 150; seed++) {
      const random = new Random(seed);
      const recording = randomRecording(random);
      const stages = stagesOf(recording.dispatches);
      expectIndependentStages(recording.dispatches, stages);
      const { slotOf, slots } = planScratch(recording);
      expectDisjointLives(recording, stages, slotOf, slots);
      const own = compute(recording, recording.dispatches, (id) => id);
      const order = shuffleWithinStages(random, recording.dispatches, stages);
      const shared = compute(recording, order, (id) => {
        const slot = slotOf.get(id);
        return slot === undefined ? id : 1_000_000 + slot;
      });
      expect(shared).toEqual(own);
    }
  });
});

/** Dispatches that read up to three tensors written before, and write new ones or old ones in place. */
function randomRecording(random: Random): Recording {
  const recording = newRecording();
  const written: TensorRef[] = [recording.external('x', 'f32', [4]), recording.external('state', 'f32', [4])];
  const count = random.integer(3, 40);
  for (let i = 0; i < count; i++) {
    const pick = (): TensorRef =>
      written[random.integer(Math.max(0, written.length - 6), written.length - 1)] as TensorRef;
    const inPlace = random.next() < 0.25 ? [pick()] : [];
    const fresh = Array.from({ length: random.integer(inPlace.length === 0 ? 1 : 0, 2) }, () =>
      scratch(recording, random.integer(1, 64)),
    );
    const writes = [...inPlace, ...fresh];
    const reads = [...new Set(Array.from({ length: random.integer(1, 3) }, pick))].filter(
      (tensor) => !writes.some(({ storage }) => storage === tensor.storage),
    );
    touch(recording, reads, writes);
    written.push(...fresh);
  }
  const last = written[written.length - 1];
  if (last !== undefined) recording.keep('result', last);
  return recording;
}

const usesOf = (dispatch: RecordedDispatch): { id: number; writes: boolean }[] =>
  dispatch.bindings.map(({ storage }, at) => ({
    id: storage.id,
    writes: dispatch.shader.bindings[at]?.access === 'read_write',
  }));

const conflict = (a: RecordedDispatch, b: RecordedDispatch): boolean =>
  usesOf(a).some((one) => usesOf(b).some((other) => one.id === other.id && (one.writes || other.writes)));

/** No two dispatches of a stage touch what the other writes; every stage begins with one that had to wait. */
function expectIndependentStages(dispatches: readonly RecordedDispatch[], stages: readonly number[]): void {
  for (const [i, later] of dispatches.entries()) {
    const before = dispatches.slice(0, i).filter((_, at) => stages[at] === stages[i]);
    if (before.some((earlier) => conflict(earlier, later)))
      throw new Error(`dispatch ${i} is in a stage that it must wait for`);
    const previous = stages[i - 1] ?? 0;
    const stage = dispatches.slice(0, i).filter((_, at) => stages[at] === previous);
    const next = stage.some((earlier) => conflict(earlier, later)) ? previous + 1 : previous;
    expect(stages[i]).toBe(next);
  }
}

/** Tensors of one slot live in stages that do not meet, and fit in it. */
function expectDisjointLives(
  recording: Recording,
  stages: readonly number[],
  slotOf: ReadonlyMap<number, number>,
  slots: readonly number[],
): void {
  const lives = [...slotOf].map(([id, slot]) => {
    const used = stages.filter((_, at) => recording.dispatches[at]?.bindings.some(({ storage }) => storage.id === id));
    const storage = recording.storages[id];
    const needed = storage === undefined ? NaN : storageRefBytes(storage);
    expect(slots[slot]).toBeGreaterThanOrEqual(needed);
    return { slot, first: Math.min(...used), last: Math.max(...used) };
  });
  for (const [i, a] of lives.entries()) {
    for (const b of lives.slice(0, i)) {
      if (a.slot === b.slot && a.first <= b.last && b.first <= a.last)
        throw new Error(`slot ${a.slot} is used twice at once`);
    }
  }
}

function shuffleWithinStages(
  random: Random,
  dispatches: readonly RecordedDispatch[],
  stages: readonly number[],
): RecordedDispatch[] {
  return dispatches
    .map((dispatch, at) => ({ dispatch, stage: stages[at] ?? 0, rank: random.next() }))
    .sort((a, b) => a.stage - b.stage || a.rank - b.rank)
    .map(({ dispatch }) => dispatch);
}

/** Runs dispatches on numbers: each writes a mixture of what it reads and writes. Gives what can be read afterwards. */
function compute(recording: Recording, order: readonly RecordedDispatch[], place: (id: number) => number): number[] {
  const memory = new Map<number, number>();
  for (const dispatch of order) {
    const uses = usesOf(dispatch);
    const number = recording.dispatches.indexOf(dispatch) + 1;
    // A tensor that is new holds whatever its slot held: only what was written before counts.
    const started = new Set(
      recording.dispatches.slice(0, number - 1).flatMap((earlier) => usesOf(earlier).map(({ id }) => id)),
    );
    let mixture = number;
    for (const { id } of uses) {
      const known = started.has(id) || recording.storages[id]?.role === 'external';
      mixture = (Math.imul(mixture, 31) + (known ? (memory.get(place(id)) ?? id) : 7)) >>> 0;
    }
    uses.filter(({ writes }) => writes).forEach(({ id }, at) => memory.set(place(id), (mixture + at * 97) >>> 0));
  }
  return recording.storages.filter(({ role }) => role !== 'scratch').map(({ id }) => memory.get(place(id)) ?? -1);
}
