import { expertMatmulShader } from '../generated/moe/expert_matmul.ts';
import { requireArgument } from '../core/checks.ts';
import type { TileShape } from '../core/matrix.ts';
import { activationNumber, requireTile, tileColumns, tileRows, TILES } from '../core/matrix.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import type { Size } from '../core/size.ts';
import { addSize, ceilDivSize, maximumSize } from '../core/size.ts';
import type { ExpertPass } from './expert_pass.ts';
import { expertOutput, expertParams } from './expert_pass.ts';
import type { ExpertInputs, ExpertOptions } from './routing.ts';
import { requireExpertRows, requireExperts, requireOrder, requireRouting } from './routing.ts';

export interface ExpertMatmulOptions extends ExpertOptions {
  /** Tile of a workgroup, up to 64 by 128; chosen from the shapes when absent. */
  readonly tile?: TileShape | undefined;
}

/**
 * Product of many tokens with the matrices of their experts: `y[m, s] = act(weight[indices[m, s]] x[m])`, or x[m, s]
 * where every expert of a token has a row of its own. Tiles are made of the pairs of one expert, from the routing's order.
 *
 * @returns (M, k, N) f32, rows a multiple of 4 values apart
 * @throws ShapeError if shapes or dtypes do not agree, or the routing is not sorted; ArgumentError for an unknown
 *   activation or a tile that does not fit
 *
 * Cost: 2 M k N K flops; the weights of experts with tokens are read once for every M tile, mostly from cache.
 */
export function expertMatmul(recording: Recording, inputs: ExpertInputs, options: ExpertMatmulOptions = {}): TensorRef {
  const experts = requireExperts('expertMatmul', 'weight', inputs.weight);
  const routing = requireRouting('expertMatmul', inputs.routing, inputs.x.shape[0] ?? 0);
  const { paired, rows } = requireExpertRows('expertMatmul', inputs.x, routing.slots, experts.inner);
  const activation = activationNumber('expertMatmul', options.activation);
  const { tile } = options;
  if (tile !== undefined) {
    requireTile('expertMatmul', tile);
    requireArgument(
      tileRows(tile) + tileColumns(tile) <= 192,
      `expertMatmul: a tile of ${tileRows(tile)} by ${tileColumns(tile)} leaves no room to look for its expert.`,
      'Rows and columns may be up to 192 together.',
    );
  }
  return recordExpertTiles(recording, 'expertMatmul', {
    x: inputs.x,
    rows,
    paired,
    weight: inputs.weight,
    view: experts,
    routing: inputs.routing,
    pairs: routing,
    activation,
    tile,
  });
}

/** Records the form for many tokens. */
export function recordExpertTiles(
  recording: Recording,
  kernel: string,
  pass: ExpertPass & { readonly tile?: TileShape | undefined },
): TensorRef {
  const { x, rows, view, gate, pairs } = pass;
  const { order, offsets } = requireOrder(kernel, pass.routing, view.experts);
  const y = expertOutput(recording, kernel, pass);
  const tile = pass.tile ?? chooseExpertTile(pass);
  const made = gate === undefined ? tileColumns(tile) : tileColumns(tile) / 2;
  recording.dispatch(expertMatmulShader, {
    bindings: { x, gate: gate ?? recording.placeholder(), weight: pass.weight, order, offsets, y },
    params: { ...expertParams(pass, y), experts: view.experts },
    overrides: {
      ...tile,
      ACTIVATION: pass.activation,
      GATED: gate !== undefined,
      PAIRED: pass.paired,
      UNROLL: !recording.capabilities.software,
    },
    choices: { weight: view.dtype, access: rows.aligned ? 'vector' : 'scalar' },
    workgroups: [expertTiles(pairs.pairs, view.experts, tileRows(tile)), Math.ceil(view.outputs / made)],
  });
  return y;
}

/** Most tiles of `size` pairs that one expert's each: floor(pairs / size) + experts (see shared/expert_tile). */
function expertTiles(pairs: Size, experts: number, size: number): Size {
  return addSize(ceilDivSize(addSize(pairs, 1), size), experts - 1);
}

/** The tile for the pairs that an expert has on average. */
function chooseExpertTile({ view, gate, pairs }: ExpertPass): TileShape {
  const each = Math.ceil(maximumSize(pairs.pairs) / view.experts);
  const rows = each <= 16 ? '16x64' : each <= 32 ? '32x64' : '64x64';
  const tile = TILES[rows];
  if (gate === undefined) return tile;
  // Eight columns of sums an invocation, half of them the gate's. An invocation stages one block of weights, eight values
  // along K of f16 and bf16, four of the others: those need as many invocations as columns.
  const wide = view.dtype === 'f16' || view.dtype === 'bf16';
  return { ...tile, THREADS_M: wide ? tile.THREADS_M : Math.max(tile.THREADS_M, 8), THREAD_COLUMNS: 8 };
}
