import type { Size, TensorRef } from '@mambalab/kernels';
import {
  causalConv1d,
  causalConv1dStep,
  columns,
  fitsMamba2DecodeStep,
  gatedRmsNorm,
  linear,
  mamba2DecodeStep,
  reshape,
  ssdChunkScan,
  ssdStep,
} from '@mambalab/kernels';
import type { Mamba2Spec } from '../../spec/model_spec.ts';
import { mamba2Widths } from '../../spec/model_spec.ts';
import type { BlockArguments } from './block.ts';
import { outputOptions, withResidual } from './block.ts';

export function addMamba2(block: BlockArguments<Mamba2Spec>): TensorRef {
  const { context, name, spec, input } = block;
  const { recording, length } = context;
  const { batch } = context.options;
  if (suitsDecodeStep(block)) return addMamba2Step(block);
  const { inner, conv } = mamba2Widths(spec);
  const { heads, headDim, groups, stateSize } = spec;
  const shared = groups * stateSize;

  const { inputs, options } = input.forProjection();
  const projected = linear(
    recording,
    { ...inputs, weight: context.weight(`${name}.inProjection`), ...context.bias(`${name}.inBias`) },
    options,
  );
  const { rows } = input;
  const z = columns(projected, 0, inner);
  const xBC = columns(projected, inner, inner + conv);
  const dt = columns(projected, inner + conv, inner + conv + heads);
  const convInputs = {
    weight: context.weight(`${name}.convWeight`),
    ...context.bias(`${name}.convBias`),
    state: recording.external(`${name}.conv`, 'f32', [batch, spec.convWidth - 1, conv]),
  };
  const scanned = {
    A: context.weight(`${name}.A`),
    dtBias: context.weight(`${name}.dtBias`),
    D: context.weight(`${name}.dSkip`),
    state: recording.external(`${name}.ssm`, 'f32', [batch, heads, headDim, stateSize]),
  };
  const sequence: readonly Size[] = context.decoding ? [batch] : [batch, length];
  const convolved = context.decoding
    ? causalConv1dStep(recording, { x: xBC, ...convInputs }, { activation: 'silu' })
    : causalConv1d(recording, { x: reshape(xBC, [batch, length, conv]), ...convInputs }, { activation: 'silu' }).y;
  const flat = reshape(convolved, [rows, conv]);
  const part = (from: number, width: number, shape: readonly Size[]): TensorRef =>
    reshape(columns(flat, from, from + width), [...sequence, ...shape]);
  const scan = {
    x: part(0, inner, [heads, headDim]),
    B: part(inner, shared, [groups, stateSize]),
    C: part(inner + shared, shared, [groups, stateSize]),
    dt: reshape(dt, [...sequence, heads]),
    ...scanned,
    // Without a norm the scan itself applies the gate.
    ...(spec.gate === 'gateOnly' && { z: reshape(z, [...sequence, heads, headDim]) }),
  };
  const limits = { dtLimits: spec.dtLimits };
  const y = context.decoding
    ? ssdStep(recording, scan, limits)
    : ssdChunkScan(recording, scan, {
        ...limits,
        // Matrix units round where they do so for the projections around the scan.
        operands: context.weight(`${name}.inProjection`).dtype === 'f16' ? 'f16' : 'f32',
      }).y;
  const x = reshape(y, [rows, inner]);
  const gated =
    spec.gate === 'gateOnly'
      ? x
      : gatedRmsNorm(
          recording,
          { x, z, weight: context.weight(`${name}.gateNorm`) },
          { groups: spec.normGroups, eps: spec.normEps, normBeforeGate: spec.gate === 'normFirst' },
        );
  return linear(
    recording,
    {
      x: gated,
      weight: context.weight(`${name}.outProjection`),
      ...context.bias(`${name}.outBias`),
      ...withResidual(block),
    },
    // The weights of the norm have the factor of the output already.
    spec.gate === 'gateOnly' ? outputOptions(spec) : {},
  );
}

/** Whether the three dispatches for one token compute this mixer. */
function suitsDecodeStep({ context, spec }: BlockArguments<Mamba2Spec>): boolean {
  const { batch } = context.options;
  const { hiddenSize } = context.options.spec;
  return (
    context.decoding &&
    spec.gate === 'gateFirst' &&
    fitsMamba2DecodeStep({ ...spec, batch, hidden: hiddenSize, taps: spec.convWidth })
  );
}

/** One token: three dispatches for the layer. */
function addMamba2Step(block: BlockArguments<Mamba2Spec>): TensorRef {
  const { context, name, spec, input } = block;
  const { recording } = context;
  const { batch } = context.options;
  const { heads, headDim, stateSize } = spec;
  const { conv } = mamba2Widths(spec);
  const { inputs, options } = input.forProjection(false);
  return mamba2DecodeStep(
    recording,
    {
      ...inputs,
      inWeight: context.weight(`${name}.inProjection`),
      inBias: context.optionalWeight(`${name}.inBias`),
      convWeight: context.weight(`${name}.convWeight`),
      convBias: context.optionalWeight(`${name}.convBias`),
      convState: recording.external(`${name}.conv`, 'f32', [batch, spec.convWidth - 1, conv]),
      A: context.weight(`${name}.A`),
      dtBias: context.weight(`${name}.dtBias`),
      D: context.weight(`${name}.dSkip`),
      state: recording.external(`${name}.ssm`, 'f32', [batch, heads, headDim, stateSize]),
      gateNorm: context.weight(`${name}.gateNorm`),
      outWeight: context.weight(`${name}.outProjection`),
      outBias: context.optionalWeight(`${name}.outBias`),
      ...withResidual(block),
    },
    {
      groups: spec.groups,
      normGroups: spec.normGroups,
      dtLimits: spec.dtLimits,
      gateEps: spec.normEps,
      normEps: options.normEps,
    },
  );
}
