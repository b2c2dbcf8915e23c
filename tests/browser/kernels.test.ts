import type { ForcedChoices } from '@mambalab/kernels';
import { flashAttention, matmul, requestDevice, rmsNorm, run, ssdChunkScan } from '@mambalab/kernels';
import * as reference from '@mambalab/kernels/reference';
import { afterAll, expect, it } from 'vitest';
import { expectProduct, weightMatrix } from '../support/matrices.ts';
import { expectClose, nmse, normalTensor, Random } from '../support/numbers.ts';

// The suite of every kernel runs in Node; these few show that the browser's compiler and driver agree with it.
const device = await requestDevice();
afterAll(() => device.dispose());

const simdChoices: ForcedChoices[] = [{ simd: 'baseline' }];
if (device.capabilities.features.has('subgroups')) simdChoices.push({ simd: 'subgroups' });

it.each(simdChoices)('rmsNorm %o', async (force) => {
  const [rows, width] = [5, 257];
  const random = new Random(1);
  const x = normalTensor(random, [rows, width], 3);
  const weight = normalTensor(random, [width]);
  const y = await run(device, rmsNorm, { x, weight }, { eps: 1e-5 }, { force, poison: true });
  const expected = reference.rmsNorm({ x: x.data, weight: weight.data }, { rows, width, eps: 1e-5 });
  expectClose(y.data, expected, { rtol: 2e-6, atol: 2e-6 });
});

it('matmul with f16 weights', async () => {
  const [rows, inner, outputs] = [33, 40, 65];
  const random = new Random(2);
  const x = normalTensor(random, [rows, inner]);
  const weight = weightMatrix(random, [outputs, inner], 'f16');
  const y = await run(device, matmul, { x, weight: weight.tensor }, {}, { poison: true });
  const expected = reference.matmul({ x: x.data, weight: weight.values }, { rows, inner, outputs });
  expectProduct(y.data, expected, { x: x.data, weight: weight.values, inner });
});

it('ssdChunkScan', async () => {
  const sizes = { batch: 1, length: 41, heads: 2, headDim: 16, groups: 1, stateSize: 16 };
  const { batch, length, heads, headDim, groups, stateSize } = sizes;
  const random = new Random(3);
  const x = normalTensor(random, [batch, length, heads, headDim]);
  const dt = { ...normalTensor(random, [batch, length, heads]), data: random.normals(length * heads, 1, -4) };
  const A = { ...normalTensor(random, [heads]), data: random.uniforms(heads, -16, -1) };
  const B = normalTensor(random, [batch, length, groups, stateSize]);
  const C = normalTensor(random, [batch, length, groups, stateSize]);
  const { y } = await run(device, ssdChunkScan, { x, dt, A, B, C }, { chunkLength: 16 }, { poison: true });
  const expected = reference.ssdScan(
    { x: x.data, dt: dt.data, A: A.data, B: B.data, C: C.data },
    { dtSoftplus: true, ...sizes },
  );
  expectClose(y.data, expected.y, { rtol: 1e-4, atol: 1e-4 });
  expect(nmse(y.data, expected.y)).toBeLessThan(2e-7);
});

it('flashAttention', async () => {
  const [batch, length, heads, kvHeads, headDim] = [1, 37, 4, 2, 16];
  const random = new Random(4);
  const q = normalTensor(random, [batch, length, heads, headDim]);
  const k = normalTensor(random, [batch, length, kvHeads, headDim]);
  const v = normalTensor(random, [batch, length, kvHeads, headDim]);
  const y = await run(device, flashAttention, { q, k, v }, { causal: true }, { poison: true });
  const expected = reference.attention(
    { q: q.data, k: k.data, v: v.data },
    { batch, length, keyLength: length, heads, kvHeads, headDim, causal: true },
  );
  expectClose(y.data, expected, { rtol: 1e-5, atol: 1e-5 });
});
