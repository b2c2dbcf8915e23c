import type { GgufModel } from './gguf_model.ts';
import type { Rule, RowOrder, Rules } from './gguf_names.ts';
import { interleavedPairs } from './gguf_names.ts';
import type { PlacedTensor } from './gguf_tensors.ts';

/** How GGUF files hold the models of an architecture. */
export interface Architecture {
  /** What `config.json` would say. */
  readonly config: (model: GgufModel) => Readonly<Record<string, unknown>>;
  readonly rules: (model: GgufModel) => Rules;
  /** Tensors that rules cannot make, from those that they made. */
  readonly finish?: (model: GgufModel, placed: readonly PlacedTensor[]) => PlacedTensor[];
}

// Rules that several architectures share. llama.cpp names tensors by their role, whatever the family.

/** Norms whose weights are stored minus 1 by Hugging Face, and as they are in GGUF files. */
export const MINUS_ONE = { shift: -1 } as const;

/** Names outside of the blocks. */
export const decoderRules = (embedding: string, finalNorm: string, head: string = 'lm_head'): Rules => ({
  token_embd: { to: embedding },
  output_norm: { to: finalNorm },
  output: { to: head },
});

/** Names of separate projections of queries, keys, values and the output. */
export function attentionRules(prefix: string, order?: RowOrder, output: string = 'o_proj'): Rules {
  const ordered = (to: string): Rule => ({ to: `${prefix}.${to}`, ...(order && { order }) });
  return {
    attn_q: ordered('q_proj'),
    attn_k: ordered('k_proj'),
    attn_v: { to: `${prefix}.v_proj` },
    attn_output: { to: `${prefix}.${output}` },
  };
}

/**
 * The order of queries and keys where llama.cpp turns pairs of neighbours, and its conversion has put each pair together.
 */
export const turnedByNeighbours = (model: GgufModel): RowOrder => interleavedPairs(model.headDim);

/** Norms of the heads of queries and keys. */
export const qkNormRules = (query: string, key: string, shift?: number): Rules => ({
  attn_q_norm: { to: query, ...(shift !== undefined && { shift }) },
  attn_k_norm: { to: key, ...(shift !== undefined && { shift }) },
});

export const gatedMlpRules = (
  prefix: string,
  [gate, up, down]: readonly [string, string, string] = ['gate_proj', 'up_proj', 'down_proj'],
): Rules => ({
  ffn_gate: { to: `${prefix}.${gate}` },
  ffn_up: { to: `${prefix}.${up}` },
  ffn_down: { to: `${prefix}.${down}` },
});

/** Gated experts, stored together, and what every token takes beside them. */
export const expertRules = (prefix: string, router: string): Rules => ({
  ffn_gate_inp: { to: `${prefix}.${router}` },
  ffn_gate_exps: { to: `${prefix}.experts.%.gate_proj`, experts: true },
  ffn_up_exps: { to: `${prefix}.experts.%.up_proj`, experts: true },
  ffn_down_exps: { to: `${prefix}.experts.%.down_proj`, experts: true },
});

/** What Mamba's mixers have in common; A is stored and not its logarithm. */
const mixerRules = (prefix: string): Rules => ({
  ssm_in: { to: `${prefix}.in_proj` },
  ssm_conv1d: { to: `${prefix}.conv1d`, form: 'filters' },
  ssm_out: { to: `${prefix}.out_proj` },
});

export const mambaRules = (prefix: string): Rules => ({
  ...mixerRules(prefix),
  ssm_a: { to: `${prefix}.A_log`, isWhole: true, transformed: true },
  ssm_d: { to: `${prefix}.D`, isWhole: true },
  ssm_x: { to: `${prefix}.x_proj` },
  ssm_dt: { to: `${prefix}.dt_proj` },
});

/** A and D of each head are stored as (heads, 1), the norm as (groups, channels of a group). */
export const mamba2Rules = (prefix: string): Rules => ({
  ...mixerRules(prefix),
  ssm_a: { to: `${prefix}.A_log`, isWhole: true, form: 'vector', transformed: true },
  ssm_d: { to: `${prefix}.D`, isWhole: true, form: 'vector' },
  ssm_dt: { to: `${prefix}.dt_bias`, isWhole: true },
  ssm_norm: { to: `${prefix}.norm`, form: 'vector' },
});

/** Factors of embeddings, scores, logits and of what blocks add. */
export function graniteFactors({ fields, headDim }: GgufModel): Readonly<Record<string, unknown>> {
  return {
    attention_multiplier: fields.number('attention.scale', headDim ** -0.5),
    embedding_multiplier: fields.number('embedding_scale', 1),
    residual_multiplier: fields.number('residual_scale', 1),
    logits_scaling: fields.number('logit_scale', 1),
  };
}
