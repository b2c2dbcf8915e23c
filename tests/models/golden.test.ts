import { openSafetensors, readGolden } from '@mambalab/models';
import { loadModel, openFolder } from '@mambalab/models/node';
import { describe, expect, it } from 'vitest';
import { fixturePath } from '../support/fixtures.ts';
import { openTestDevice, simdChoices } from '../support/gpu.ts';
import { nmse } from '../support/numbers.ts';

const device = await openTestDevice();
const FAMILIES = ['mamba2', 'llama', 'nemotron_h'];

async function goldenOf(family: string): Promise<Awaited<ReturnType<typeof readGolden>>> {
  const folder = await openFolder(fixturePath(`models/${family}`));
  const file = await folder.file('golden.safetensors');
  if (file === undefined) throw new Error(`${family} has no golden`);
  try {
    return await readGolden(await openSafetensors(file));
  } finally {
    await folder.dispose();
  }
}

describe.each(simdChoices(device))('with %o', (force) => {
  it.each(FAMILIES)('%s computes what transformers computes', async (family) => {
    const golden = await goldenOf(family);
    using model = await loadModel(fixturePath(`models/${family}`), { device, force });
    const result = await model.verify(golden);
    expect(result.maxRelError).toBeLessThan(2e-4);
    expect(result.greedyAgreement).toBe(1);
    expect(result.passed).toBe(true);
  });
});

it.each(FAMILIES)('%s gives the same logits in one pass, in two, and step by step', async (family) => {
  const golden = await goldenOf(family);
  const [tokens = []] = golden.inputIds;
  using model = await loadModel(fixturePath(`models/${family}`), { device });
  const { vocabSize } = model.spec;
  const full = await model.logits(tokens, { positions: 'all' });
  const lastRow = full.subarray((tokens.length - 1) * vocabSize);
  for (const cut of [1, 8, 9, tokens.length - 1]) {
    const split = await model.withSequence(tokens.length, async (sequence) => {
      await sequence.prefill(tokens.slice(0, cut));
      await sequence.prefill(tokens.slice(cut));
      expect(sequence.length).toBe(tokens.length);
      return await sequence.lastLogits();
    });
    expect(nmse(split, lastRow)).toBeLessThan(1e-10);
  }
  const stepped = await model.withSequence(tokens.length, async (sequence) => {
    await sequence.prefill(tokens.slice(0, 2));
    await sequence.prepareSteps(tokens.length - 2);
    for (const token of tokens.slice(2)) {
      sequence.setToken(token);
      await sequence.step();
    }
    return await sequence.lastLogits();
  });
  expect(nmse(stepped, lastRow)).toBeLessThan(1e-10);
});

it('a wrong golden does not pass', async () => {
  const golden = await goldenOf('mamba2');
  using model = await loadModel(fixturePath('models/mamba2'), { device });
  const shifted = { ...golden, logits: golden.logits.map((row) => row.map((value) => value + 0.01)) };
  expect((await model.verify(shifted)).passed).toBe(false);
  const other = { ...golden, greedy: golden.greedy.map((row) => row.map((token) => (token + 1) % 128)) };
  expect((await model.verify(other)).passed).toBe(false);
});
