import type { HostTensor } from '@mambalab/kernels';
import { Executor, run, ssdChunkScan } from '@mambalab/kernels';
import { ssdScan } from '@mambalab/kernels/reference';
import { expect, it } from 'vitest';
import { openMatrixDevice } from '../../support/gpu.ts';
import { expectClose, nmse, Random } from '../../support/numbers.ts';

const device = await openMatrixDevice();
const executor = new Executor(device, { poison: true });
const settings = { executor, force: { unit: 'matrix' } };
// Operands are rounded to f16: the Triton kernels' own tolerances for half-precision operands, and an NMSE of 2^-20.
const TOLERANCE = { rtol: 1e-2, atol: 3e-3 };

it.each([
  // length, chunk, heads, headDim, groups, stateSize, ends: a skip weight for each head, or for each element and a gate
  [150, 128, 2, 64, 1, 128, 'heads'],
  [70, 64, 1, 80, 1, 16, 'heads'],
  [33, 16, 2, 16, 2, 144, 'elements and gate'],
  [300, 256, 1, 16, 1, 64, 'heads'],
] as const)(
  '%i tokens in chunks of %i, %i heads of %i, %i groups, state %i, ends %s',
  async (length, chunkLength, heads, headDim, groups, stateSize, ends) => {
    const random = new Random(length);
    const values = (data: Float32Array, ...shape: number[]): HostTensor & { data: Float32Array } => ({
      data,
      shape,
      dtype: 'f32',
    });
    const inputs = {
      x: values(random.normals(length * heads * headDim), 1, length, heads, headDim),
      dt: values(random.normals(length * heads, 1, -4), 1, length, heads),
      A: values(random.uniforms(heads, -16, -1), heads),
      B: values(random.normals(length * groups * stateSize), 1, length, groups, stateSize),
      C: values(random.normals(length * groups * stateSize), 1, length, groups, stateSize),
      ...(ends === 'heads' && { D: values(random.normals(heads), heads) }),
      ...(ends !== 'heads' && { D: values(random.normals(heads * headDim), heads, headDim) }),
      ...(ends !== 'heads' && { z: values(random.normals(length * heads * headDim), 1, length, heads, headDim) }),
      state: values(random.normals(heads * headDim * stateSize), 1, heads, headDim, stateSize),
    };
    const result = await run(device, ssdChunkScan, inputs, { chunkLength, operands: 'f16' }, settings);
    const { y, state } = result as {
      y: HostTensor & { data: Float32Array };
      state: HostTensor & { data: Float32Array };
    };
    const given = Object.fromEntries(Object.entries(inputs).map(([name, { data }]) => [name, data])) as never;
    const expected = ssdScan(given, { batch: 1, length, heads, headDim, groups, stateSize, dtSoftplus: true });
    expectClose(state.data, expected.state, TOLERANCE);
    expectClose(y.data, expected.y, { rtol: 1e-2, atol: 2e-2 });
    expect(nmse(y.data, expected.y)).toBeLessThan(2 ** -20);
    expect(nmse(state.data, expected.state)).toBeLessThan(2 ** -20);
  },
);
