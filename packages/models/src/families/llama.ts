import { UnsupportedModelError } from '@mambalab/kernels';
import type { ConfigReader } from '../spec/config.ts';
import { readActivation } from '../spec/config.ts';
import type { AttentionSpec, MlpSpec, NormSpec, RotaryScaling, RotarySpec } from '../spec/model_spec.ts';
import type { ParsedModel } from '../spec/weight_spec.ts';

/** Llama: attention with RoPE and SwiGLU in turn. A Hugging Face layer is two residual sub-layers here. */
export function parseLlama(config: ConfigReader): ParsedModel {
  const hiddenSize = config.size('hidden_size');
  const heads = config.size('num_attention_heads');
  const headDim = config.size('head_dim', Math.floor(hiddenSize / heads));
  config.refuse('mlp_bias', [false]);
  const norm: NormSpec = { kind: 'rms', eps: config.number('rms_norm_eps', 1e-6), weightOffset: 0 };
  const attention: AttentionSpec = {
    kind: 'attention',
    heads,
    kvHeads: config.size('num_key_value_heads', heads),
    headDim,
    rotary: readRotary(config, headDim),
    projectionBias: config.boolean('attention_bias', false),
  };
  const mlp: MlpSpec = {
    kind: 'mlp',
    intermediateSize: config.size('intermediate_size'),
    activation: readActivation(config, 'hidden_act', 'silu'),
    gated: true,
  };
  const indices = Array.from({ length: config.size('num_hidden_layers') }, (_, index) => index);
  return {
    spec: {
      family: 'llama',
      vocabSize: config.size('vocab_size'),
      hiddenSize,
      layers: indices.flatMap(() => [
        { norm, blocks: [attention] },
        { norm, blocks: [mlp] },
      ]),
      finalNorm: norm,
      tiedEmbeddings: config.boolean('tie_word_embeddings', false),
      contextLength: config.size('max_position_embeddings', 2048),
      eosTokens: config.tokens('eos_token_id'),
    },
    names: {
      embedding: 'model.embed_tokens',
      finalNorm: 'model.norm',
      head: 'lm_head',
      layers: indices.flatMap((index) => {
        const prefix = `model.layers.${index}`;
        return [
          {
            norm: `${prefix}.input_layernorm`,
            blocks: [
              {
                kind: 'attention' as const,
                query: `${prefix}.self_attn.q_proj`,
                key: `${prefix}.self_attn.k_proj`,
                value: `${prefix}.self_attn.v_proj`,
                output: `${prefix}.self_attn.o_proj`,
              },
            ],
          },
          {
            norm: `${prefix}.post_attention_layernorm`,
            blocks: [
              {
                kind: 'mlp' as const,
                gate: `${prefix}.mlp.gate_proj`,
                up: `${prefix}.mlp.up_proj`,
                down: `${prefix}.mlp.down_proj`,
              },
            ],
          },
        ];
      }),
      // Frequencies that older versions of the library stored though they follow from the configuration.
      ignored: [/\.rotary_emb\.inv_freq$/],
    },
  };
}

/** RoPE from `rope_parameters` (current) or `rope_theta` and `rope_scaling` (older configurations). */
function readRotary(config: ConfigReader, headDim: number): RotarySpec {
  const current = config.object('rope_parameters');
  const older = config.object('rope_scaling');
  const theta = current.number('rope_theta', config.number('rope_theta', 10_000));
  const parameters = config.raw('rope_parameters') === undefined ? older : current;
  const kind = parameters.string('rope_type', parameters.string('type', 'default'));
  const scaling = readScaling(kind, parameters);
  const dim = Math.floor(headDim * parameters.number('partial_rotary_factor', 1));
  if (dim < 2 || dim % 2 !== 0) {
    throw new UnsupportedModelError(
      `config.json: RoPE turns pairs of values; 'head_dim' and 'partial_rotary_factor' give it ${dim}.`,
      'Check that the configuration belongs to this model.',
    );
  }
  return { dim, theta, ...(scaling === undefined ? {} : { scaling }) };
}

function readScaling(kind: string, parameters: ConfigReader): RotaryScaling | undefined {
  switch (kind) {
    case 'default':
      return undefined;
    case 'linear':
      return { type: 'linear', factor: parameters.number('factor') };
    case 'llama3':
      return {
        type: 'llama3',
        factor: parameters.number('factor'),
        lowFrequencyFactor: parameters.number('low_freq_factor'),
        highFrequencyFactor: parameters.number('high_freq_factor'),
        originalContextLength: parameters.size('original_max_position_embeddings'),
      };
    default:
      throw new UnsupportedModelError(
        `config.json: 'rope_type' is '${kind}', a scaling that no kernel computes.`,
        'Supported are: default, linear, llama3.',
      );
  }
}
