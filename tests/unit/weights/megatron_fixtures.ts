// Renames the hybrid of tests/fixtures/models/nemotron_h backwards into Megatron's names, and splits it over ranks.
import { readFile } from 'node:fs/promises';
import { UnsupportedModelError, WeightFormatError } from '@mambalab/kernels';
import { expect } from 'vitest';
import { openCheckpoint } from '../../../packages/models/src/weights/folder.ts';
import type { Checkpoint } from '../../../packages/models/src/weights/folder.ts';
import { PickleObject } from '../../../packages/models/src/weights/pickle_values.ts';
import type { PickleValue } from '../../../packages/models/src/weights/pickle_values.ts';
import { openSafetensors } from '../../../packages/models/src/weights/safetensors.ts';
import { fixturePath } from '../../support/fixtures.ts';
import { memoryFile, memoryFolder } from './fixtures.ts';
import { dict, floatTensor, namespace, torchFile } from './torch_fixtures.ts';

/** A float32 tensor in memory. */
export interface Tensor {
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

export type Tensors = Map<string, Tensor>;

export const HYBRID: ReadonlyMap<string, Tensor> = await readTensors('models/nemotron_h/model.safetensors');

/** What `args` of the hybrid says, for this many ranks. */
export const hybridArgs = (size: number): Readonly<Record<string, PickleValue>> => ({
  add_bias_linear: false,
  apply_layernorm_1p: false,
  ffn_hidden_size: 64,
  group_query_attention: true,
  hidden_size: 32,
  hybrid_attention_ratio: 0,
  hybrid_mlp_ratio: 0,
  hybrid_override_pattern: 'M-M*-',
  kv_channels: 16,
  mamba_head_dim: 16,
  mamba_num_groups: 2,
  mamba_state_dim: 32,
  max_position_embeddings: 512,
  model_type: new PickleObject('megatron.core.enums.ModelType', [1]),
  norm_epsilon: 1e-5,
  normalization: 'RMSNorm',
  num_attention_heads: 4,
  num_experts: null,
  num_layers: 5,
  num_query_groups: 2,
  padded_vocab_size: 128,
  pipeline_model_parallel_size: 1,
  position_embedding_type: 'none',
  squared_relu: true,
  swiglu: false,
  tensor_model_parallel_size: size,
  untie_embeddings_and_output_weights: true,
});

export async function readTensors(path: string): Promise<Tensors> {
  const source = await openSafetensors(memoryFile(path, await readFile(fixturePath(path))));
  const tensors: Tensors = new Map();
  for (const { name, shape } of source.tensors.values()) {
    tensors.set(name, { shape, values: new Float32Array(Uint8Array.from(await source.read(name)).buffer) });
  }
  return tensors;
}

/** The tensors of one of `size` ranks of the hybrid. `fused`: norms belong to the projections after them. */
export function hybridRank(rank: number, size: number, fused: boolean): Tensors {
  const model: Tensors = new Map();
  const get = (name: string): Tensor => {
    const tensor = HYBRID.get(name);
    if (tensor === undefined) throw new RangeError(`The fixture lacks ${name}.`);
    return tensor;
  };
  const rows = (tensor: Tensor, sections: readonly number[] = [tensor.shape[0] ?? 0]): Tensor =>
    rowShard(tensor, sections, rank, size);
  const columns = (tensor: Tensor): Tensor => columnShard(tensor, rank, size);
  model.set('embedding.word_embeddings.weight', rows(get('backbone.embeddings.weight')));
  for (const [layer, kind] of [...'M-M*-'].entries()) {
    const from = (name: string): Tensor => get(`backbone.layers.${layer}.${name}`);
    const put = (name: string, tensor: Tensor): unknown => model.set(`decoder.layers.${layer}.${name}`, tensor);
    if (kind === 'M') {
      put(fused ? 'mixer.in_proj.layer_norm_weight' : 'norm.weight', from('norm.weight'));
      put('mixer.in_proj.weight', rows(from('mixer.in_proj.weight'), [64, 64, 64, 64, 4]));
      put('mixer.conv1d.weight', rows(from('mixer.conv1d.weight'), [64, 64, 64]));
      put('mixer.conv1d.bias', rows(from('mixer.conv1d.bias'), [64, 64, 64]));
      for (const name of ['A_log', 'D', 'dt_bias', 'norm.weight']) put(`mixer.${name}`, rows(from(`mixer.${name}`)));
      put('mixer.out_proj.weight', columns(from('mixer.out_proj.weight')));
    } else if (kind === '*') {
      const qkv = (['q', 'k', 'v'] as const).map((name) => from(`mixer.${name}_proj.weight`));
      put(fused ? 'self_attention.linear_qkv.layer_norm_weight' : 'input_layernorm.weight', from('norm.weight'));
      put('self_attention.linear_qkv.weight', rows(interleave(qkv, 2)));
      put('self_attention.linear_proj.weight', columns(from('mixer.o_proj.weight')));
    } else {
      put(fused ? 'mlp.linear_fc1.layer_norm_weight' : 'pre_mlp_layernorm.weight', from('norm.weight'));
      put('mlp.linear_fc1.weight', rows(from('mixer.up_proj.weight')));
      put('mlp.linear_fc2.weight', columns(from('mixer.down_proj.weight')));
    }
  }
  model.set('decoder.final_norm.weight', get('backbone.norm_f.weight'));
  model.set('output_layer.weight', rows(get('lm_head.weight')));
  return model;
}

/** A rank's file. Entries of `more` stand in its model beside the tensors. */
export function rankFile(
  tensors: Tensors,
  args: Readonly<Record<string, PickleValue>>,
  more: Readonly<Record<string, PickleValue>> = {},
): Uint8Array {
  const named = [...tensors];
  const model = dict(
    Object.fromEntries(named.map(([name, { shape }], key) => [name, floatTensor(String(key), shape)])),
  );
  for (const [name, value] of Object.entries(more)) model.set(name, value);
  const storages = Object.fromEntries(
    named.map(([, { values }], key) => [String(key), new Uint8Array(values.slice().buffer)]),
  );
  return torchFile(dict({ args: namespace(args), checkpoint_version: 3, iteration: 5, model }), storages);
}

/** Files of a checkpoint in a folder, by rank. */
export function checkpointFiles(...ranks: readonly Uint8Array[]): Record<string, string | Uint8Array> {
  const files = ranks.map((bytes, rank) => [`iter_0000005/mp_rank_0${rank}/model_optim_rng.pt`, bytes] as const);
  return { 'latest_checkpointed_iteration.txt': '5', ...Object.fromEntries(files) };
}

const widthOf = ({ shape, values }: Tensor): number => values.length / (shape[0] ?? 1);

function rowsOf(tensor: Tensor, first: number, count: number): Float32Array {
  const width = widthOf(tensor);
  return tensor.values.subarray(first * width, (first + count) * width);
}

function stack(shape: readonly number[], parts: readonly Float32Array[]): Tensor {
  const values = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    values.set(part, at);
    at += part.length;
  }
  return { shape, values };
}

function rowShard(tensor: Tensor, sections: readonly number[], rank: number, size: number): Tensor {
  const [rows = 0, ...others] = tensor.shape;
  let first = 0;
  const parts = sections.map((count) => {
    const part = rowsOf(tensor, first + (rank * count) / size, count / size);
    first += count;
    return part;
  });
  return stack([rows / size, ...others], parts);
}

function columnShard(tensor: Tensor, rank: number, size: number): Tensor {
  const [rows = 0, columns = 0] = tensor.shape;
  const width = columns / size;
  const parts = Array.from({ length: rows }, (_, row) =>
    rowsOf(tensor, row, 1).subarray(rank * width, (rank + 1) * width),
  );
  return stack([rows, width], parts);
}

/** The rows of every group of each tensor, group by group. */
function interleave(tensors: readonly Tensor[], groups: number): Tensor {
  const counts = tensors.map(({ shape }) => (shape[0] ?? 0) / groups);
  const parts = Array.from({ length: groups }, (_, group) =>
    tensors.map((tensor, index) => rowsOf(tensor, group * (counts[index] ?? 0), counts[index] ?? 0)),
  );
  const rows = tensors.reduce((sum, { shape }) => sum + (shape[0] ?? 0), 0);
  return stack([rows, tensors[0]?.shape[1] ?? 0], parts.flat());
}

/** Files of a folder. */
export type Files = Record<string, string | Uint8Array>;
/** What `args` holds. */
export type Args = Readonly<Record<string, PickleValue>>;

/** Opens files as a checkpoint. */
export const openFiles = (files: Files): Promise<Checkpoint> => openCheckpoint(memoryFolder(files));
/** The hybrid in one rank, with other arguments and tensors. `undefined` leaves one out. */
export function changed(
  args: Readonly<Record<string, PickleValue | undefined>>,
  edit?: (tensors: Tensors) => void,
): Files {
  const tensors = hybridRank(0, 1, true);
  edit?.(tensors);
  return checkpointFiles(rankFile(tensors, fieldsOf({ ...hybridArgs(1), ...args })));
}

function fieldsOf(args: Readonly<Record<string, PickleValue | undefined>>): Args {
  return Object.fromEntries(
    Object.entries(args).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
  );
}

/** Expects an error of a type that says that the checkpoint is at fault, or not of a kind that is run here. */
export async function expectRefused(files: Files, message: RegExp): Promise<void> {
  const opening = openFiles(files);
  await expect(opening).rejects.toThrow(message);
  await expect(opening).rejects.toSatisfy(
    (error) => error instanceof WeightFormatError || error instanceof UnsupportedModelError,
  );
}

/** A tensor of the values 0, 1, 2 ... */
export function filled(shape: readonly number[]): Tensor {
  const count = shape.reduce((product, size) => product * size, 1);
  return { shape, values: Float32Array.from({ length: count }, (_, index) => index) };
}
