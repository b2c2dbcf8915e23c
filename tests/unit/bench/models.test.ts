import type { Ceilings, MeasurableModel } from '@mambalab/bench';
import { measureModel, requiredCapacity } from '@mambalab/bench';
import { expect, it } from 'vitest';
import { BatchMeter } from '../../../packages/bench/src/harness/batch_meter.ts';

const ceilings: Ceilings = {
  readGigabytesPerSecond: 100,
  copyGigabytesPerSecond: 100,
  fmaTeraflops: 1,
  dispatchMicroseconds: 1,
};

it('turns runs of a model into rates', async () => {
  const calls: string[] = [];
  const model: MeasurableModel = {
    name: 'fake',
    dispatchesPerToken: 7,
    bytesPerToken: 1e6,
    prefill: (tokens) => {
      calls.push(`prefill ${tokens}`);
      return Promise.resolve();
    },
    decode: (steps) => {
      calls.push(`decode ${steps}`);
      return Promise.resolve({ milliseconds: steps * 2, cpuMilliseconds: steps * 0.5 });
    },
    decodeTogether: (batch, prompt, steps) => {
      calls.push(`${batch} after ${prompt}`);
      return Promise.resolve({ milliseconds: 5 * steps, steps, together: batch, stateBytes: 8, cacheBytes: 9 });
    },
    write: (prompt, steps, isDrafted) => {
      calls.push(`write ${steps} after ${prompt}`);
      return Promise.resolve({ millisecondsPerToken: isDrafted ? 2 : 3, drafted: isDrafted ? 8 : 0, accepted: 6 });
    },
    memory: () => ({ weights: 4, state: 3, cache: 2, scratch: 1 }),
    dispose: () => undefined,
  };
  let warmUps = 0;
  const warmUp = (): Promise<void> => {
    warmUps += 1;
    return Promise.resolve();
  };
  const options = { prompts: [16, 32], steps: 4, samples: 2, batches: [4], draft: 'lookup', warmUp };
  const result = await measureModel(model, ceilings, options);
  expect(calls.slice(0, 6)).toEqual(['prefill 16', 'decode 4', 'prefill 16', 'decode 4', 'prefill 16', 'decode 4']);
  expect(result.memory.weights).toBe(4);
  expect(result.prefill.map(({ tokens }) => tokens)).toEqual([16, 32]);
  expect(result.decode[1]).toMatchObject({ context: 32, tokensPerSecond: 500, cpuMicrosecondsPerToken: 500 });
  // 1 MB in 2 ms is 0.5 GB/s.
  expect(result.decode[0]?.bandwidthPercent).toBeCloseTo(0.5);
  // Four tokens in 5 ms.
  expect(result.batches).toMatchObject([{ batch: 4, tokensPerSecond: 800, tokensPerSecondEach: 200, stateBytes: 8 }]);
  expect(result.draft).toMatchObject({ drafted: 8, accepted: 6, acceptance: 0.75, tokensPerSecond: 500, speedup: 1.5 });
  expect(calls.slice(-9)).toEqual([
    ...Array<string>(3).fill('4 after 32'),
    ...Array<string>(6).fill('write 4 after 16'),
  ]);
  // Before every sample: of two prompts, a batch, and texts with and without a draft, whose first runs have one, too.
  expect(warmUps).toBe(2 * 2 + 2 + 2 * 3);
  expect(requiredCapacity(options)).toBeGreaterThanOrEqual(32 + 4);
});

it('times the tokens of texts while all of them are decoded', () => {
  let [clock, batched] = [0, 0];
  const meter = new BatchMeter(
    2,
    3,
    () => batched,
    () => clock,
  );
  const step = (...texts: number[]): boolean[] => {
    clock += 10;
    return texts.map((text) => meter.count(text));
  };
  // The first is ahead while the second is at its prompt, and both go on alone for a step.
  expect(step(0)).toEqual([false]);
  expect(step(0, 1)).toEqual([false, false]);
  batched = 2;
  expect(step(0, 1)).toEqual([false, false]);
  expect(step(0, 1)).toEqual([false, false]);
  expect(step(0, 1)).toEqual([false, false]);
  // Three after the token that timing began with; whoever asks later leaves as well.
  expect(step(0, 1)).toEqual([true, true]);
  expect(step(0)).toEqual([true]);
  expect(meter.result()).toEqual({ milliseconds: 30, steps: 3, together: 2 });
});

it('times what there is where texts end early, and nothing where they were never together', () => {
  const early = new BatchMeter(1, 5, () => 0);
  expect(() => early.result()).toThrow('ended before');
  for (let token = 0; token < 3; token++) early.count(0);
  early.end();
  expect(early.result()).toMatchObject({ steps: 2, together: 1 });
});
