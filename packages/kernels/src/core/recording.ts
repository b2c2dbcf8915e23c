import type { Capabilities } from './capabilities.ts';
import type { Dtype } from './dtype.ts';
import { isQuantized, valuesPerWord } from './dtype.ts';
import { ArgumentError, ShapeError } from './errors.ts';
import type { FixedChoices, ForcedChoices, Shader } from './shader.ts';
import { chooseVariant } from './shader.ts';
import type { Size } from './size.ts';
import {
  addSize,
  formatShape,
  MAX_WORKGROUPS_PER_DIMENSION,
  maximumSize,
  multiplySize,
  productSize,
  sameSize,
  sizeKey,
} from './size.ts';

/** Where the bytes of a tensor of a recording come from. */
export type StorageRole = 'external' | 'scratch' | 'output' | 'placeholder';

/** A buffer of a recording; tensors are views of it. */
export interface StorageRef {
  readonly id: number;
  readonly name: string;
  readonly role: StorageRole;
  readonly dtype: Dtype;
  /** Rows of the storage and the distance between them, in values. */
  readonly rows: Size;
  readonly rowStride: number;
}

/**
 * A tensor of a recording: a view of a storage. Rows of `rowWidth` contiguous values lie `rowStride` apart; a row may
 * span several trailing dimensions, as in a (B, L, H, P) view of a (B * L, H * P) matrix with padded rows.
 * `offset`, `rowWidth` and `rowStride` count values, not bytes.
 */
export interface TensorRef {
  readonly storage: StorageRef;
  readonly dtype: Dtype;
  readonly shape: readonly Size[];
  readonly offset: Size;
  readonly rowWidth: number;
  readonly rowStride: number;
  /** Which plane of a quantized tensor a binding means; undefined for the others. */
  readonly plane?: 'quants' | 'scales';
}

/** One dispatch of a recording, with everything decided but the GPU objects. */
export interface RecordedDispatch {
  readonly shader: Shader;
  readonly variant: number;
  readonly label: string;
  /** In the order of `shader.bindings`. */
  readonly bindings: readonly TensorRef[];
  readonly params: Readonly<Record<string, Size>>;
  readonly overrides: Readonly<Record<string, number>>;
  readonly constants: Readonly<Record<string, number>>;
  readonly workgroups: readonly [Size, Size, Size];
}

type BindingNames<S> = S extends Shader<infer B, string, string, string> ? B : never;
type ParamNames<S> = S extends Shader<string, infer P, string, string> ? P : never;
type OverrideNames<S> = S extends Shader<string, string, infer O, string> ? O : never;
type ConstantNames<S> = S extends Shader<string, string, string, infer C> ? C : never;

/** What a kernel gives for one dispatch. */
export interface DispatchOptions<S> {
  readonly bindings: Readonly<Record<BindingNames<S>, TensorRef>>;
  readonly params: Readonly<Record<ParamNames<S>, Size>>;
  readonly workgroups: readonly [Size, Size?, Size?];
  readonly overrides?: Readonly<Partial<Record<OverrideNames<S>, number | boolean>>>;
  readonly constants?: Readonly<Partial<Record<ConstantNames<S>, number>>>;
  readonly choices?: FixedChoices<S>;
}

export interface RecordingOptions {
  /** Choices that tests and the tuner force wherever a shader has that axis. */
  readonly force?: ForcedChoices;
}

const SCALARS: Record<Dtype, readonly string[]> = {
  f32: ['f32', 'u32'],
  f16: ['u32', 'f16'],
  bf16: ['u32'],
  u32: ['u32'],
  i32: ['i32'],
  q8: ['u32', 'i32'],
  q4: ['u32', 'i32'],
};

/**
 * A list of dispatches over named tensors. It holds no GPU object: it is made from {@link Capabilities} alone, can be
 * inspected and tested anywhere, and is turned into pipelines, bind groups and buffers by an `Executor`.
 */
export class Recording {
  readonly capabilities: Capabilities;
  readonly force: ForcedChoices;
  readonly dispatches: RecordedDispatch[] = [];
  readonly storages: StorageRef[] = [];
  readonly externals: Map<string, TensorRef> = new Map();
  readonly outputs: Map<string, TensorRef> = new Map();
  #placeholder: StorageRef | undefined;
  #scope: string[] = [];

  constructor(capabilities: Capabilities, options: RecordingOptions = {}) {
    this.capabilities = capabilities;
    this.force = options.force ?? {};
  }

  /**
   * A tensor that the caller of the plan binds by name: a weight, a state, an input.
   *
   * @throws ArgumentError if the name is taken by a tensor of another shape, row stride or dtype.
   */
  external(name: string, dtype: Dtype, shape: readonly Size[], rowStride?: number): TensorRef {
    const existing = this.externals.get(name);
    if (existing !== undefined) {
      const same =
        existing.dtype === dtype &&
        existing.shape.length === shape.length &&
        existing.shape.every((size, axis) => sameSize(size, shape[axis] ?? -1)) &&
        (rowStride === undefined || rowStride === existing.rowStride);
      if (!same) {
        throw new ArgumentError(
          `The recording has '${name}' as ${existing.dtype} ${formatShape(existing.shape)} already; found ${dtype} ${formatShape(shape)}.`,
          'Give each external tensor a name of its own.',
        );
      }
      return existing;
    }
    const tensor = this.#tensor(name, 'external', dtype, shape, rowStride);
    this.externals.set(name, tensor);
    return tensor;
  }

  /** A tensor that lives only inside a run; its buffer is shared with others that live at other times. */
  scratch(name: string, dtype: Dtype, shape: readonly Size[], rowStride?: number): TensorRef {
    return this.#tensor(this.#label(name), 'scratch', dtype, shape, rowStride);
  }

  /** A tensor with a buffer of its own that the caller reads after a run. */
  output(name: string, dtype: Dtype, shape: readonly Size[], rowStride?: number): TensorRef {
    const tensor = this.#tensor(name, 'output', dtype, shape, rowStride);
    this.outputs.set(name, tensor);
    return tensor;
  }

  /** Marks a scratch tensor as one that the caller reads after a run. */
  keep(name: string, tensor: TensorRef): void {
    if (tensor.storage.role === 'scratch') {
      const index = this.storages.indexOf(tensor.storage);
      // The storage object is shared by every view, so its role changes for all of them.
      (this.storages[index] as { role: StorageRole }).role = 'output';
    }
    this.outputs.set(name, tensor);
  }

  /** Stands in for an optional input that is absent: sixteen zero bytes that no shader may rely on. */
  placeholder(dtype: Dtype = 'f32'): TensorRef {
    if (this.#placeholder === undefined) {
      this.#placeholder = {
        id: this.storages.length,
        name: 'placeholder',
        role: 'placeholder',
        dtype: 'u32',
        rows: 1,
        rowStride: 4,
      };
      this.storages.push(this.#placeholder);
    }
    return { storage: this.#placeholder, dtype, shape: [0], offset: 0, rowWidth: 0, rowStride: 0 };
  }

  /** Runs `body` with a name that prefixes the labels of what it records. */
  scope<T>(name: string, body: () => T): T {
    this.#scope.push(name);
    try {
      return body();
    } finally {
      this.#scope.pop();
    }
  }

  /**
   * Appends one dispatch.
   *
   * @throws ShapeError if a binding's dtype does not suit the shader, a written tensor is bound twice, or a grid is
   *   larger than a device allows.
   */
  dispatch<S extends Shader>(shader: S, options: DispatchOptions<S>): void {
    const { index } = chooseVariant(shader, this.capabilities, options.choices ?? {}, this.force);
    const given: Readonly<Record<string, TensorRef>> = options.bindings;
    const bindings = shader.bindings.map((binding) => {
      const tensor = given[binding.name];
      if (tensor === undefined) {
        throw new ArgumentError(`${shader.name} needs a tensor for '${binding.name}'.`, 'Bind one, or a placeholder.');
      }
      const scalar = binding.scalars[index] ?? '';
      if (!SCALARS[tensor.dtype].includes(scalar) && tensor.storage.role !== 'placeholder') {
        throw new ShapeError(
          `${shader.name}.${binding.name} reads ${scalar} elements; found a tensor of dtype ${tensor.dtype} (${tensor.storage.name}).`,
          'Convert the tensor, or choose the variant for its dtype.',
        );
      }
      return tensor;
    });
    this.#refuseAliases(shader, bindings);
    const [x, y = 1, z = 1] = options.workgroups;
    for (const count of [x, y, z]) {
      if (maximumSize(count) > MAX_WORKGROUPS_PER_DIMENSION) {
        throw new ShapeError(
          `${shader.name} would need ${maximumSize(count)} workgroups in one dimension; the limit is ${MAX_WORKGROUPS_PER_DIMENSION}.`,
          'Use smaller tensors or a shorter chunk.',
        );
      }
    }
    const overrides: Record<string, number> = {};
    for (const [name, value] of Object.entries(options.overrides ?? {})) {
      if (value !== undefined) overrides[name] = Number(value);
    }
    this.dispatches.push({
      shader,
      variant: index,
      label: this.#label(shader.name),
      bindings,
      params: options.params,
      overrides,
      constants: (options.constants ?? {}) as Readonly<Record<string, number>>,
      workgroups: [x, y, z],
    });
  }

  /** The choice that a dispatch of this shader would make on one axis. */
  choice(shader: Shader, axis: string): string {
    return chooseVariant(shader, this.capabilities, {}, this.force).choices[axis] ?? '';
  }

  #label(name: string): string {
    return this.#scope.length === 0 ? name : `${this.#scope.join('/')}/${name}`;
  }

  #tensor(name: string, role: StorageRole, dtype: Dtype, shape: readonly Size[], stride?: number): TensorRef {
    const width = shape[shape.length - 1];
    if (width === undefined) {
      throw new ShapeError(`The tensor '${name}' has no dimensions.`, 'Give it at least one.');
    }
    for (const size of shape) {
      if (!Number.isInteger(maximumSize(size)) || maximumSize(size) < 1) {
        throw new ShapeError(
          `The tensor '${name}' has the shape ${formatShape(shape)}; every size must be a positive integer.`,
          'Check the sizes that it is made from.',
        );
      }
    }
    const wordValues = isQuantized(dtype) ? 1 : valuesPerWord(dtype);
    const rowStride = stride ?? Math.ceil(maximumSize(width) / wordValues) * wordValues;
    const rows = productSize(shape.slice(0, -1));
    const storage: StorageRef = { id: this.storages.length, name, role, dtype, rows, rowStride };
    this.storages.push(storage);
    return { storage, dtype, shape, offset: 0, rowWidth: maximumSize(width), rowStride };
  }

  #refuseAliases(shader: Shader, bindings: readonly TensorRef[]): void {
    for (const [index, binding] of shader.bindings.entries()) {
      if (binding.access !== 'read_write') continue;
      const written = bindings[index]?.storage;
      const other = bindings.findIndex((tensor, at) => at !== index && tensor.storage === written);
      if (other >= 0) {
        throw new ShapeError(
          `${shader.name} would bind ${written?.name ?? ''} as '${binding.name}' (written) and as '${shader.bindings[other]?.name ?? ''}' in one dispatch.`,
          'Write to another tensor, or use the in-place form of the kernel.',
        );
      }
    }
  }
}

/** A view of columns `from` to `to` of a (rows, width) tensor. */
export function columns(tensor: TensorRef, from: number, to: number): TensorRef {
  const [rows, width] = tensor.shape;
  if (tensor.shape.length !== 2 || rows === undefined || width === undefined) {
    throw new ShapeError(
      `Columns are taken of a (rows, width) tensor; found ${formatShape(tensor.shape)}.`,
      'Reshape it.',
    );
  }
  if (from < 0 || to <= from || to > maximumSize(width)) {
    throw new ShapeError(
      `Columns ${from} to ${to} are outside a width of ${sizeKey(width)}.`,
      'Use 0 <= from < to <= width.',
    );
  }
  return { ...tensor, shape: [rows, to - from], offset: addSize(tensor.offset, from), rowWidth: to - from };
}

/** A view of `count` rows from row `from` of a (rows, width) tensor. */
export function rowsOf(tensor: TensorRef, from: Size, count: Size): TensorRef {
  const width = tensor.shape[1];
  if (tensor.shape.length !== 2 || width === undefined) {
    throw new ShapeError(
      `Rows are taken of a (rows, width) tensor; found ${formatShape(tensor.shape)}.`,
      'Reshape it.',
    );
  }
  const offset = addSize(tensor.offset, multiplySize(from, tensor.rowStride));
  return { ...tensor, shape: [count, width], offset };
}

/**
 * The same values under another shape. Rows stay where they are: dimensions inside a row and dimensions over rows
 * may be regrouped, and kernels find the distance between rows with {@link strideOfRows}.
 *
 * @throws ShapeError if the number of values differs.
 */
export function reshape(tensor: TensorRef, shape: readonly Size[]): TensorRef {
  if (maximumSize(productSize(tensor.shape)) !== maximumSize(productSize(shape))) {
    throw new ShapeError(
      `A tensor of shape ${formatShape(tensor.shape)} cannot be seen as ${formatShape(shape)}.`,
      'Both must have the same number of values.',
    );
  }
  return { ...tensor, shape };
}

/**
 * Distance, in values, between rows that are made of the last `dimensions` dimensions.
 *
 * @throws ShapeError if those dimensions are not contiguous in the tensor's storage.
 */
export function strideOfRows(name: string, tensor: TensorRef, dimensions: number): number {
  const width = maximumSize(productSize(tensor.shape.slice(tensor.shape.length - dimensions)));
  if (width === tensor.rowWidth) return tensor.rowStride;
  if (tensor.rowStride === tensor.rowWidth) return width;
  throw new ShapeError(
    `'${name}' ${formatShape(tensor.shape)} lies in rows of ${tensor.rowWidth} values ${tensor.rowStride} apart; rows of ${width} are needed.`,
    'Give a contiguous tensor, or a view whose rows hold the last dimensions whole.',
  );
}
