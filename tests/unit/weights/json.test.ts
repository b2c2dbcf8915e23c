import { WeightFormatError } from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import { duplicateKey, parseJson } from '../../../packages/models/src/weights/json.ts';

describe('parseJson', () => {
  it('reads the infinities of Hugging Face configurations', () => {
    const text =
      '{"time_step_limit": [0.0, {"__float__": "Infinity"}], "a": {"__float__": "-Infinity"}, "b": {"__float__": "NaN"}}';
    expect(parseJson(text, 'config.json')).toEqual({ time_step_limit: [0, Infinity], a: -Infinity, b: NaN });
  });

  it("reads the bare words of Python's json.dumps, but not inside texts", () => {
    const text = '{"a": [0.0, Infinity, -Infinity], "NaN": NaN, "s": "Infinity, \\"NaN\\" and \\\\", "n": -1}';
    expect(parseJson(text, 'config.json')).toEqual({
      a: [0, Infinity, -Infinity],
      NaN: NaN,
      s: 'Infinity, "NaN" and \\',
      n: -1,
    });
  });

  it('leaves other objects alone', () => {
    const value = { a: { __float__: 'one' }, b: { __float__: 'NaN', more: 1 }, c: { __float__: 1 } };
    expect(parseJson(JSON.stringify(value), 'x')).toEqual(value);
  });

  it('skips a byte order mark', () => {
    expect(parseJson('\uFEFF{"a": 1}', 'x')).toEqual({ a: 1 });
  });

  it.each(['', '{', '{"a": Infinit}', '{"a": xNaN}', '{"a" Infinity}', '{"a": --Infinity}', "{'a': NaN}"])(
    'refuses %j',
    (text) => {
      expect(() => parseJson(text, 'config.json')).toThrow(WeightFormatError);
      expect(() => parseJson(text, 'config.json')).toThrow(/config\.json is not JSON/);
    },
  );
});

describe('duplicateKey', () => {
  it.each([
    ['{"a":1,"b":2}', undefined],
    ['{"a":1,"a":2}', 'a'],
    ['{"a":"a","b":["a","a"],"c":{"a":1}}', undefined],
    ['{"x":{"a":1,"a" :2}}', 'a'],
    ['{"x":{"y":{"a":1,"a":2}}}', undefined],
    ['{"x":[{"a":1,"a":2}]}', undefined],
    ['{"\\"":1,"b\\\\":2,"\\u0022":3}', '"'],
    ['{"a":"{\\"a\\":","b":1}', undefined],
    ['{"a":{},"b":{},"a":1}', 'a'],
  ])('of %s is %j', (text, key) => {
    expect(duplicateKey(text, 2)).toBe(key);
  });
});
