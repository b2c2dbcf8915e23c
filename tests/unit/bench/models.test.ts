import type { Ceilings, MeasurableModel } from '@mambalab/bench';
import { measureModel, requiredCapacity } from '@mambalab/bench';
import { expect, it } from 'vitest';

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
    memory: () => ({ weights: 4, state: 3, cache: 2, scratch: 1 }),
    dispose: () => undefined,
  };
  const options = { prompts: [16, 32], steps: 4, samples: 2 };
  const result = await measureModel(model, ceilings, options);
  expect(calls.slice(0, 6)).toEqual(['prefill 16', 'decode 4', 'prefill 16', 'decode 4', 'prefill 16', 'decode 4']);
  expect(result.memory.weights).toBe(4);
  expect(result.prefill.map(({ tokens }) => tokens)).toEqual([16, 32]);
  expect(result.decode[1]).toMatchObject({ context: 32, tokensPerSecond: 500, cpuMicrosecondsPerToken: 500 });
  // 1 MB in 2 ms is 0.5 GB/s.
  expect(result.decode[0]?.bandwidthPercent).toBeCloseTo(0.5);
  expect(requiredCapacity(options)).toBeGreaterThanOrEqual(32 + 4);
});
