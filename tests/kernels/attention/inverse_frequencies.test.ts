import type { RopeScaling } from '@mambalab/kernels';
import { ArgumentError, ropeAttentionFactor, ropeInverseFrequencies } from '@mambalab/kernels';
import type { RopeScaling as ReferenceScaling } from '@mambalab/kernels/reference';
import {
  ropeAttentionFactor as factorReference,
  ropeInverseFrequencies as reference,
} from '@mambalab/kernels/reference';
import { expect, it } from 'vitest';
import { expectClose } from '../../support/numbers.ts';

// The kernel's values are the reference's, rounded to f32 once.
const ROUNDED = { rtol: 6e-8, atol: 0 };

it.each([
  [10_000, 64],
  [500_000, 128],
  [1_000_000, 2],
])('gives powers of theta %i for %i values', (theta, rotaryDim) => {
  expectClose(ropeInverseFrequencies({ theta, rotaryDim }), reference({ theta, rotaryDim }), ROUNDED);
});

it('divides by the factor of linear scaling', () => {
  const scaled = ropeInverseFrequencies({ theta: 10_000, rotaryDim: 32, scaling: { type: 'linear', factor: 4 } });
  expectClose(
    scaled,
    reference({ theta: 10_000, rotaryDim: 32 }).map((f) => f / 4),
    ROUNDED,
  );
});

it('stretches long wavelengths as Llama 3 does', () => {
  const scaling = { type: 'llama3', factor: 32, lowFrequencyFactor: 1, highFrequencyFactor: 4 } as const;
  const options = { theta: 500_000, rotaryDim: 64 };
  const scaled = ropeInverseFrequencies({ ...options, scaling: { ...scaling, originalContextLength: 8192 } });
  expectClose(scaled, reference({ ...options, scaling: { ...scaling, originalLength: 8192 } }), ROUNDED);
  expect(scaled[0]).toBe(1);
});

const factors = (first: number): number[] => Array.from({ length: 16 }, (_, i) => first + i / 8);
const long = { type: 'longrope', factor: 8, shortFactors: factors(1), longFactors: factors(2) } as const;

it.each<[RopeScaling, ReferenceScaling]>(
  [
    { type: 'yarn', factor: 16 } as const,
    { type: 'yarn', factor: 40, mscale: 1, mscaleAllDim: 0.8 } as const,
    { type: 'yarn', factor: 4, fastTurns: 16, slowTurns: 2, truncate: false } as const,
    // Both ends of the blend at one pair
    { type: 'yarn', factor: 4, fastTurns: 3, slowTurns: 3, truncate: false } as const,
    { type: 'yarn', factor: 0.5, attentionFactor: 1.5 } as const,
  ].map((scaling) => [
    { ...scaling, originalContextLength: 4096 },
    { ...scaling, originalLength: 4096 },
  ]),
)('blends by index as YaRN does: %o', (scaling, expected) => {
  const options = { theta: 10_000, rotaryDim: 64 };
  expectClose(ropeInverseFrequencies({ ...options, scaling }), reference({ ...options, scaling: expected }), ROUNDED);
  expectClose([ropeAttentionFactor(scaling)], [factorReference(expected)], { rtol: 1e-15, atol: 0 });
});

it.each([4096, 4097, 100_000])('has other divisors and bases for %i tokens', (length) => {
  const options = { theta: 10_000, rotaryDim: 32 };
  for (const kind of [long, { type: 'dynamic', factor: 2 } as const]) {
    const scaling = { ...kind, originalContextLength: 4096, contextLength: length };
    const expected = { ...kind, originalLength: 4096, length };
    expectClose(ropeInverseFrequencies({ ...options, scaling }), reference({ ...options, scaling: expected }), ROUNDED);
    expectClose([ropeAttentionFactor(scaling)], [factorReference(expected)], { rtol: 1e-15, atol: 0 });
  }
});

it('has no attention factor where nothing needs one', () => {
  expect(ropeAttentionFactor()).toBe(1);
  expect(ropeAttentionFactor({ type: 'linear', factor: 4 })).toBe(1);
  expect(ropeAttentionFactor({ type: 'yarn', factor: 1, originalContextLength: 64 })).toBe(1);
});

it('refuses scalings that are not possible', () => {
  const attempt =
    (scaling: RopeScaling, rotaryDim = 32) =>
    () => {
      ropeInverseFrequencies({ theta: 10_000, rotaryDim, scaling });
    };
  const sizes = { originalContextLength: 4096, contextLength: 8192 };
  expect(attempt({ type: 'yarn', factor: 0, originalContextLength: 4096 })).toThrow(ArgumentError);
  expect(attempt({ type: 'yarn', factor: 2, originalContextLength: NaN })).toThrow(ArgumentError);
  expect(attempt({ ...long, ...sizes, longFactors: [1] })).toThrow(ArgumentError);
  expect(attempt({ ...long, ...sizes, shortFactors: factors(0) })).toThrow(ArgumentError);
  expect(attempt({ type: 'dynamic', factor: 2, ...sizes }, 2)).toThrow(ArgumentError);
});

it('refuses an odd size and a base that is not positive', () => {
  expect(() => ropeInverseFrequencies({ theta: 10_000, rotaryDim: 7 })).toThrow(ArgumentError);
  expect(() => ropeInverseFrequencies({ theta: 0, rotaryDim: 8 })).toThrow(ArgumentError);
});
