import { readFileSync } from 'node:fs';
import { createTokenizer, parseConfig } from '@mambalab/models';
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../../packages/models/src/weights/folder.ts';
import type { Checkpoint } from '../../../packages/models/src/weights/folder.ts';
import { openNodeFolder } from '../../../packages/models/src/weights/node_folder.ts';
import { PickleObject } from '../../../packages/models/src/weights/pickle_values.ts';
import { planWeights } from '../../../packages/models/src/weights/plan.ts';
import { fixturePath, readFixture } from '../../support/fixtures.ts';
import {
  changed,
  checkpointFiles,
  expectRefused,
  filled,
  HYBRID,
  hybridArgs,
  hybridRank,
  openFiles,
  rankFile,
} from './megatron_fixtures.ts';
import type { Args, Files, Tensors } from './megatron_fixtures.ts';
import { dict, floats, floatTensor, torchFile } from './torch_fixtures.ts';

const config: unknown = readFixture('models/nemotron_h/config.json');

async function expectHybrid({ source }: Checkpoint): Promise<void> {
  expect([...source.tensors.keys()].sort()).toEqual([...HYBRID.keys()].sort());
  for (const [name, { shape, values }] of HYBRID) {
    expect(source.tensors.get(name)).toMatchObject({ name, dtype: 'F32', shape, byteLength: values.byteLength });
    expect([name, Buffer.compare(await source.read(name), new Uint8Array(values.buffer))]).toEqual([name, 0]);
  }
}

describe('a hybrid that PyTorch wrote, in two ranks', () => {
  it('gives the tensors of the safetensors file, byte for byte', async () => {
    const checkpoint = await openCheckpoint(await openNodeFolder(fixturePath('megatron/hybrid')));
    await expectHybrid(checkpoint);
    // What its configuration calls for is what it holds.
    expect(planWeights(parseConfig(checkpoint.config), checkpoint.source, 'auto').length).toBeGreaterThan(0);
    await checkpoint.source.dispose();
  });

  it('is the model that config.json describes', async () => {
    const checkpoint = await openCheckpoint(await openNodeFolder(fixturePath('megatron/hybrid')));
    const { spec, names } = parseConfig(checkpoint.config);
    const reference = parseConfig(config);
    // The tokenizer is not in the checkpoint.
    expect({ ...spec, eosTokens: [2] }).toEqual(reference.spec);
    expect(names).toEqual(reference.names);
    await checkpoint.source.dispose();
  });

  it('is read in any part', async () => {
    const checkpoint = await openCheckpoint(await openNodeFolder(fixturePath('megatron/hybrid')));
    const names = [
      'backbone.layers.0.mixer.in_proj.weight',
      'backbone.layers.0.mixer.out_proj.weight',
      'backbone.layers.3.mixer.k_proj.weight',
    ];
    for (const name of names) {
      const whole = new Uint8Array(HYBRID.get(name)?.values.buffer ?? new ArrayBuffer(0));
      for (const [start, end] of [
        [0, 4],
        [4, 260],
        [124, 132],
        [1000, 3004],
        [whole.byteLength - 4, whole.byteLength],
        [8, 8],
      ] as const) {
        expect(await checkpoint.source.read(name, start, end)).toEqual(whole.slice(start, end));
      }
      await expect(checkpoint.source.read(name, 0, whole.byteLength + 1)).rejects.toThrow(/were asked for/);
    }
    await expect(checkpoint.source.read('nothing')).rejects.toThrow(/no tensor 'nothing'/);
    await checkpoint.source.dispose();
  });
});

describe('a hybrid in other spellings', () => {
  it.each([
    ['one rank, fused norms', 1, true],
    ['one rank, norms of their own', 1, false],
    ['two ranks, fused norms', 2, true],
  ])('is the same: %s', async (_what, size, fused) => {
    const ranks = Array.from({ length: size }, (_, rank) => rankFile(hybridRank(rank, size, fused), hybridArgs(size)));
    const checkpoint = await openFiles(checkpointFiles(...ranks));
    await expectHybrid(checkpoint);
    expect({ ...parseConfig(checkpoint.config).spec, eosTokens: [2] }).toEqual(parseConfig(config).spec);
  });

  it('may leave to the shapes what they say', async () => {
    const { config: derived } = await openFiles(
      changed(
        Object.fromEntries(
          [
            'ffn_hidden_size',
            'hidden_size',
            'hybrid_attention_ratio',
            'hybrid_mlp_ratio',
            'hybrid_override_pattern',
            'mamba_head_dim',
            'mamba_num_groups',
            'norm_epsilon',
            'num_layers',
            'padded_vocab_size',
            'swiglu',
            'tensor_model_parallel_size',
            'untie_embeddings_and_output_weights',
            'normalization',
            'position_embedding_type',
          ].map((name) => [name, undefined]),
        ),
      ),
    );
    expect({ ...parseConfig(derived).spec, eosTokens: [2] }).toEqual(parseConfig(config).spec);
  });

  it('may name its layers in other ways', async () => {
    const plain = { hybrid_override_pattern: undefined };
    await openFiles(changed({ ...plain, hybrid_layer_pattern: 'M-|M*-' }));
    // Two Mamba-2 layers of five by Megatron's own rule.
    const layers = (pattern: string) => (tensors: Tensors) => reorder(tensors, pattern);
    const ratios = { ...plain, hybrid_attention_ratio: 0.2, hybrid_mlp_ratio: 0.4 };
    const { config: derived } = await openFiles(changed(ratios, layers('M-*M-')));
    expect(derived).toMatchObject({ hybrid_override_pattern: 'M-*M-' });
    await expectRefused(changed(ratios), /'hybrid_attention_ratio', 'hybrid_mlp_ratio'.*0\.2, 0\.4.*M-M\*-/);
  });

  it('may be Mamba-2 alone, and then needs nothing of attention', async () => {
    const onlyMamba = (tensors: Tensors): void => {
      for (const name of tensors.keys()) if (/layers\.[134]\./.test(name)) tensors.delete(name);
      for (const name of tensors.keys()) rename(tensors, name, name.replace('layers.2.', 'layers.1.'));
    };
    const args = {
      num_attention_heads: undefined,
      hybrid_override_pattern: 'MM',
      num_layers: 2,
      ffn_hidden_size: undefined,
    };
    const { config: derived } = await openFiles(changed({ ...args, position_embedding_type: 'rope' }, onlyMamba));
    expect(parseConfig(derived).spec.layers.length).toBe(2);
    expect(derived).not.toHaveProperty('num_attention_heads');
  });

  it('has the groups and states of the first Mamba-2 mixers where arguments tell neither', async () => {
    const wide = (tensors: Tensors): void => {
      for (const layer of [0, 2]) {
        grow(tensors, `decoder.layers.${layer}.mixer.in_proj.weight`, [2 * 64 + 2048 + 4, 32]);
        grow(tensors, `decoder.layers.${layer}.mixer.conv1d.weight`, [64 + 2048, 1, 4]);
        grow(tensors, `decoder.layers.${layer}.mixer.conv1d.bias`, [64 + 2048]);
      }
    };
    const args = { mamba_num_groups: undefined, mamba_state_dim: undefined };
    const { config: derived } = await openFiles(changed(args, wide));
    expect(derived).toMatchObject({ n_groups: 8, ssm_state_size: 128 });
    await expectRefused(changed(args), /'mamba_state_dim'.*absent.*groups times states = 64/);
  });

  it('may tie its embeddings', async () => {
    const untied = { untie_embeddings_and_output_weights: false };
    const { config: derived, source } = await openFiles(
      changed(untied, (tensors) => void tensors.delete('output_layer.weight')),
    );
    expect(derived).toMatchObject({ tie_word_embeddings: true });
    expect(source.tensors.has('lm_head.weight')).toBe(false);
    await expectRefused(changed(untied), /'untie_embeddings_and_output_weights'/);
  });

  it('may hold states that are no weights', async () => {
    const more = {
      'decoder.layers.0.mixer.in_proj._extra_state': new PickleObject('_io.BytesIO', []),
      'decoder.layers.1.mlp.linear_fc1._extra_state': null,
      'rotary_pos_emb.inv_freq': floatTensor('0', [2]),
    };
    await expectHybrid(await openFiles(checkpointFiles(rankFile(hybridRank(0, 1, true), hybridArgs(1), more))));
  });

  it('prefers weights of Hugging Face beside it', async () => {
    const { config: own } = await openFiles({ ...changed({}), 'config.json': '{"model_type": "x"}' });
    expect(own).toMatchObject({ model_type: 'nemotron_h' });
    const weights = torchFile(dict({ w: floatTensor('0', [1]) }), { '0': floats(1) });
    const both = await openFiles({
      ...changed({}),
      'config.json': '{"model_type": "x"}',
      'pytorch_model.bin': weights,
    });
    expect(both.config).toEqual({ model_type: 'x' });
  });
});

function rename(tensors: Tensors, from: string, to: string): void {
  const tensor = tensors.get(from);
  if (tensor === undefined || from === to) return;
  tensors.delete(from);
  tensors.set(to, tensor);
}

/** Moves the layers of M-M*- to where a pattern has the same kinds. */
function reorder(tensors: Tensors, pattern: string): void {
  const places = { M: [0, 2], '-': [1, 4], '*': [3] };
  const taken = new Map([...tensors].filter(([name]) => name.startsWith('decoder.layers.')));
  for (const name of taken.keys()) tensors.delete(name);
  for (const [layer, kind] of [...pattern].entries()) {
    const from = kind === 'M' || kind === '-' || kind === '*' ? (places[kind].shift() ?? 0) : 0;
    for (const [name, tensor] of taken) {
      if (name.startsWith(`decoder.layers.${from}.`))
        tensors.set(name.replace(`layers.${from}.`, `layers.${layer}.`), tensor);
    }
  }
}
function grow(tensors: Tensors, name: string, shape: readonly number[]): void {
  tensors.set(name, filled(shape));
}

describe('the tokenizer that the arguments name', () => {
  const path = '/lustre/of/someone/bpe.model';
  const model = new Uint8Array(readFileSync(fixturePath('text/sentencepiece/bpe.model')));
  const unigram = new Uint8Array(readFileSync(fixturePath('text/sentencepiece/unigram.model')));
  const open = (args: Args, files: Files): Promise<Checkpoint> => openFiles({ ...changed(args), ...files });
  const encode = ({ tokenizerJson, tokenizerConfig }: Checkpoint): number[] =>
    createTokenizer(tokenizerJson, tokenizerConfig).encode('Once upon a time');

  it('is read where it lies in the folder, also beside others', async () => {
    const plain = encode(await open({}, { 'tokenizer.model': model }));
    const other = encode(await open({}, { 'tokenizer.model': unigram }));
    expect(plain).not.toEqual(other);
    const args = { tokenizer_type: 'GPTSentencePieceTokenizer', tokenizer_model: path };
    const files = { 'tokenizer.model': unigram, 'bpe.model': model };
    expect(encode(await open(args, files))).toEqual(plain);
    expect(encode(await open({ ...args, tokenizer_model: 'C:\\models\\bpe.model' }, files))).toEqual(plain);
    // Of other kinds nothing is known, and what lies there under a usual name serves.
    expect(encode(await open({ ...args, tokenizer_type: 'HuggingFaceTokenizer' }, files))).toEqual(other);
    expect(encode(await open({ ...args, tokenizer_model: '..' }, files))).toEqual(other);
  });

  it('puts a token in front of texts where Megatron does, unless the configuration says otherwise', async () => {
    const args = { tokenizer_type: 'Llama2Tokenizer', tokenizer_model: path };
    const [first, ...rest] = encode(await open(args, { 'bpe.model': model }));
    expect(first).toBe(1);
    const silent = { 'bpe.model': model, 'tokenizer_config.json': '{"add_bos_token": false}' };
    expect(encode(await open(args, silent))).toEqual(rest);
  });

  it('is told where it is missing', async () => {
    const args = { tokenizer_type: 'GPTSentencePieceTokenizer', tokenizer_model: path };
    const { tokenizerJson, tokenizerProblem } = await open(args, {});
    expect(tokenizerJson).toBeUndefined();
    expect(tokenizerProblem?.message).toContain('bpe.model, is not in');
    expect((await open({}, {})).tokenizerProblem).toBeUndefined();
  });
});
