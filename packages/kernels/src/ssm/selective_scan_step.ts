import { selectiveScanStepShader } from '../generated/ssm/selective_scan_step.ts';
import { requireRank } from '../core/checks.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { ceilDivSize, flatGrid, loadChoice, multiplySize } from '../core/size.ts';
import type { SelectiveTensors } from './selective.ts';
import { pairUp, placeOf, requireSelective } from './selective.ts';
import type { SsdTimeOptions } from './ssd.ts';
import { timeLimits } from './ssd.ts';

/** `SelectiveTensors` with `...` = (B). */
export interface SelectiveScanStepInputs extends SelectiveTensors {
  /** (B, E, N), updated in place */
  readonly state: TensorRef;
}

export type SelectiveScanStepOptions = SsdTimeOptions;

const WORKGROUP_SIZE = 128;
const MOST_LANES = 32;

/**
 * One token of `selectiveScan`: `h = exp(dt A) h + dt B u` in place and `y = (C h + D u) silu(z)`.
 *
 * @returns (B, E) f32, contiguous
 * @throws ShapeError if shapes or dtypes do not agree; ArgumentError if E is not a multiple of G, N is above 256 or
 *   dtLimits are reversed
 *
 * Cost: B E N exponentials and 6 B E N flops; 8 B E N + 4 E N bytes: the state read and written once, and A. One
 * dispatch. Source: arXiv 2312.00752, algorithm 2.
 */
export function selectiveScanStep(
  recording: Recording,
  inputs: SelectiveScanStepInputs,
  options: SelectiveScanStepOptions = {},
): TensorRef {
  const kernel = 'selectiveScanStep';
  const { u, dt, A, dtBias, D, z, state } = inputs;
  const [batch = 1] = requireRank(kernel, 'u', u, ['B', 'E']);
  const { channels, groups, stateSize } = requireSelective(kernel, inputs, [batch], ['B']);
  const limits = timeLimits(kernel, options);
  const places = {
    ...placeOf('u', u, 1),
    ...placeOf('dt', dt, 1),
    ...placeOf('z', z, 1),
    ...placeOf('a', A, 1),
    ...placeOf('state', state, 2),
  };
  const { B, C, vectors, biasOffset, skipOffset } = pairUp(recording, kernel, inputs);
  const b = placeOf('b', B, 2);
  const c = placeOf('c', C, 2);
  const y = recording.scratch('selectiveScanStep.y', 'f32', [batch, channels]);
  const choices = loadChoice(
    stateSize,
    places.aOffset,
    places.aStride,
    places.stateOffset,
    places.stateStride,
    b.bOffset,
    b.bStride,
    c.cOffset,
    c.cStride,
  );
  // As many lanes as a channel has vectors: a power of two.
  const load = choices.load ?? recording.choice(selectiveScanStepShader, 'load');
  const wanted = load === 'vec4' ? stateSize / 4 : stateSize;
  // A CPU's subgroups have four lanes: a channel within one needs no barrier.
  const most = recording.capabilities.software ? 4 : MOST_LANES;
  const lanes = Math.min(most, 2 ** Math.ceil(Math.log2(wanted)));
  recording.dispatch(selectiveScanStepShader, {
    bindings: { u, dt, A, BC: B, vectors, z: z ?? recording.placeholder(), state, y },
    params: {
      batch,
      channels,
      groupChannels: channels / groups,
      stateSize,
      ...places,
      ...b,
      ...c,
      biasOffset,
      skipOffset,
      ...limits,
    },
    overrides: {
      LANES: lanes,
      HAS_BIAS: dtBias !== undefined,
      HAS_SKIP: D !== undefined,
      HAS_GATE: z !== undefined,
      SOFTPLUS: options.dtSoftplus ?? true,
    },
    choices,
    workgroups: flatGrid(ceilDivSize(multiplySize(batch, channels), WORKGROUP_SIZE / lanes)),
  });
  return y;
}
