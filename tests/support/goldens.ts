import type { Device, ForcedChoices, Tensor } from '@mambalab/kernels';
import type { Golden, Model, WeightDtype } from '@mambalab/models';
import { openSafetensors, readGolden, stateTensors } from '@mambalab/models';
import { loadModel, openFolder } from '@mambalab/models/node';
import { expect } from 'vitest';
import { fixturePath } from './fixtures.ts';
import { nmse } from './numbers.ts';

// Checks of a tiny checkpoint under tests/fixtures/models against what transformers computes for it.

/** The golden of a fixture. */
export async function goldenOf(name: string): Promise<Golden> {
  const folder = await openFolder(fixturePath(`models/${name}`));
  try {
    const file = await folder.file('golden.safetensors');
    if (file === undefined) throw new Error(`${name} has no golden`);
    return await readGolden(await openSafetensors(file));
  } finally {
    await folder.dispose();
  }
}

export async function loadGolden(
  device: Device,
  name: string,
  options: { readonly dtype?: WeightDtype; readonly force?: ForcedChoices; readonly largestBinding?: number } = {},
): Promise<Model> {
  // Some fixtures hold bfloat16; their goldens are those of float32 arithmetic with the same values.
  return await loadModel(fixturePath(`models/${name}`), { device, warmUp: false, dtype: 'f32', ...options });
}

/** Logits within 2e-4 of the largest |logit|, and every greedy token. */
export async function expectGolden(model: Model, golden: Golden): Promise<void> {
  const result = await model.verify(golden);
  expect(result.maxRelError).toBeLessThan(2e-4);
  expect(result.greedyAgreement).toBe(1);
  expect(result.passed).toBe(true);
}

/** One pass, two passes with a carried state, and single steps give the same logits. */
export async function expectSameInParts(model: Model, golden: Golden): Promise<void> {
  const [tokens = []] = golden.inputIds;
  const { vocabSize } = model.spec;
  const lastRow = (golden.logits[0] ?? new Float32Array()).subarray((tokens.length - 1) * vocabSize);
  const split = await model.withSequence(tokens.length, async (sequence) => {
    await sequence.prefill(tokens.slice(0, 9));
    await sequence.prefill(tokens.slice(9));
    expect(sequence.length).toBe(tokens.length);
    return await sequence.lastLogits();
  });
  expect(nmse(split, lastRow)).toBeLessThan(1e-9);
  const stepped = await model.withSequence(tokens.length, async (sequence) => {
    await sequence.prefill(tokens.slice(0, 2));
    await sequence.prepareSteps(tokens.length - 2);
    for (const token of tokens.slice(2)) {
      sequence.setToken(token);
      await sequence.step();
    }
    return await sequence.lastLogits();
  });
  expect(nmse(stepped, lastRow)).toBeLessThan(1e-9);
}

/** Two sequences that are decoded together have the logits that the golden has for each. */
export async function expectBatchOfTwo(model: Model, golden: Golden): Promise<void> {
  const { device, cacheDtype } = model.runtime;
  const rows = golden.inputIds.slice(0, 2);
  const steps = 12;
  const capacity = model.runtime.capacityFor(steps);
  const plan = await model.runtime.decodePlan(capacity, 2);
  const made = (name: string, dtype: Tensor['dtype'], shape: readonly number[]): [string, Tensor] => [
    name,
    device.createTensor(`batch/${name}`, dtype, shape),
  ];
  const { vocabSize } = model.spec;
  const own = new Map([
    ...stateTensors(model.spec, 2, capacity, cacheDtype).map(({ name, dtype, shape }) => made(name, dtype, shape)),
    made('token', 'u32', [2]),
    made('position', 'u32', [2]),
    made('settings', 'u32', [2, 16]),
    made('logits', 'f32', [2, vocabSize]),
  ]);
  try {
    const bound = plan.bind(new Map([...model.runtime.constants, ...own]));
    const [token, logits] = [own.get('token'), own.get('logits')];
    if (token === undefined || logits === undefined) throw new Error('a tensor is missing');
    for (let step = 0; step < steps; step++) {
      device.write(
        token,
        Uint32Array.from(rows, (row) => row[step] ?? 0),
      );
      bound.submit();
    }
    const { data } = await device.read(logits);
    for (const [row, expected] of golden.logits.slice(0, 2).entries()) {
      const actual = Float32Array.from(data.subarray(row * logits.rowStride, row * logits.rowStride + vocabSize));
      expect(nmse(actual, expected.subarray((steps - 1) * vocabSize, steps * vocabSize))).toBeLessThan(1e-9);
    }
  } finally {
    for (const tensor of own.values()) tensor.dispose();
  }
}

/** Largest difference of any logit of the first prompt, over the largest |logit| of the golden. */
export async function errorOf(model: Model, golden: Golden): Promise<number> {
  const [tokens = []] = golden.inputIds;
  const [expected = new Float32Array()] = golden.logits;
  const actual = await model.logits(tokens, { positions: 'all' });
  let error = 0;
  let largest = 0;
  for (const [i, value] of expected.entries()) {
    const difference = Math.abs((actual[i] ?? NaN) - value);
    if (!(difference <= error)) error = Number.isNaN(difference) ? Infinity : difference;
    largest = Math.max(largest, Math.abs(value));
  }
  return error / largest;
}
