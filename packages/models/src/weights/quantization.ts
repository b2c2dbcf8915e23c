import { ArgumentError } from '@mambalab/kernels';
import type { WeightSpec } from '../spec/weight_spec.ts';

/** How one matrix of a quantized model is stored: in blocks, or as with dtype `auto`. */
export type TensorStorage = 'exact' | 'q8' | 'q4';

const STORAGES: readonly TensorStorage[] = ['exact', 'q8', 'q4'];
const METHODS = ['round', 'search'] as const;

/** How matrices become blocks, with dtype `q8` or `q4`. */
export interface Quantization {
  /**
   * How the scale of a block of `q4` is found. `round`, when absent: from its largest value. `search`: the one of several
   * that makes the squared error of the block smallest, never worse and about ten times as slow. `q8` has no use for it.
   */
  readonly method?: (typeof METHODS)[number];
  /**
   * What is stored otherwise than the dtype says: a pattern, and `exact`, `q8` or `q4`. A pattern is compared with the
   * names of a matrix: those of its tensors in the checkpoint (`*.mixer.out_proj.weight`), its own
   * (`layers.3.0.outProjection`) and its role, the end of that (`outProjection`, `embedding`, `head`, `router`); `*`
   * stands for any characters. The first pattern that fits holds. When absent, embeddings, head, routers, adapters and
   * Mamba's projection of dt are exact; norms, convolutions, A, dt, D and biases always are. Where the head is tied,
   * `head` and `embedding` are the same matrix.
   */
  readonly tensors?: Readonly<Record<string, TensorStorage>>;
}

/** What a matrix is stored as, of {@link TensorStorage}. */
export type StoragePolicy = (spec: WeightSpec) => TensorStorage;

/**
 * The policy for the weights of a model.
 *
 * @param specs all of them, with the names that the checkpoint has for their tensors
 * @throws ArgumentError for an unknown method or storage, and for a pattern that fits nothing, or nothing that can be
 *   stored in blocks
 */
export function storagePolicy(
  specs: readonly WeightSpec[],
  dtype: 'q8' | 'q4',
  { tensors = {} }: Quantization,
  tied: boolean,
): StoragePolicy {
  const rules = Object.entries(tensors).map(([pattern, storage]) => {
    const expression = expressionOf(pattern);
    const fits = (spec: WeightSpec): boolean => namesOf(spec, tied).some((name) => expression.test(name));
    const fitting = specs.filter(fits);
    if (fitting.length === 0) {
      throw new ArgumentError(
        `'quantization.tensors' names '${pattern}', which no tensor of this model is called.`,
        `Give a tensor of the checkpoint or a role, of: ${[...new Set(specs.filter(isMatrix).map(roleOf))].join(', ')}.`,
      );
    }
    if (storage !== 'exact' && !fitting.some(isMatrix)) {
      throw new ArgumentError(
        `'quantization.tensors' asks for '${pattern}' in ${storage}, which is stored exactly in every model.`,
        'Leave it out: norms, convolutions, A, dt, D and biases are small, and kernels read them as float32.',
      );
    }
    return { fits, storage };
  });
  return (spec) => rules.find(({ fits }) => fits(spec))?.storage ?? (spec.exact === true ? 'exact' : dtype);
}

/**
 * @throws ArgumentError for values that are none of the options, or with a dtype that quantizes nothing
 */
export function checkQuantization(quantization: Quantization | undefined, dtype: string): void {
  if (quantization === undefined) return;
  const { method = 'round', tensors = {} } = quantization;
  if (dtype !== 'q8' && dtype !== 'q4') {
    throw new ArgumentError(
      `'quantization' is given with dtype '${dtype}', which has no blocks.`,
      "Give dtype 'q8' or 'q4' with it, and name what is stored otherwise in 'quantization.tensors'.",
    );
  }
  if (!METHODS.includes(method)) {
    throw new ArgumentError(`'quantization.method' is '${String(method)}'.`, `Give one of: ${METHODS.join(', ')}.`);
  }
  for (const [pattern, storage] of Object.entries(tensors)) {
    if (STORAGES.includes(storage)) continue;
    throw new ArgumentError(
      `'quantization.tensors' stores '${pattern}' as '${String(storage)}'.`,
      `Give one of: ${STORAGES.join(', ')}.`,
    );
  }
}

const isMatrix = ({ kind, float32 }: WeightSpec): boolean => kind === 'matrix' && float32 !== true;

const roleOf = ({ name }: WeightSpec): string => name.slice(name.lastIndexOf('.') + 1);

function namesOf(spec: WeightSpec, tied: boolean): readonly string[] {
  const isTable = tied && spec.name === 'embedding';
  return [spec.name, roleOf(spec), ...(isTable ? ['head'] : []), ...spec.sources.map(({ name }) => name)];
}

function expressionOf(pattern: string): RegExp {
  const parts = pattern.split('*').map((part) => part.replace(/[.+?^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(`^${parts.join('.*')}$`, 's');
}
