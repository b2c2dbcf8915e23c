import type { GatedDeltaStepInputs, GatedDeltaStepOptions, Recording, TensorRef } from '@mambalab/kernels';
import { ArgumentError, columns, Device, Executor, gatedDeltaStep, reshape, run, ShapeError } from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import { openTestDevice, simdChoices } from '../../support/gpu.ts';
import { expectClose } from '../../support/numbers.ts';
import type { Inputs, Values } from './support.ts';
import { draw, expectedOf, values } from './support.ts';

const device = await openTestDevice();
const executor = new Executor(device, { poison: true });
// The same device under a name that does not tell that a CPU does the work: the workgroups of a GPU.
const hardware = new Device(device.gpu, {
  vendor: 'test',
  architecture: '',
  device: '',
  description: '',
} as GPUAdapterInfo);
const hardwareExecutor = new Executor(hardware, { poison: true });
// Sums of at most 256 products of values near 1, each rounded to 2^-24.
const TOLERANCE = { rtol: 1e-5, atol: 1e-5 };

/** The step with its state among the results, and q and k as two views of one tensor. */
function step(
  recording: Recording,
  { qk, ...rest }: Omit<GatedDeltaStepInputs, 'q' | 'k'> & { qk: TensorRef },
  options: GatedDeltaStepOptions,
): { y: TensorRef; state: TensorRef } {
  const [batch = 1, wide = 2, keyDim = 1] = qk.shape as readonly number[];
  const width = (wide / 2) * keyDim;
  const flat = { ...reshape(qk, [batch, 2 * width]), rowWidth: 2 * width, rowStride: 2 * width };
  const view = (start: number): TensorRef => reshape(columns(flat, start, start + width), [batch, wide / 2, keyDim]);
  return { y: gatedDeltaStep(recording, { ...rest, q: view(0), k: view(width) }, options), state: rest.state };
}

/** One token of each sequence; q and k joined as `step` takes them. */
function token(inputs: Inputs & { state: Values }): { [name: string]: Values } {
  const { q, k, ...rest } = inputs;
  const batch = q.shape[0] ?? 1;
  const width = q.data.length / batch;
  const data = new Float32Array(2 * q.data.length);
  for (let b = 0; b < batch; b++) {
    data.set(q.data.subarray(b * width, (b + 1) * width), 2 * b * width);
    data.set(k.data.subarray(b * width, (b + 1) * width), (2 * b + 1) * width);
  }
  const flat = Object.entries(rest as object as { [name: string]: Values }).map(([name, value]) => {
    const shape = ['v', 'g', 'beta'].includes(name) ? [batch, ...value.shape.slice(2)] : value.shape;
    return [name, { ...value, shape }] as const;
  });
  const [, , heads = 1, keyDim = 1] = q.shape;
  return { ...Object.fromEntries(flat), qk: values(data, batch, 2 * heads, keyDim) };
}

const model = { l2Norm: true, betaSigmoid: true, betaFactor: 2 };

// The state's rows over 4, 16 or 128 invocations, its columns in tiles of 32 and less.
describe.each(simdChoices(device))('gatedDeltaStep %o', (force) => {
  it.each([
    // workgroups, sequences, key heads, value heads, K, V
    ['software', 1, 1, 1, 256, 8],
    ['hardware', 2, 2, 4, 16, 36],
    ['hardware', 3, 1, 1, 132, 4],
  ] as const)(
    'workgroups of %s, %i sequences, %i key heads, %i value heads, K %i, V %i',
    async (on, batch, keyHeads, valueHeads, keyDim, valueDim) => {
      const sizes = { batch, length: 1, keyHeads, valueHeads, keyDim, valueDim };
      const inputs = draw(sizes, { raw: true, decays: [-6, 1], betas: [-6, 6] });
      const [target, own] = on === 'software' ? [device, executor] : [hardware, hardwareExecutor];
      const result = await run(target, step, token(inputs) as never, model, { force, executor: own });
      const expected = expectedOf(inputs, sizes, model);
      expectClose(result.y.data, expected.y, TOLERANCE);
      expectClose(result.state.data, expected.state, TOLERANCE);
    },
  );
});

describe('gatedDeltaStep', () => {
  const sizes = { batch: 2, length: 1, keyHeads: 1, valueHeads: 2, keyDim: 16, valueDim: 8 };

  it.each([
    ['no decay', 0, 0.5],
    ['decay to nothing', -150, 1],
    ['nothing written', -0.1, 0],
    ['everything overwritten', 0, 1],
    ['the key mirrored', -1e-6, 2],
  ])('%s', async (_, g, beta) => {
    const inputs = draw(sizes, { decays: [g, g], betas: [beta, beta] });
    const result = await run(device, step, token(inputs) as never, { l2Norm: true }, { executor });
    const expected = expectedOf(inputs, sizes, { l2Norm: true });
    expectClose(result.y.data, expected.y, TOLERANCE);
    expectClose(result.state.data, expected.state, TOLERANCE);
  });

  it('runs 64 sequences', async () => {
    const many = { ...sizes, batch: 64 };
    const inputs = draw(many);
    const result = await run(device, step, token(inputs) as never, { l2Norm: true, scale: 2 }, { executor });
    const expected = expectedOf(inputs, many, { l2Norm: true, scale: 2 });
    expectClose(result.y.data, expected.y, TOLERANCE);
    expectClose(result.state.data, expected.state, TOLERANCE);
  });

  it('joins q and k of two tensors, and reads slices', async () => {
    const inputs = draw(sizes);
    const { v, g, beta, state } = token(inputs) as unknown as Inputs & { state: Values };
    // A value before each row and one after.
    const wide = (tensor: Values): Values => {
      const width = tensor.data.length / 2;
      const data = new Float32Array(2 * (width + 2)).fill(NaN);
      for (const b of [0, 1]) data.set(tensor.data.subarray(b * width, (b + 1) * width), b * (width + 2) + 1);
      return values(data, 2, width + 2);
    };
    const view = (tensor: TensorRef, ...shape: number[]): TensorRef =>
      reshape(columns(tensor, 1, 1 + shape.reduce((product, size) => product * size, 1)), [2, ...shape]);
    const kernel = (
      recording: Recording,
      tensors: { [name in 'q' | 'k' | 'v' | 'g' | 'beta' | 'state']: TensorRef },
    ): { y: TensorRef; state: TensorRef } => ({
      y: gatedDeltaStep(recording, {
        q: view(tensors.q, 1, 16),
        k: view(tensors.k, 1, 16),
        v: view(tensors.v, 2, 8),
        g: view(tensors.g, 2),
        beta: view(tensors.beta, 2),
        state: tensors.state,
      }),
      state: tensors.state,
    });
    const host = { q: wide(inputs.q), k: wide(inputs.k), v: wide(v), g: wide(g), beta: wide(beta), state };
    const result = await run(device, kernel, host, undefined, { executor });
    const expected = expectedOf(inputs, sizes);
    expectClose(result.y.data, expected.y, TOLERANCE);
    expectClose(result.state.data, expected.state, TOLERANCE);
  });

  it('refuses wrong shapes and options', async () => {
    const inputs = token(draw(sizes));
    const refused = (wrong: object, options: GatedDeltaStepOptions = {}): Promise<unknown> =>
      run(device, step, { ...inputs, ...wrong } as never, options);
    await expect(refused({}, { eps: -1 })).rejects.toThrow(ArgumentError);
    await expect(refused({ dtBias: values(new Float32Array(2), 2) })).rejects.toThrow(ArgumentError);
    await expect(refused({ v: values(new Float32Array(16), 2, 2, 4) })).rejects.toThrow(ShapeError);
    await expect(refused({ g: values(new Float32Array(2), 2, 1) })).rejects.toThrow(ShapeError);
    await expect(refused({ state: values(new Float32Array(512), 2, 2, 8, 16) })).rejects.toThrow(ShapeError);
    // A state that does not begin at a multiple of 4 values.
    const kernel = (recording: Recording, tensors: { state: TensorRef; rest: TensorRef }): TensorRef => {
      const row = (...shape: number[]): TensorRef => ({
        ...tensors.rest,
        shape: [1, ...shape],
        rowWidth: 4,
        rowStride: 4,
      });
      const state = reshape(columns(tensors.state, 1, 17), [1, 1, 4, 4]);
      const gate = { ...tensors.rest, shape: [1, 1], rowWidth: 1, rowStride: 1 };
      return gatedDeltaStep(recording, { q: row(1, 4), k: row(1, 4), v: row(1, 4), g: gate, beta: gate, state });
    };
    const host = { state: values(new Float32Array(20), 1, 20), rest: values(new Float32Array(4), 1, 4) };
    await expect(run(device, kernel, host, undefined)).rejects.toThrow(ArgumentError);
  });
});
