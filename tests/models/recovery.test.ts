import { requestDevice } from '@mambalab/kernels/node';
import type { GenerationResult } from '@mambalab/models';
import { loadModel } from '@mambalab/models/node';
import { expect, it } from 'vitest';
import { fixturePath } from '../support/fixtures.ts';
import { openTestDevice } from '../support/gpu.ts';

const OPTIONS = { maxTokens: 6, ignoreEos: true, temperature: 0 } as const;
const MODEL = fixturePath('models/mamba2');
const device = await openTestDevice();

it('rejects what a lost device leaves, and goes on with its sessions on another', async () => {
  const first = await requestDevice();
  const model = await loadModel(MODEL, { device: first, warmUp: false });
  const draft = await loadModel(MODEL, { device: first, warmUp: false });
  const session = model.session();
  const written = (await session.generate([5, 6, 7], OPTIONS).result).tokens;
  const pending = [
    model.generate([1, 2], { ...OPTIONS, maxTokens: 200 }).result,
    model.generate([3, 4], { ...OPTIONS, maxTokens: 200 }).result,
    model.generate([3, 4], { ...OPTIONS, maxTokens: 200, draft }).result,
    model.logits([1, 2, 3]),
    model.embed([[1, 2]]),
  ];
  const settled = Promise.allSettled(pending);
  first.gpu.destroy();
  for (const outcome of await settled) {
    expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'device-lost' } });
  }
  await expect(session.generate(OPTIONS).result).rejects.toMatchObject({ code: 'device-lost' });
  expect(session.tokens).toEqual([5, 6, 7, ...written]);

  await model.recover({ device });
  const continued = (await session.generate(OPTIONS).result).tokens;
  const alone = (await model.generate([5, 6, 7], { ...OPTIONS, maxTokens: 12 }).result).tokens;
  expect([...written, ...continued]).toEqual(alone);
  // Each model is recovered by itself, and guesses again.
  const guessed = (): Promise<GenerationResult> =>
    model.generate([5, 6, 7], { ...OPTIONS, maxTokens: 12, draft }).result;
  await expect(guessed()).rejects.toMatchObject({ code: 'device-lost' });
  await draft.recover({ device });
  const { tokens, timings } = await guessed();
  expect([tokens, timings.acceptedTokens]).toEqual([alone, timings.draftedTokens]);
  draft.dispose();
  model.dispose();
  first.dispose();
});

it('leaves two models on one device alone', async () => {
  using model = await loadModel(MODEL, { device, warmUp: false });
  const kept = await loadModel(MODEL, { device, warmUp: false });
  const expected = (await kept.generate([1, 2], OPTIONS).result).tokens;
  expect((await model.generate([1, 2], OPTIONS).result).tokens).toEqual(expected);
  kept.dispose();
  expect((await model.generate([1, 2], OPTIONS).result).tokens).toEqual(expected);
});
