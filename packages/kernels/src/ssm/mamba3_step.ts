import { mamba3StepShader } from '../generated/ssm/mamba3_step.ts';
import { requireRank } from '../core/checks.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { loadChoice } from '../core/size.ts';
import type { JoinedPart } from './join_rows.ts';
import { joinRows } from './join_rows.ts';
import type { Mamba3States, Mamba3Tensors } from './mamba3.ts';
import { requireMamba3, wholeOffset } from './mamba3.ts';
import { placeOf } from './selective.ts';

/**
 * `Mamba3Tensors` with `...` = (B), and the states. Best are q and k as views of one storage, v, z, dt, adt, trap and
 * angles of one, and qBias, kBias and D of one: each of these groups that is not is copied together first.
 */
export type Mamba3StepInputs = Mamba3Tensors & Mamba3States;

const MOST_LANES = 32;

/**
 * One token of `mamba3Scan`: turns q and k, updates the states in place, and reads the new state with q.
 *
 * @returns (B, H, P) f32, contiguous
 * @throws ShapeError if shapes or dtypes do not agree; ArgumentError if H is not a multiple of Hqk, N is odd, or N, P or
 *   S is too large
 *
 * Cost: 7 B H P N flops; 8 B H P N bytes, one read and one write of the state. One dispatch. Source: state-spaces/mamba,
 * `mamba3_siso_step`.
 */
export function mamba3Step(recording: Recording, inputs: Mamba3StepInputs): TensorRef {
  const kernel = 'mamba3Step';
  const { D, z, angleState, state, kState, vState } = inputs;
  const [batch = 1] = requireRank(kernel, 'v', inputs.v, ['B', 'H', 'P']);
  const { heads, headDim, stateSize, group, rotary } = requireMamba3(kernel, inputs, [batch], ['B']);
  const part = (name: keyof Mamba3Tensors, dimensions: number): JoinedPart[] => {
    const tensor = inputs[name];
    return tensor === undefined ? [] : [{ name, tensor, dimensions }];
  };
  const [q = inputs.q, k = inputs.k] = joinRows(recording, 'mamba3Step.qk', [...part('q', 2), ...part('k', 2)]);
  const scalars = ['dt', 'adt', 'trap'].flatMap((name) => part(name as keyof Mamba3Tensors, 1));
  const rows = [...part('v', 2), ...scalars, ...part('angles', 2), ...part('z', 2)];
  const [v = inputs.v, dt = inputs.dt, adt = inputs.adt, trap = inputs.trap, angles = inputs.angles, gate] = joinRows(
    recording,
    'mamba3Step.tokens',
    rows,
  );
  // Each weight as one row.
  const weights = [...part('qBias', 2), ...part('kBias', 2), ...part('D', 1)];
  const [qBias = inputs.qBias, kBias = inputs.kBias, skip] = joinRows(recording, 'mamba3Step.weights', weights);

  const own = placeOf('state', state, 3);
  const y = recording.scratch('mamba3Step.y', 'f32', [batch, heads, headDim]);
  const choices = loadChoice(stateSize, own.stateOffset, own.stateStride);
  // As many lanes as a row has vectors: a power of two. A CPU's subgroups have four.
  const load = choices.load ?? recording.choice(mamba3StepShader, 'load');
  const most = recording.capabilities.software ? 4 : MOST_LANES;
  const lanes = Math.min(most, 2 ** Math.ceil(Math.log2(load === 'vec4' ? stateSize / 4 : stateSize)));
  recording.dispatch(mamba3StepShader, {
    bindings: { qk: q, tokens: v, weights: qBias, angleState, state, kState, vState, y },
    params: {
      heads,
      group,
      headDim,
      stateSize,
      rotary,
      ...placeOf('q', q, 2),
      ...placeOf('k', k, 2),
      ...placeOf('v', v, 2),
      ...placeOf('z', gate, 2),
      ...placeOf('dt', dt, 1),
      ...placeOf('adt', adt, 1),
      ...placeOf('trap', trap, 1),
      ...placeOf('angles', angles, 2),
      qBiasOffset: wholeOffset('qBias', qBias),
      kBiasOffset: wholeOffset('kBias', kBias),
      skipOffset: skip?.offset ?? 0,
      ...placeOf('angleState', angleState, 2),
      ...own,
      ...placeOf('kState', kState, 2),
      ...placeOf('vState', vState, 2),
    },
    overrides: { LANES: lanes, HAS_SKIP: D !== undefined, HAS_GATE: z !== undefined },
    choices,
    workgroups: [heads, batch],
  });
  return y;
}
