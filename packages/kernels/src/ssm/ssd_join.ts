import { ssdJoinShader } from '../generated/ssm/ssd_join.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import { addSize, ceilDivSize, flatGrid, maximumSize, multiplySize, productSize } from '../core/size.ts';

const WORKGROUP_SIZE = 64;

/** Two or three tensors. */
type Several = readonly [TensorRef, TensorRef, TensorRef?];

/**
 * Tensors as views of one storage, which kernels bind once: as they are where they share one already, else copied.
 *
 * @param dimensions how many trailing dimensions of each make a row; the others are the same in all
 */
export function joinColumns<T extends Several>(
  recording: Recording,
  kernel: string,
  tensors: T,
  dimensions: readonly number[],
): { readonly [I in keyof T]: TensorRef } {
  const parts: readonly TensorRef[] = tensors.filter((tensor) => tensor !== undefined);
  if (parts.every(({ storage }) => storage === tensors[0].storage)) return parts as never;
  const widths = parts.map(({ shape }, at) =>
    maximumSize(productSize(shape.slice(shape.length - (dimensions[at] ?? 1)))),
  );
  const rows = productSize(tensors[0].shape.slice(0, -(dimensions[0] ?? 1)));
  const width = widths.reduce((sum, part) => sum + part, 0);
  const joined = recording.scratch(`${kernel}.joined`, 'f32', [rows, width]);
  const place = (at: number): { readonly tensor: TensorRef; readonly width: number; readonly stride: number } => {
    const tensor = parts[at];
    if (tensor === undefined) return { tensor: recording.placeholder(), width: 0, stride: 0 };
    return { tensor, width: widths[at] ?? 0, stride: strideOfRows(`joined ${at}`, tensor, dimensions[at] ?? 1) };
  };
  const [first, second, third] = [place(0), place(1), place(2)];
  recording.dispatch(ssdJoinShader, {
    bindings: { first: first.tensor, second: second.tensor, third: third.tensor, joined },
    params: {
      rows,
      firstWidth: first.width,
      firstOffset: first.tensor.offset,
      firstStride: first.stride,
      secondWidth: second.width,
      secondOffset: second.tensor.offset,
      secondStride: second.stride,
      thirdWidth: third.width,
      thirdOffset: third.tensor.offset,
      thirdStride: third.stride,
    },
    overrides: { WORKGROUP_SIZE },
    workgroups: flatGrid(ceilDivSize(multiplySize(rows, width), WORKGROUP_SIZE)),
  });
  let offset = 0;
  return parts.map((tensor, at) => {
    const view = { ...joined, shape: tensor.shape, offset: addSize(joined.offset, offset), rowWidth: widths[at] ?? 0 };
    offset += widths[at] ?? 0;
    return view;
  }) as never;
}
