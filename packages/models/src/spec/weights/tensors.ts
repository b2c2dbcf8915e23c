// Tensors of a checkpoint, and the weights on the GPU that are made from them.

/** Rows of a stored tensor: `count` of them from `first` on. */
export interface RowRange {
  readonly first: number;
  readonly count: number;
}

/** One tensor of a checkpoint, with the shape that the configuration calls for and what of it is taken. */
export interface SourceTensor {
  readonly name: string;
  /** As stored. */
  readonly shape: readonly number[];
  /** Rows that are taken, in this order; all when absent. A row of a vector is one value. */
  readonly ranges?: readonly RowRange[];
  /** Stored as (width, rows): rows of the weight are its columns. */
  readonly transposed?: boolean;
  /** Multiplies the values. */
  readonly scale?: number;
  /** Where some checkpoints hold the same rows instead. */
  readonly otherwise?: SourceTensor;
}

/** One tensor on the GPU and what of the checkpoint it is made from. */
export interface WeightSpec {
  /** Name in the graph, such as `layers.3.0.qkv`. */
  readonly name: string;
  /** Matrices are stored in the model's dtype with padded rows, vectors in f32 without padding. */
  readonly kind: 'matrix' | 'vector';
  /** (rows, width), or (experts, rows, width), for matrices; any shape for vectors. */
  readonly shape: readonly number[];
  /** Concatenated by rows. */
  readonly sources: readonly SourceTensor[];
  /** `negativeExp`: A = -exp(A_log). */
  readonly transform?: 'negativeExp';
  /** A matrix that is f32 whatever the model's dtype is. */
  readonly float32?: boolean;
  /** A matrix that keeps a plain dtype when the model is quantized: small ones that much depends on. */
  readonly exact?: boolean;
}

/** A tensor, or some rows of one, by the checkpoint's name without `.weight` and `.bias`. */
export interface StoredPart {
  readonly name: string;
  /** Of the stored matrix, where that is not (rows, width). A bias has its first dimension alone. */
  readonly shape?: readonly number[];
  readonly ranges?: readonly RowRange[];
  readonly transposed?: boolean;
  readonly scale?: number;
  /** Where some checkpoints hold the same rows of the matrix instead, by its full name. */
  readonly otherwise?: SourceTensor;
  /** Multiplies the bias, where that is not `scale`. */
  readonly biasScale?: number;
}

/** Where the checkpoint keeps a projection: a whole tensor by its name, or a part of one. */
export type PartName = string | StoredPart;

/** A part of a weight: where it is stored and its rows. */
export type Part = readonly [part: PartName, rows: number];

/** A matrix made of parts, one after another by rows. */
export function matrix(name: string, parts: readonly Part[], width: number): WeightSpec {
  const rows = parts.reduce((sum, [, count]) => sum + count, 0);
  return { name, kind: 'matrix', shape: [rows, width], sources: parts.map((part) => matrixSource(part, width)) };
}

/** The matrices of all experts in one tensor (experts, rows, width), made of the parts of each expert in turn. */
export function expertMatrices(name: string, experts: readonly (readonly Part[])[], width: number): WeightSpec {
  const { shape, ...weight } = matrix(name, experts.flat(), width);
  return { ...weight, shape: [experts.length, (shape[0] ?? 0) / experts.length, width] };
}

/** A vector of parts, one after another: the biases of projections that are one matrix. */
export function biasOf(name: string, parts: readonly Part[]): WeightSpec {
  const sources = parts.map(([part, rows]): SourceTensor => {
    const { name: stored, shape = [rows], ranges, scale: ofMatrix, biasScale: scale = ofMatrix } = storedPart(part);
    return {
      name: `${stored}.bias`,
      shape: [shape.length > 1 && storedPart(part).transposed === true ? (shape[1] ?? rows) : (shape[0] ?? rows)],
      ...(ranges && { ranges }),
      ...(scale !== undefined && { scale }),
    };
  });
  return { name, kind: 'vector', shape: [parts.reduce((sum, [, rows]) => sum + rows, 0)], sources };
}

/** A tensor that stays in f32, by its full name in the checkpoint. */
export function vector(
  name: string,
  source: string,
  shape: readonly number[],
  storedShape: readonly number[] = shape,
): WeightSpec {
  return { name, kind: 'vector', shape, sources: [{ name: source, shape: storedShape }] };
}

/** The filters of a depthwise convolution (channels, taps), stored as (channels, 1, taps) each. */
export function convFilters(
  name: string,
  parts: readonly (readonly [source: string, channels: number, scale?: number])[],
  taps: number,
): WeightSpec {
  const channels = parts.reduce((sum, [, count]) => sum + count, 0);
  const sources = parts.map(([source, count, scale]): SourceTensor => ({
    name: `${source}.weight`,
    shape: [count, 1, taps],
    ...(scale !== undefined && { scale }),
  }));
  return { name, kind: 'vector', shape: [channels, taps], sources };
}

/** Rows that every `period` rows begin with, `count` of them from `offset` on: parts that are stored by turns. */
export function everyPeriod(periods: number, period: number, offset: number, count: number): readonly RowRange[] {
  return Array.from({ length: periods }, (_, index) => ({ first: index * period + offset, count }));
}

const storedPart = (part: PartName): StoredPart => (typeof part === 'string' ? { name: part } : part);

function matrixSource([part, rows]: Part, width: number): SourceTensor {
  const { name, shape, ranges, transposed, scale, otherwise } = storedPart(part);
  return {
    name: `${name}.weight`,
    shape: shape ?? (transposed === true ? [width, rows] : [rows, width]),
    ...(ranges && { ranges }),
    ...(transposed !== undefined && { transposed }),
    ...(scale !== undefined && { scale }),
    ...(otherwise && { otherwise }),
  };
}
