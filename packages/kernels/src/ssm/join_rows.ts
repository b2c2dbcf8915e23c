import { joinRowsShader } from '../generated/ssm/join_rows.ts';
import { requireArgument } from '../core/checks.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import type { Size } from '../core/size.ts';
import { addSize, ceilDivSize, flatGrid, maximumSize, multiplySize, productSize } from '../core/size.ts';

/** A tensor to bind together with others: its rows are made of its last `dimensions` dimensions. */
export interface JoinedPart {
  readonly name: string;
  readonly tensor: TensorRef;
  readonly dimensions: number;
}

const WORKGROUP_SIZE = 64;
const MOST_PARTS = 6;

/**
 * The same tensors as views of one storage, so that a shader reads them through one binding: as they are where they
 * share a storage already, else copied by one dispatch. All have the same number of rows.
 */
export function joinRows<T extends readonly JoinedPart[]>(
  recording: Recording,
  name: string,
  parts: T,
): { readonly [I in keyof T]: TensorRef } {
  const [first] = parts;
  if (first === undefined || parts.every(({ tensor }) => tensor.storage === first.tensor.storage)) {
    return parts.map(({ tensor }) => tensor) as never;
  }
  requireArgument(parts.length <= MOST_PARTS, `${name}: ${parts.length} tensors.`, `At most ${MOST_PARTS} are joined.`);
  const rowsOf = ({ tensor, dimensions }: JoinedPart): readonly Size[] =>
    tensor.shape.slice(0, tensor.shape.length - dimensions);
  const rows = productSize(rowsOf(first));
  const widths = parts.map(({ tensor, dimensions }) =>
    maximumSize(productSize(tensor.shape.slice(tensor.shape.length - dimensions))),
  );
  const width = widths.reduce((sum, one) => sum + one, 0);
  const joined = recording.scratch(name, 'f32', [rows, width]);
  const offset = (at: number): Size => parts[at]?.tensor.offset ?? 0;
  const stride = (at: number): number => {
    const part = parts[at];
    return part === undefined ? 0 : strideOfRows(part.name, part.tensor, part.dimensions);
  };
  const tensor = (at: number): TensorRef => parts[at]?.tensor ?? recording.placeholder();
  recording.dispatch(joinRowsShader, {
    bindings: {
      part0: tensor(0),
      part1: tensor(1),
      part2: tensor(2),
      part3: tensor(3),
      part4: tensor(4),
      part5: tensor(5),
      joined,
    },
    params: {
      rows,
      width0: widths[0] ?? 0,
      width1: widths[1] ?? 0,
      width2: widths[2] ?? 0,
      width3: widths[3] ?? 0,
      width4: widths[4] ?? 0,
      width5: widths[5] ?? 0,
      offset0: offset(0),
      offset1: offset(1),
      offset2: offset(2),
      offset3: offset(3),
      offset4: offset(4),
      offset5: offset(5),
      stride0: stride(0),
      stride1: stride(1),
      stride2: stride(2),
      stride3: stride(3),
      stride4: stride(4),
      stride5: stride(5),
      width,
    },
    overrides: { WORKGROUP_SIZE },
    workgroups: flatGrid(ceilDivSize(multiplySize(rows, width), WORKGROUP_SIZE)),
  });
  let start = 0;
  return parts.map((part, at) => {
    const view: TensorRef = {
      ...joined,
      shape: part.tensor.shape,
      offset: addSize(joined.offset, start),
      rowWidth: widths[at] ?? 0,
    };
    start += widths[at] ?? 0;
    return view;
  }) as never;
}
