import { ArgumentError, UnsupportedModelError, WeightFormatError } from '@mambalab/kernels';
import { allocateHybridLayers } from '../spec/allocation.ts';
import type { ConfigReader } from '../spec/config.ts';
import type { MegatronTensors } from './megatron_ranks.ts';

/** What both kinds of models have. Sizes are those of the whole model, not of a rank. */
export interface MegatronCommon {
  readonly hiddenSize: number;
  readonly vocabSize: number;
  readonly tied: boolean;
  readonly normEps: number;
  readonly attention: { readonly heads: number; readonly kvHeads: number; readonly headDim: number } | undefined;
  readonly mlp: { readonly intermediateSize: number; readonly activation: string } | undefined;
  readonly contextLength: number | undefined;
}

export interface MegatronHybrid extends MegatronCommon {
  readonly family: 'nemotron_h';
  /** One letter a layer: `M`, `*` or `-`. */
  readonly pattern: string;
  readonly mamba:
    | {
        readonly heads: number;
        readonly headDim: number;
        readonly groups: number;
        readonly stateSize: number;
        readonly convWidth: number;
      }
    | undefined;
}

export interface MegatronGpt extends MegatronCommon {
  readonly family: 'nemotron';
  readonly layers: number;
  readonly rotaryFactor: number;
  readonly rotaryBase: number;
}

export type MegatronModel = MegatronHybrid | MegatronGpt;

/** Sizes that Megatron's Mamba mixer had before they were arguments. */
const MAMBA_GROUPS = 8;
const MAMBA_STATE = 128;
/** What the gated norm of Megatron's mixer adds, whatever `norm_epsilon` is. */
const GATED_NORM_EPS = 1e-5;

/** Arguments that change the model in a way that is not computed here, with the values that leave it as it is. */
const NEUTRAL: Readonly<Record<string, readonly unknown[]>> = {
  add_bias_linear: [false],
  add_qkv_bias: [false],
  apply_residual_connection_post_layernorm: [false],
  attention_output_gate: [false],
  mtp_num_layers: [0],
  multi_latent_attention: [false],
  num_experts: [],
  pipeline_model_parallel_size: [1],
  qk_layernorm: [false],
  rotary_interleaved: [false],
  rotary_seq_len_interpolation_factor: [1],
  swiglu: [false],
  use_rope_scaling: [false],
  window_size: [],
};

/**
 * What the model of a Megatron checkpoint is, from the arguments in it and the shapes of its tensors.
 *
 * @throws UnsupportedModelError naming the argument if it asks for what is not computed here;
 *   WeightFormatError naming the argument or the tensor if they contradict each other
 */
export function readMegatronModel(args: ConfigReader, tensors: MegatronTensors): MegatronModel {
  for (const [name, values] of Object.entries(NEUTRAL)) args.refuse(name, values);
  const kinds = layerKinds(tensors);
  agree(args, 'num_layers', kinds.length, 'the layers in the checkpoint');
  const transformer = kinds.every((kind) => kind === '*-');
  if (!transformer && kinds.includes('*-')) {
    throw new UnsupportedModelError(
      `Only some layers of the checkpoint hold attention and a feed-forward part together.`,
      'This version runs hybrids, whose layers hold one of them, and Transformers, whose layers all hold both.',
    );
  }
  const common = readCommon(args, tensors, kinds);
  return transformer
    ? { ...common, ...readGpt(args), layers: kinds.length }
    : { ...common, ...readHybrid(args, tensors, kinds, common.normEps) };
}

function readCommon(args: ConfigReader, tensors: MegatronTensors, kinds: readonly string[]): MegatronCommon {
  const embedding = 'embedding.word_embeddings.weight';
  const hiddenSize = agree(args, 'hidden_size', tensors.dimension(embedding, 1), `the width of ${embedding}`);
  const vocabSize = tensors.dimension(embedding, 0) * tensors.size;
  agree(args, 'padded_vocab_size', vocabSize, `the rows of ${embedding} in all ranks`);
  const headed = tensors.has('output_layer.weight');
  const untied = args.boolean('untie_embeddings_and_output_weights', headed);
  if (untied !== headed) {
    throw contradiction(
      'untie_embeddings_and_output_weights',
      untied,
      `output_layer.weight, which is ${headed ? '' : 'not '}there`,
    );
  }
  const contextLength = args.optionalSize('max_position_embeddings');
  return {
    hiddenSize,
    vocabSize,
    tied: !untied,
    normEps: args.number('norm_epsilon', args.number('layernorm_epsilon', 1e-5)),
    attention: kinds.some((kind) => kind.includes('*')) ? readAttention(args, hiddenSize) : undefined,
    mlp: readMlp(args, tensors, kinds),
    contextLength,
  };
}

function readAttention(args: ConfigReader, hiddenSize: number): MegatronCommon['attention'] {
  const heads = args.size('num_attention_heads');
  const grouped = args.boolean('group_query_attention', false);
  const kvHeads = grouped ? args.size('num_query_groups') : heads;
  if (heads % kvHeads !== 0) throw contradiction('num_query_groups', kvHeads, `num_attention_heads ${heads}`);
  return { heads, kvHeads, headDim: args.size('kv_channels', Math.floor(hiddenSize / heads)) };
}

function readMlp(args: ConfigReader, tensors: MegatronTensors, kinds: readonly string[]): MegatronCommon['mlp'] {
  const layer = kinds.findIndex((kind) => kind.includes('-'));
  if (layer < 0) return undefined;
  const name = `decoder.layers.${layer}.mlp.linear_fc1.weight`;
  const intermediateSize = tensors.dimension(name, 0) * tensors.size;
  agree(args, 'ffn_hidden_size', intermediateSize, `the rows of ${name} in all ranks`);
  // Megatron's plain GELU is the exact one where it is not fused with a bias, and biases are refused.
  const tanh = args.boolean('openai_gelu', false);
  const activation = args.boolean('squared_relu', false) ? 'relu2' : tanh ? 'gelu_pytorch_tanh' : 'gelu';
  return { intermediateSize, activation };
}

function readGpt(args: ConfigReader): Pick<MegatronGpt, 'family' | 'rotaryFactor' | 'rotaryBase'> {
  args.refuse('normalization', ['LayerNorm']);
  // These decide the numbers and leave no trace in the shapes. Positions have two arguments; where the older one is
  // set, the other follows it.
  if (!args.boolean('use_rotary_position_embeddings', false)) demand(args, 'position_embedding_type', 'rope');
  demand(args, 'apply_layernorm_1p', true);
  return {
    family: 'nemotron',
    rotaryFactor: args.number('rotary_percent', 1),
    rotaryBase: args.number('rotary_base', 10000),
  };
}

function readHybrid(
  args: ConfigReader,
  tensors: MegatronTensors,
  kinds: readonly string[],
  normEps: number,
): Pick<MegatronHybrid, 'family' | 'pattern' | 'mamba'> {
  const pattern = kinds.join('');
  checkPattern(args, pattern);
  args.refuse('normalization', ['RMSNorm']);
  args.refuse('apply_layernorm_1p', [false]);
  if (pattern.includes('*')) args.refuse('position_embedding_type', ['none']);
  const layer = pattern.indexOf('M');
  if (layer >= 0 && normEps !== GATED_NORM_EPS) {
    throw new UnsupportedModelError(
      `'norm_epsilon' is ${normEps}, but Megatron's gated norms use ${GATED_NORM_EPS}, and one model has one value here.`,
      'This version runs hybrids whose norms all use 1e-5.',
    );
  }
  return { family: 'nemotron_h', pattern, mamba: layer < 0 ? undefined : readMamba(args, tensors, layer) };
}

function readMamba(args: ConfigReader, tensors: MegatronTensors, layer: number): MegatronHybrid['mamba'] {
  const prefix = `decoder.layers.${layer}.mixer`;
  const heads = tensors.dimension(`${prefix}.A_log`, 0) * tensors.size;
  agree(args, 'mamba_num_heads', heads, `the length of ${prefix}.A_log in all ranks`);
  const innerSize = tensors.dimension(`${prefix}.norm.weight`, 0) * tensors.size;
  const headDim = agree(args, 'mamba_head_dim', innerSize / heads, `${prefix}.norm.weight over ${heads} heads`);
  if (!Number.isInteger(headDim))
    throw contradiction('mamba_head_dim', undefined, `${innerSize} channels in ${heads} heads`);
  const conv = `${prefix}.conv1d.weight`;
  // Groups times states: all that the shapes say of the two.
  const product = (tensors.dimension(conv, 0) * tensors.size - innerSize) / 2;
  const givenState = args.optionalSize('mamba_state_dim');
  const givenGroups = args.optionalSize('mamba_num_groups');
  const stateSize = givenState ?? product / (givenGroups ?? MAMBA_GROUPS);
  const groups = givenGroups ?? product / stateSize;
  const known = givenState !== undefined || givenGroups !== undefined || product === MAMBA_GROUPS * MAMBA_STATE;
  if (!known || groups * stateSize !== product || !Number.isInteger(groups) || !Number.isInteger(stateSize)) {
    const field = givenGroups === undefined ? 'mamba_state_dim' : 'mamba_num_groups';
    throw contradiction(field, args.raw(field), `${conv}, which has room for groups times states = ${product}`);
  }
  return { heads, headDim, groups, stateSize, convWidth: tensors.dimension(conv, 2) };
}

/** What every layer holds, by the names of its tensors: `M`, `*`, `-` or `*-`. */
function layerKinds(tensors: MegatronTensors): string[] {
  const kinds = new Map<number, string>();
  for (const name of tensors.names) {
    const match = /^decoder\.layers\.(\d+)\.(.+)$/.exec(name);
    if (match === null) continue;
    const layer = Number(match[1]);
    const letter = LETTERS.get(match[2] ?? '') ?? '';
    kinds.set(layer, [...(kinds.get(layer) ?? ''), letter].sort().join(''));
  }
  return Array.from({ length: kinds.size }, (_, layer) => {
    const kind = kinds.get(layer);
    if (kind !== undefined && ['M', '*', '-', '*-'].includes(kind)) return kind;
    throw new WeightFormatError(
      `Layer ${layer} of the checkpoint ${kind === undefined ? 'is missing' : 'is neither Mamba-2 nor attention nor feed-forward'}.`,
      'Check that the checkpoint is complete and of a model that this version runs.',
    );
  });
}

/** The tensor that tells a kind of layer. */
const LETTERS: ReadonlyMap<string, string> = new Map([
  ['mixer.in_proj.weight', 'M'],
  ['self_attention.linear_qkv.weight', '*'],
  ['mlp.linear_fc1.weight', '-'],
]);

/** Compares the layers that are there with those that the arguments call for. */
function checkPattern(args: ConfigReader, pattern: string): void {
  const field = args.raw('hybrid_layer_pattern') === undefined ? 'hybrid_override_pattern' : 'hybrid_layer_pattern';
  if (args.raw(field) !== undefined) {
    // Bars only cut the pattern into pipeline stages.
    const given = args.string(field).replaceAll('|', '');
    if (given !== pattern) throw contradiction(field, given, `the layers in the checkpoint, ${pattern}`);
    return;
  }
  const ratios = ['hybrid_attention_ratio', 'hybrid_mlp_ratio'] as const;
  if (ratios.every((name) => args.raw(name) === undefined)) return;
  const [attention, mlp] = ratios.map((name) => args.number(name, 0));
  let allocated: string;
  try {
    allocated = allocateHybridLayers(pattern.length, attention ?? 0, mlp ?? 0);
  } catch (cause) {
    if (!(cause instanceof ArgumentError)) throw cause;
    throw new WeightFormatError(
      `'${ratios.join("' and '")}' in the checkpoint are no ratios: ${cause.message}`,
      'Download or export the checkpoint again.',
      { cause },
    );
  }
  if (allocated === pattern) return;
  throw contradiction(ratios.join("', '"), `${attention}, ${mlp}`, `the layers in the checkpoint, ${pattern}`);
}

/** The size that a shape tells, after a look at the argument of that name, where there is one. */
function agree(args: ConfigReader, field: string, size: number, where: string): number {
  const given = args.raw(field);
  if (given === undefined || given === size) return size;
  throw contradiction(field, given, `${where}: ${size}`);
}

function demand(args: ConfigReader, field: string, value: unknown): void {
  args.refuse(field, [value]);
  if (args.raw(field) !== undefined) return;
  throw new UnsupportedModelError(
    `The arguments in the checkpoint lack '${field}', which must be ${JSON.stringify(value)}.`,
    "This version runs Megatron's Transformers with rotary positions and LayerNorm-1P.",
  );
}

function contradiction(field: string, given: unknown, found: string): WeightFormatError {
  return new WeightFormatError(
    `'${field}' in the arguments is ${given === undefined ? 'absent' : JSON.stringify(given)}, which does not fit ${found}.`,
    'The arguments and the tensors in the checkpoint contradict each other: download or export it again.',
  );
}
