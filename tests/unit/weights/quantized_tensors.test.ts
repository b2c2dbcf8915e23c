import { createHash } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { IntegrityError, quantizeRows, WeightFormatError } from '@mambalab/kernels';
import { ArgumentError, parseConfig } from '@mambalab/models';
import { describe, expect, it } from 'vitest';
import { outputFile, planOutput } from '../../../packages/models/src/weights/checkpoint_output.ts';
import type { OutputDtype } from '../../../packages/models/src/weights/checkpoint_output.ts';
import { toFloat32 } from '../../../packages/models/src/weights/convert.ts';
import { openCheckpoint, openWeights } from '../../../packages/models/src/weights/folder.ts';
import type { Checkpoint } from '../../../packages/models/src/weights/folder.ts';
import { ggufFolder } from '../../../packages/models/src/weights/gguf.ts';
import { openNodeFolder } from '../../../packages/models/src/weights/node_folder.ts';
import type { PlannedWeight } from '../../../packages/models/src/weights/plan.ts';
import { planWeights } from '../../../packages/models/src/weights/plan.ts';
import type { Quantization } from '../../../packages/models/src/weights/quantization.ts';
import { quantizedRows } from '../../../packages/models/src/weights/quantized_rows.ts';
import {
  joinRows,
  QUANTIZATION_KEY,
  quantizationText,
} from '../../../packages/models/src/weights/quantized_tensors.ts';
import { rowBlocks, rowWidth } from '../../../packages/models/src/weights/rows.ts';
import { writeSafetensors } from '../../../packages/models/src/weights/safetensors.ts';
import { planShards, shardIndex } from '../../../packages/models/src/weights/safetensors_write.ts';
import type { TensorSource } from '../../../packages/models/src/weights/source.ts';
import { fixturePath } from '../../support/fixtures.ts';
import { Random } from '../../support/numbers.ts';
import { memoryFolder } from './fixtures.ts';

const { signal } = new AbortController();
const open = async (name: string): Promise<Checkpoint> => openCheckpoint(await openNodeFolder(fixturePath(name)));

async function gather(pieces: AsyncIterable<Uint8Array>): Promise<Uint8Array> {
  const all: Uint8Array[] = [];
  for await (const piece of pieces) all.push(piece);
  return new Uint8Array(Buffer.concat(all));
}

/** What `mambalab convert` writes of a checkpoint, opened again. */
async function converted(
  { config, source }: Checkpoint,
  dtype?: OutputDtype,
  quantization?: Quantization,
  shardBytes = 4e9,
): Promise<TensorSource> {
  const shards = planShards(planOutput(parseConfig(config), source, dtype, quantization), shardBytes);
  const files: Record<string, string | Uint8Array> = {};
  for (const { file, tensors } of shards) {
    files[file] = await gather(outputFile(tensors, source, () => undefined, signal));
  }
  if (shards.length > 1) files['model.safetensors.index.json'] = shardIndex(shards);
  return await openWeights(memoryFolder(files));
}

/** Everything that goes to the GPU of one weight, as one number. */
async function digestOf({ spec, dtype, search = false }: PlannedWeight, source: TensorSource): Promise<string> {
  const hash = createHash('sha256');
  for await (const block of rowBlocks(spec, dtype, source)) {
    if (dtype === 'q8' || dtype === 'q4') {
      const { quants, scales } = quantizedRows(block, { dtype, width: rowWidth(spec), search });
      hash.update(quants).update(scales);
    } else if ('bytes' in block) {
      hash.update(toFloat32(block.bytes, block.dtype));
    }
  }
  return `${spec.name} ${dtype} ${hash.digest('hex')}`;
}

async function digestsOf(plan: readonly PlannedWeight[], source: TensorSource): Promise<readonly string[]> {
  return await Promise.all(plan.map((weight) => digestOf(weight, source)));
}

const FOLDERS = ['models', 'models/variants'].flatMap((folder) =>
  readdirSync(fixturePath(folder), { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && entry.name !== 'variants')
    .map(({ name }) => `${folder}/${name}`),
);

describe('a model that was quantized into files', () => {
  it.each(FOLDERS)('gives the GPU what quantizing %s on load gives', async (name) => {
    const checkpoint = await open(name);
    const { config, source } = checkpoint;
    const model = parseConfig(config);
    const [dtype, quantization] =
      FOLDERS.indexOf(name) % 2 === 0 ? (['q8', undefined] as const) : (['q4', { method: 'search' } as const] as const);
    const files = await converted(checkpoint, dtype, quantization);
    const onLoad = planWeights(model, source, dtype, quantization);
    expect(onLoad.some((weight) => weight.dtype === dtype)).toBe(true);
    // Asked for nothing, and for what is there.
    const expected = await digestsOf(onLoad, source);
    expect(await digestsOf(planWeights(model, files, 'auto'), files)).toEqual(expected);
    expect(await digestsOf(planWeights(model, files, dtype, quantization), files)).toEqual(expected);
    await source.dispose();
  });

  it('is the same in several files', async () => {
    const checkpoint = await open('models/llama');
    const files = await converted(checkpoint, 'q4', undefined, 10_000);
    expect(new Set([...files.tensors.values()].map(({ file }) => file)).size).toBeGreaterThan(2);
    const model = parseConfig(checkpoint.config);
    const one = await converted(checkpoint, 'q4');
    expect(await digestsOf(planWeights(model, files, 'auto'), files)).toEqual(
      await digestsOf(planWeights(model, one, 'auto'), one),
    );
    await checkpoint.source.dispose();
  });

  it('keeps the blocks of GGUF', async () => {
    const folder = ggufFolder(await openNodeFolder(fixturePath('gguf')), 'nemotron_h-q4_0.gguf');
    const checkpoint = await openCheckpoint(folder);
    const model = parseConfig(checkpoint.config);
    const files = await converted(checkpoint, 'q4');
    const matrices = (source: TensorSource, dtype: 'auto' | 'q4'): PlannedWeight[] =>
      planWeights(model, source, dtype).filter(({ spec }) => spec.kind === 'matrix');
    expect(await digestsOf(matrices(files, 'auto'), files)).toEqual(
      await digestsOf(matrices(checkpoint.source, 'q4'), checkpoint.source),
    );
    await checkpoint.source.dispose();
  });

  it('can be written again, as it is or with its values', async () => {
    const checkpoint = await open('models/gpt2');
    const { config } = checkpoint;
    const model = parseConfig(config);
    const files = await converted(checkpoint, 'q4');
    const again = await converted({ ...checkpoint, source: files });
    expect(again.tensors).toEqual(files.tensors);
    const digests = await digestsOf(planWeights(model, files, 'auto'), files);
    expect(await digestsOf(planWeights(model, again, 'auto'), again)).toEqual(digests);
    // The numbers of q4 with scales of q8 are the same numbers.
    const wide = await converted({ ...checkpoint, source: files }, 'f32');
    const eight = await converted({ ...checkpoint, source: files }, 'q8');
    const name = 'transformer.h.0.mlp.c_fc.weight';
    expect([files, wide, eight].map(({ tensors }) => tensors.get(name)?.blocks?.kind)).toEqual(['q4', undefined, 'q8']);
    expect(files.tensors.get(name)?.transposed).toBe(true);
    expect(wide.tensors.get(name)).toMatchObject({ dtype: 'F32', shape: files.tensors.get(name)?.shape });
    expect(await files.read(name)).toEqual(await eight.read(name));
    const [plain] = planWeights(model, wide, 'f32').filter(({ spec }) => spec.sources[0]?.name === name);
    const [blocks] = planWeights(model, files, 'f32').filter(({ spec }) => spec.sources[0]?.name === name);
    if (plain === undefined || blocks === undefined) throw new Error('the weight is missing');
    expect(await digestOf(blocks, files)).toBe(await digestOf(plain, wide));
    await checkpoint.source.dispose();
  });

  it('keeps what is exact in the type that it has', async () => {
    const checkpoint = await open('models/mamba');
    const files = await converted(checkpoint, 'q8', { tensors: { '*.0.mixer.in_proj.weight': 'exact', head: 'q8' } });
    const kinds = (pattern: RegExp): unknown[] => [
      ...new Set(
        [...files.tensors.values()]
          .filter(({ name }) => pattern.test(name))
          .map(({ dtype, blocks }) => blocks?.kind ?? dtype),
      ),
    ];
    expect(kinds(/A_log|conv1d|norm|bias|\.D$|dt_proj|layers\.0\.mixer\.in_proj/)).toEqual(['F32']);
    expect(kinds(/layers\.[1-9]\.mixer\.in_proj|x_proj|out_proj/)).toEqual(['q8']);
    // The head is tied: one matrix, of both names.
    expect(kinds(/embeddings/)).toEqual(['q8']);
    await checkpoint.source.dispose();
  });

  it('refuses values that cannot be stored in it', async () => {
    const checkpoint = await open('models/llama');
    const { source } = checkpoint;
    const read: TensorSource['read'] = async (name, ...range) => {
      const bytes = await source.read(name, ...range);
      if (name.endsWith('up_proj.weight')) new DataView(bytes.buffer, bytes.byteOffset).setFloat32(0, NaN, true);
      return bytes;
    };
    const writing = converted({ ...checkpoint, source: { ...source, read } }, 'q4');
    await expect(writing).rejects.toThrow(IntegrityError);
    await expect(writing).rejects.toThrow(/layers\.\d\.mlp\.up_proj\.weight/);
    await source.dispose();
  });
});

/** A file of one matrix (3, 40) called `w`, in q4. */
const width = 40;
const values = new Random(1).normals(3 * width);
const bytes = joinRows(quantizeRows(values, width, 'q4'), 'q4', width);
const HEADER = { dtype: 'q4', shape: [3, width] } as const;

function fileOf(text: string, stored: { readonly shape?: readonly number[]; readonly bytes?: Uint8Array } = {}) {
  const tensor = { name: 'w', dtype: 'U8', shape: [3, 36], bytes, ...stored } as const;
  return openWeights(memoryFolder({ 'model.safetensors': writeSafetensors([tensor], { [QUANTIZATION_KEY]: text }) }));
}

describe('a matrix in blocks', () => {
  it('is read as blocks and as values, in parts', async () => {
    const source = await fileOf(quantizationText({ w: HEADER }));
    expect(source.tensors.get('w')).toMatchObject({
      dtype: 'F32',
      shape: [3, width],
      byteLength: 4 * 3 * width,
      blocks: { kind: 'q4', nearest: 'q4', exact: ['q4', 'q8'], bits: (8 * 36) / width },
    });
    const all = toFloat32(await source.read('w'), 'F32');
    for (const [index, value] of all.entries()) expect(Math.abs(value - (values[index] ?? NaN))).toBeLessThan(0.3);
    expect(toFloat32(await source.read('w', 4 * 30, 4 * 90), 'F32')).toEqual(all.slice(30, 90));
    expect(await source.read('w', 8, 8)).toHaveLength(0);
    const rows = await source.readBlocks?.('w', 'q4', 1, 2);
    expect(rows).toEqual(quantizeRows(values.subarray(width), width, 'q4'));
    const eight = await source.readBlocks?.('w', 'q8', 0, 3);
    expect(eight?.scales).toEqual(quantizeRows(values, width, 'q4').scales);
    await expect(source.read('w', 0, 4 * 3 * width + 4)).rejects.toThrow(ArgumentError);
    await expect(source.readBlocks?.('v', 'q4', 0, 1)).rejects.toThrow(ArgumentError);
  });

  it('of q8 has no blocks of q4', async () => {
    const eight = joinRows(quantizeRows(values, width, 'q8'), 'q8', width);
    const source = await fileOf(quantizationText({ w: { ...HEADER, dtype: 'q8' } }), { shape: [3, 68], bytes: eight });
    expect(source.tensors.get('w')?.blocks).toMatchObject({ nearest: 'q8', exact: ['q8'] });
    await expect(source.readBlocks?.('w', 'q4', 0, 1)).rejects.toThrow(ArgumentError);
  });

  const noScales = { shape: [3, 32], bytes: new Uint8Array(96) };
  it.each<[string, string, Parameters<typeof fileOf>[1], RegExp]>([
    ['of another version', '{"version": 2, "tensors": {}}', {}, /version 2; this version of mambalab reads 1/],
    ['of no version', '{"tensors": {}}', {}, /version undefined/],
    ['that is no JSON', '{', {}, /mambalab\.quantization.*is not JSON/],
    ['that is no object', '[]', {}, /version undefined/],
    ['without tensors', '{"version": 1}', {}, /names no tensors/],
    ['of a tensor that is missing', quantizationText({ v: HEADER }), {}, /names 'v', which the file does not hold/],
    ['without scales', quantizationText({ w: HEADER }), noScales, /'w' is q4.*32 bytes of quants and 4 of scales/],
    ['of another width', quantizationText({ w: { ...HEADER, shape: [3, 70] } }), {}, /'w' is q4 \(3, 70\)/],
    ['of other rows', quantizationText({ w: { ...HEADER, shape: [4, 40] } }), {}, /'w' is q4 \(4, 40\)/],
    ['of one dimension', quantizationText({ w: { ...HEADER, shape: [40] } }), {}, /says of 'w'/],
    ['of four', quantizationText({ w: { ...HEADER, shape: [1, 1, 3, 40] } }), {}, /says of 'w'/],
    ['of half a value', '{"version": 1, "tensors": {"w": {"dtype": "q4", "shape": [3, 4.5]}}}', {}, /says of 'w'/],
    ['of an unknown type', '{"version": 1, "tensors": {"w": {"dtype": "q2", "shape": [3, 40]}}}', {}, /says of 'w'/],
    ['of nothing', '{"version": 1, "tensors": {"w": null}}', {}, /says of 'w' null/],
    [
      'of a type of values',
      quantizationText({ w: HEADER }),
      { shape: [3, 9], bytes: new Uint8Array(27) },
      /it is U8 \(3, 9\)/,
    ],
  ])('refuses a description %s', async (_what, text, stored, message) => {
    const opening = fileOf(text, stored);
    await expect(opening).rejects.toThrow(WeightFormatError);
    await expect(opening).rejects.toThrow(message);
  });
});
