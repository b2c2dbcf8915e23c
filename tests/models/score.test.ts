import { openSafetensors } from '@mambalab/models';
import { loadModel, openFolder } from '@mambalab/models/node';
import { expect, it } from 'vitest';
import { toFloat32 } from '../../packages/models/src/weights/convert.ts';
import { fixturePath, readFixture } from '../support/fixtures.ts';
import { goldenOf } from '../support/goldens.ts';
import { openTestDevice } from '../support/gpu.ts';
import { Random } from '../support/numbers.ts';

const device = await openTestDevice();
const mamba2 = await loadModel(fixturePath('models/mamba2'), { device, warmUp: false });
const stories = await loadModel(fixturePath('models/stories260k'), { device, contextLength: 64, warmUp: false });
const { prompt, greedy_ids: greedy } = readFixture<{ prompt: string; greedy_ids: number[] }>(
  'models/stories260k/expected.json',
);

/** log softmax of each row of logits at the token that follows. */
function expectedLogprobs(logits: Float32Array, tokens: readonly number[], vocabSize: number): number[] {
  return tokens.slice(1).map((token, index) => {
    const row = Array.from(logits.subarray(index * vocabSize, (index + 1) * vocabSize));
    const largest = Math.max(...row);
    const mass = row.reduce((sum, value) => sum + Math.exp(value - largest), 0);
    return (row[token] ?? NaN) - largest - Math.log(mass);
  });
}

function expectNear(actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): void {
  expect(actual).toHaveLength(expected.length);
  const errors = Array.from(actual, (value, index) => Math.abs(value - (expected[index] ?? NaN)));
  expect(errors.filter((error) => !(error < tolerance))).toEqual([]);
}

it('scores tokens as the logits of transformers do', async () => {
  const { inputIds, logits } = await goldenOf('mamba2');
  const [tokens = []] = inputIds;
  const expected = expectedLogprobs(logits[0] ?? new Float32Array(), tokens, mamba2.spec.vocabSize);
  const score = await mamba2.score(tokens.slice(0, 4), tokens.slice(4));
  expectNear(score.tokenLogprobs, expected.slice(3), 1e-4);
  expect(score.logprob).toBeCloseTo(
    expected.slice(3).reduce((sum, value) => sum + value, 0),
    3,
  );
  expectNear(await mamba2.logprobs(tokens), expected, 1e-4);
});

it('says whether greedy decoding writes a continuation', async () => {
  const written = greedy.slice(0, 6);
  const text = stories.tokenizer.decode(written);
  const exact = await stories.score(stories.tokenizer.encode(prompt), written);
  expect(exact.isGreedy).toBe(true);
  // Both as strings: encoded together, to the same tokens.
  expect(await stories.score(prompt, text)).toEqual(exact);
  // Spaces at the end of the context belong to the continuation.
  expect(text.startsWith(' ')).toBe(false);
  expect((await stories.score(`${prompt} `, text.trimStart())).tokenLogprobs[0]).not.toBe(exact.tokenLogprobs[0]);
  const other = await stories.score(stories.tokenizer.encode(prompt), [...written.slice(0, 5), 300]);
  expect(other.isGreedy).toBe(false);
  expect(other.tokenLogprobs.slice(0, 5)).toEqual(exact.tokenLogprobs.slice(0, 5));
  expect(other.logprob).toBeLessThan(exact.logprob);
});

it('scores a long text in chunks, without keeping its logits', async () => {
  const { vocabSize } = mamba2.spec;
  const tokens = [...new Random(8).integers(1030, vocabSize)];
  const all = await mamba2.logits(tokens, { positions: 'all' });
  const bytes = device.allocatedBytes;
  expectNear(await mamba2.logprobs(tokens), expectedLogprobs(all, tokens, vocabSize), 1e-4);
  expect(device.allocatedBytes).toBe(bytes);
});

it('refuses what has no score', async () => {
  await expect(mamba2.score([], [1])).rejects.toThrow('context has no token');
  await expect(mamba2.score([1], [])).rejects.toThrow('continuation has no token');
  await expect(mamba2.score([1], [2, 128])).rejects.toThrow('Token 1 is 128');
  await expect(mamba2.score([1], [2], { signal: AbortSignal.abort(new Error('enough')) })).rejects.toThrow('enough');
  await expect(mamba2.embed([[]])).rejects.toThrow('no token');
});

it('embeds texts: the head makes the logits of transformers from the last hidden state', async () => {
  const { inputIds, logits } = await goldenOf('mamba2');
  const { vocabSize, hiddenSize } = mamba2.spec;
  const [tokens = []] = inputIds;
  const [last = new Float32Array()] = await mamba2.embed([tokens], { pooling: 'last' });
  const folder = await openFolder(fixturePath('models/mamba2'));
  const file = await folder.file('model.safetensors');
  if (file === undefined) throw new Error('there are no weights');
  const source = await openSafetensors(file);
  const info = source.tensors.get('backbone.embeddings.weight');
  if (info === undefined) throw new Error('there is no head');
  const head = toFloat32(await source.read('backbone.embeddings.weight'), info.dtype);
  await folder.dispose();
  const computed = Array.from({ length: vocabSize }, (_, row) =>
    last.reduce((sum, value, column) => sum + value * (head[row * hiddenSize + column] ?? NaN), 0),
  );
  expectNear(computed, (logits[0] ?? new Float32Array()).subarray(-vocabSize), 1e-3);
});

it('pools and normalizes, over chunks as well', async () => {
  const tokens = [...new Random(9).integers(515, mamba2.spec.vocabSize)];
  const parts = [tokens, tokens.slice(0, 1)];
  const [mean = new Float32Array(), first = new Float32Array()] = await mamba2.embed(parts);
  const [last = new Float32Array(), only] = await mamba2.embed(parts, { pooling: 'last' });
  // The mean and the last of one token are the same.
  expectNear(first, only ?? [], 1e-5);
  const [short = new Float32Array()] = await mamba2.embed([tokens.slice(0, 514)]);
  // The mean of 515 is made of that of 514 and of the last.
  expectNear(
    mean,
    short.map((value, index) => (514 * value + (last[index] ?? NaN)) / 515),
    1e-5,
  );
  const [unit = new Float32Array()] = await mamba2.embed([tokens], { normalize: true });
  expect(Math.hypot(...unit)).toBeCloseTo(1, 5);
  expectNear(
    unit,
    mean.map((value) => value / Math.hypot(...mean)),
    1e-5,
  );
});
