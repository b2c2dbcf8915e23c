import type { Size, TensorRef } from '@mambalab/kernels';
import {
  attentionStep,
  causalConv1d,
  causalConv1dStep,
  columns,
  fitsMamba2DecodeStep,
  flashAttention,
  fusedMlp,
  gatedRmsNorm,
  linear,
  mamba2DecodeStep,
  reshape,
  ropeAppend,
  ssdChunkScan,
  ssdStep,
} from '@mambalab/kernels';
import type { AttentionSpec, BlockSpec, Mamba2Spec, MlpSpec } from '../spec/model_spec.ts';
import { mamba2Widths } from '../spec/model_spec.ts';
import type { GraphContext, NormalizedInput } from './context.ts';
import { rotaryName } from './names.ts';

/** Adds one block to the residual stream, in place. */
export function addBlock(
  context: GraphContext,
  name: string,
  block: BlockSpec,
  input: NormalizedInput,
  residual: TensorRef,
): void {
  switch (block.kind) {
    case 'mamba2':
      return addMamba2(context, name, block, input, residual);
    case 'attention':
      return addAttention(context, name, block, input, residual);
    case 'mlp':
      return addMlp(context, name, block, input, residual);
  }
}

function addMamba2(
  context: GraphContext,
  name: string,
  spec: Mamba2Spec,
  input: NormalizedInput,
  residual: TensorRef,
): void {
  const { recording, length } = context;
  const { batch } = context.options;
  if (
    context.decoding &&
    fitsMamba2DecodeStep({ ...spec, batch, hidden: context.options.spec.hiddenSize, taps: spec.convWidth })
  ) {
    return addMamba2Step(context, name, spec, input, residual);
  }
  const { inner, conv } = mamba2Widths(spec);
  const { heads, headDim, groups, stateSize } = spec;
  const shared = groups * stateSize;

  const inBias = context.optionalWeight(`${name}.inBias`);
  const { inputs, options } = input.forProjection();
  const projected = linear(
    recording,
    { ...inputs, weight: context.weight(`${name}.inProjection`), ...(inBias && { bias: inBias }) },
    options,
  );
  const rows = projected.shape[0] ?? 0;
  const z = columns(projected, 0, inner);
  const xBC = columns(projected, inner, inner + conv);
  const dt = columns(projected, inner + conv, inner + conv + heads);

  const convBias = context.optionalWeight(`${name}.convBias`);
  const convState = recording.external(`${name}.conv`, 'f32', [batch, spec.convWidth - 1, conv]);
  const convInputs = {
    weight: context.weight(`${name}.convWeight`),
    ...(convBias && { bias: convBias }),
    state: convState,
  };
  const scanned = {
    A: context.weight(`${name}.A`),
    dtBias: context.weight(`${name}.dtBias`),
    D: context.weight(`${name}.dSkip`),
    state: recording.external(`${name}.ssm`, 'f32', [batch, heads, headDim, stateSize]),
  };
  const limits = { dtLimits: spec.dtLimits };

  let y: TensorRef;
  if (context.decoding) {
    const convolved = causalConv1dStep(recording, { x: xBC, ...convInputs }, { activation: 'silu' });
    const part = (from: number, width: number, shape: readonly Size[]): TensorRef =>
      reshape(columns(convolved, from, from + width), [batch, ...shape]);
    y = ssdStep(
      recording,
      {
        x: part(0, inner, [heads, headDim]),
        B: part(inner, shared, [groups, stateSize]),
        C: part(inner + shared, shared, [groups, stateSize]),
        dt,
        ...scanned,
      },
      limits,
    );
  } else {
    const x = reshape(xBC, [batch, length, conv]);
    const convolved = reshape(causalConv1d(recording, { x, ...convInputs }, { activation: 'silu' }).y, [rows, conv]);
    const part = (from: number, width: number, shape: readonly Size[]): TensorRef =>
      reshape(columns(convolved, from, from + width), [batch, length, ...shape]);
    ({ y } = ssdChunkScan(
      recording,
      {
        x: part(0, inner, [heads, headDim]),
        B: part(inner, shared, [groups, stateSize]),
        C: part(inner + shared, shared, [groups, stateSize]),
        dt: reshape(dt, [batch, length, heads]),
        ...scanned,
      },
      // Matrix units round where they do so for the projections around the scan.
      { ...limits, operands: context.weight(`${name}.inProjection`).dtype === 'f16' ? 'f16' : 'f32' },
    ));
  }
  const gated = gatedRmsNorm(
    recording,
    { x: reshape(y, [rows, inner]), z, weight: context.weight(`${name}.gateNorm`) },
    { groups: spec.normGroups, eps: spec.normEps },
  );
  const outBias = context.optionalWeight(`${name}.outBias`);
  linear(
    recording,
    { x: gated, weight: context.weight(`${name}.outProjection`), ...(outBias && { bias: outBias }), residual },
    {},
  );
}

/** One token: three dispatches for the layer. */
function addMamba2Step(
  context: GraphContext,
  name: string,
  spec: Mamba2Spec,
  input: NormalizedInput,
  residual: TensorRef,
): void {
  const { recording } = context;
  const { batch } = context.options;
  const { heads, headDim, stateSize } = spec;
  const { conv } = mamba2Widths(spec);
  const { inputs, options } = input.forProjection();
  mamba2DecodeStep(
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
      residual,
    },
    {
      groups: spec.groups,
      normGroups: spec.normGroups,
      dtLimits: spec.dtLimits,
      gateEps: spec.normEps,
      ...options,
    },
  );
}

function addAttention(
  context: GraphContext,
  name: string,
  spec: AttentionSpec,
  input: NormalizedInput,
  residual: TensorRef,
): void {
  const { recording, length } = context;
  const { batch, capacity, cacheDtype } = context.options;
  const { heads, kvHeads, headDim, rotary } = spec;
  const queries = heads * headDim;
  const keys = kvHeads * headDim;

  const bias = context.optionalWeight(`${name}.qkvBias`);
  const { inputs, options } = input.forProjection();
  const projected = linear(
    recording,
    { ...inputs, weight: context.weight(`${name}.qkv`), ...(bias && { bias }) },
    options,
  );
  const rows = projected.shape[0] ?? 0;
  const part = (from: number, count: number): TensorRef =>
    reshape(columns(projected, from, from + count * headDim), [batch, length, count, headDim]);
  const cacheShape = [batch, capacity, kvHeads, headDim];
  const k = recording.external(`${name}.keys`, cacheDtype, cacheShape);
  const v = recording.external(`${name}.values`, cacheDtype, cacheShape);
  const position = context.position();
  const q = ropeAppend(
    recording,
    {
      q: part(0, heads),
      k: part(queries, kvHeads),
      v: part(queries + keys, kvHeads),
      ...(rotary && { inverseFrequencies: recording.external(rotaryName(rotary), 'f32', [rotary.dim / 2]) }),
      position,
      keyCache: k,
      valueCache: v,
    },
    {},
  );
  const attended = context.decoding
    ? attentionStep(recording, { q: reshape(q, [batch, heads, headDim]), k, v, position }, {})
    : flashAttention(recording, { q, k, v, position }, { causal: true });
  const outputBias = context.optionalWeight(`${name}.outputBias`);
  linear(
    recording,
    {
      x: reshape(attended, [rows, queries]),
      weight: context.weight(`${name}.output`),
      ...(outputBias && { bias: outputBias }),
      residual,
    },
    {},
  );
}

function addMlp(context: GraphContext, name: string, spec: MlpSpec, input: NormalizedInput, residual: TensorRef): void {
  const { inputs, options } = input.forProjection();
  const gate = context.optionalWeight(`${name}.gate`);
  fusedMlp(
    context.recording,
    {
      ...inputs,
      ...(gate && { gate }),
      up: context.weight(`${name}.up`),
      down: context.weight(`${name}.down`),
      residual,
    },
    { activation: spec.activation, ...options },
  );
}
