import { MambalabError } from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../../packages/models/src/weights/folder.ts';
import { PickleObject } from '../../../packages/models/src/weights/pickle_values.ts';
import type { PickleValue } from '../../../packages/models/src/weights/pickle_values.ts';
import { memoryFolder } from './fixtures.ts';
import {
  changed,
  checkpointFiles,
  expectRefused,
  filled,
  hybridArgs,
  hybridRank,
  rankFile,
} from './megatron_fixtures.ts';
import type { Args, Files, Tensors } from './megatron_fixtures.ts';
import { bytesOf, dict, operationsOf, pickleOf, torchFile } from './torch_fixtures.ts';

describe('arguments and tensors that contradict each other', () => {
  it.each<[string, Readonly<Record<string, PickleValue | undefined>>, RegExp]>([
    ['layers', { num_layers: 6 }, /'num_layers' .* is 6.*5/],
    ['pattern', { hybrid_override_pattern: 'M-MM-' }, /'hybrid_override_pattern' .* "M-MM-".*M-M\*-/],
    ['prediction of several tokens', { hybrid_layer_pattern: 'M-M*-/M' }, /'hybrid_layer_pattern'/],
    [
      'ratios that are none',
      { hybrid_override_pattern: undefined, hybrid_attention_ratio: 2 },
      /'hybrid_attention_ratio.*no ratios/,
    ],
    ['width', { hidden_size: 64 }, /'hidden_size' .* is 64.*embedding\.word_embeddings\.weight/],
    ['vocabulary', { padded_vocab_size: 256 }, /'padded_vocab_size' .* is 256/],
    ['feed-forward width', { ffn_hidden_size: 65 }, /'ffn_hidden_size' .* is 65.*mlp\.linear_fc1/],
    [
      'heads',
      { num_attention_heads: 8 },
      /layers\.3\.self_attention\.linear_qkv\.weight .*\(128, 32\), expected \(192, 32\)/,
    ],
    ['no grouped heads', { group_query_attention: false }, /linear_qkv\.weight .*expected \(192, 32\)/],
    ['groups of heads', { num_query_groups: 3 }, /'num_query_groups' .* is 3/],
    ['size of heads', { kv_channels: 8 }, /linear_qkv\.weight .*expected \(64, 32\)/],
    ['Mamba heads', { mamba_num_heads: 8 }, /'mamba_num_heads' .* is 8.*A_log/],
    ['size of Mamba heads', { mamba_head_dim: 64 }, /'mamba_head_dim' .* is 64/],
    ['Mamba groups', { mamba_num_groups: 3 }, /'mamba_num_groups' .* is 3/],
    ['Mamba states', { mamba_state_dim: 128 }, /'mamba_num_groups'|'mamba_state_dim'/],
    [
      'states that no group can have',
      { mamba_state_dim: 128, mamba_num_groups: undefined },
      /'mamba_state_dim' .* is 128/,
    ],
    [
      'tied embeddings',
      { untie_embeddings_and_output_weights: false },
      /'untie_embeddings_and_output_weights' .* is false/,
    ],
    [
      'a number that is a text',
      { num_attention_heads: '4' },
      /'num_attention_heads' must be a positive whole number; found "4"/,
    ],
    [
      'a number that is an object',
      { num_attention_heads: [4] },
      /'num_attention_heads' must be a positive whole number; found "a list of 1"/,
    ],
  ])('are refused: %s', async (_what, args, message) => {
    await expectRefused(changed(args), message);
  });

  it.each<[string, Readonly<Record<string, PickleValue>>, RegExp]>([
    ['biases', { add_bias_linear: true }, /'add_bias_linear' must be false/],
    ['LayerNorm-1P', { apply_layernorm_1p: true }, /'apply_layernorm_1p' must be false/],
    ['LayerNorm', { normalization: 'LayerNorm' }, /'normalization' must be "RMSNorm"/],
    ['rotary positions', { position_embedding_type: 'rope' }, /'position_embedding_type' must be "none"/],
    ['norms of two kinds of eps', { norm_epsilon: 1e-6 }, /'norm_epsilon' is 0\.000001/],
    ['pipeline stages', { pipeline_model_parallel_size: 2 }, /'pipeline_model_parallel_size' must be 1/],
  ])('as are models that are not computed here: %s', async (_what, args, message) => {
    await expectRefused(changed(args), message);
  });

  it.each<[string, (tensors: Tensors) => void, RegExp]>([
    [
      'without embeddings',
      drop('embedding.word_embeddings.weight'),
      /lacks the tensor embedding\.word_embeddings\.weight/,
    ],
    [
      'without a norm',
      drop('decoder.layers.0.mixer.in_proj.layer_norm_weight'),
      /lacks the tensor decoder\.layers\.0\.norm\.weight or /,
    ],
    ['without a part of a mixer', drop('decoder.layers.2.mixer.D'), /lacks the tensor decoder\.layers\.2\.mixer\.D/],
    ['without a final norm', drop('decoder.final_norm.weight'), /lacks the tensor decoder\.final_norm\.weight or /],
    ['without a layer', dropLayer(2), /Layer 2 of the checkpoint is missing/],
    [
      'of a vector instead of a matrix',
      put('embedding.word_embeddings.weight', [4]),
      /word_embeddings\.weight .*\(4\)/,
    ],
    [
      'of another shape',
      put('decoder.layers.0.mixer.dt_bias', [5]),
      /layers\.0\.mixer\.dt_bias .*\(5\), expected \(4\)/,
    ],
    ['in layers of two kinds', put('decoder.layers.0.mlp.linear_fc1.weight', [64, 32]), /Layer 0 .*neither/],
    ['in a layer that is nothing', put('decoder.layers.5.constructor', [1]), /Layer 5 .*neither/],
    [
      'that nothing needs',
      put('decoder.layers.3.self_attention.q_layernorm.weight', [16]),
      /no place in a nemotron_h model: decoder\.layers\.3\.self_attention\.q_layernorm\.weight/,
    ],
    ['of biases', put('decoder.layers.1.mlp.linear_fc2.bias', [32]), /no place .*linear_fc2\.bias/],
    ['of positions', put('embedding.position_embeddings.weight', [512, 32]), /no place .*position_embeddings/],
    ['of layers far away', put('decoder.layers.99999999999.norm.weight', [1]), /Layer 5 of the checkpoint is missing/],
  ])('are refused: tensors %s', async (_what, edit, message) => {
    await expectRefused(
      changed(
        {
          num_layers: undefined,
          hybrid_override_pattern: undefined,
          hybrid_attention_ratio: undefined,
          hybrid_mlp_ratio: undefined,
        },
        edit,
      ),
      message,
    );
  });
});

describe('ranks and files', () => {
  const ranks = [0, 1].map((rank) => hybridRank(rank, 2, true));
  const files = (edit: (rank: Tensors) => void = () => undefined, args: Args = {}): Files => {
    const second = new Map(ranks[1]);
    edit(second);
    return checkpointFiles(
      rankFile(ranks[0] ?? new Map(), hybridArgs(2)),
      rankFile(second, { ...hybridArgs(2), ...args }),
    );
  };
  const first = 'iter_0000005/mp_rank_00/model_optim_rng.pt';
  const second = 'iter_0000005/mp_rank_01/model_optim_rng.pt';
  const moved = (from: string, to: string): Files =>
    Object.fromEntries(Object.entries(files()).map(([name, content]) => [name === from ? to : name, content]));
  const whole = changed({})[first] ?? '';

  it.each<[string, Files, RegExp]>([
    [
      'a rank that is missing',
      moved(second, 'x'),
      /no iter_0000005\/mp_rank_01\/model_optim_rng\.pt .*'tensor_model_parallel_size' is 2/,
    ],
    [
      'a rank too many',
      { ...changed({}), [second]: whole },
      /'tensor_model_parallel_size' .* is 1, but .* mp_rank_01|holds iter_0000005\/mp_rank_01/,
    ],
    ['the first rank missing', moved(first, 'x'), /no iter_0000005\/mp_rank_00\/model_optim_rng\.pt/],
    ['pipeline stages', moved(first, 'iter_0000005/mp_rank_00_000/model_optim_rng.pt'), /pipeline- or expert-parallel/],
    [
      'the distributed format',
      { 'latest_checkpointed_iteration.txt': '7', 'iter_0000007/metadata.json': '{}' },
      /distributed format/,
    ],
    [
      'an iteration that is none',
      { ...files(), 'latest_checkpointed_iteration.txt': '../../etc' },
      /expected a number or "release"/,
    ],
    [
      'other tensors',
      files((rank) => void rank.delete('output_layer.weight')),
      /disagree about the tensor output_layer\.weight: .* and missing in .*mp_rank_01/,
    ],
    [
      'more tensors',
      files((rank) => void rank.set('more', filled([1]))),
      /disagree about the tensor more: it is missing in .*mp_rank_00/,
    ],
    [
      'other shapes',
      files((rank) => void rank.set('decoder.layers.0.mixer.D', filled([3]))),
      /disagree about the tensor decoder\.layers\.0\.mixer\.D: it is F32 \(2\) .*F32 \(3\)/,
    ],
    [
      'other arguments',
      files(undefined, { norm_epsilon: 1e-6 }),
      /disagree about 'norm_epsilon': it is 0\.00001 .* 0\.000001/,
    ],
    [
      'more ranks than groups',
      checkpointFiles(...[0, 1, 2, 3].map((rank) => rankFile(hybridRank(rank, 4, true), hybridArgs(4)))),
      /'mamba_num_groups' is 2, which 4/,
    ],
    [
      'code',
      checkpointFiles(torchFile(pickleOf('cos\nsystem\n', operationsOf('true'), 0x85, 'R'), {})),
      /mp_rank_00\/model_optim_rng\.pt names 'os\.system'/,
    ],
    [
      'no model',
      checkpointFiles(torchFile(dict({ args: dict({}) }), {})),
      /expected a dictionary with the key "model"/,
    ],
    [
      'models of several stages',
      checkpointFiles(torchFile(dict({ model0: dict({}) }), {})),
      /expected a dictionary with the key "model"/,
    ],
    ['no arguments', checkpointFiles(torchFile(dict({ model: dict({}) }), {})), /'args' in .* is nothing/],
    [
      'arguments of another kind',
      checkpointFiles(torchFile(dict({ model: dict({}), args: new PickleObject('types.SimpleNamespace', []) }), {})),
      /'args' in .* is an object made by types\.SimpleNamespace/,
    ],
    [
      'older models',
      checkpointFiles(torchFile(dict({ model: dict({ language_model: dict({}) }) }), {})),
      /older models/,
    ],
    [
      'something between the tensors',
      checkpointFiles(rankFile(hybridRank(0, 1, true), hybridArgs(1), { note: 'x' })),
      /holds "x" under "note"/,
    ],
    [
      'no layers',
      checkpointFiles(torchFile(dict({ model: dict({}), args: dict({}) }), {})),
      /lacks the tensor embedding/,
    ],
    ['a file that is none', checkpointFiles(bytesOf('x')), /no file of PyTorch/],
  ])('are refused: %s', async (_what, given, message) => {
    await expectRefused(given, message);
  });

  it('close the folder where opening fails', async () => {
    const folder = memoryFolder(checkpointFiles(bytesOf('x')));
    await expect(openCheckpoint(folder)).rejects.toThrow(MambalabError);
    expect(folder.disposed).toBe(true);
  });
});

function drop(name: string): (tensors: Tensors) => void {
  return (tensors) => void tensors.delete(name);
}

function dropLayer(layer: number): (tensors: Tensors) => void {
  return (tensors) => {
    for (const name of tensors.keys()) if (name.startsWith(`decoder.layers.${layer}.`)) tensors.delete(name);
  };
}

function put(name: string, shape: readonly number[]): (tensors: Tensors) => void {
  return (tensors) => void tensors.set(name, filled(shape));
}
