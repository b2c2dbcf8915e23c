import type { Dtype } from '@mambalab/kernels';
import { isQuantized, tensorBytes, UnsupportedModelError, WeightFormatError } from '@mambalab/kernels';
import { tablePartName, weightRowStride } from '../graph/names.ts';
import type { ModelNames, ParsedModel, SourceTensor, WeightSpec } from '../spec/weight_spec.ts';
import { weightsOf } from '../spec/weight_spec.ts';
import type { Quantization } from './quantization.ts';
import { checkQuantization, storagePolicy } from './quantization.ts';
import type { SourceDtype, TensorInfo, TensorSource } from './source.ts';

/**
 * Storage of matrices that callers may ask for. `auto` keeps what the checkpoint holds; where that is quantized in blocks
 * of another kind, the nearest format (see docs/architecture.md). With `q8` and `q4`, embeddings, head, routers, adapters
 * and Mamba's projection of dt stay as they are with `auto`, unless {@link Quantization} says otherwise.
 */
export type WeightDtype = 'auto' | 'f32' | 'f16' | 'bf16' | 'q8' | 'q4';

/** A weight and how it will lie on the GPU. */
export interface PlannedWeight {
  readonly spec: WeightSpec;
  readonly dtype: Dtype;
  /** Where it becomes `q4`: whether scales are searched for. */
  readonly search?: boolean;
}

/** Whether a weight is f32 whatever the model's dtype is. */
export const isFloat32 = ({ kind, float32 }: WeightSpec): boolean => kind === 'vector' || float32 === true;

const FLOATS: Partial<Record<SourceDtype, Dtype>> = { F32: 'f32', F64: 'f32', F16: 'f16', BF16: 'bf16' };

/**
 * Matches a checkpoint's tensors with what the model needs, before a byte of them is read.
 *
 * @throws WeightFormatError if tensors are missing, have other shapes, or are there and nothing needs them;
 *   UnsupportedModelError if a tensor is stored in a type that is not read here; ArgumentError for a quantization that
 *   does not go with the dtype or the model
 */
export function planWeights(
  model: ParsedModel,
  source: TensorSource,
  dtype: WeightDtype,
  quantization?: Quantization,
): PlannedWeight[] {
  checkQuantization(quantization, dtype);
  const rename = storedNames(model.names, source.tensors);
  const specs = weightsOf(model).map((spec) => ({
    ...spec,
    sources: spec.sources.map((part) => storedSource(part, rename, source.tensors)),
  }));
  checkTensors(model, specs, source.tensors, rename);
  const storageOf =
    dtype === 'q8' || dtype === 'q4'
      ? storagePolicy(specs, dtype, quantization ?? {}, model.spec.tiedEmbeddings)
      : (): typeof dtype => dtype;
  return specs.map((spec) => {
    const stored = spec.sources.map(({ name }) => storedDtype(source.tensors.get(name)));
    if (isFloat32(spec)) return { spec, dtype: 'f32' };
    const storage = storageOf(spec);
    if (storage === 'auto' || storage === 'exact') return { spec, dtype: widest(stored) };
    return { spec, dtype: storage, ...(storage === 'q4' && quantization?.method === 'search' && { search: true }) };
  });
}

/** What parts of one matrix that differ in type are widened to: what holds them all, or of blocks all but exactly. */
function widest(stored: readonly Dtype[]): Dtype {
  const all = new Set(stored);
  const [first = 'f32'] = all;
  if (all.size <= 1) return first;
  if ([...all].every(isQuantized)) return 'q8';
  return [...all].every((dtype) => dtype === 'f16' || isQuantized(dtype)) ? 'f16' : 'f32';
}

/** What a checkpoint calls the tensors that a family names. */
function storedNames(
  { embedding, prefixes = [] }: ModelNames,
  tensors: ReadonlyMap<string, TensorInfo>,
): (name: string) => string {
  const same = (name: string): string => name;
  const renamings = prefixes.map((beginnings) => (name: string): string => {
    const found = Object.entries(beginnings).find(([beginning]) => name.startsWith(beginning));
    return found === undefined ? name : found[1] + name.slice(found[0].length);
  });
  return [same, ...renamings].find((rename) => tensors.has(rename(`${embedding}.weight`))) ?? same;
}

/** Where this checkpoint holds the rows of a source: in the first of its places that is there. */
function storedSource(
  { otherwise, ...part }: SourceTensor,
  rename: (name: string) => string,
  tensors: ReadonlyMap<string, TensorInfo>,
): SourceTensor {
  const own = { ...part, name: rename(part.name) };
  if (otherwise === undefined || tensors.has(own.name)) return own;
  const other = storedSource(otherwise, rename, tensors);
  return tensors.has(other.name) ? other : own;
}

/** Rows of a part of a table are a multiple of this: parts of the logits then begin at aligned values. */
const PART_ROWS = 64;

/**
 * Splits tables of one row a token (embedding and head) that exceed what a device binds at once into several tensors of
 * rows.
 *
 * @param largest bytes of one binding
 * @throws UnsupportedModelError for any other tensor that exceeds it, with what is missing
 */
export function splitTables(plan: readonly PlannedWeight[], largest: number): PlannedWeight[] {
  return plan.flatMap((weight) => {
    const { spec, dtype } = weight;
    const [rows = 1, ...inner] = spec.shape;
    const bytes = weightBytes(spec, dtype);
    if (bytes <= largest) return [weight];
    const part = Math.floor(largest / (bytes / rows) / PART_ROWS) * PART_ROWS;
    const [source, ...others] = spec.sources;
    if (!TABLES.includes(spec.name) || part === 0 || source === undefined || others.length > 0) {
      throw new UnsupportedModelError(
        `The weight '${spec.name}' takes ${bytes} bytes as ${dtype}; this device binds at most ${largest}, ${bytes - largest} too few.`,
        "Load the model with a smaller dtype, such as 'q8' or 'q4', or use another device.",
      );
    }
    return Array.from({ length: Math.ceil(rows / part) }, (_, index): PlannedWeight => {
      const first = index * part;
      const count = Math.min(part, rows - first);
      const name = tablePartName(spec.name, index);
      const sources = [{ ...source, ranges: [{ first, count }] }];
      return { ...weight, spec: { ...spec, name, shape: [count, ...inner], sources } };
    });
  });
}

const TABLES: readonly string[] = ['embedding', 'head'];

/** Bytes of a weight on the GPU. */
export function weightBytes(spec: WeightSpec, dtype: Dtype): number {
  const width = spec.shape[spec.shape.length - 1] ?? 1;
  return tensorBytes(dtype, spec.shape, spec.kind === 'matrix' ? weightRowStride(dtype, spec.shape) : width);
}

function storedDtype(info: TensorInfo | undefined): Dtype {
  const dtype = info?.blocks?.nearest ?? (info && FLOATS[info.dtype]);
  if (info === undefined || dtype === undefined) {
    throw new UnsupportedModelError(
      `The tensor '${info?.name ?? ''}' is stored as ${info?.dtype ?? 'nothing'}; weights must be floating-point numbers.`,
      'Use a checkpoint in F32, F16, BF16 or F64.',
    );
  }
  return dtype;
}

/** At most this many names stand in one message. */
const NAMED = 5;

function checkTensors(
  model: ParsedModel,
  specs: readonly WeightSpec[],
  tensors: ReadonlyMap<string, TensorInfo>,
  rename: (name: string) => string,
): void {
  const needed = new Map(specs.flatMap(({ sources }) => sources.map(({ name, shape }) => [name, shape] as const)));
  const family = model.spec.family;
  const missing = [...needed.keys()].filter((name) => !tensors.has(name));
  if (missing.length > 0) {
    throw new WeightFormatError(
      `The checkpoint lacks ${missing.length} of the ${needed.size} tensors of this ${family} model: ${listed(missing)}.`,
      'Check that config.json and the weights belong together and that every shard is there.',
    );
  }
  const misshapen = [...needed].filter(([name, shape]) => !sameShape(tensors.get(name)?.shape ?? [], shape));
  if (misshapen.length > 0) {
    const details = misshapen.map(
      ([name, shape]) => `${name} is (${(tensors.get(name)?.shape ?? []).join(', ')}), expected (${shape.join(', ')})`,
    );
    throw new WeightFormatError(
      `${misshapen.length} tensors of the checkpoint do not have the shape that config.json calls for: ${listed(details)}.`,
      'Check that config.json and the weights belong together.',
    );
  }
  // A tied head is often stored a second time.
  const isSpare = (name: string): boolean =>
    (model.spec.tiedEmbeddings && name === rename(`${model.names.head}.weight`)) ||
    model.names.ignored.some((pattern) => pattern.test(name));
  const extra = [...tensors.keys()].filter((name) => !needed.has(name) && !isSpare(name));
  if (extra.length > 0) {
    throw new WeightFormatError(
      `The checkpoint holds ${extra.length} tensors that a ${family} model with this config.json does not have: ${listed(extra)}.`,
      'Running it without them would give other results; check that config.json and the weights belong together.',
    );
  }
}

const sameShape = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((size, axis) => size === b[axis]);

function listed(names: readonly string[]): string {
  const more = names.length - NAMED;
  return names.slice(0, NAMED).join('; ') + (more > 0 ? ` and ${more} more` : '');
}
