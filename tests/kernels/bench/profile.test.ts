import type { Tensor } from '@mambalab/kernels';
import {
  ArgumentError,
  Executor,
  namedSize,
  passMicroseconds,
  profilePlan,
  Recording,
  rmsNorm,
  WebGPUUnavailableError,
} from '@mambalab/kernels';
import { requestDevice } from '@mambalab/kernels/node';
import { afterAll, expect, it } from 'vitest';
import { openTestDevice } from '../../support/gpu.ts';

const device = await openTestDevice();
const without = await requestDevice({ withoutFeatures: ['timestamp-query'] });
afterAll(() => without.dispose());

function normTwice(on: typeof device): { recording: Recording; x: Tensor } {
  const recording = new Recording(on.capabilities);
  const x = recording.external('x', 'f32', [namedSize('rows', 64), 128]);
  const y = recording.scope('first', () => rmsNorm(recording, { x }));
  recording.keep(
    'z',
    recording.scope('second', () => rmsNorm(recording, { x: y })),
  );
  return { recording, x: on.createTensor('x', 'f32', [64, 128]) };
}

it('times each dispatch of a plan', async () => {
  expect(device.capabilities.features.has('timestamp-query')).toBe(true);
  using executor = new Executor(device);
  const { recording, x } = normTwice(device);
  const plan = await executor.compile(recording);
  const before = device.allocatedBytes;
  const times = await profilePlan(plan.bind({ x }), { rows: 64 });
  expect(device.allocatedBytes).toBe(before);
  expect(times.map(({ label, shader }) => [label, shader])).toEqual([
    ['first/norm/rms_norm', 'norm/rms_norm'],
    ['second/norm/rms_norm', 'norm/rms_norm'],
  ]);
  for (const { microseconds } of times) expect(microseconds).toBeGreaterThanOrEqual(0);
  x.dispose();
});

it('says which feature is missing', async () => {
  using executor = new Executor(without);
  const { recording, x } = normTwice(without);
  const bound = (await executor.compile(recording)).bind({ x });
  await expect(profilePlan(bound, { rows: 64 })).rejects.toThrow(WebGPUUnavailableError);
  await expect(profilePlan(bound, { rows: 64 })).rejects.toThrow('timestamp-query');
});

it('refuses a dispatch that the plan does not have', async () => {
  using executor = new Executor(device);
  const { recording, x } = normTwice(device);
  const bound = (await executor.compile(recording)).bind({ x });
  const pass = device.gpu.createCommandEncoder().beginComputePass();
  expect(() => bound.encodeOne(pass, 2)).toThrow(ArgumentError);
  pass.end();
});

it('counts overlapping passes once', () => {
  const times = [
    { begin: 1000n, end: 3000n },
    { begin: 2000n, end: 5000n },
    { begin: 7000n, end: 7500n },
  ];
  expect(passMicroseconds(times)).toEqual([2, 2, 0.5]);
});
