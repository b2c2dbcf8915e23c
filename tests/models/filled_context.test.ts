import { ArgumentError, createRandomModel, Sequence } from '@mambalab/models';
import { FilledContext } from '@mambalab/models/testing';
import { afterAll, expect, it } from 'vitest';
import { architectureConfig } from '../../packages/bench/src/context/family.ts';
import { openTestDevice } from '../support/gpu.ts';

const device = await openTestDevice();
const shape = {
  hiddenSize: 64,
  layers: 7,
  headDim: 32,
  mambaHeadDim: 32,
  stateSize: 32,
  groups: 2,
  kvHeads: 1,
};
const model = await createRandomModel(architectureConfig('hybrid', shape), {
  device,
  dtype: 'f16',
  contextLength: 1024,
});
afterAll(() => model.dispose());

it('takes the memory of sequences of its length, and gives it back', async () => {
  const before = device.allocatedBytes;
  const options = { length: 700, steps: 3, batch: 2, seed: 1 };
  const context = await FilledContext.create(model.runtime, options);
  const sequence = await Sequence.create(model.runtime, 703);
  const { stateBytes, kvBytes } = sequence.bytes();
  expect(context.bytes()).toEqual({ stateBytes: 2 * stateBytes, kvBytes: 2 * kvBytes });
  expect(FilledContext.bytesFor(model.runtime, options)).toEqual(context.bytes());
  expect(kvBytes).toBe(1024 * model.memory().kvBytesPerToken);
  sequence.dispose();
  context.dispose();
  // Recordings stay with the model.
  expect(device.allocatedBytes - before).toBeLessThan(2 ** 20);
});

it('decodes every sequence of a batch from random states, again and again the same after rewinding', async () => {
  const context = await FilledContext.create(model.runtime, { length: 600, steps: 4, batch: 2, seed: 7 });
  const { vocabSize } = model.spec;
  const first = await context.step();
  expect(first).toHaveLength(2);
  for (const token of first) expect(token).toBeLessThan(vocabSize);
  for (let step = 1; step < 4; step++) await context.step();
  await expect(context.step()).rejects.toThrow(ArgumentError);
  context.rewind(1);
  await context.step();
  await expect(context.step()).rejects.toThrow('room');
  expect(() => context.rewind(5)).toThrow(ArgumentError);
  context.dispose();
});

it('depends on its random values', async () => {
  const tokensAfter = async (seed: number): Promise<number[]> => {
    const context = await FilledContext.create(model.runtime, { length: 600, steps: 4, batch: 2, seed });
    const tokens: number[] = [];
    for (let step = 0; step < 4; step++) tokens.push(...(await context.step()));
    context.dispose();
    return tokens;
  };
  expect(await tokensAfter(7)).toEqual(await tokensAfter(7));
  expect(await tokensAfter(7)).not.toEqual(await tokensAfter(8));
});

it.each([
  { length: 0, steps: 1 },
  { length: 1.5, steps: 1 },
  { length: 1, steps: 0 },
  { length: 1, steps: 1, batch: 0 },
  { length: 1024, steps: 1 },
])('refuses %o', async (options) => {
  await expect(FilledContext.create(model.runtime, options)).rejects.toThrow(ArgumentError);
});
