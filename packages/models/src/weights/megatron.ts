import { UnsupportedModelError, WeightFormatError } from '@mambalab/kernels';
import { joinedSource } from './joined_tensor.ts';
import { checkSameFields, megatronFields, readMegatronFields } from './megatron_args.ts';
import type { MegatronFields } from './megatron_args.ts';
import { readMegatronModel } from './megatron_config.ts';
import type { MegatronModel } from './megatron_config.ts';
import { megatronTensors } from './megatron_names.ts';
import { MegatronTensors } from './megatron_ranks.ts';
import type { MegatronRank } from './megatron_ranks.ts';
import { describePickle, entriesOf } from './pickle_values.ts';
import type { PickleValue } from './pickle_values.ts';
import type { NamedTokenizer } from './sentencepiece_file.ts';
import type { ByteFile, Folder, TensorSource } from './source.ts';
import { openTorchFile } from './torch_file.ts';
import { isTorchTensor } from './torch_pickle.ts';

/** The file by which a folder is known as a Megatron checkpoint. */
export const MEGATRON_TRACKER = 'latest_checkpointed_iteration.txt';
const RANK_FILE = 'model_optim_rng.pt';

/** A Megatron checkpoint as other checkpoints are: a configuration, and tensors under the names that go with it. */
export interface MegatronCheckpoint {
  /** What `config.json` would hold for Hugging Face's `nemotron_h` or `nemotron`. */
  readonly config: Readonly<Record<string, unknown>>;
  readonly source: TensorSource;
  readonly tokenizer: NamedTokenizer;
}

/**
 * Opens a Megatron-LM checkpoint, such as those of arXiv 2406.07887: Mamba-2, its hybrid with attention, or the
 * Transformer with LayerNorm-1P; one rank or several tensor-parallel ones. The headers of the files are read.
 * What the files hold beside weights (`args`, random states, optimizers) is read as data; nothing in them runs.
 *
 * @returns undefined if the folder has no `latest_checkpointed_iteration.txt`
 * @throws WeightFormatError if a rank is missing, ranks disagree, or arguments and tensors contradict each other;
 *   UnsupportedModelError for pipeline- or expert-parallel files, distributed checkpoints and other models
 */
export async function openMegatron(folder: Folder, signal?: AbortSignal): Promise<MegatronCheckpoint | undefined> {
  const tracker = await folder.readText(MEGATRON_TRACKER, signal);
  if (tracker === undefined) return undefined;
  const iteration = iterationFolder(tracker.trim());
  const first = await openRank(await firstFile(folder, iteration, signal), signal);
  const args = readMegatronFields(first.fields, first.file.name);
  checkVersion(first, [...first.tensors.keys()]);
  const size = args.optionalSize('tensor_model_parallel_size') ?? (await countRanks(folder, iteration, signal));
  const others: OpenRank[] = [];
  for (let index = 1; index < size; index++) {
    const rank = await openRank(await rankFile(folder, iteration, index, size, signal), signal);
    checkSameFields(first.fields, rank.fields, rank.file.name);
    others.push(rank);
  }
  const extra = rankName(iteration, size);
  if ((await folder.file(extra, signal)) !== undefined) {
    throw new WeightFormatError(
      `'tensor_model_parallel_size' in ${first.file.name} is ${size}, but ${folder.label} holds ${extra}, too.`,
      'Take all ranks from one checkpoint.',
    );
  }
  const tensors = new MegatronTensors(first, others);
  const model = readMegatronModel(args, tensors);
  return {
    config: configOf(model),
    source: joinedSource(megatronTensors(model, tensors), () => folder.dispose()),
    tokenizer: tokenizerOf(first.fields),
  };
}

/** Kinds of tokenizers, by their names in Megatron, whose models are SentencePiece's. */
const SENTENCEPIECE = ['GPTSentencePieceTokenizer', 'SentencePieceTokenizer', 'Llama2Tokenizer'];

function tokenizerOf({ tokenizer_model: path, tokenizer_type: type }: MegatronFields): NamedTokenizer {
  // Wherever it was when the model was trained. Folders give nothing for names that lead out of them.
  const file = typeof path === 'string' ? path.split(/[/\\]/).at(-1) : undefined;
  return {
    ...(file !== undefined && SENTENCEPIECE.includes(String(type)) && { file }),
    ...(type === 'Llama2Tokenizer' && { addsBos: true }),
  };
}

function iterationFolder(tracker: string): string {
  if (tracker === 'release') return tracker;
  if (/^\d{1,12}$/.test(tracker)) return `iter_${tracker.padStart(7, '0')}`;
  throw new WeightFormatError(
    `${MEGATRON_TRACKER} holds ${describePickle(tracker)}, expected a number or "release".`,
    'Download the checkpoint again.',
  );
}

const rankName = (iteration: string, rank: number, ending = ''): string =>
  `${iteration}/mp_rank_${String(rank).padStart(2, '0')}${ending}/${RANK_FILE}`;

async function firstFile(folder: Folder, iteration: string, signal?: AbortSignal): Promise<ByteFile> {
  const name = rankName(iteration, 0);
  const file = await folder.file(name, signal);
  if (file !== undefined) return file;
  const has = async (other: string): Promise<boolean> => (await folder.file(other, signal)) !== undefined;
  if (await has(rankName(iteration, 0, '_000'))) {
    throw new UnsupportedModelError(
      `The checkpoint in ${folder.label} is split over pipeline- or expert-parallel ranks (mp_rank_00_000).`,
      "Join them with Megatron's tools/checkpoint first, to a pipeline of one stage.",
    );
  }
  if ((await has(`${iteration}/metadata.json`)) || (await has(`${iteration}/.metadata`))) {
    throw new UnsupportedModelError(
      `The checkpoint in ${folder.label} is in Megatron's distributed format.`,
      "Convert it with Megatron (`--ckpt-convert-format torch`), or to Hugging Face's format.",
    );
  }
  throw missing(name, folder);
}

async function rankFile(
  folder: Folder,
  iteration: string,
  rank: number,
  size: number,
  signal: AbortSignal | undefined,
): Promise<ByteFile> {
  const name = rankName(iteration, rank);
  const file = await folder.file(name, signal);
  if (file === undefined) throw missing(name, folder, ` ('tensor_model_parallel_size' is ${size})`);
  return file;
}

function missing(name: string, folder: Folder, why = ''): WeightFormatError {
  return new WeightFormatError(`There is no ${name} in ${folder.label}${why}.`, 'Download the checkpoint completely.');
}

/** For checkpoints that do not say how many ranks they have. */
async function countRanks(folder: Folder, iteration: string, signal: AbortSignal | undefined): Promise<number> {
  let count = 1;
  while ((await folder.file(rankName(iteration, count), signal)) !== undefined) count++;
  return count;
}

interface OpenRank extends MegatronRank {
  readonly fields: MegatronFields;
  readonly version: PickleValue | undefined;
}

async function openRank(file: ByteFile, signal: AbortSignal | undefined): Promise<OpenRank> {
  const opened = await openTorchFile(file, signal);
  const root = entriesOf(opened.root);
  const state = entriesOf(root?.get('model'));
  if (root === undefined || state === undefined) {
    throw new WeightFormatError(
      `${file.name} holds ${describePickle(root?.get('model') ?? opened.root)}, expected a dictionary with the key "model".`,
      'Give a checkpoint that Megatron wrote, with a pipeline of one stage.',
    );
  }
  const tensors = await opened.locate(weightsIn(state, file), signal);
  const fields = megatronFields(root.get('args'), file.name);
  return { file, tensors, fields, version: root.get('checkpoint_version') };
}

/** What is no weight: states of Transformer Engine, and angles that follow from the configuration. */
const SPARE = /(?:^|\.)(?:_extra_state|rotary_pos_emb\.inv_freq)$/;

function weightsIn(state: ReadonlyMap<PickleValue, PickleValue>, file: ByteFile): ReadonlyMap<string, PickleValue> {
  const weights = new Map<string, PickleValue>();
  for (const [key, value] of state) {
    if (typeof key === 'string' && SPARE.test(key)) continue;
    if (key === 'language_model') {
      throw new UnsupportedModelError(
        `${file.name} was written by Megatron's older models, before its core.`,
        "Convert it with Megatron's tools/checkpoint to core models first.",
      );
    }
    if (typeof key !== 'string' || !isTorchTensor(value)) {
      throw new WeightFormatError(
        `${file.name} holds ${describePickle(value)} under ${describePickle(key)} in its model, expected a tensor.`,
        'Give a checkpoint that Megatron wrote.',
      );
    }
    weights.set(key, value);
  }
  return weights;
}

/** Before version 2 queries, keys and values were laid out in another order. */
function checkVersion({ file, version }: OpenRank, names: readonly string[]): void {
  if (!names.some((name) => name.endsWith('.linear_qkv.weight'))) return;
  if (version === undefined || (typeof version === 'number' && version >= 2)) return;
  throw new UnsupportedModelError(
    `'checkpoint_version' in ${file.name} is ${describePickle(version)}, expected 2 or more.`,
    'Load and save the checkpoint with a current Megatron first.',
  );
}

function configOf(model: MegatronModel): Record<string, unknown> {
  const { attention, mlp } = model;
  const shared = {
    vocab_size: model.vocabSize,
    hidden_size: model.hiddenSize,
    tie_word_embeddings: model.tied,
    ...(attention && {
      num_attention_heads: attention.heads,
      num_key_value_heads: attention.kvHeads,
      head_dim: attention.headDim,
      attention_bias: false,
    }),
    ...(mlp && { intermediate_size: mlp.intermediateSize, mlp_bias: false }),
    ...(model.contextLength !== undefined && { max_position_embeddings: model.contextLength }),
  };
  if (model.family === 'nemotron') {
    return {
      architectures: ['NemotronForCausalLM'],
      model_type: model.family,
      ...shared,
      num_hidden_layers: model.layers,
      hidden_act: mlp?.activation,
      norm_eps: model.normEps,
      partial_rotary_factor: model.rotaryFactor,
      rope_theta: model.rotaryBase,
    };
  }
  const { mamba } = model;
  return {
    architectures: ['NemotronHForCausalLM'],
    model_type: model.family,
    ...shared,
    num_hidden_layers: model.pattern.length,
    hybrid_override_pattern: model.pattern,
    layer_norm_epsilon: model.normEps,
    ...(mlp && { mlp_hidden_act: mlp.activation }),
    ...(mamba && {
      mamba_num_heads: mamba.heads,
      mamba_head_dim: mamba.headDim,
      n_groups: mamba.groups,
      ssm_state_size: mamba.stateSize,
      conv_kernel: mamba.convWidth,
      expand: (mamba.heads * mamba.headDim) / model.hiddenSize,
      use_conv_bias: true,
      use_bias: false,
    }),
  };
}
