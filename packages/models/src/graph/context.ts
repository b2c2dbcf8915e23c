import type { Dtype, Recording, Size, TensorRef } from '@mambalab/kernels';
import { layerNorm, MATVEC_MAX_ROWS, maximumSize, rmsNorm } from '@mambalab/kernels';
import type { ModelSpec, NormSpec } from '../spec/model_spec.ts';
import type { WeightSpec } from '../spec/weight_spec.ts';
import type { CacheDtype } from './names.ts';
import { tablePartName, weightRowStride } from './names.ts';

/** What a graph is built for: shapes and storage, no values. */
export interface GraphOptions {
  readonly spec: ModelSpec;
  readonly weights: readonly WeightSpec[];
  /** Storage of the matrices, by name (tensors may differ). */
  readonly matrixDtype: (name: string) => Dtype;
  readonly batch: number;
  /** Tokens that KV caches have room for. */
  readonly capacity: number;
  readonly cacheDtype: CacheDtype;
}

/** Consecutive rows of a table. */
export interface TablePart {
  readonly table: TensorRef;
  readonly first: number;
  readonly count: number;
}

/** A recording in progress with the model's tensors at hand. */
export class GraphContext {
  readonly recording: Recording;
  readonly options: GraphOptions;
  /** Tokens of each sequence in this pass; 1 in decoding. */
  readonly length: Size;
  readonly #specs: ReadonlyMap<string, WeightSpec>;

  constructor(recording: Recording, options: GraphOptions, length: Size) {
    this.recording = recording;
    this.options = options;
    this.length = length;
    this.#specs = new Map(options.weights.map((weight) => [weight.name, weight]));
  }

  /** Whether this pass produces one token a sequence: kernels then take their one-token forms. */
  get decoding(): boolean {
    return this.length === 1;
  }

  has(name: string): boolean {
    return this.#specs.has(name);
  }

  /** A weight by its graph name. */
  weight(name: string): TensorRef {
    const spec = this.#specs.get(name);
    if (spec === undefined) throw new RangeError(`The model has no weight '${name}'.`);
    if (spec.kind === 'vector') return this.recording.external(name, 'f32', spec.shape);
    const dtype = this.options.matrixDtype(name);
    return this.recording.external(name, dtype, spec.shape, weightRowStride(dtype, spec.shape));
  }

  optionalWeight(name: string): TensorRef | undefined {
    return this.has(name) ? this.weight(name) : undefined;
  }

  /**
   * A table of one row a token: a single tensor, or several of consecutive rows where one would exceed what the device
   * binds.
   */
  table(name: string): readonly TablePart[] {
    if (this.has(name)) return [{ table: this.weight(name), first: 0, count: this.options.spec.vocabSize }];
    const parts: TablePart[] = [];
    let first = 0;
    while (this.has(tablePartName(name, parts.length))) {
      const table = this.weight(tablePartName(name, parts.length));
      const count = maximumSize(table.shape[0] ?? 0);
      parts.push({ table, first, count });
      first += count;
    }
    return parts;
  }

  /** `{ bias }` where the model has a bias of this name, for the inputs of a kernel. */
  bias(name: string): { readonly bias?: TensorRef } {
    const bias = this.optionalWeight(name);
    return bias === undefined ? {} : { bias };
  }

  /** Tokens consumed before this pass, one a sequence: read by kernels, advanced by kernels. */
  position(): TensorRef {
    return this.recording.external('position', 'u32', [this.options.batch]);
  }

  /** Rows of x normalised, in a tensor of their own, or added to `addTo`. */
  normalize(x: TensorRef, norm: NormSpec, name: string, addTo?: TensorRef): TensorRef {
    const { eps, weightOffset } = norm;
    const weight = this.weight(name);
    if (norm.kind === 'rms')
      return rmsNorm(this.recording, { x, weight, ...(addTo && { addTo }) }, { eps, weightOffset });
    if (addTo !== undefined) throw new RangeError(`The layer norm '${name}' cannot follow a block.`);
    return layerNorm(this.recording, { x, weight, bias: this.weight(`${name}Bias`) }, { eps, weightOffset });
  }
}

/** What a projection takes of its input, beside its own weights and options. */
export interface ProjectionInput {
  readonly inputs: { readonly x: TensorRef; readonly normWeight?: TensorRef };
  readonly options: { readonly normEps?: number; readonly normWeightOffset?: number };
}

/** A norm by its spec and the name of its weights. */
export interface NamedNorm {
  readonly spec: NormSpec;
  readonly name: string;
}

/**
 * The input of a layer's first projections: raw, with the norm that belongs in front, if any. One-token passes hand a
 * root-mean-square norm to the projection itself, which sees all of x anyway; longer passes normalise once for all
 * readers.
 */
export class NormalizedInput {
  readonly #context: GraphContext;
  readonly #x: TensorRef;
  readonly #norm: NamedNorm | undefined;
  #normalized: TensorRef | undefined;

  /** @param shared whether several blocks read it, or one of them writes to `x` before another reads */
  constructor(context: GraphContext, x: TensorRef, norm: NamedNorm | undefined, shared: boolean = false) {
    this.#context = context;
    this.#x = x;
    this.#norm = norm;
    if (shared) this.normalized();
  }

  /** Rows: tokens of all sequences. */
  get rows(): Size {
    return this.#x.shape[0] ?? 0;
  }

  /**
   * x and, for a projection that normalises by itself, the norm; x normalised otherwise.
   *
   * @param offsets whether the projection can add 1 to the norm's weights
   */
  forProjection(offsets: boolean = true): ProjectionInput {
    const norm = this.#norm;
    if (norm !== undefined && this.#normalized === undefined && maximumSize(this.rows) <= MATVEC_MAX_ROWS) {
      const { kind, eps, weightOffset } = norm.spec;
      if (kind === 'rms' && (offsets || weightOffset === 0)) {
        return {
          inputs: { x: this.#x, normWeight: this.#context.weight(norm.name) },
          options: { normEps: eps, ...(weightOffset === 0 ? {} : { normWeightOffset: weightOffset }) },
        };
      }
    }
    return { inputs: { x: this.normalized() }, options: {} };
  }

  normalized(): TensorRef {
    const norm = this.#norm;
    this.#normalized ??= norm === undefined ? this.#x : this.#context.normalize(this.#x, norm.spec, norm.name);
    return this.#normalized;
  }
}
