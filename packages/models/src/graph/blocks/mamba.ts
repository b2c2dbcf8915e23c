import type { Size, TensorRef } from '@mambalab/kernels';
import {
  causalConv1d,
  causalConv1dStep,
  columns,
  linear,
  reshape,
  rmsNorm,
  rowsOf,
  selectiveScan,
  selectiveScanStep,
} from '@mambalab/kernels';
import type { MambaSpec } from '../../spec/model_spec.ts';
import type { BlockArguments } from './block.ts';
import { outputOptions, withResidual } from './block.ts';

export function addMamba(block: BlockArguments<MambaSpec>): TensorRef {
  const { context, name, spec, input } = block;
  const { recording, length } = context;
  const { batch } = context.options;
  const { innerSize, stateSize, dtRank, innerNorm } = spec;
  const { rows } = input;

  const { inputs, options } = input.forProjection();
  const projected = linear(
    recording,
    { ...inputs, weight: context.weight(`${name}.inProjection`), ...context.bias(`${name}.inBias`) },
    options,
  );
  const x = columns(projected, 0, innerSize);
  const z = columns(projected, innerSize, 2 * innerSize);
  const convInputs = {
    weight: context.weight(`${name}.convWeight`),
    ...context.bias(`${name}.convBias`),
    state: recording.external(`${name}.conv`, 'f32', [batch, spec.convWidth - 1, innerSize]),
  };
  const convolved = context.decoding
    ? causalConv1dStep(recording, { x, ...convInputs }, { activation: 'silu' })
    : causalConv1d(recording, { x: reshape(x, [batch, length, innerSize]), ...convInputs }, { activation: 'silu' }).y;
  const u = reshape(convolved, [rows, innerSize]);

  const selected = linear(recording, { x: u, weight: context.weight(`${name}.xProjection`) });
  /** dt, B or C, with its norm. */
  const part = (from: number, width: number, norm: string): TensorRef => {
    const raw = columns(selected, from, from + width);
    if (innerNorm === undefined) return raw;
    const weight = innerNorm.weights ? { weight: context.weight(`${name}.${norm}`) } : {};
    return rmsNorm(recording, { x: raw, ...weight }, { eps: innerNorm.eps });
  };
  const dt = linear(recording, { x: part(0, dtRank, 'dtNorm'), weight: context.weight(`${name}.dtProjection`) });
  const sequence: readonly Size[] = context.decoding ? [batch] : [batch, length];
  const vectors = context.weight(`${name}.dtBiasAndSkip`);
  const vectorAt = (row: number): TensorRef => reshape(rowsOf(vectors, row, 1), [innerSize]);
  const scan = {
    u: reshape(u, [...sequence, innerSize]),
    dt: reshape(dt, [...sequence, innerSize]),
    A: context.weight(`${name}.A`),
    B: reshape(part(dtRank, stateSize, 'bNorm'), [...sequence, 1, stateSize]),
    C: reshape(part(dtRank + stateSize, stateSize, 'cNorm'), [...sequence, 1, stateSize]),
    dtBias: vectorAt(0),
    D: vectorAt(1),
    z: reshape(z, [...sequence, innerSize]),
    state: recording.external(`${name}.ssm`, 'f32', [batch, innerSize, stateSize]),
  };
  const y = context.decoding ? selectiveScanStep(recording, scan) : selectiveScan(recording, scan).y;
  return linear(
    recording,
    {
      x: reshape(y, [rows, innerSize]),
      weight: context.weight(`${name}.outProjection`),
      ...context.bias(`${name}.outBias`),
      ...withResidual(block),
    },
    outputOptions(spec),
  );
}
