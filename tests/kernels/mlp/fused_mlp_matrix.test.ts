import { Executor, fusedMlp, run } from '@mambalab/kernels';
import { fusedMlp as reference } from '@mambalab/kernels/reference';
import { describe, expect, it } from 'vitest';
import { openMatrixDevice } from '../../support/gpu.ts';
import { weightMatrix } from '../../support/matrices.ts';
import { expectClose, nmse, normalTensor, Random } from '../../support/numbers.ts';

const device = await openMatrixDevice();
const settings = { executor: new Executor(device, { poison: true }), force: { unit: 'matrix' } };
// x and the hidden values are rounded to f16, 2^-11 of each product; outputs are of order 1.
const TOLERANCE = { rtol: 5e-3, atol: 5e-3 };

describe('fusedMlp on matrix units', () => {
  it.each([
    // rows, width, hidden
    [1, 16, 8],
    [64, 40, 65],
    [65, 72, 33],
  ])('%i rows of %i by %i, with and without a gate', async (rows, width, hidden) => {
    const random = new Random(rows);
    const x = normalTensor(random, [rows, width], 1 / Math.sqrt(width));
    const [gate, up] = [0, 1].map(() => weightMatrix(random, [hidden, width], 'f16'));
    const down = weightMatrix(random, [width, hidden], 'f16');
    const residual = normalTensor(random, [rows, width]);
    if (gate === undefined || up === undefined) throw new Error('no weights');
    for (const gated of [true, false]) {
      const scale = 1 / Math.sqrt(hidden);
      const options = { activation: gated ? 'silu' : 'relu2', scale } as const;
      const inputs = { x, up: up.tensor, down: down.tensor, residual, ...(gated && { gate: gate.tensor }) };
      const y = await run(device, fusedMlp, inputs, options, settings);
      const values = { x: x.data, up: up.values, down: down.values, ...(gated && { gate: gate.values }) };
      const product = reference(values, { rows, width, hidden, activation: options.activation });
      const expected = product.map((value, i) => value * scale + (residual.data[i] ?? NaN));
      expectClose(y.data, expected, TOLERANCE);
      expect(nmse(y.data, expected)).toBeLessThan(2 ** -20);
    }
  });
});
