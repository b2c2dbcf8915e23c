import type { Ceilings, KernelReport } from '@mambalab/bench';
import {
  bandwidthCeiling,
  compareValues,
  environmentLines,
  formatBytes,
  formatChoices,
  formatNumber,
  formatPercent,
  kernelBenches,
  parseKernelReport,
  rateCase,
  summarize,
} from '@mambalab/bench';
import { describe, expect, it } from 'vitest';
import { formatHeader, formatRow } from '../../../packages/bench/src/cli/table.ts';
import { parseForce } from '../../../packages/bench/src/cli/options.ts';
import { clockQuantum } from '../../../packages/bench/src/harness/timing.ts';

const ceilings: Ceilings = {
  readGigabytesPerSecond: 400,
  copyGigabytesPerSecond: 200,
  fmaTeraflops: 10,
  dispatchMicroseconds: 2,
};

const time = {
  label: 'case',
  microseconds: summarize([10]),
  method: 'timestamps' as const,
  repetitions: 1,
  copies: 1,
  dispatches: [{ shader: 'norm/rms_norm', choices: { simd: 'baseline' } }],
  flops: 5e6,
  bytes: 1e6,
};

describe('rates', () => {
  it('sets time against the ceilings', () => {
    expect(rateCase({ ...time, writtenFraction: 0 }, ceilings)).toMatchObject({
      gigabytesPerSecond: 100,
      teraflops: 0.5,
      bandwidthPercent: 25,
      fmaPercent: 5,
    });
  });

  it('measures by the copy ceiling what writes as much as it reads', () => {
    expect(bandwidthCeiling(ceilings, 0)).toBe(400);
    expect(bandwidthCeiling(ceilings, 0.5)).toBe(200);
    expect(bandwidthCeiling(ceilings, 1)).toBe(200);
    expect(bandwidthCeiling(ceilings, 0.25)).toBeCloseTo(266.67, 1);
  });

  it('finds the unit of a quantized clock', () => {
    expect(clockQuantum([{ begin: 65_536n, end: 196_608n }])).toBe(65_536);
    expect(clockQuantum([{ begin: 65_536n, end: 100_001n }])).toBe(1);
    expect(clockQuantum([])).toBe(0);
  });
});

describe('comparison', () => {
  const tolerance = { rtol: 1e-3, atol: 0 };

  it('passes within the tolerance and tells the worst error', () => {
    expect(compareValues([1, 2.001], [1, 2], tolerance)).toMatchObject({ passed: true, values: 2 });
    expect(compareValues([0, -0], [0, 0], { rtol: 0, atol: 0 })).toMatchObject({ passed: true, worst: 0 });
    expect(compareValues([Infinity], [Infinity], tolerance)).toMatchObject({ passed: true });
  });

  it('fails beyond it, for NaN, for another length and for nothing at all', () => {
    expect(compareValues([1, 2.01], [1, 2], tolerance)).toMatchObject({ passed: false });
    expect(compareValues([NaN], [1], tolerance)).toMatchObject({ passed: false });
    expect(compareValues([1], [NaN], tolerance)).toMatchObject({ passed: false });
    expect(compareValues([NaN], [NaN], tolerance)).toMatchObject({ passed: false });
    expect(compareValues([1], [Infinity], tolerance)).toMatchObject({ passed: false });
    expect(compareValues([1], [1, 2], tolerance)).toMatchObject({ passed: false });
    expect(compareValues([], [], tolerance)).toMatchObject({ passed: false });
  });
});

describe('table', () => {
  it('aligns cells and rules', () => {
    const columns = [
      { title: 'name', width: 6 },
      { title: 'us', width: 5, align: 'right' as const },
    ];
    expect(formatHeader(columns)).toBe('name       us\n------  -----');
    expect(formatRow(columns, ['a', '1.5'])).toBe('a         1.5');
    expect(formatRow(columns, ['a'])).toBe('a');
  });

  it('writes numbers with three digits', () => {
    expect([0, 0.001234, 1.234, 12.34, 123.4, 12_345].map(formatNumber)).toEqual([
      '0',
      '0.00123',
      '1.23',
      '12.3',
      '123',
      '12345',
    ]);
    expect(formatNumber(Infinity)).toBe('-');
    expect(formatPercent(12.345)).toBe('12.3 %');
    expect(formatBytes(1.5 * 2 ** 30)).toBe('1.50 GiB');
    expect(formatBytes(0)).toBe('0 B');
  });

  it('shortens choices', () => {
    const choices = { simd: 'subgroups', weight: 'f16' };
    expect(formatChoices([{ choices }, { choices: { simd: 'subgroups' } }])).toBe('subgroups f16');
  });
});

describe('report', () => {
  const report: KernelReport = {
    schema: 'mambalab-bench/kernels',
    version: 1,
    environment: {
      timestamp: '2026-01-01T00:00:00.000Z',
      platform: 'linux x64',
      runtime: 'node v20.19.0',
      packages: { webgpu: '0.6.2' },
      toggles: 'default',
      device: {
        vendor: 'v',
        architecture: 'a',
        name: 'n',
        driver: 'd',
        software: true,
        features: [],
        limits: {},
        subgroupMatrix: [],
      },
    },
    seed: 1,
    quick: true,
    force: {},
    ceilings,
    kernels: [
      {
        name: 'norm/rms_norm',
        verification: { passed: true, values: 1, worst: 0 },
        cases: [rateCase({ ...time, writtenFraction: 0 }, ceilings)],
      },
    ],
  };

  it('says where it was taken, also where a browser hides the name of the GPU', () => {
    const { environment } = report;
    expect(environmentLines(environment, ceilings)).toEqual([
      'n, d, software; toggles default',
      'node v20.19.0, webgpu 0.6.2',
      'ceilings: read 400 GB/s, copy 200 GB/s, f32 fma 10.0 TFLOP/s, dispatch 2.00 us',
    ]);
    const device = { ...environment.device, name: '', driver: '', software: false };
    expect(environmentLines({ ...environment, device })).toEqual([
      'v a, driver unknown; toggles default',
      'node v20.19.0, webgpu 0.6.2',
    ]);
  });

  it('survives JSON', () => {
    expect(parseKernelReport(JSON.parse(JSON.stringify(report)))).toEqual(report);
  });

  it('is told from anything else', () => {
    expect(() => parseKernelReport(null)).toThrow('no report');
    expect(() => parseKernelReport({ schema: 'other' })).toThrow('no report');
    expect(() => parseKernelReport({ ...report, version: 2 })).toThrow('version 1');
    expect(() => parseKernelReport({ ...report, kernels: undefined })).toThrow('lacks');
  });
});

it('collects every kernel once', () => {
  const names = kernelBenches.map(({ name }) => name);
  expect(new Set(names).size).toBe(names.length);
});

it.each(kernelBenches.map((bench) => [bench.name, bench] as const))('%s has cases of unlike labels', (_, { cases }) => {
  expect(cases.length).toBeGreaterThan(0);
  expect(new Set(cases.map(({ label }) => label)).size).toBe(cases.length);
  expect(cases.every(({ flops, bytes }) => flops >= 0 && bytes > 0)).toBe(true);
});

it('reads forced choices', () => {
  expect(parseForce('kernel=matrix', { simd: 'baseline' })).toEqual({ simd: 'baseline', kernel: 'matrix' });
  expect(() => parseForce('kernel', {})).toThrow('axis=choice');
});
