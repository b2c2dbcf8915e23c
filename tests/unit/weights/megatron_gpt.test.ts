import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../../packages/models/src/weights/folder.ts';
import { openNodeFolder } from '../../../packages/models/src/weights/node_folder.ts';
import { PickleObject } from '../../../packages/models/src/weights/pickle_values.ts';
import type { PickleValue } from '../../../packages/models/src/weights/pickle_values.ts';
import { fixturePath, readFixture } from '../../support/fixtures.ts';
import { checkpointFiles, expectRefused, filled, openFiles, rankFile } from './megatron_fixtures.ts';
import type { Args, Files, Tensors } from './megatron_fixtures.ts';
import { dict, floatTensor, torchFile } from './torch_fixtures.ts';

describe('a Transformer that PyTorch wrote', () => {
  const golden = readFixture<{ config: Record<string, unknown>; sha256: Record<string, string> }>('megatron/gpt.json');

  it('gives the tensors of the safetensors file, byte for byte', async () => {
    const { source } = await openCheckpoint(await openNodeFolder(fixturePath('megatron/gpt')));
    const hashes: Record<string, string> = {};
    for (const name of source.tensors.keys()) {
      hashes[name] = createHash('sha256')
        .update(await source.read(name))
        .digest('hex');
    }
    expect(hashes).toEqual(golden.sha256);
    await source.dispose();
  });

  it('is the model that config.json describes', async () => {
    const { config: derived, source } = await openCheckpoint(await openNodeFolder(fixturePath('megatron/gpt')));
    const { rope_theta: theta, ...fields } = derived as Record<string, unknown>;
    expect(golden.config).toMatchObject(fields);
    expect(golden.config.rope_parameters).toMatchObject({ rope_theta: theta, partial_rotary_factor: 0.5 });
    const needed = [
      'attention_bias',
      'head_dim',
      'hidden_act',
      'hidden_size',
      'intermediate_size',
      'max_position_embeddings',
      'mlp_bias',
    ];
    const more = [
      'norm_eps',
      'num_attention_heads',
      'num_hidden_layers',
      'num_key_value_heads',
      'partial_rotary_factor',
      'vocab_size',
    ];
    expect(Object.keys(fields)).toEqual(
      expect.arrayContaining([...needed, ...more, 'tie_word_embeddings', 'model_type']),
    );
    await source.dispose();
  });

  const GPT: Args = {
    apply_layernorm_1p: true,
    num_attention_heads: 1,
    position_embedding_type: 'rope',
    tensor_model_parallel_size: 1,
  };
  /** One layer of width 2 in fused spelling. */
  const layer = (): Tensors => {
    const shapes = {
      'embedding.word_embeddings.weight': [3, 2],
      'decoder.layers.0.self_attention.linear_qkv.layer_norm_weight': [2],
      'decoder.layers.0.self_attention.linear_qkv.layer_norm_bias': [2],
      'decoder.layers.0.self_attention.linear_qkv.weight': [6, 2],
      'decoder.layers.0.self_attention.linear_proj.weight': [2, 2],
      'decoder.layers.0.mlp.linear_fc1.layer_norm_weight': [2],
      'decoder.layers.0.mlp.linear_fc1.layer_norm_bias': [2],
      'decoder.layers.0.mlp.linear_fc1.weight': [8, 2],
      'decoder.layers.0.mlp.linear_fc2.weight': [2, 8],
      'decoder.final_layernorm.weight': [2],
      'decoder.final_layernorm.bias': [2],
    };
    const entries = Object.entries(shapes).map(([name, shape]) => [name, filled(shape)] as const);
    return new Map(entries);
  };
  const gpt = (args: Args, tensors = layer()): Files => checkpointFiles(rankFile(tensors, { ...GPT, ...args }));

  it('has defaults of Megatron where arguments say nothing', async () => {
    const { config: derived } = await openFiles(gpt({}));
    expect(derived).toMatchObject({
      hidden_act: 'gelu',
      num_key_value_heads: 1,
      head_dim: 2,
      norm_eps: 1e-5,
      partial_rotary_factor: 1,
      rope_theta: 10000,
      tie_word_embeddings: true,
    });
    const { position_embedding_type: _left, ...older } = GPT;
    const rotary = checkpointFiles(rankFile(layer(), { ...older, use_rotary_position_embeddings: true }));
    expect((await openFiles(rotary)).config).toEqual(derived);
    expect((await openFiles(gpt({ openai_gelu: true }))).config).toMatchObject({ hidden_act: 'gelu_pytorch_tanh' });
  });

  it.each<[string, Args, RegExp]>([
    ['plain LayerNorm', { apply_layernorm_1p: false }, /'apply_layernorm_1p' must be true; found false/],
    ['RMSNorm', { normalization: 'RMSNorm' }, /'normalization' must be "LayerNorm"/],
    ['learned positions', { position_embedding_type: 'learned_absolute' }, /'position_embedding_type' must be "rope"/],
    ['SwiGLU', { swiglu: true }, /'swiglu' must be false/],
    ['interleaved rotary pairs', { rotary_interleaved: true }, /'rotary_interleaved'/],
    [
      'stretched positions',
      { rotary_seq_len_interpolation_factor: 4 },
      /'rotary_seq_len_interpolation_factor' must be 1/,
    ],
    ['windows', { window_size: [1, 1] }, /'window_size' must be absent/],
    ['experts', { num_experts: 8 }, /'num_experts' must be absent/],
  ])('is refused with %s', async (_what, args, message) => {
    await expectRefused(gpt(args), message);
  });

  it.each(['apply_layernorm_1p', 'position_embedding_type'])('is refused without %s', async (name) => {
    const { [name]: _left, ...args } = GPT;
    await expectRefused(checkpointFiles(rankFile(layer(), args)), new RegExp(`lack '${name}'`));
  });

  it('is refused where it was laid out by an early Megatron', async () => {
    for (const [version, shown] of [
      [1, '1'],
      [null, 'None'],
    ] as const) {
      const file = torchRoot(layer(), dict({ checkpoint_version: version }));
      await expectRefused(
        checkpointFiles(file),
        new RegExp(`'checkpoint_version' in .* is ${shown}, expected 2 or more`),
      );
    }
  });

  it('is refused in layers that are half a Transformer', async () => {
    const tensors = layer();
    tensors.set('decoder.layers.1.mlp.linear_fc1.weight', filled([8, 2]));
    await expectRefused(gpt({}, tensors), /Only some layers/);
  });

  function torchRoot(tensors: Tensors, more: Map<PickleValue, PickleValue>): Uint8Array {
    const [name, tensor] = [...tensors].find(([key]) => key.endsWith('linear_qkv.weight')) ?? ['', filled([1])];
    const args = new PickleObject('argparse.Namespace', []);
    args.state = dict(GPT);
    const root = new Map<PickleValue, PickleValue>([
      ['args', args],
      ['model', dict({ [name]: floatTensor('0', tensor.shape) })],
      ...more,
    ]);
    return torchFile(root, { '0': new Uint8Array(tensor.values.slice().buffer) });
  }
});
