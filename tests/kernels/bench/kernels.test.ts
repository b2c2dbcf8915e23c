import type { Ceilings, KernelBench } from '@mambalab/bench';
import {
  allPassed,
  kernelBenches,
  measureCeilings,
  QUICK_TIMING,
  repeatKernel,
  runKernel,
  timeKernel,
  verifyKernel,
} from '@mambalab/bench';
import { advance, Device } from '@mambalab/kernels';
import { requestDevice } from '@mambalab/kernels/node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openTestDevice, simdChoices } from '../../support/gpu.ts';

const device = await openTestDevice();
const options = {
  timing: { ...QUICK_TIMING, samples: 3, passMilliseconds: 0.5, warmUpMilliseconds: 0, budgetMilliseconds: 20 },
  memory: 2 ** 28,
  seed: 42,
  quick: true,
};

function rmsNormBench(): KernelBench {
  const bench = kernelBenches.find(({ name }) => name === 'norm/rms_norm');
  if (bench === undefined) throw new Error('There is no benchmark of norm/rms_norm.');
  return bench;
}

let ceilings: Ceilings;
beforeAll(async () => {
  ceilings = await measureCeilings(device, options);
});

it('measures ceilings', () => {
  for (const value of Object.values(ceilings)) expect(value > 0 && Number.isFinite(value)).toBe(true);
});

it('frees everything that it makes', async () => {
  const before = device.allocatedBytes;
  await runKernel(device, rmsNormBench(), { ...options, ceilings });
  expect(device.allocatedBytes).toBe(before);
});

it('finds that a kernel gives the same bits every time, and one that does not', async () => {
  const bench = rmsNormBench();
  expect(await repeatKernel(device, bench, { seed: 1, repeats: 4 })).toEqual({ repeats: 4, equal: true });
  // A count that nothing sets back.
  const record: KernelBench['verify']['record'] = (recording) =>
    advance(recording, { position: recording.scratch('counter', 'u32', [1]) }, { by: 1 });
  const changing = { ...bench, verify: { ...bench.verify, record } };
  const found = await repeatKernel(device, changing, { seed: 1, repeats: 4 });
  expect(found).toMatchObject({ equal: false, repeat: 1, value: 0 });
  expect(
    allPassed([{ name: '', verification: { passed: true, values: 1, worst: 0 }, determinism: found, cases: [] }]),
  ).toBe(false);
});

describe.each(simdChoices(device))('rms_norm %o', (force) => {
  it('is verified and timed', async () => {
    const seen: string[] = [];
    const onCase = (name: string): number => seen.push(name);
    const result = await runKernel(device, rmsNormBench(), { ...options, ceilings, force, onCase });
    expect(result.verification).toMatchObject({ passed: true });
    expect(allPassed([result])).toBe(true);
    expect(seen.length).toBe(result.cases.length);
    const measured = result.cases.filter((found) => found.status === 'measured');
    expect(measured.length).toBeGreaterThanOrEqual(3);
    for (const found of measured) {
      expect(found.dispatches).toEqual([{ shader: 'norm/rms_norm', choices: { ...force, access: 'vector' } }]);
      const { median, min } = found.microseconds;
      for (const value of [median, min, found.gigabytesPerSecond, found.bandwidthPercent, found.teraflops]) {
        expect(Number.isFinite(value) && value > 0).toBe(true);
      }
    }
  });
});

describe('devices of another kind', () => {
  it('rotates over copies that lie apart, where a cache may hold the inputs', async () => {
    // The same device under a name that does not tell that a CPU does the work.
    const info = { vendor: 'test', architecture: '', device: '', description: '' } as GPUAdapterInfo;
    const hardware = new Device(device.gpu, info);
    expect(hardware.capabilities.software).toBe(false);
    const [first] = rmsNormBench().cases;
    if (first === undefined) throw new Error('There is no case.');
    const time = await timeKernel(hardware, first, { ...options, memory: 2 ** 20 });
    // Input, weight and output take 3 KiB each: 113 times that fits in 1 MiB.
    expect(time.copies).toBe(113);
    expect(time.writtenFraction).toBeCloseTo(1 / 3, 2);
    expect(hardware.allocatedBytes).toBe(0);
  });

  it('times by the wall clock where there are no timestamps', async () => {
    const without = await requestDevice({ withoutFeatures: ['timestamp-query'] });
    afterAll(() => without.dispose());
    const [first] = rmsNormBench().cases;
    if (first === undefined) throw new Error('There is no case.');
    const time = await timeKernel(without, first, options);
    expect(time.method).toBe('wall clock');
    expect(time.microseconds.median).toBeGreaterThan(0);
  });
});

describe('a kernel that is wrong', () => {
  const right = rmsNormBench();

  it('is found, and not timed', async () => {
    const expected = (): Float64Array => new Float64Array(5 * 768).fill(0.5);
    const bench: KernelBench = { ...right, verify: { ...right.verify, expected } };
    const result = await runKernel(device, bench, { ...options, ceilings });
    expect(result).toMatchObject({ verification: { passed: false }, cases: [] });
    expect(allPassed([result])).toBe(false);
  });

  it('is found in a single value', async () => {
    const expected: typeof right.verify.expected = (inputs) => {
      const values = Array.from(right.verify.expected(inputs));
      values[3000] = (values[3000] ?? 0) + 0.01;
      return values;
    };
    const bench: KernelBench = { ...right, verify: { ...right.verify, expected } };
    expect(await verifyKernel(device, bench, { seed: 1 })).toMatchObject({
      passed: false,
      reason: expect.stringContaining('value 3000') as string,
    });
  });

  it('is found when it throws', async () => {
    const record = (): never => {
      throw new Error('no such shape');
    };
    const bench: KernelBench = { ...right, verify: { ...right.verify, record } };
    expect(await verifyKernel(device, bench, { seed: 1 })).toEqual({ passed: false, reason: 'no such shape' });
  });
});

it('skips a case that does not fit, and fails one that throws', async () => {
  const right = rmsNormBench();
  const huge = await runKernel(device, right, { ...options, memory: 1000, ceilings });
  expect(huge.cases.every(({ status }) => status === 'skipped')).toBe(true);
  expect(allPassed([huge])).toBe(true);
  const record = (): never => {
    throw new Error('broken');
  };
  const cases = right.cases.slice(0, 1).map((kernelCase) => ({ ...kernelCase, record }));
  const broken = await runKernel(device, { ...right, cases }, { ...options, ceilings });
  expect(broken.cases).toEqual([{ status: 'failed', label: cases[0]?.label, reason: 'broken' }]);
  expect(allPassed([broken])).toBe(false);
});
