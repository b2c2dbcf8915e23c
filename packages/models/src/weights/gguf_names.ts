import { UnsupportedModelError } from '@mambalab/kernels';
import { isBlockKind } from './gguf_blocks.ts';
import type { GgufTensor } from './gguf_header.ts';
import type { ColumnOrder, PlacedTensor, TensorRows } from './gguf_tensors.ts';
import type { ByteFile } from './source.ts';

/** A tensor of a GGUF file, or of one of several that belong together. */
export interface FoundTensor extends GgufTensor {
  readonly file: ByteFile;
}

/** Order of rows that a conversion changed: the stored row of a place, for so many rows. */
export type RowOrder = (rows: number) => (place: number) => number;

/** What becomes of a tensor of a GGUF file. */
export interface Rule {
  /** The name that Hugging Face's checkpoints have for it, without `.weight` or `.bias`; `#` is the block's number. */
  readonly to: string;
  /** `to` is the whole name. */
  readonly isWhole?: boolean;
  /** How its shape differs: one dimension, or the filters of a convolution, (channels, 1, taps), or one row. */
  readonly form?: 'vector' | 'filters' | 'row';
  readonly order?: RowOrder;
  readonly columns?: ColumnOrder;
  readonly shift?: number;
  readonly transposed?: boolean;
  /** A instead of A_log. */
  readonly transformed?: boolean;
  /** (experts, rows, width), of which each expert has a tensor of its own: `%` is its number. */
  readonly experts?: boolean;
  /** The first or second half of the rows of a tensor, or of the rows of each expert. */
  readonly half?: 0 | 1;
}

/** Rules by the names of tensors without `blk.N.` in front and `.weight` or `.bias` behind. */
export type Rules = Readonly<Record<string, Rule>>;

/** A tensor's name taken apart. */
interface NameParts {
  readonly block: string;
  readonly stem: string;
  readonly role: 'weight' | 'bias' | undefined;
}

function partsOf(name: string): NameParts {
  const [, block = '', stem = name, role] = /^(?:blk\.(\d+)\.)?(.*?)(?:\.(weight|bias))?$/s.exec(name) ?? [];
  return { block, stem, role: role === 'weight' || role === 'bias' ? role : undefined };
}

/**
 * Tensors under Hugging Face's names. One that no rule is for keeps its own name, so that it shows as one too many.
 *
 * @param layers of the model: blocks behind them, which predict several tokens at once, are left out
 * @param blocks of the file
 */
export function placeByRules(
  tensors: Iterable<FoundTensor>,
  rules: Rules,
  { layers, blocks }: { readonly layers: number; readonly blocks: number },
): PlacedTensor[] {
  const placed: PlacedTensor[] = [];
  const halves = new Map<string, PlacedTensor[]>();
  for (const tensor of tensors) {
    const { block, stem, role } = partsOf(tensor.name);
    if (block !== '' && Number(block) >= layers && Number(block) < blocks) continue;
    const rule = Object.hasOwn(rules, stem) ? rules[stem] : undefined;
    if (rule === undefined || rule.to.includes('#') !== (block !== '')) {
      placed.push({ name: tensor.name, shape: tensor.shape, parts: [allRows(tensor)] });
      continue;
    }
    const name = rule.to.replace('#', block) + (rule.isWhole === true ? '' : `.${role ?? 'weight'}`);
    const whole = placeOne(tensor, rule, name);
    if (rule.half !== undefined) {
      const both = halves.get(name) ?? [];
      both[rule.half] = whole;
      halves.set(name, both);
    } else if (rule.experts === true) {
      placed.push(...placeExperts(tensor, name));
    } else {
      placed.push(whole);
    }
  }
  for (const [name, [first, second]] of halves) {
    // One without the other shows as missing.
    if (first !== undefined && second !== undefined) placed.push(joinHalves(name, first, second));
  }
  return placed;
}

/** All rows of a tensor. */
export function allRows(tensor: FoundTensor, order?: RowOrder): TensorRows {
  if (isBlockKind(tensor.kind) && tensor.shape.length < 2) {
    throw new UnsupportedModelError(
      `Tensor '${tensor.name}' in ${tensor.file.name} is a vector in ${tensor.kind}, which this version does not read.`,
      'Convert the model with vectors in F32, as llama.cpp does.',
    );
  }
  const count = rowsOf(tensor);
  return { tensor, file: tensor.file, first: 0, count, ...(order && { order: order(count) }) };
}

export function rowsOf({ shape }: GgufTensor): number {
  const all = shape.length > 1 ? shape.slice(0, -1) : shape;
  return all.reduce((product, size) => product * size, 1);
}

function placeOne(tensor: FoundTensor, rule: Rule, name: string): PlacedTensor {
  const { columns, shift, transposed, transformed } = rule;
  return {
    name,
    shape: shapeOf(tensor, rule),
    parts: [allRows(tensor, rule.order)],
    ...(columns && { columns }),
    ...(shift !== undefined && name.endsWith('.weight') && { shift }),
    ...(transposed === true && tensor.shape.length > 1 && { transposed }),
    ...(transformed === true && { transformed }),
  };
}

function shapeOf({ shape }: GgufTensor, { form, transposed }: Rule): readonly number[] {
  const values = shape.reduce((product, size) => product * size, 1);
  if (form === 'vector') return [values];
  if (form === 'row') return shape.length === 1 ? [1, ...shape] : shape;
  if (form === 'filters' && shape.length === 2) return [shape[0] ?? 1, 1, shape[1] ?? 1];
  return transposed === true ? shape.toReversed() : shape;
}

function placeExperts(tensor: FoundTensor, name: string): PlacedTensor[] {
  const [experts = 1, ...shape] = tensor.shape;
  const count = rowsOf(tensor) / experts;
  return Array.from({ length: experts }, (_, expert) => ({
    name: name.replace('%', String(expert)),
    shape,
    parts: [{ tensor, file: tensor.file, first: expert * count, count }],
  }));
}

/** Rows of the first and then of the second; where they are matrices of experts, of each expert in turn. */
function joinHalves(name: string, first: PlacedTensor, second: PlacedTensor): PlacedTensor {
  const lead = first.shape.slice(0, -2);
  const [rows = 1, width = 1] = first.shape.slice(-2);
  const [others = 1] = second.shape.slice(-2);
  const experts = lead.reduce((product, size) => product * size, 1);
  const parts = Array.from({ length: experts }, (_, expert) =>
    [first, second].flatMap((half) =>
      half.parts.map(({ tensor, file, count }): TensorRows => {
        const each = count / experts;
        return { tensor, file, first: expert * each, count: each };
      }),
    ),
  );
  return { name, shape: [...lead, rows + others, width], parts: parts.flat() };
}

/** Rows of heads of `size` values whose pairs stand side by side (interleaved RoPE), for names that have them half a head apart. */
export function interleavedPairs(size: number): RowOrder {
  return () => (place) => {
    const within = place % size;
    const half = size / 2;
    return place - within + 2 * (within % half) + Math.floor(within / half);
  };
}

/** A tensor (inner, outer, size) where names call for (outer, inner, size): the transposition of its first two axes. */
export function swappedAxes(outer: number, inner: number, size: number): (place: number) => number {
  return (place) => {
    const value = place % size;
    const pair = Math.floor(place / size);
    return ((pair % inner) * outer + Math.floor(pair / inner)) * size + value;
  };
}
