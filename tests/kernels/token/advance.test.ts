import { advance, Executor, namedSize, Recording, run, ShapeError } from '@mambalab/kernels';
import { advance as reference } from '@mambalab/kernels/reference';
import { expect, it } from 'vitest';
import { openTestDevice } from '../../support/gpu.ts';

const device = await openTestDevice();
const positions = (values: readonly number[]) =>
  ({ data: Uint32Array.from(values), shape: [values.length], dtype: 'u32' }) as const;

it.each([1, 63, 64, 65])('adds to %i positions', async (batch) => {
  const before = Array.from({ length: batch }, (_, b) => b * 3);
  const after = await run(device, advance, { position: positions(before) }, { by: 7 }, { poison: true });
  expect([...after.data]).toEqual([...reference({ position: before }, { rows: batch, by: 7 })]);
});

it('adds a named size', async () => {
  const recording = new Recording(device.capabilities);
  advance(recording, { position: recording.external('position', 'u32', [2]) }, { by: namedSize('length', 100) });
  using executor = new Executor(device);
  const plan = await executor.compile(recording);
  const position = device.upload('position', positions([5, 6]));
  const bound = plan.bind({ position });
  bound.submit({ length: 10 });
  bound.submit({ length: 10 });
  bound.submit({ length: 1 });
  expect([...(await device.read(position)).data.subarray(0, 2)]).toEqual([26, 27]);
  position.dispose();
});

it('refuses positions that are no vector of u32', async () => {
  const data = new Float32Array(2);
  await expect(run(device, advance, { position: { data, shape: [2], dtype: 'f32' } }, { by: 1 })).rejects.toThrow(
    ShapeError,
  );
});
