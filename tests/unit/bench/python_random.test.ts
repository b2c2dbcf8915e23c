import { describe, expect, it } from 'vitest';
import { PythonRandom } from '../../../packages/bench/src/evaluation/python_random.ts';

const range = (length: number): number[] => Array.from({ length }, (_, index) => index);

// What Python 3.11 prints for these calls, in this order.
describe('PythonRandom', () => {
  it('draws what Python draws', () => {
    const random = new PythonRandom(7);
    expect([random.random(), random.random(), random.random()]).toEqual([
      0.32383276483316237, 0.15084917392450192, 0.6509344730398537,
    ]);
    expect([random.below(2 ** 31), random.below(2 ** 31)]).toEqual([311111475, 404285457]);
    expect(range(5).map(() => random.below(10))).toEqual([5, 9, 0, 8, 3]);
    expect(random.sample(range(100), 3)).toEqual([4, 11, 55]);
    expect(random.sample(range(10), 6)).toEqual([6, 1, 3, 0, 4, 7]);
    expect(random.choice([...'abcdef'])).toBe('a');
    const values = range(10);
    random.shuffle(values);
    expect(values).toEqual([7, 8, 2, 0, 4, 6, 5, 3, 1, 9]);
  });

  it('takes seeds of more than 32 bits, and zero', () => {
    const large = new PythonRandom(2 ** 40 + 5);
    expect(large.random()).toBe(0.5043802970418443);
    expect(large.sample(range(1000), 10)).toEqual([275, 679, 948, 28, 543, 776, 837, 854, 805, 979]);
    const zero = new PythonRandom(0);
    expect(zero.random()).toBe(0.8444218515250481);
    expect(zero.below(10 ** 7)).toBe(7056020);
    expect(() => new PythonRandom(-1)).toThrow('-1 is no seed');
    expect(() => zero.below(0)).toThrow('below 0');
    expect(() => zero.sample([1], 2)).toThrow('no 2 of 1');
  });
});
