import {
  addSize,
  ArgumentError,
  ceilDivSize,
  evaluateSize,
  flatGrid,
  formatShape,
  MAX_WORKGROUPS_PER_DIMENSION,
  maximumSize,
  minimumSize,
  multiplySize,
  namedSize,
  productSize,
  sameSize,
  sizeKey,
  subtractSize,
} from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';

const length = namedSize('length', 100);
const batch = namedSize('batch', 8);

describe('sizes', () => {
  it('of numbers are numbers', () => {
    expect(addSize(3, 4)).toBe(7);
    expect(multiplySize(3, 4)).toBe(12);
    expect(subtractSize(3, 1)).toBe(2);
    expect(ceilDivSize(9, 4)).toBe(3);
    expect(minimumSize(9, 4)).toBe(4);
    expect(productSize([2, 3, 4])).toBe(24);
    expect(productSize([])).toBe(1);
    expect(maximumSize(5)).toBe(5);
    expect(evaluateSize(5, {})).toBe(5);
  });

  it('keep neutral elements out of expressions', () => {
    expect(addSize(length, 0)).toBe(length);
    expect(addSize(0, length)).toBe(length);
    expect(multiplySize(length, 1)).toBe(length);
    expect(multiplySize(1, length)).toBe(length);
    expect(multiplySize(length, 0)).toBe(0);
    expect(subtractSize(length, 0)).toBe(length);
    expect(ceilDivSize(length, 1)).toBe(length);
    expect(productSize([1, length, 1])).toBe(length);
  });

  it('evaluate expressions, and know their maximum', () => {
    const blocks = ceilDivSize(addSize(multiplySize(batch, length), 3), 64);
    expect(evaluateSize(blocks, { batch: 2, length: 31 })).toBe(2);
    expect(evaluateSize(blocks, { batch: 2, length: 30 })).toBe(1);
    expect(maximumSize(blocks)).toBe(Math.ceil(803 / 64));
    expect(maximumSize(subtractSize(length, 1))).toBe(99);
    expect(maximumSize(minimumSize(length, 7))).toBe(7);
    expect(evaluateSize(minimumSize(length, 7), { length: 5 })).toBe(5);
  });

  it('are the same where their keys are', () => {
    expect(sameSize(multiplySize(batch, length), multiplySize(namedSize('batch', 8), namedSize('length', 100)))).toBe(
      true,
    );
    expect(sameSize(length, batch)).toBe(false);
    expect(sameSize(length, 100)).toBe(false);
    const keys = [
      addSize(length, 2),
      multiplySize(length, 2),
      subtractSize(length, 2),
      ceilDivSize(length, 2),
      minimumSize(length, 2),
    ].map(sizeKey);
    expect(new Set(keys).size).toBe(keys.length);
    expect(sizeKey(multiplySize(addSize(length, 2), 3))).not.toBe(sizeKey(addSize(length, multiplySize(2, 3))));
    expect(formatShape([4, length, 64])).toBe('(4, length, 64)');
  });

  it.each([undefined, 0, -1, 1.5, 101, NaN])('refuse the value %s', (value) => {
    const values: Record<string, number> = value === undefined ? {} : { length: value };
    expect(() => evaluateSize(addSize(length, 1), values)).toThrow(ArgumentError);
    expect(() => evaluateSize(length, values)).toThrow(/'length' must be an integer from 1 to 100/);
  });
});

describe('flatGrid', () => {
  it.each([1, 2, MAX_WORKGROUPS_PER_DIMENSION])('keeps %i in one dimension', (count) => {
    expect(flatGrid(count)).toEqual([count, 1]);
  });

  it.each([MAX_WORKGROUPS_PER_DIMENSION + 1, 1_000_003])('covers %i in two dimensions', (count) => {
    const [x, y] = flatGrid(count).map(maximumSize);
    expect(x).toBeLessThanOrEqual(MAX_WORKGROUPS_PER_DIMENSION);
    expect(Number(x) * Number(y)).toBeGreaterThanOrEqual(count);
  });

  it('covers every value of an expression', () => {
    const count = multiplySize(namedSize('length', 1000), 500);
    const grid = flatGrid(count);
    for (const value of [1, 131, 132, 500, 1000]) {
      const [x, y] = grid.map((size) => evaluateSize(size, { length: value }));
      expect(Number(x) * Number(y)).toBeGreaterThanOrEqual(value * 500);
      expect(Number(x)).toBeLessThanOrEqual(MAX_WORKGROUPS_PER_DIMENSION);
    }
  });
});
