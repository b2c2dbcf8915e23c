import type { Size, TensorRef } from '@mambalab/kernels';
import {
  causalConv1d,
  causalConv1dStep,
  columns,
  gatedDeltaRule,
  gatedDeltaStep,
  gatedRmsNorm,
  linear,
  reshape,
} from '@mambalab/kernels';
import type { GatedDeltaSpec } from '../../spec/model_spec.ts';
import { gatedDeltaWidths } from '../../spec/model_spec.ts';
import type { BlockArguments } from './block.ts';
import { outputOptions, withResidual } from './block.ts';

export function addGatedDelta(block: BlockArguments<GatedDeltaSpec>): TensorRef {
  const { context, name, spec, input } = block;
  const { recording, length } = context;
  const { batch } = context.options;
  const { keyHeads, valueHeads, keyDim, valueDim } = spec;
  const { keys, values, conv } = gatedDeltaWidths(spec);
  const { rows } = input;

  const { inputs, options } = input.forProjection();
  const projected = linear(recording, { ...inputs, weight: context.weight(`${name}.inProjection`) }, options);
  const qkv = columns(projected, 0, conv);
  const z = columns(projected, conv, conv + values);
  const sequence: readonly Size[] = context.decoding ? [batch] : [batch, length];
  const perHead = (index: number): TensorRef => {
    const from = conv + values + index * valueHeads;
    return reshape(columns(projected, from, from + valueHeads), [...sequence, valueHeads]);
  };
  const convInputs = {
    weight: context.weight(`${name}.convWeight`),
    ...context.bias(`${name}.convBias`),
    state: recording.external(`${name}.conv`, 'f32', [batch, spec.convWidth - 1, conv]),
  };
  const convolved = context.decoding
    ? causalConv1dStep(recording, { x: qkv, ...convInputs }, { activation: 'silu' })
    : causalConv1d(recording, { x: reshape(qkv, [batch, length, conv]), ...convInputs }, { activation: 'silu' }).y;
  const flat = reshape(convolved, [rows, conv]);
  const heads = (from: number, count: number, dim: number): TensorRef =>
    reshape(columns(flat, from, from + count * dim), [...sequence, count, dim]);
  const rule = {
    q: heads(0, keyHeads, keyDim),
    k: heads(keys, keyHeads, keyDim),
    v: heads(2 * keys, valueHeads, valueDim),
    beta: perHead(0),
    g: perHead(1),
    A: context.weight(`${name}.A`),
    dtBias: context.weight(`${name}.dtBias`),
    state: recording.external(`${name}.delta`, 'f32', [batch, valueHeads, keyDim, valueDim]),
  };
  const numbers = { betaSigmoid: true, betaFactor: spec.betaFactor, l2Norm: true };
  const y = context.decoding ? gatedDeltaStep(recording, rule, numbers) : gatedDeltaRule(recording, rule, numbers).y;
  const gated = gatedRmsNorm(
    recording,
    { x: reshape(y, [rows, values]), z, weight: context.weight(`${name}.gateNorm`) },
    { groups: valueHeads, eps: spec.normEps, normBeforeGate: true, activation: spec.gateActivation },
  );
  return linear(
    recording,
    { x: gated, weight: context.weight(`${name}.outProjection`), ...withResidual(block) },
    outputOptions(spec),
  );
}
