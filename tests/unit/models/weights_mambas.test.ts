import { openFolder } from '@mambalab/models/node';
import { describe, expect, it } from 'vitest';
import { parseConfig } from '../../../packages/models/src/families/index.ts';
import type { ParsedModel } from '../../../packages/models/src/spec/weight_spec.ts';
import type { Checkpoint } from '../../../packages/models/src/weights/folder.ts';
import { openCheckpoint } from '../../../packages/models/src/weights/folder.ts';
import { planWeights } from '../../../packages/models/src/weights/plan.ts';
import { rowBlocks } from '../../../packages/models/src/weights/rows.ts';
import type { TensorInfo, TensorSource } from '../../../packages/models/src/weights/source.ts';
import { fixturePath } from '../../support/fixtures.ts';

const count = (shape: readonly number[]): number => shape.reduce((product, size) => product * size, 1);

async function withCheckpoint(
  name: string,
  use: (parsed: ParsedModel, checkpoint: Checkpoint) => void | Promise<void>,
): Promise<void> {
  const checkpoint = await openCheckpoint(await openFolder(fixturePath(`models/${name}`)));
  try {
    await use(parseConfig(checkpoint.config), checkpoint);
  } finally {
    await checkpoint.source.dispose();
  }
}

const FAMILIES = ['bamba', 'granitemoehybrid', 'jamba', 'mamba2', 'nemotron_h'];
const VARIANTS = ['mamba_ssm', 'mamba2_ssm', 'falcon_h1_biased', 'falcon_h1_gated', ...FAMILIES];

it.each(['mamba', 'falcon_mamba', 'falcon_h1', ...FAMILIES, ...VARIANTS.map((name) => `variants/${name}`)])(
  'takes every value of %s once, in blocks that fill its weights',
  async (name) => {
    await withCheckpoint(name, async (parsed, { source }) => {
      const taken = new Map<string, number>();
      for (const { spec } of planWeights(parsed, source, 'f32')) {
        let values = 0;
        for await (const { source: tensor, fileBytes } of rowBlocks(spec, 'f32', source)) {
          const bytes = source.tensors.get(tensor)?.dtype === 'BF16' ? 2 : 4;
          values += fileBytes / bytes;
          taken.set(tensor, (taken.get(tensor) ?? 0) + fileBytes / bytes);
        }
        expect([spec.name, values]).toEqual([spec.name, count(spec.shape)]);
      }
      const stored = [...source.tensors.values()].filter((tensor) => !tensor.name.startsWith('mtp.'));
      expect(taken).toEqual(new Map(stored.map((tensor) => [tensor.name, count(tensor.shape)])));
    });
  },
);

describe('names of state-space models', () => {
  const renamed = ({ tensors, ...source }: TensorSource, rename: (name: string) => string): TensorSource => {
    const infos = [...tensors.values()].map((info): TensorInfo => ({ ...info, name: rename(info.name) }));
    return { ...source, tensors: new Map(infos.map((info) => [info.name, info])) };
  };
  const embeddingIn = (parsed: ParsedModel, source: TensorSource): string | undefined =>
    planWeights(parsed, source, 'auto')[0]?.spec.sources[0]?.name;

  it.each([
    ['backbone.embedding.weight', (name: string) => name.replace('embeddings', 'embedding')],
    ['model.backbone.embedding.weight', (name: string) => `model.${name.replace('embeddings', 'embedding')}`],
  ])('may be those of other packages, such as %s', async (expected, rename) => {
    for (const fixture of ['mamba', 'variants/mamba2']) {
      await withCheckpoint(fixture, (parsed, { source }) => {
        expect(embeddingIn(parsed, source)).toBe('backbone.embeddings.weight');
        expect(embeddingIn(parsed, renamed(source, rename))).toBe(expected);
      });
    }
  });

  it('are named as the checkpoint has them where one is missing', async () => {
    await withCheckpoint('variants/mamba2_ssm', (parsed, { source }) => {
      const tensors = new Map(source.tensors);
      tensors.delete('model.backbone.layers.1.mixer.D');
      const refused = (): unknown => planWeights(parsed, { ...source, tensors }, 'auto');
      expect(refused).toThrow('model.backbone.layers.1.mixer.D');
    });
  });
});

it('tensors that predict further tokens are passed over in Nemotron-H alone', async () => {
  const stray = (source: TensorSource, name: string): TensorSource => {
    const info: TensorInfo = {
      name,
      dtype: 'F32',
      shape: [8],
      byteLength: 32,
      file: 'model.safetensors',
      byteOffset: 0,
    };
    return { ...source, tensors: new Map([...source.tensors, [name, info]]) };
  };
  await withCheckpoint('nemotron_h', (parsed, { source }) => {
    const plan = planWeights(parsed, source, 'auto');
    expect(planWeights(parsed, stray(source, 'mtp.layers.0.mixer.q_proj.weight'), 'auto')).toEqual(plan);
    expect(() => planWeights(parsed, stray(source, 'backbone.mtp.weight'), 'auto')).toThrow('backbone.mtp.weight');
  });
  await withCheckpoint('bamba', (parsed, { source }) => {
    expect(() => planWeights(parsed, stray(source, 'mtp.norm.weight'), 'auto')).toThrow('mtp.norm.weight');
  });
});
