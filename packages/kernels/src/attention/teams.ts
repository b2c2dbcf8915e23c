import type { Capabilities } from '../core/capabilities.ts';
import { requireArgument, requireDtype, requireShape } from '../core/checks.ts';
import type { TensorRef } from '../core/recording.ts';
import type { Size } from '../core/size.ts';
import { flatGrid, maximumSize, multiplySize } from '../core/size.ts';

/** Values that a head may have where a team of invocations has one: its angles lie in workgroup memory. */
const MOST_VALUES = 256;

/** Overrides and grid of a shader whose workgroups have teams of invocations, one for each head of a token. */
export interface Teams {
  readonly overrides: { readonly WORKGROUP_SIZE: number; readonly LANES: number; readonly ROUNDS: number };
  readonly workgroups: readonly [Size, Size];
}

/** Teams for `rows` heads of each of `tokens` tokens. */
export function teamsFor({ software }: Capabilities, tokens: Size, rows: number): Teams {
  // A CPU switches between the subgroups of a workgroup at every barrier: one subgroup has none to switch to.
  const [lanes, count] = software ? [4, 1] : [32, 4];
  // The angles of a token are worked out once a workgroup: with few tokens, more workgroups matter more.
  const rounds = Math.min(Math.ceil(rows / count), maximumSize(tokens) <= 16 && !software ? 1 : 16 / count);
  return {
    overrides: { WORKGROUP_SIZE: lanes * count, LANES: lanes, ROUNDS: rounds },
    workgroups: flatGrid(multiplySize(tokens, Math.ceil(rows / (count * rounds)))),
  };
}

/** @throws ArgumentError unless a team can hold a head */
export function requireTeamHead(kernel: string, headDim: number): void {
  requireArgument(
    headDim % 2 === 0 && headDim <= MOST_VALUES,
    `${kernel}: a head must have an even number of values, at most ${MOST_VALUES}; found ${headDim}.`,
    'Pad odd heads of the projection with zeros.',
  );
}

/** Distance between the weights of two heads: 0 where all share (P). @throws ShapeError unless it is (P) or (H, P) f32 */
export function weightStride(
  kernel: string,
  name: string,
  weight: TensorRef | undefined,
  heads: number,
  headDim: number,
): number {
  if (weight === undefined) return 0;
  requireDtype(kernel, name, weight, 'f32');
  const shared = weight.shape.length === 1;
  requireShape(kernel, name, weight, shared ? [headDim] : [heads, headDim]);
  requireArgument(weight.offset === 0, `${kernel}: '${name}' is a part of a tensor.`, 'Give a tensor of its own.');
  return shared ? 0 : weight.rowStride;
}

/** `Params` of a norm. @throws ArgumentError unless they are finite, eps not negative */
export function normParams(
  kernel: string,
  { eps = 1e-6, weightOffset = 0 }: { readonly eps?: number | undefined; readonly weightOffset?: number | undefined },
): { readonly eps: number; readonly weightOffset: number } {
  requireArgument(
    Number.isFinite(eps) && eps >= 0 && Number.isFinite(weightOffset),
    `${kernel}: eps and weightOffset must be finite, eps not negative; found ${eps} and ${weightOffset}.`,
    'Take them from the configuration of the model.',
  );
  return { eps, weightOffset };
}
