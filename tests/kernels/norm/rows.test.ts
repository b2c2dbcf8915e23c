import type { Capabilities } from '@mambalab/kernels';
import { ArgumentError, BASELINE_CAPABILITIES, chooseRowTile, Recording, rmsNorm } from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';

const MANY = 4096;

describe('chooseRowTile', () => {
  it.each([
    // elements of 16 bytes, rows, lanes, rows of a workgroup, steps
    [16, MANY, 8, 16, 2],
    [32, MANY, 8, 16, 4],
    [64, MANY, 16, 8, 4],
    [192, MANY, 32, 4, 6],
    [256, MANY, 32, 4, 8],
    [512, MANY, 128, 1, 4],
    [640, MANY, 128, 1, 5],
    [1024, MANY, 256, 1, 4],
    [1280, MANY, 256, 1, 5],
    [2048, MANY, 256, 1, 8],
    [192, 1, 128, 1, 2],
    [640, 1, 256, 1, 3],
    [32, 2, 16, 2, 2],
  ])('%i elements, %i rows: %i lanes, %i rows a workgroup', (elements, rows, lanes, together, steps) => {
    expect(chooseRowTile(elements, rows, BASELINE_CAPABILITIES)).toEqual({ lanes, rows: together, held: true });
    expect(Math.ceil(elements / lanes)).toBe(steps);
  });

  it('is possible for every width', () => {
    const software: Capabilities = { ...BASELINE_CAPABILITIES, software: true };
    for (const capabilities of [BASELINE_CAPABILITIES, software]) {
      for (let elements = 1; elements <= 4096; elements += 1 + (elements >> 4)) {
        for (const rows of [1, 3, 100, 100_000]) {
          const { lanes, rows: together, held } = chooseRowTile(elements, rows, capabilities);
          expect(Number.isInteger(Math.log2(lanes)) && lanes >= 4 && together >= 1).toBe(true);
          expect(lanes * together).toBeLessThanOrEqual(256);
          expect(held).toBe(!capabilities.software && elements <= 2048);
          expect(held && Math.ceil(elements / lanes) > 8).toBe(false);
        }
      }
    }
  });
});

it('refuses tiles that are not possible', () => {
  const recording = new Recording(BASELINE_CAPABILITIES);
  const x = recording.external('x', 'f32', [2, 256]);
  const attempt = (lanes: number, rows: number, held: boolean) => () =>
    rmsNorm(recording, { x }, { tile: { lanes, rows, held } });
  expect(attempt(24, 1, false)).toThrow(ArgumentError);
  expect(attempt(2, 1, false)).toThrow(ArgumentError);
  expect(attempt(64, 8, false)).toThrow(ArgumentError);
  expect(attempt(64, 0, false)).toThrow(ArgumentError);
  expect(attempt(4, 1, true)).toThrow(ArgumentError);
  expect(recording.dispatches.length).toBe(0);
});
