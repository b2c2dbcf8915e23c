import { readFileSync } from 'node:fs';
import { UnsupportedModelError, WeightFormatError } from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import { readGgufHeader } from '../../../packages/models/src/weights/gguf_header.ts';
import type { GgufHeader } from '../../../packages/models/src/weights/gguf_header.ts';
import { fixturePath } from '../../support/fixtures.ts';
import type { GgufData, GgufFieldValues } from '../../support/gguf_writer.ts';
import { writeGguf } from '../../support/gguf_writer.ts';
import { memoryFile } from './fixtures.ts';

const FIELDS: GgufFieldValues = {
  'general.architecture': 'mamba2',
  'a.count': 7,
  'a.large': { type: 'u64', value: 2 ** 40 },
  'a.negative': { type: 'i32', value: -3 },
  'a.part': { type: 'f32', value: 0.1 },
  'a.exact': { type: 'f64', value: 0.1 },
  'a.flag': true,
  'a.sizes': [3, 0, 5],
  'a.words': ['é', '', '\u{1F600}'],
  'a.none': { type: 'string', value: [] },
};

const floats = (name: string, shape: readonly number[]): GgufData => ({
  name,
  kind: 'F32',
  shape,
  bytes: new Uint8Array(4 * shape.reduce((product, size) => product * size, 1)),
});

const read = (bytes: Uint8Array): Promise<GgufHeader> => readGgufHeader(memoryFile('model.gguf', bytes));

/** A file with some bytes replaced behind the first place where `text` stands. */
function patched(text: string, behind: number, bytes: readonly number[], fields = FIELDS): Uint8Array {
  const file = writeGguf(fields, [floats('t', [2, 3])]);
  const needle = new TextEncoder().encode(text);
  const at = file.findIndex((_, start) => needle.every((byte, index) => file[start + index] === byte));
  expect(at).toBeGreaterThan(0);
  file.set(bytes, at + needle.byteLength + behind);
  return file;
}

const u64 = (value: bigint): number[] => [...new Uint8Array(BigUint64Array.of(value).buffer)];

describe('readGgufHeader', () => {
  it.each([2, 3])('reads values of every type in version %i', async (version) => {
    const { fields, tensors } = await read(writeGguf(FIELDS, [floats('t', [2, 3]), floats('u', [5])], version));
    expect(fields.string('general.architecture')).toBe('mamba2');
    const own = fields.under('a.');
    expect(own.keys()).toEqual(['count', 'large', 'negative', 'part', 'exact', 'flag', 'sizes', 'words', 'none']);
    expect([own.size('count'), own.count('large'), own.number('negative')]).toEqual([7, 2 ** 40, -3]);
    // What float32 holds of a decimal is the decimal that was meant.
    expect([own.number('part'), own.number('exact')]).toEqual([0.1, 0.1]);
    expect(own.boolean('flag')).toBe(true);
    expect(own.numbers('sizes')).toEqual([3, 0, 5]);
    expect(own.perBlock('sizes', 3)).toEqual([3, 0, 5]);
    expect(own.perBlock('count', 2)).toEqual([7, 7]);
    expect(own.strings('words')).toEqual(['é', '', '\u{1F600}']);
    expect(own.strings('none')).toEqual([]);
    expect(own.strings('absent')).toBeUndefined();
    const [t, u] = tensors.values();
    expect(t).toMatchObject({ name: 't', kind: 'F32', shape: [2, 3], byteLength: 24 });
    expect(u).toMatchObject({ name: 'u', shape: [5], byteOffset: (t?.byteOffset ?? 0) + 32 });
  });

  it('reads what the Python package wrote', async () => {
    const { fields, tensors } = await read(readFileSync(fixturePath('gguf/llama-q8_0.gguf')));
    expect(fields.string('general.architecture')).toBe('llama');
    expect(fields.strings('tokenizer.ggml.tokens')).toHaveLength(512);
    expect(fields.numbers('tokenizer.ggml.scores')?.slice(258, 261)).toEqual([0, -0, -1]);
    expect(tensors.get('blk.0.attn_q.weight')).toMatchObject({ kind: 'Q8_0', shape: [32, 32], byteLength: 32 * 34 });
  });

  it('heeds an alignment', async () => {
    const file = writeGguf({ ...FIELDS, 'general.alignment': 128 }, [floats('t', [1]), floats('u', [1])]);
    const offsets = [...(await read(file)).tensors.values()].map(({ byteOffset }) => byteOffset % 128);
    expect(offsets).toEqual([0, 0]);
  });

  it('reads in steps, and nothing of the tensors', async () => {
    const words = Array.from({ length: 40_000 }, (_, index) => `word ${index}`);
    const bytes = writeGguf({ ...FIELDS, words }, [floats('t', [1 << 20])]);
    const file = memoryFile('model.gguf', bytes);
    const { fields, tensors } = await readGgufHeader(file);
    expect(fields.strings('words')).toEqual(words);
    const dataStart = tensors.get('t')?.byteOffset ?? 0;
    expect(file.reads.length).toBeGreaterThan(2);
    expect(file.reads.length).toBeLessThan(8);
    for (const [index, [start, end]] of file.reads.entries()) {
      expect(start).toBe(file.reads[index - 1]?.[1] ?? 0);
      expect(end).toBeLessThan(2 * dataStart);
    }
  });

  const wrong = (name: string, bytes: Uint8Array, message: RegExp): [string, Uint8Array, RegExp] => [
    name,
    bytes,
    message,
  ];
  const good = writeGguf(FIELDS, [floats('t', [2, 3])]);

  it.each([
    wrong('an empty file', new Uint8Array(0), /ends within its first values/),
    wrong('another format', new Uint8Array(100), /does not begin with "GGUF"/),
    wrong(
      'a file cut in its fields',
      good.slice(0, 250),
      /ends within 'a\.\w+'|announces \d+ values \(\w+\) under 'a\.\w+'/,
    ),
    wrong('a file cut in its tensors', good.slice(0, good.byteLength - 40), /tensor 't'/),
    wrong('too many tensors', Uint8Array.from(good).fill(0x7f, 8, 11), /announces \d+ tensors/),
    wrong('a count beyond all numbers', Uint8Array.from(good).fill(0xff, 16, 24), /as its count of keys/),
    wrong('an unknown type of value', patched('a.count', 0, [99]), /unknown type 99 under 'a.count'/),
    wrong('an array of arrays', patched('a.sizes', 4, [9]), /array of arrays under 'a.sizes'/),
    wrong(
      'an array beyond the file',
      patched('a.sizes', 8, u64(2n ** 40n)),
      /announces 1099511627776 values \(i32\) under 'a.sizes'/,
    ),
    wrong(
      'strings beyond the file',
      patched('a.words', 8, u64(2n ** 30n)),
      /announces 1073741824 values \(string\) under 'a.words'/,
    ),
    wrong('a string beyond the file', patched('a.words', 16, u64(2n ** 31n)), /ends within 'a.words'/),
    wrong('a key twice', patched('a.large', -5, [...new TextEncoder().encode('count')]), /the key "a.count" twice/),
    wrong('a name that is no UTF-8', patched('a.coun', 0, [0xff]), /no UTF-8 as the name of key 1 of 10/),
    wrong('an alignment of 12', writeGguf({ 'general.alignment': 12 }, []), /12 as 'general.alignment'/),
    wrong('an alignment of 0', writeGguf({ 'general.alignment': 0 }, []), /'general.alignment' must be a positive/),
    wrong('a tensor twice', writeGguf({}, [floats('t', [1]), floats('t', [1])]), /tensor 't' twice/),
    wrong('an empty tensor', writeGguf({}, [floats('t', [0, 4])]), /tensor 't' \(F32, 0 x 4\), which holds nothing/),
    wrong('rows of half a block', writeGguf({}, [{ ...floats('t', [2, 48]), kind: 'Q8_0' }]), /no whole blocks of 32/),
    wrong('five dimensions', writeGguf({}, [floats('t', [1, 1, 1, 1, 1])]), /5 dimensions/),
    wrong(
      'a tensor beyond the file',
      writeGguf({}, [{ ...floats('t', [1]), shape: [1000, 1000] }]),
      /does not fit into its/,
    ),
    wrong(
      'a product beyond all numbers',
      writeGguf({}, [{ ...floats('t', [1]), shape: [2 ** 40, 2 ** 40] }]),
      /does not fit/,
    ),
    wrong('a name too long', writeGguf({ ['k'.repeat(2000)]: 1 }, []), /a name of 2000 bytes/),
  ])('refuses %s', async (_name, bytes, message) => {
    const error: unknown = await read(bytes).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(WeightFormatError);
    expect(String(error)).toMatch(message);
    expect(String(error)).toContain('model.gguf');
  });

  it('refuses offsets that are not aligned, and tensors that overlap', async () => {
    const file = writeGguf({}, [floats('t', [8]), floats('u', [8])]);
    // The offset of the second tensor is the last number in front of the data.
    const at = file.byteLength - 64 - 8 - ((file.byteLength - 64) % 32);
    const find = (value: number): number => {
      for (let start = at + 8; start > 24; start--) {
        if (new DataView(file.buffer).getBigUint64(start, true) === BigInt(value)) return start;
      }
      throw new Error('the offset is not there');
    };
    const place = find(32);
    file[place] = 4;
    await expect(read(file)).rejects.toThrow(/tensor 'u' .* at offset 4, which is no multiple of the alignment, 32/);
    file[place] = 0;
    await expect(read(file)).rejects.toThrow(/tensor '[tu]' begin inside of tensor '[tu]'/);
  });

  it('refuses other versions and storage types with what is supported', async () => {
    const typed = (kind: number): Uint8Array => writeGguf({}, [{ ...floats('t', [256]), kind }]);
    for (const [bytes, message] of [
      [writeGguf({}, [], 1), /of version 1.*versions 2 and 3/],
      [writeGguf({}, [], 4), /of version 4/],
      [writeGguf({}, [], 0x03000000), /big-endian/],
      [typed(10), /Tensor 't' .* stored as Q2_K.*F32, F16, BF16, Q4_0/],
      [typed(20), /IQ4_NL/],
      [typed(4711), /type 4711/],
    ] as const) {
      const error: unknown = await read(bytes).catch((caught: unknown) => caught);
      expect(error).toBeInstanceOf(UnsupportedModelError);
      expect(String(error)).toMatch(message);
    }
  });
});

describe('GgufFields', () => {
  it('names the key of a value that is not what is asked for', async () => {
    const { fields } = await read(writeGguf({ ...FIELDS, bad: { type: 'u8', value: 2 } }, []));
    const own = fields.under('a.');
    for (const [get, message] of [
      [() => own.string('count'), /'a.count' must be a text; found 7/],
      [() => own.size('negative'), /'a.negative' must be a whole number from 0 up; found -3/],
      [() => own.number('words'), /'a.words' must be a single value; found "a list of 3"/],
      [() => own.numbers('words'), /'a.words' must be a list of numbers; found "é"/],
      [() => own.strings('count'), /'a.count' must be a list of texts/],
      [() => own.boolean('absent'), /'a.absent' must be true or false; found nothing/],
      [() => own.perBlock('sizes', 4), /'a.sizes' must be 4 numbers; found "3 values"/],
      [() => fields.boolean('bad'), /'bad' must be true or false; found 2/],
    ] as const) {
      expect(get).toThrow(WeightFormatError);
      expect(get).toThrow(message);
    }
  });

  it('refuses truth values and texts that are none', async () => {
    const flag = await read(patched('a.flag', 4, [2]));
    expect(() => flag.fields.boolean('a.flag')).toThrow(/'a.flag' must be true or false, 1 or 0; found 2/);
    const text = await read(patched('é', -2, [0xff]));
    expect(() => text.fields.strings('a.words')).toThrow(/'a.words' must be text in UTF-8/);
  });
});
