import { UnsupportedModelError, WeightFormatError } from '@mambalab/kernels';
import { joinColumns, joinSlices } from './joined_tensor.ts';
import type { JoinedTensor, StoredTensor, TensorSlice } from './joined_tensor.ts';
import type { ByteFile, TensorInfo } from './source.ts';

/** The tensors of one tensor-parallel rank, by their Megatron names. */
export interface MegatronRank {
  readonly file: ByteFile;
  readonly tensors: ReadonlyMap<string, TensorInfo>;
}

/**
 * The tensors of all ranks of a Megatron checkpoint. Every method that gives a tensor wants to know the shape that one
 * rank must hold, and remembers that the tensor was used.
 */
export class MegatronTensors {
  /** How many ranks a tensor is spread over. */
  readonly size: number;
  readonly #ranks: readonly MegatronRank[];
  readonly #first: MegatronRank;
  readonly #used = new Set<string>();

  /** @throws WeightFormatError naming the tensor if ranks hold different tensors, or tensors of different shapes */
  constructor(first: MegatronRank, others: readonly MegatronRank[]) {
    this.size = 1 + others.length;
    this.#first = first;
    this.#ranks = [first, ...others];
    for (const other of others) checkAlike(first, other);
  }

  get names(): readonly string[] {
    return [...this.#first.tensors.keys()];
  }

  has(name: string): boolean {
    return this.#first.tensors.has(name);
  }

  /** The shape of a tensor in one rank; undefined where there is none. */
  shape(name: string): readonly number[] | undefined {
    return this.#first.tensors.get(name)?.shape;
  }

  /** The length of a dimension in one rank. @throws WeightFormatError if there is no such tensor or dimension */
  dimension(name: string, axis: number): number {
    const size = this.shape(name)?.[axis];
    if (size !== undefined) return size;
    if (this.has(name)) throw this.#wrong(name, `has the shape (${this.shape(name)?.join(', ')})`);
    throw this.#missing(name);
  }

  /** The first of several spellings that the checkpoint uses. @throws WeightFormatError if it uses none of them */
  spelling(names: readonly string[]): string {
    const found = names.find((name) => this.has(name));
    if (found === undefined) throw this.#missing(names.join(' or '));
    return found;
  }

  /** A tensor that every rank holds alike. */
  replicated(to: string, name: string, shape: readonly number[]): JoinedTensor {
    const [first] = this.#take(name, shape);
    return joinSlices(to, shape, first === undefined ? [] : [wholeOf(first)]);
  }

  /** Rows of all ranks, one rank after another. `shape` is that of one rank. */
  rows(to: string, name: string, shape: readonly number[]): JoinedTensor {
    const parts = this.#take(name, shape);
    const [rows = 0, ...others] = shape;
    return joinSlices(to, [rows * this.size, ...others], parts.map(wholeOf));
  }

  /** Columns of all ranks side by side. `shape` is that of one rank. */
  columns(to: string, name: string, shape: readonly [number, number]): JoinedTensor {
    return joinColumns(to, this.#take(name, shape));
  }

  /**
   * A tensor that is several in one, each spread over the ranks by rows: all of the first, then all of the second.
   * `sections` are their rows in one rank, `shape` is that of one rank.
   */
  sections(to: string, name: string, shape: readonly number[], sections: readonly number[]): JoinedTensor {
    const parts = this.#take(name, shape);
    const [rows = 0, ...others] = shape;
    let first = 0;
    const slices = sections.flatMap((count) => {
      const range = parts.map((tensor) => rowsOf(tensor, first, count));
      first += count;
      return range;
    });
    return joinSlices(to, [rows * this.size, ...others], slices);
  }

  /**
   * Rows of a tensor that repeats a pattern of rows, such as queries, key and value of every group: of each `period`
   * rows the `count` from `first` on. `shape` is that of one rank.
   */
  periodic(
    to: string,
    name: string,
    shape: readonly [number, number],
    { period, first, count }: { readonly period: number; readonly first: number; readonly count: number },
  ): JoinedTensor {
    const [rows, columns] = shape;
    const repeats = rows / period;
    const slices = this.#take(name, shape).flatMap((tensor) =>
      Array.from({ length: repeats }, (_, repeat) => rowsOf(tensor, repeat * period + first, count)),
    );
    return joinSlices(to, [count * repeats * this.size, columns], slices);
  }

  /** @throws UnsupportedModelError if a tensor was not used: without it the model would be another one */
  checkAllUsed(family: string): void {
    const left = this.names.filter((name) => !this.#used.has(name));
    if (left.length === 0) return;
    throw new UnsupportedModelError(
      `${this.#first.file.name} holds ${left.length} tensors that have no place in a ${family} model: ${left.slice(0, 5).join(', ')}.`,
      'Running the model without them would give other results; this version does not know this architecture.',
    );
  }

  #take(name: string, shape: readonly number[]): StoredTensor[] {
    this.#used.add(name);
    return this.#ranks.map(({ file, tensors }) => {
      const info = tensors.get(name);
      if (info === undefined) throw this.#missing(name);
      if (info.shape.join() !== shape.join()) {
        throw this.#wrong(name, `has the shape (${info.shape.join(', ')}), expected (${shape.join(', ')})`);
      }
      return { file, info };
    });
  }

  #missing(name: string): WeightFormatError {
    return new WeightFormatError(
      `${this.#first.file.name} lacks the tensor ${name}.`,
      'Check that the checkpoint is complete and of a model that this version runs.',
    );
  }

  #wrong(name: string, problem: string): WeightFormatError {
    const ranks = this.size === 1 ? '' : ` in each of ${this.size} ranks`;
    return new WeightFormatError(
      `The tensor ${name} of ${this.#first.file.name} ${problem}${ranks}.`,
      'The tensors and the arguments in the checkpoint contradict each other: download or export it again.',
    );
  }
}

function checkAlike(first: MegatronRank, other: MegatronRank): void {
  const differs = (name: string): boolean => {
    const [a, b] = [first.tensors.get(name), other.tensors.get(name)];
    return a === undefined || b === undefined || a.dtype !== b.dtype || a.shape.join() !== b.shape.join();
  };
  const name = [...first.tensors.keys(), ...other.tensors.keys()].find(differs);
  if (name === undefined) return;
  const [a, b] = [first, other].map(({ file, tensors }) => `${describe(tensors.get(name))} in ${file.name}`);
  throw new WeightFormatError(
    `The ranks disagree about the tensor ${name}: it is ${a} and ${b}.`,
    'Take all ranks from one checkpoint.',
  );
}

const describe = (info: TensorInfo | undefined): string =>
  info === undefined ? 'missing' : `${info.dtype} (${info.shape.join(', ')})`;

const wholeOf = (tensor: StoredTensor): TensorSlice => ({ tensor, start: 0, end: tensor.info.byteLength });

function rowsOf(tensor: StoredTensor, first: number, count: number): TensorSlice {
  const bytes = tensor.info.byteLength / (tensor.info.shape[0] ?? 1);
  return { tensor, start: first * bytes, end: (first + count) * bytes };
}
