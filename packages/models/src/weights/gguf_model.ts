import { UnsupportedModelError, WeightFormatError } from '@mambalab/kernels';
import type { GgufFields } from './gguf_fields.ts';
import type { FoundTensor } from './gguf_names.ts';
import { rowsOf } from './gguf_names.ts';

type Config = Readonly<Record<string, unknown>>;

/** What a GGUF file says of its model, and what its configuration has in common with others. */
export class GgufModel {
  readonly architecture: string;
  /** Fields of the architecture, by the rest of their keys. */
  readonly fields: GgufFields;
  readonly tensors: ReadonlyMap<string, FoundTensor>;
  /** Frequency factors of RoPE, where the file has them as a tensor. */
  readonly ropeFactors: readonly number[] | undefined;
  /** Layers of the model. Blocks behind them predict several tokens at once. */
  readonly layers: number;
  readonly blocks: number;
  readonly #all: GgufFields;

  constructor(fields: GgufFields, tensors: ReadonlyMap<string, FoundTensor>, ropeFactors?: readonly number[]) {
    this.architecture = fields.string('general.architecture');
    this.fields = fields.under(`${this.architecture}.`);
    this.tensors = tensors;
    this.ropeFactors = ropeFactors;
    this.#all = fields;
    this.blocks = this.fields.size('block_count');
    // Every block has tensors, and a count of a damaged file may be anything.
    if (this.blocks > tensors.size) throw this.fields.error('block_count', 'the number of blocks', this.blocks);
    this.layers = this.blocks - this.fields.count('nextn_predict_layers', 0);
    if (this.layers < 1) throw this.fields.error('nextn_predict_layers', 'fewer than all blocks', this.blocks);
    if (!this.fields.boolean('attention.causal', true)) {
      throw new UnsupportedModelError(
        `${fields.file}: '${this.architecture}.attention.causal' is false; only models that write text run here.`,
        'Use a model that was trained to continue texts.',
      );
    }
  }

  get file(): string {
    return this.#all.file;
  }

  /** Whether any layer has such a tensor, by its name behind `blk.N.`. */
  has(stem: string): boolean {
    return this.layerIndices().some((index) => this.tensors.has(`blk.${index}.${stem}`));
  }

  /** Rows of the first tensor of this name. */
  rows(stem: string): number | undefined {
    const name = this.layerIndices().map((index) => `blk.${index}.${stem}`);
    const tensor = name.map((each) => this.tensors.get(each)).find((found) => found !== undefined);
    return tensor === undefined ? undefined : tensor.shape.length > 2 ? tensor.shape[1] : rowsOf(tensor);
  }

  layerIndices(): number[] {
    return Array.from({ length: this.layers }, (_, index) => index);
  }

  /** A whole number for each layer: one for all, or a list. */
  perLayer(key: string, fallback?: number): readonly number[] {
    return this.fields.perBlock(key, this.blocks, fallback).slice(0, this.layers);
  }

  get hiddenSize(): number {
    return this.fields.size('embedding_length');
  }

  get heads(): number {
    return Math.max(...this.perLayer('attention.head_count'));
  }

  get headDim(): number {
    const size = this.fields.optionalSize('attention.key_length') ?? this.hiddenSize / this.heads;
    if (!Number.isInteger(size)) {
      throw this.fields.error('attention.head_count', `a divisor of ${this.hiddenSize}`, this.heads);
    }
    if ((this.fields.optionalSize('attention.value_length') ?? size) !== size) {
      throw new UnsupportedModelError(
        `${this.file}: keys of ${size} values and values of another size do not run here.`,
        'Use a model whose heads are all of one size.',
      );
    }
    return size;
  }

  get eps(): number {
    const key = 'attention.layer_norm_epsilon';
    return this.fields.optionalNumber('attention.layer_norm_rms_epsilon') ?? this.fields.number(key);
  }

  /** Vocabulary, width, layers, head and end-of-text tokens. */
  common(modelType: string): Config {
    const embedding = this.tensors.get('token_embd.weight');
    if (embedding === undefined) {
      throw new WeightFormatError(
        `${this.file} has no tensor 'token_embd.weight'.`,
        'Give the file of a language model, all parts of it if it was split.',
      );
    }
    const context = this.fields.optionalSize('context_length');
    const vocabulary = this.#all.under('tokenizer.ggml.');
    const ends = ['eos', 'eot', 'eom'].map((role) => vocabulary.optionalCount(`${role}_token_id`));
    return {
      model_type: modelType,
      vocab_size: embedding.shape[0],
      hidden_size: this.hiddenSize,
      num_hidden_layers: this.layers,
      tie_word_embeddings: !this.tensors.has('output.weight'),
      eos_token_id: [...new Set(ends.filter((id) => id !== undefined))],
      ...(context !== undefined && { max_position_embeddings: context }),
    };
  }

  /** Sizes of attention, in the fields that most families have for them. */
  attention(): Config {
    const kvHeads = this.perLayer('attention.head_count_kv', this.heads);
    // Layers without attention have none.
    const counts = new Set(kvHeads.filter((count) => count > 0));
    if (counts.size > 1) throw this.fields.error('attention.head_count_kv', 'one number for all layers', [...counts]);
    return {
      num_attention_heads: this.heads,
      num_key_value_heads: [...counts][0] ?? this.heads,
      head_dim: this.headDim,
      attention_bias: this.has('attn_q.bias'),
    };
  }

  /** The width of feed-forward layers, where all have one. */
  intermediateSize(): number {
    const widths = new Set(this.perLayer('feed_forward_length').filter((width) => width > 0));
    const [width] = widths;
    if (width !== undefined && widths.size === 1) return width;
    throw this.fields.error('feed_forward_length', 'one size for all layers', [...widths]);
  }

  /** Attention, gated feed-forward layers and norms as Llama has them. */
  llama(modelType: string): Config {
    return {
      ...this.common(modelType),
      ...this.attention(),
      intermediate_size: this.intermediateSize(),
      mlp_bias: this.has('ffn_up.bias'),
      rms_norm_eps: this.eps,
      rope_parameters: this.rope(),
    };
  }

  /** RoPE as `rope_parameters`. */
  rope(theta: number = 10_000): Config {
    const { fields, headDim } = this;
    const dim = fields.optionalSize('rope.dimension_count') ?? headDim;
    // Families take the whole number below this part of a head.
    const exact = Math.floor(headDim * (dim / headDim)) === dim ? dim / headDim : (dim + 0.5) / headDim;
    return {
      rope_theta: fields.number('rope.freq_base', theta),
      ...(dim === headDim ? {} : { partial_rotary_factor: exact }),
      ...this.#ropeScaling(),
    };
  }

  #ropeScaling(): Config {
    const scaling = this.fields.under('rope.scaling.');
    // Without a type, a factor is that of positions.
    const type = scaling.string('type', 'linear');
    const factor = scaling.optionalNumber('factor') ?? this.fields.number('rope.scale_linear', 1);
    const original = scaling.optionalSize('original_context_length');
    if (this.ropeFactors !== undefined) {
      // Whatever made them, they divide the frequencies: scalings of the kind that lists its factors.
      return {
        rope_type: 'longrope',
        short_factor: this.ropeFactors,
        long_factor: this.ropeFactors,
        attention_factor: 1,
        factor: 1,
        original_max_position_embeddings: original ?? this.fields.size('context_length'),
      };
    }
    if (type === 'none' || (type === 'linear' && factor === 1)) return { rope_type: 'default' };
    if (type === 'linear') return { rope_type: 'linear', factor };
    if (type === 'yarn') {
      const [attention, fast, slow] = ['yarn_attn_factor', 'yarn_beta_fast', 'yarn_beta_slow'].map((key) =>
        scaling.optionalNumber(key),
      );
      return {
        rope_type: 'yarn',
        factor,
        original_max_position_embeddings: original ?? this.fields.size('context_length'),
        ...(attention !== undefined && { attention_factor: attention }),
        ...(fast !== undefined && { beta_fast: fast }),
        ...(slow !== undefined && { beta_slow: slow }),
      };
    }
    throw new UnsupportedModelError(
      `${this.file}: '${this.architecture}.rope.scaling.type' is '${type.slice(0, 80)}', which this version does not compute.`,
      'Supported are: none, linear, yarn.',
    );
  }
}
