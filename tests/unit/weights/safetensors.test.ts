import { ArgumentError, UnsupportedModelError, WeightFormatError } from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import { openSafetensors, writeSafetensors } from '../../../packages/models/src/weights/safetensors.ts';
import { fileWithHeader, memoryFile, tensor } from './fixtures.ts';

const twoTensors = (a: object, b: object): string => JSON.stringify({ a, b });
const f32 = (shape: unknown, offsets: unknown): object => ({ dtype: 'F32', shape, data_offsets: offsets });
const lengthPrefix = (length: bigint, rest: number): Uint8Array => {
  const bytes = new Uint8Array(8 + rest);
  new DataView(bytes.buffer).setBigUint64(0, length, true);
  return bytes;
};

describe('openSafetensors', () => {
  it('reads what writeSafetensors writes', async () => {
    const file = memoryFile(
      'model.safetensors',
      writeSafetensors(
        [
          tensor('b', [1, 2, 3, 4, 5, 6], [2, 3]),
          tensor('scalar', [7], []),
          tensor('empty', [], [0, 4]),
          { name: 'bytes', dtype: 'U8', shape: [3], bytes: Uint8Array.of(1, 2, 3) },
          tensor('__proto__', [8]),
        ],
        { format: 'pt', __proto__x: '"' },
      ),
    );
    const opened = await openSafetensors(file);
    expect(Object.fromEntries(opened.metadata)).toEqual({ format: 'pt', __proto__x: '"' });
    expect(new Set(opened.tensors.keys())).toEqual(new Set(['b', 'scalar', 'empty', 'bytes', '__proto__']));
    expect(opened.tensors.get('b')).toMatchObject({ dtype: 'F32', shape: [2, 3], byteLength: 24, file: file.name });
    const bytes = await opened.read('b');
    expect([...new Float32Array(bytes.buffer, bytes.byteOffset, 6)]).toEqual([1, 2, 3, 4, 5, 6]);
    expect([...(await opened.read('bytes', 1, 2))]).toEqual([2]);
    expect(await opened.read('empty')).toHaveLength(0);
    expect(await opened.read('scalar')).toHaveLength(4);
  });

  it('opens a file without tensors', async () => {
    expect((await openSafetensors(memoryFile('none', fileWithHeader('{}', 0)))).tensors.size).toBe(0);
    expect((await openSafetensors(memoryFile('padded', fileWithHeader('{}      ', 0)))).tensors.size).toBe(0);
  });

  it('reads ranges only inside a tensor', async () => {
    const opened = await openSafetensors(memoryFile('x', writeSafetensors([tensor('a', [1, 2]), tensor('b', [3])])));
    await expect(opened.read('a', 0, 9)).rejects.toThrow(ArgumentError);
    await expect(opened.read('a', -1)).rejects.toThrow(ArgumentError);
    await expect(opened.read('a', 3, 2)).rejects.toThrow(ArgumentError);
    await expect(opened.read('a', 0.5)).rejects.toThrow(ArgumentError);
    await expect(opened.read('c')).rejects.toThrow(/no tensor 'c'/);
    const reason = new Error('stop');
    await expect(opened.read('a', 0, 8, AbortSignal.abort(reason))).rejects.toBe(reason);
  });

  it.each(['F8_E4M3', 'F8_E5M2', 'F8_E8M0', 'F6_E2M3', 'F4'] as const)(
    'knows %s but does not read it',
    async (dtype) => {
      const bytes = new Uint8Array(6);
      const count = { F6_E2M3: 8, F4: 12 }[dtype as string] ?? 6;
      const opened = await openSafetensors(
        memoryFile('x', writeSafetensors([{ name: 'a', dtype, shape: [count], bytes }])),
      );
      expect(opened.tensors.get('a')).toMatchObject({ dtype, byteLength: 6 });
      await expect(opened.read('a')).rejects.toThrow(UnsupportedModelError);
    },
  );
});

const corruptions: [what: string, bytes: Uint8Array, message: RegExp][] = [
  ['no bytes', new Uint8Array(0), /0 bytes long/],
  ['seven bytes', new Uint8Array(7), /7 bytes long/],
  ['a header longer than the file', lengthPrefix(9n, 8), /header of 9 bytes/],
  ['a header above 100 MB', lengthPrefix(100_000_001n, 0), /more than 100000000/],
  ['a header of 2^64 - 1 bytes', lengthPrefix(2n ** 64n - 1n, 0), /more than 100000000/],
  ['an empty header', fileWithHeader('', 0), /not JSON/],
  ['no JSON', fileWithHeader('{"a":', 0), /not JSON/],
  ['bare NaN', fileWithHeader('{"a": NaN}', 0), /not JSON/],
  ['a byte order mark', fileWithHeader('\uFEFF{}', 0), /not JSON/],
  ['no UTF-8', fileWithHeader(Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d), 0), /not JSON/],
  ['zeros', new Uint8Array(4096), /not JSON/],
  ['ones', new Uint8Array(4096).fill(0xff), /more than/],
  ['an array', fileWithHeader('[]', 0), /no object/],
  ['null', fileWithHeader('null', 0), /no object/],
  ['a number', fileWithHeader('1', 0), /no object/],
  ['a tensor that is null', fileWithHeader('{"a":null}', 0), /"a".*expected an object/],
  ['a tensor that is an array', fileWithHeader('{"a":[]}', 0), /"a".*expected an object/],
  ['metadata that is no object', fileWithHeader('{"__metadata__":[]}', 0), /__metadata__/],
  ['metadata that is no text', fileWithHeader('{"__metadata__":{"k":1}}', 0), /'k' is no string/],
  [
    'a tensor twice',
    fileWithHeader(`{"a":${JSON.stringify(f32([1], [0, 4]))},"\\u0061":${JSON.stringify(f32([1], [0, 4]))}}`, 4),
    /"a" twice/,
  ],
  ['a field twice', fileWithHeader('{"a":{"dtype":"F32","dtype":"U8","shape":[1],"data_offsets":[0,1]}}', 1), /twice/],
  ['an unknown dtype', fileWithHeader('{"a":{"dtype":"F33","shape":[],"data_offsets":[0,4]}}', 4), /"a".*"F33"/],
  ['a dtype of Object', fileWithHeader('{"a":{"dtype":"toString","shape":[],"data_offsets":[0,4]}}', 4), /dtype/],
  ['no dtype', fileWithHeader('{"a":{"shape":[],"data_offsets":[0,4]}}', 4), /"a".*dtype/],
  ['no shape', fileWithHeader(JSON.stringify({ a: f32(undefined, [0, 4]) }), 4), /"a".*shape/],
  ['a negative dimension', fileWithHeader(JSON.stringify({ a: f32([-1], [0, 4]) }), 4), /"a".*shape/],
  ['a broken dimension', fileWithHeader(JSON.stringify({ a: f32([0.5], [0, 2]) }), 2), /"a".*shape/],
  ['a dimension in words', fileWithHeader(JSON.stringify({ a: f32(['1'], [0, 4]) }), 4), /"a".*shape/],
  ['a dimension beyond 2^53', fileWithHeader('{"a":{"dtype":"U8","shape":[1e300],"data_offsets":[0,1]}}', 1), /shape/],
  [
    'a product beyond 2^53',
    fileWithHeader(JSON.stringify({ a: f32([2 ** 40, 2 ** 40], [0, 4]) }), 4),
    /"a".*has 4 bytes of data/,
  ],
  ['no offsets', fileWithHeader(JSON.stringify({ a: f32([1], undefined) }), 4), /"a".*data_offsets/],
  ['one offset', fileWithHeader(JSON.stringify({ a: f32([1], [4]) }), 4), /"a".*data_offsets/],
  ['three offsets', fileWithHeader(JSON.stringify({ a: f32([1], [0, 4, 4]) }), 4), /"a".*data_offsets/],
  ['a negative offset', fileWithHeader(JSON.stringify({ a: f32([1], [-4, 0]) }), 4), /"a".*data_offsets/],
  ['a broken offset', fileWithHeader(JSON.stringify({ a: f32([1], [0.5, 4.5]) }), 8), /"a".*data_offsets/],
  ['offsets in reverse', fileWithHeader(JSON.stringify({ a: f32([1], [4, 0]) }), 4), /"a".*lies at bytes 4 to 0/],
  ['offsets beyond the file', fileWithHeader(JSON.stringify({ a: f32([2], [0, 8]) }), 4), /"a".*outside the 4 bytes/],
  ['too few bytes for the shape', fileWithHeader(JSON.stringify({ a: f32([2], [0, 4]) }), 4), /"a".*8 bytes.*has 4/],
  ['too many bytes for the shape', fileWithHeader(JSON.stringify({ a: f32([], [0, 8]) }), 8), /"a".*4 bytes.*has 8/],
  ['half a byte', fileWithHeader('{"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}}', 1), /"a".*1.5 bytes/],
  ['an overlap', fileWithHeader(twoTensors(f32([2], [0, 8]), f32([1], [4, 8])), 8), /"b".*overlaps/],
  ['the same bytes twice', fileWithHeader(twoTensors(f32([1], [0, 4]), f32([1], [0, 4])), 4), /overlaps/],
  ['a gap', fileWithHeader(twoTensors(f32([1], [0, 4]), f32([1], [8, 12])), 12), /"b".*gap/],
  ['a gap in front', fileWithHeader(JSON.stringify({ a: f32([1], [4, 8]) }), 8), /"a".*gap/],
  ['bytes at the end', fileWithHeader(JSON.stringify({ a: f32([1], [0, 4]) }), 5), /last 1 bytes/],
  ['bytes without a tensor', fileWithHeader('{}', 3), /last 3 bytes/],
  ['a cut file', writeSafetensors([tensor('a', [1, 2])]).slice(0, -1), /"a".*outside/],
];

describe('a damaged file', () => {
  it.each(corruptions)('with %s is refused, and no tensor is read', async (_what, bytes, message) => {
    const file = memoryFile('bad.safetensors', bytes);
    const error = await openSafetensors(file).then(
      () => undefined,
      (cause: unknown) => cause,
    );
    expect(error).toBeInstanceOf(WeightFormatError);
    expect(error).toMatchObject({ code: 'weight-format', message: expect.stringMatching(message) });
    expect(error).toMatchObject({ message: expect.stringContaining('bad.safetensors') });
    const headerEnd = 8 + Number(bytes.byteLength < 8 ? 0n : new DataView(bytes.buffer).getBigUint64(0, true));
    for (const [, end] of file.reads) expect(end).toBeLessThanOrEqual(headerEnd);
  });

  it('is refused or read, but never breaks the reader, whichever byte of the header is changed', async () => {
    const good = writeSafetensors([tensor('a', [1, 2, 3, 4], [2, 2]), tensor('b', [5])], { format: 'pt' });
    const headerEnd = 8 + Number(new DataView(good.buffer).getBigUint64(0, true));
    let refused = 0;
    for (let i = 0; i < headerEnd; i++) {
      for (const value of [0x00, 0x20, 0x22, 0x2c, 0x31, 0x39, 0x5d, 0x7b, 0xff]) {
        const bad = good.slice();
        bad[i] = value;
        const outcome = await openSafetensors(memoryFile('bad', bad)).catch((error: unknown) => error);
        if (!(outcome instanceof Error)) continue;
        expect(outcome).toBeInstanceOf(WeightFormatError);
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(headerEnd * 4);
  });

  it('is refused wherever it is cut', async () => {
    const good = writeSafetensors([tensor('a', [1, 2, 3, 4])]);
    for (let length = 0; length < good.byteLength; length++) {
      await expect(openSafetensors(memoryFile('cut', good.slice(0, length)))).rejects.toThrow(WeightFormatError);
    }
  });
});

describe('writeSafetensors', () => {
  it('gives the same bytes in whatever order the tensors come', () => {
    const [a, b] = [tensor('a', [1]), tensor('b', [2])];
    const c = { name: 'c', dtype: 'F16', shape: [1], bytes: new Uint8Array(2) } as const;
    const file = writeSafetensors([a, b, c], { x: '1', y: '2' });
    expect(writeSafetensors([c, b, a], { y: '2', x: '1' })).toEqual(file);
  });

  it('aligns the data to 8 bytes, and each tensor to its element', async () => {
    const half = { name: 'a', dtype: 'F16', shape: [1], bytes: new Uint8Array(2) } as const;
    const wide = { name: 'z', dtype: 'F64', shape: [1], bytes: new Uint8Array(8) } as const;
    const bytes = writeSafetensors([half, tensor('b', [1]), wide]);
    expect(new DataView(bytes.buffer).getBigUint64(0, true) % 8n).toBe(0n);
    const { tensors } = await openSafetensors(memoryFile('x', bytes));
    expect((tensors.get('z')?.byteOffset ?? 1) % 8).toBe(0);
    expect((tensors.get('b')?.byteOffset ?? 1) % 4).toBe(0);
  });

  it('refuses what it could not read back', () => {
    expect(() => writeSafetensors([tensor('a', [1]), tensor('a', [2])])).toThrow(ArgumentError);
    expect(() => writeSafetensors([tensor('__metadata__', [1])])).toThrow(ArgumentError);
    expect(() => writeSafetensors([tensor('a', [1, 2], [3])])).toThrow(ArgumentError);
  });
});
