import { WeightFormatError } from '@mambalab/kernels';
import { ConfigReader } from '../spec/config.ts';
import { describePickle, entriesOf, PickleObject } from './pickle_values.ts';
import type { PickleDict, PickleValue } from './pickle_values.ts';

/** Arguments of Megatron's training program that say what the model is. Others are never looked at. */
const FIELDS = [
  'add_bias_linear',
  'add_qkv_bias',
  'apply_layernorm_1p',
  'apply_residual_connection_post_layernorm',
  'attention_output_gate',
  'ffn_hidden_size',
  'group_query_attention',
  'hidden_size',
  'hybrid_attention_ratio',
  'hybrid_layer_pattern',
  'hybrid_mlp_ratio',
  'hybrid_override_pattern',
  'kv_channels',
  'layernorm_epsilon',
  'mamba_head_dim',
  'mamba_num_groups',
  'mamba_num_heads',
  'mamba_state_dim',
  'max_position_embeddings',
  'mtp_num_layers',
  'multi_latent_attention',
  'norm_epsilon',
  'normalization',
  'num_attention_heads',
  'num_experts',
  'num_layers',
  'num_query_groups',
  'openai_gelu',
  'padded_vocab_size',
  'pipeline_model_parallel_size',
  'position_embedding_type',
  'qk_layernorm',
  'rotary_base',
  'rotary_interleaved',
  'rotary_percent',
  'rotary_seq_len_interpolation_factor',
  'squared_relu',
  'swiglu',
  'tensor_model_parallel_size',
  'tokenizer_model',
  'tokenizer_type',
  'untie_embeddings_and_output_weights',
  'use_rope_scaling',
  'use_rotary_position_embeddings',
  'window_size',
] as const;

/** The values of the fields that the checkpoint has. */
export type MegatronFields = Readonly<Record<string, boolean | number | string>>;

/**
 * The arguments that a Megatron checkpoint keeps of the program that trained it (`argparse.Namespace`).
 *
 * @throws WeightFormatError if they are something else
 */
export function megatronFields(args: PickleValue | undefined, file: string): MegatronFields {
  const dict = namespaceOf(args);
  if (dict === undefined) {
    throw new WeightFormatError(
      `'args' in ${file} is ${describePickle(args)}, expected the arguments of the program that trained the model.`,
      'Give a checkpoint that Megatron wrote.',
    );
  }
  // The names are those above, never names from the file.
  const found = FIELDS.map((name) => [name, dict.get(name) ?? null] as const);
  return Object.fromEntries(found.flatMap(([name, value]) => (value === null ? [] : [[name, plain(value)]])));
}

/** A reader of these fields whose errors name the file. */
export function readMegatronFields(fields: MegatronFields, file: string): ConfigReader {
  return new ConfigReader(fields, `args in ${file}`);
}

/** @throws WeightFormatError naming the field if two ranks were trained with different arguments */
export function checkSameFields(first: MegatronFields, other: MegatronFields, file: string): void {
  const name = FIELDS.find((field) => first[field] !== other[field]);
  if (name === undefined) return;
  throw new WeightFormatError(
    `The ranks disagree about '${name}': it is ${String(first[name])} in the first and ${String(other[name])} in ${file}.`,
    'Take all ranks from one checkpoint.',
  );
}

function namespaceOf(args: PickleValue | undefined): PickleDict | undefined {
  if (!(args instanceof PickleObject)) return entriesOf(args);
  const isNamespace = args.global === 'argparse.Namespace' || args.global === 'types.SimpleNamespace';
  return isNamespace ? entriesOf(args.state) : undefined;
}

function plain(value: PickleValue): boolean | number | string {
  return typeof value === 'boolean' || typeof value === 'number' || typeof value === 'string'
    ? value
    : describePickle(value);
}
