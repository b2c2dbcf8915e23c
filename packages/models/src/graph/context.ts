import type { Dtype, Recording, Size, TensorRef } from '@mambalab/kernels';
import { MATVEC_MAX_ROWS, maximumSize, rmsNorm } from '@mambalab/kernels';
import type { ModelSpec, NormSpec } from '../spec/model_spec.ts';
import type { WeightSpec } from '../spec/weight_spec.ts';
import type { CacheDtype } from './names.ts';
import { weightRowStride } from './names.ts';

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

  /** Tokens consumed before this pass, one a sequence: read by kernels, advanced by kernels. */
  position(): TensorRef {
    return this.recording.external('position', 'u32', [this.options.batch]);
  }
}

/** What a projection takes of its input, beside its own weights and options. */
export interface ProjectionInput {
  readonly inputs: { readonly x: TensorRef; readonly normWeight?: TensorRef };
  readonly options: { readonly normEps?: number };
}

/**
 * The input of a layer's first projections: raw, with the norm that belongs in front. One-token passes hand the norm
 * to the projection itself, which sees all of x anyway; longer passes normalise once for all readers.
 */
export class NormalizedInput {
  readonly #context: GraphContext;
  readonly #x: TensorRef;
  readonly #norm: NormSpec;
  readonly #weight: TensorRef;
  #normalized: TensorRef | undefined;

  /** @param readers how many blocks read it; the first of several writes to `x` before the next reads */
  constructor(context: GraphContext, x: TensorRef, norm: NormSpec, weight: TensorRef, readers: number = 1) {
    this.#context = context;
    this.#x = x;
    this.#norm = norm;
    this.#weight = weight;
    if (readers > 1) this.normalized();
  }

  /** x and, for a projection that normalises by itself, the norm; x normalised otherwise. */
  forProjection(): ProjectionInput {
    const rows = maximumSize(this.#x.shape[0] ?? 0);
    if (this.#normalized === undefined && rows <= MATVEC_MAX_ROWS && this.#norm.weightOffset === 0) {
      return { inputs: { x: this.#x, normWeight: this.#weight }, options: { normEps: this.#norm.eps } };
    }
    return { inputs: { x: this.normalized() }, options: {} };
  }

  normalized(): TensorRef {
    this.#normalized ??= rmsNorm(
      this.#context.recording,
      { x: this.#x, weight: this.#weight },
      { eps: this.#norm.eps, weightOffset: this.#norm.weightOffset },
    );
    return this.#normalized;
  }
}
