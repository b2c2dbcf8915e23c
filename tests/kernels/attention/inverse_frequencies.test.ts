import { ArgumentError, ropeInverseFrequencies } from '@mambalab/kernels';
import { ropeInverseFrequencies as reference } from '@mambalab/kernels/reference';
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

it('refuses an odd size and a base that is not positive', () => {
  expect(() => ropeInverseFrequencies({ theta: 10_000, rotaryDim: 7 })).toThrow(ArgumentError);
  expect(() => ropeInverseFrequencies({ theta: 0, rotaryDim: 8 })).toThrow(ArgumentError);
});
