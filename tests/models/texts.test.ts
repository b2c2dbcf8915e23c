import { hybrid } from '@mambalab/checkpoints';
import { loadModel } from '@mambalab/models/node';
import { describe, expect, it } from 'vitest';
import { checkpointPath, fixturePath, readFixture } from '../support/fixtures.ts';
import { openTestDevice } from '../support/gpu.ts';

const device = await openTestDevice();

describe('stories260k', () => {
  const expected = readFixture<{ prompt: string; prompt_ids: number[]; greedy_ids: number[]; text: string }>(
    'models/stories260k/expected.json',
  );

  it('continues as the original C program does', async () => {
    using model = await loadModel(fixturePath('models/stories260k'), { device });
    expect(model.tokenizer.encode(expected.prompt)).toEqual(expected.prompt_ids);
    const pieces: string[] = [];
    const text = model.generate(expected.prompt, { maxTokens: expected.greedy_ids.length });
    for await (const piece of text) pieces.push(piece.text);
    const result = await text.result;
    expect(result.tokens).toEqual(expected.greedy_ids);
    expect(pieces.join('')).toBe(result.text);
    expect(expected.prompt + result.text).toBe(expected.text);
    expect(result.finishReason).toBe('length');
    expect(result.usage).toEqual({ promptTokens: 5, completionTokens: 80 });
  });
});

describe('the shipped hybrid', () => {
  const golden = readFixture<{
    input_ids: number[][];
    greedy: number[][];
    last_logits: number[][];
    logit_absmax: number;
  }>('models/tiny_hybrid.json');

  it('writes the greedy tokens that transformers writes, and has its logits', async () => {
    using model = await loadModel(hybrid, { device });
    for (const [row, prompt] of golden.input_ids.entries()) {
      const logits = await model.logits(prompt);
      const expected = golden.last_logits[row] ?? [];
      const error = Math.max(...expected.map((value, index) => Math.abs(value - (logits[index] ?? NaN))));
      // f16 weights are exact here; the f16 KV cache is what differs from float32.
      expect(error / golden.logit_absmax).toBeLessThan(2e-4);
      const result = await model.generate(prompt, { maxTokens: 64, ignoreEos: true }).result;
      expect(result.tokens).toEqual(golden.greedy[row]);
    }
  });

  it('writes the same with exact caches', async () => {
    using model = await loadModel(checkpointPath('hybrid'), { device, cacheDtype: 'f32', dtype: 'f32' });
    const [prompt = []] = golden.input_ids;
    const logits = await model.logits(prompt);
    const expected = golden.last_logits[0] ?? [];
    const error = Math.max(...expected.map((value, index) => Math.abs(value - (logits[index] ?? NaN))));
    expect(error / golden.logit_absmax).toBeLessThan(2e-5);
  });
});
