import { readFile } from 'node:fs/promises';
import { MambalabError, UnsupportedModelError, WeightFormatError } from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../../packages/models/src/weights/folder.ts';
import { PickleGlobal, PickleObject } from '../../../packages/models/src/weights/pickle_values.ts';
import type { PickleValue } from '../../../packages/models/src/weights/pickle_values.ts';
import { openSafetensors } from '../../../packages/models/src/weights/safetensors.ts';
import type { TensorSource } from '../../../packages/models/src/weights/source.ts';
import { openTorchWeights } from '../../../packages/models/src/weights/torch_file.ts';
import { fixturePath } from '../../support/fixtures.ts';
import { memoryFile, memoryFolder } from './fixtures.ts';
import {
  bytesOf,
  dict,
  floats,
  floatTensor,
  operationsOf,
  pickleOf,
  randomNumbers,
  torchFile,
  tuple,
  zipOf,
} from './torch_fixtures.ts';
import type { TensorOptions } from './torch_fixtures.ts';

const open = (bytes: Uint8Array): Promise<TensorSource> => openTorchWeights(memoryFile('a.bin', bytes));
const golden = await readFile(fixturePath('torch/mamba2.bin'));
const reference = await openSafetensors(
  memoryFile('model.safetensors', await readFile(fixturePath('models/variants/mamba2/model.safetensors'))),
);

async function expectSame(source: TensorSource): Promise<void> {
  expect([...source.tensors.keys()].sort()).toEqual([...reference.tensors.keys()].sort());
  for (const [name, { dtype, shape, byteLength }] of reference.tensors) {
    expect(source.tensors.get(name)).toMatchObject({ name, dtype, shape, byteLength });
    expect(await source.read(name)).toEqual(await reference.read(name));
  }
}

/** A file with one tensor `w` of two float32 values, 1 and 2. */
const small = (options: TensorOptions = {}, bytes = floats(1, 2), shape: readonly number[] = [2]): Uint8Array =>
  torchFile(dict({ w: floatTensor('0', shape, options) }), { '0': bytes });

describe('a file of torch.save', () => {
  it('holds the tensors of the safetensors file, byte for byte', async () => {
    await expectSame(await open(golden));
  });

  it('is read in parts: neither opening nor reading touches the rest', async () => {
    const file = memoryFile('a.bin', golden);
    const source = await openTorchWeights(file);
    const info = source.tensors.get('backbone.embeddings.weight');
    const values = file.reads.filter(
      ([start, end]) => start <= (info?.byteOffset ?? 0) && end > (info?.byteOffset ?? 0),
    );
    // The list of entries stands at the end, and is looked for in the last 64 KiB.
    expect(values.filter(([, end]) => end < golden.byteLength - 2 ** 16)).toEqual([]);
    file.reads.length = 0;
    const bytes = await source.read('backbone.embeddings.weight', 128, 256);
    expect(bytes).toEqual(await reference.read('backbone.embeddings.weight', 128, 256));
    expect(file.reads).toEqual([[(info?.byteOffset ?? 0) + 128, (info?.byteOffset ?? 0) + 256]]);
  });

  it('is opened where a folder has no safetensors', async () => {
    const files = { 'config.json': '{"model_type": "mamba2"}', 'pytorch_model.bin': golden };
    const checkpoint = await openCheckpoint(memoryFolder(files));
    expect(checkpoint.config).toEqual({ model_type: 'mamba2' });
    await expectSame(checkpoint.source);
    const both = {
      ...files,
      'model.safetensors': await readFile(fixturePath('models/variants/mamba2/model.safetensors')),
    };
    const { source } = await openCheckpoint(memoryFolder(both));
    expect(source.tensors.get('backbone.norm_f.weight')?.file).toBe('model.safetensors');
  });

  it('may be one of several', async () => {
    const index = JSON.stringify({ weight_map: { w: 'part-1.bin', v: 'part-2.bin' } });
    const files = {
      'config.json': '{}',
      'pytorch_model.bin.index.json': index,
      'part-1.bin': small(),
      'part-2.bin': torchFile(dict({ v: floatTensor('0', [1]), spare: floatTensor('0', [1]) }), { '0': floats(3) }),
    };
    const { source } = await openCheckpoint(memoryFolder(files));
    expect([...source.tensors.keys()]).toEqual(['w', 'v']);
    expect(await source.read('v')).toEqual(floats(3));
    const lacking = openCheckpoint(memoryFolder({ ...files, 'part-2.bin': small() }));
    await expect(lacking).rejects.toThrow(/pytorch_model\.bin\.index\.json says that tensor 'v' is in part-2\.bin/);
    const unsafe = { ...files, 'pytorch_model.bin.index.json': index.replace('part-2.bin', '../part-2.bin') };
    await expect(openCheckpoint(memoryFolder(unsafe))).rejects.toThrow(/expected a \.bin file in the folder/);
  });

  it.each(['state_dict', 'model'])('may hold the weights under %s', async (key) => {
    const file = torchFile(dict({ epoch: 3, [key]: dict({ w: floatTensor('0', [2]) }) }), { '0': floats(1, 2) });
    expect([...(await open(file)).tensors.keys()]).toEqual(['w']);
  });

  it('knows parameters, tensors with attributes, and storages of bytes', async () => {
    const plain = floatTensor('0', [2]);
    const type = (name: string): PickleValue => new PickleGlobal(name);
    const untyped = floatTensor('0', [2], { storage: 'torch.storage.UntypedStorage', length: 8 });
    const source = await open(
      torchFile(
        dict({
          plain,
          parameter: new PickleObject('torch._utils._rebuild_parameter', [plain, true, dict({})]),
          named: new PickleObject('torch._tensor._rebuild_from_type_v2', [
            type('torch._utils._rebuild_tensor_v2'),
            type('torch.nn.parameter.Parameter'),
            tuple(...plain.args),
            dict({ tag: 1 }),
          ]),
          untyped: new PickleObject('torch._utils._rebuild_tensor_v3', [...untyped.args, type('torch.int32')]),
          sized: new PickleObject(plain.global, [
            ...plain.args.slice(0, 2),
            new PickleObject('torch.Size', [tuple(2)]),
            ...plain.args.slice(3),
          ]),
        }),
        { '0': floats(1, 2) },
      ),
    );
    expect([...source.tensors.values()].map(({ dtype, shape }) => [dtype, ...shape])).toEqual([
      ['F32', 2],
      ['F32', 2],
      ['F32', 2],
      ['I32', 2],
      ['F32', 2],
    ]);
    for (const name of source.tensors.keys()) expect(await source.read(name)).toEqual(floats(1, 2));
  });

  it('may be a container above 4 GiB, whose sizes take 64 bits', async () => {
    const structure = pickleOf(operationsOf(dict({ w: floatTensor('0', [2]) })));
    const wide = { wide: true, extra: bytesOf('FB', 3, 0, 'abc') };
    const source = await open(
      zipOf([
        ['a/data.pkl', structure, wide],
        ['a/data/0', floats(1, 2), wide],
      ]),
    );
    expect(await source.read('w')).toEqual(floats(1, 2));
  });

  it('may hold views whose values follow each other', async () => {
    const bytes = floats(1, 2, 3, 4, 5);
    const options = { length: 5, offset: 1 };
    const view = await open(small({ ...options, strides: [77, 2, 1] }, bytes, [1, 2, 2]));
    expect(view.tensors.get('w')?.shape).toEqual([1, 2, 2]);
    expect(await view.read('w')).toEqual(floats(2, 3, 4, 5));
    const empty = await open(small({ ...options, strides: [9, 9] }, bytes, [0, 3]));
    expect(await empty.read('w')).toEqual(new Uint8Array(0));
  });
});

describe('openTorchWeights refuses', () => {
  const system = pickleOf('cos\nsystem\n', operationsOf('true'), 0x85, 'R');
  const call = (name: string, ...args: PickleValue[]): PickleValue => new PickleObject(name, args);
  const one = (value: PickleValue): Uint8Array => torchFile(dict({ w: value }), { '0': floats(1, 2) });
  const tensor = floatTensor('0', [2]);
  const structure = pickleOf(operationsOf(dict({ w: tensor })));
  const entries = [['archive/data.pkl', structure] as const, ['archive/data/0', floats(1, 2)] as const] as const;

  it.each<[string, Uint8Array, RegExp]>([
    ['code', torchFile(system, {}), /a\.bin names 'os\.system'/],
    [
      'a pickle in a storage',
      one(call('torch.storage._load_from_bytes', bytesText())),
      /'torch\.storage\._load_from_bytes'/,
    ],
    [
      'functions of Megatron',
      one(call('megatron.training.global_vars.set_args')),
      /'megatron\.training\.global_vars\.set_args'/,
    ],
    ['quantized tensors', one(call('torch._utils._rebuild_qtensor')), /'torch\._utils\._rebuild_qtensor'/],
    [
      'transposed tensors',
      small({ strides: [1, 2], length: 4 }, floats(1, 2, 3, 4), [2, 2]),
      /'w' .*strides \(1, 2\).*contiguous\(\)/s,
    ],
    ['tensors that repeat a value', small({ strides: [0] }), /strides \(0\)/],
    ['tensors with strides for another shape', small({ strides: [] }), /strides \(\)/],
    [
      'a tensor that reaches out of its storage',
      small({ offset: 1, length: 2 }),
      /'w' .*takes bytes 4 to 12 of a storage of 8/,
    ],
    ['a storage of another length', small({ length: 3 }), /storage has 12 bytes, but there are 8/],
    [
      'a storage that is not there',
      torchFile(dict({ w: floatTensor('1', [2]) }), { '0': floats(1, 2) }),
      /'w' .*in '1', which the file lacks/,
    ],
    ['a huge shape', small({ length: 2 }, floats(1, 2), [2 ** 30, 2 ** 30]), /has the shape/],
    ['a negative shape', small({ length: 2 }, floats(1, 2), [-2]), /has the shape/],
    ['a negative offset', small({ offset: -1 }), /begins at element -1/],
    ['a tensor without a storage', one(call(tensor.global, null, 0, tuple(2), tuple(1))), /no storage but None/],
    ['a conjugated view', one(call(tensor.global, ...tensor.args, dict({ conj: true }))), /conjugated/],
    [
      'a tensor of a type of its own',
      one(call('torch._tensor._rebuild_from_type_v2', null, null, null)),
      /of the type None/,
    ],
    [
      'parameters in parameters',
      one([1, 2, 3, 4, 5].reduce<PickleValue>((inner) => call('torch._utils._rebuild_parameter', inner), tensor)),
      /expected a tensor/,
    ],
    [
      'something between the tensors',
      torchFile(dict({ w: tensor, n: 1 }), { '0': floats(1, 2) }),
      /holds 1 under the key "n"/,
    ],
    ['names that are numbers', torchFile(new Map([[1, tensor]]), { '0': floats(1, 2) }), /under the key 1/],
    ['a list', torchFile([tensor], { '0': floats(1, 2) }), /holds a list of 1/],
    ['nothing', torchFile(dict({}), {}), /holds a dictionary of 0/],
    [
      'values of the other byte order',
      torchFile(dict({ w: tensor }), { '0': floats(1, 2) }, [['byteorder', bytesOf('big')]]),
      /byte order "big"/,
    ],
    ['a program', torchFile(dict({ w: tensor }), {}, [['constants.pkl', bytesOf('')]]), /TorchScript/],
    ['two structures', zipOf([...entries, ['other/data.pkl', structure]]), /2 entries 'data\.pkl'/],
    ['no structure', zipOf([['data.pkl', structure]]), /0 entries 'data\.pkl'/],
    ['another format', bytesOf('{"a": 1}'), /no file of PyTorch/],
    ['an empty file', new Uint8Array(0), /no file of PyTorch/],
    ['the old format', bytesOf(0x80, 2, 0x8a, 10), /before version 1\.6/],
    [
      'a compressed structure',
      zipOf([[entries[0][0], structure, { method: 8 }], entries[1]]),
      /"archive\/data\.pkl" .* is compressed/,
    ],
    [
      'a compressed storage',
      zipOf([entries[0], ['archive/data/0', floats(1, 2), { method: 8 }]]),
      /"archive\/data\/0" .* is compressed/,
    ],
    ['an encrypted storage', zipOf([entries[0], ['archive/data/0', floats(1, 2), { flags: 1 }]]), /encrypted/],
    ['two entries of one name', zipOf([...entries, entries[1]]), /two entries called "archive\/data\/0"/],
    [
      'entries that overlap',
      zipOf([entries[0], ['archive/data/0', floats(1, 2), { offset: 4 }]]),
      /reaches into what follows/,
    ],
    [
      'an entry longer than its place',
      zipOf([entries[0], ['archive/data/0', floats(1, 2), { size: 100 }]]),
      /"archive\/data\/0" reaches into/,
    ],
    [
      'an entry beyond the file',
      zipOf([entries[0], ['archive/data/0', floats(1, 2), { offset: 100_000 }]]),
      /reaches into|cannot be read/,
    ],
    [
      'an entry under another name',
      zipOf([entries[0], ['archive/data/0', floats(1, 2), { localName: 'archive/data/1' }]]),
      /"archive\/data\/0" contradicts/,
    ],
    [
      'an entry that begins elsewhere',
      zipOf([
        ['archive/data/0', floats(1, 2)],
        [entries[0][0], structure, { offset: 20 }],
      ]),
      /contradicts|reaches into/,
    ],
  ])('%s', async (_what, bytes, message) => {
    const opening = open(bytes);
    await expect(opening).rejects.toThrow(WeightFormatError);
    await expect(opening).rejects.toThrow(message);
  });

  it('types that have no name here', async () => {
    const complex = new PickleObject('torch._utils._rebuild_tensor_v3', [
      ...floatTensor('0', [1], { storage: 'torch.storage.UntypedStorage', length: 8 }).args,
      new PickleGlobal('torch.Tensor'),
    ]);
    await expect(open(one(complex))).rejects.toThrow(UnsupportedModelError);
    await expect(open(one(complex))).rejects.toThrow(/'w' in a\.bin is stored as torch\.Tensor/);
    await expect(open(one(floatTensor('0', [2], { storage: 'torch.UntypedStorage', length: 8 })))).rejects.toThrow(
      /stored as torch\.UntypedStorage/,
    );
  });
});

describe('damaged files', () => {
  const whole = torchFile(dict({ a: floatTensor('0', [2, 3]), b: floatTensor('1', [4]) }), {
    '0': floats(1, 2, 3, 4, 5, 6),
    '1': floats(7, 8, 9, 10),
  });

  /** Opens a file and reads all of it: it must fail with a typed error, or every read must stay within the file. */
  async function tryFile(bytes: Uint8Array, what: string): Promise<boolean> {
    let largest = 0;
    const file = memoryFile('a.bin', bytes);
    const counted = {
      ...file,
      read: (start: number, end: number): Promise<Uint8Array> => {
        if (start < 0 || end > bytes.byteLength || start > end)
          throw new RangeError(`${what}: read ${start} to ${end}.`);
        largest = Math.max(largest, end - start);
        return file.read(start, end);
      },
    };
    try {
      const source = await openTorchWeights(counted);
      for (const name of source.tensors.keys()) await source.read(name);
      return true;
    } catch (error) {
      if (error instanceof MambalabError) return false;
      throw new Error(`${what} ends in ${String(error)}`, { cause: error });
    } finally {
      expect(largest).toBeLessThanOrEqual(bytes.byteLength);
    }
  }

  it('cut off anywhere', async () => {
    expect(await tryFile(whole, 'the whole file')).toBe(true);
    for (let end = 0; end < whole.byteLength; end++) {
      expect(await tryFile(whole.subarray(0, end), `after ${end} bytes`)).toBe(false);
    }
  });

  it('changed anywhere, 500 times', async () => {
    const next = randomNumbers(20240612);
    let refused = 0;
    for (let round = 0; round < 500; round++) {
      const bytes = whole.slice();
      const changes = 1 + (next() % 4);
      for (let change = 0; change < changes; change++) bytes[next() % bytes.byteLength] = next() >>> 24;
      if (!(await tryFile(bytes, `mutation ${round}`))) refused++;
    }
    // Values of tensors and unused fields of headers may change unseen.
    expect(refused).toBeGreaterThan(200);
  });
});

function bytesText(): PickleValue {
  return new PickleObject('_codecs.encode', ['abc', 'latin1']);
}
