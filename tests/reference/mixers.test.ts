import { expect, it } from 'vitest';
import { causalConv1d, gatedRmsNorm, matmul, selectiveScan, ssdScan } from '@mambalab/kernels/reference';
import { difference, readCases, type Case } from './support.ts';

// A whole mixer built from the references against the layer of transformers, which computes in float32.
const TOLERANCE = 2e-6;

interface MixerOptions {
  readonly batch: number;
  readonly length: number;
  readonly width: number;
  readonly stateSize: number;
  readonly convWidth: number;
}

function only<Options extends MixerOptions>(name: string): Case<Options> {
  const found = readCases<Options>('mixers').find((item) => item.name === name);
  if (found === undefined) throw new Error(`mixers.json has no case ${name}`);
  return found;
}

function input(item: Case<unknown>, name: string): readonly number[] {
  const found = item.inputs[name];
  if (found === undefined) throw new Error(`${item.name} has no input ${name}`);
  return found;
}

/** Columns of a matrix (rows, sum of widths), as one matrix (rows, width) each. */
function split(matrix: Float64Array, rows: number, widths: readonly number[]): Float64Array[] {
  const width = matrix.length / rows;
  expect(widths.reduce((sum, part) => sum + part, 0)).toBe(width);
  return widths.map((part, i) => {
    const start = widths.slice(0, i).reduce((sum, before) => sum + before, 0);
    return matrix.filter((_, index) => index % width >= start && index % width < start + part);
  });
}

const negativeExp = (log: readonly number[]): number[] => log.map((value) => -Math.exp(value));
const none = new Float64Array(0);

it('a Mamba mixer', () => {
  const item = only<MixerOptions & { channels: number; rank: number }>('mamba');
  const { batch, length, width, channels, stateSize, convWidth, rank } = item.options;
  const rows = batch * length;
  const get = (name: string): readonly number[] => input(item, name);
  const projected = matmul(
    { x: get('x'), weight: get('in_proj.weight') },
    { rows, inner: width, outputs: 2 * channels },
  );
  const [x = none, z = none] = split(projected, rows, [channels, channels]);
  const conv = { x, weight: get('conv1d.weight'), bias: get('conv1d.bias') };
  const u = causalConv1d(conv, { batch, length, channels, width: convWidth, activation: 'silu' }).y;
  const shape = { rows, inner: channels, outputs: rank + 2 * stateSize };
  const parameters = matmul({ x: u, weight: get('x_proj.weight') }, shape);
  const [low = none, B = none, C = none] = split(parameters, rows, [rank, stateSize, stateSize]);
  const dt = matmul({ x: low, weight: get('dt_proj.weight') }, { rows, inner: rank, outputs: channels });
  const inputs = { u, dt, A: negativeExp(get('A_log')), B, C, D: get('D'), z, dtBias: get('dt_proj.bias') };
  const { y } = selectiveScan(inputs, { batch, length, channels, stateSize, dtSoftplus: true });
  const out = matmul({ x: y, weight: get('out_proj.weight') }, { rows, inner: channels, outputs: width });
  expect(difference(out, item.expected, TOLERANCE)).toBeUndefined();
});

it('a Mamba-2 mixer', () => {
  const item = only<MixerOptions & { heads: number; headDim: number; groups: number; eps: number }>('mamba2');
  const { batch, length, width, heads, headDim, groups, stateSize, convWidth, eps } = item.options;
  const rows = batch * length;
  const inner = heads * headDim;
  const side = groups * stateSize;
  const get = (name: string): readonly number[] => input(item, name);
  const outputs = 2 * inner + 2 * side + heads;
  const projected = matmul({ x: get('x'), weight: get('in_proj.weight') }, { rows, inner: width, outputs });
  const [z = none, xBC = none, dt = none] = split(projected, rows, [inner, inner + 2 * side, heads]);
  const conv = { x: xBC, weight: get('conv1d.weight'), bias: get('conv1d.bias') };
  const mixed = causalConv1d(conv, {
    batch,
    length,
    channels: inner + 2 * side,
    width: convWidth,
    activation: 'silu',
  }).y;
  const [x = none, B = none, C = none] = split(mixed, rows, [inner, side, side]);
  const inputs = { x, dt, A: negativeExp(get('A_log')), B, C, D: get('D'), dtBias: get('dt_bias') };
  const { y } = ssdScan(inputs, { batch, length, heads, headDim, groups, stateSize, dtSoftplus: true });
  const normed = gatedRmsNorm({ x: y, z, weight: get('norm.weight') }, { rows, width: inner, eps });
  const out = matmul({ x: normed, weight: get('out_proj.weight') }, { rows, inner, outputs: width });
  expect(difference(out, item.expected, TOLERANCE)).toBeUndefined();
});
