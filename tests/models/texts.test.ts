import { hybrid, mamba, mamba2, transformer } from '@mambalab/checkpoints';
import { loadModel } from '@mambalab/models/node';
import { describe, expect, it } from 'vitest';
import type { ShippedGoldens } from '../support/fixtures.ts';
import { fixturePath, readFixture } from '../support/fixtures.ts';
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

describe('the shipped models', () => {
  const { stride, models } = readFixture<ShippedGoldens>('models/shipped.json');

  // What the other two are made of is in these; a long run tests all.
  const tested = process.env['MAMBALAB_LONG'] === '1' ? [hybrid, mamba, mamba2, transformer] : [hybrid, mamba];

  it.each(tested)('$name writes what transformers writes for its values', async (entry) => {
    // Software GPUs take their time over the caches of a long context.
    using model = await loadModel(entry, { device, warmUp: false, contextLength: 128 });
    // The prose is what tests/browser writes: each prompt has its own length to compile for.
    const [prose, book] = models[entry.name] ?? [];
    if (prose === undefined || book === undefined) throw new Error(`there is no golden of ${entry.name}`);
    const { inputIds, logits, largest, greedy } = book;
    const computed = await model.logits(inputIds);
    const error = Math.max(...logits.map((value, index) => Math.abs(value - (computed[index * stride] ?? NaN))));
    // Blocks are exact here; the f16 KV cache is what differs from float32.
    expect(error / largest).toBeLessThan(entry === mamba || entry === mamba2 ? 2e-5 : 4e-4);
    const result = await model.generate(inputIds, { maxTokens: 12, ignoreEos: true }).result;
    expect(result.tokens).toEqual(greedy.slice(0, 12));
    // A book of two entries is what every one of them can look up.
    expect(result.text).toMatch(/^ 271-8046\n/);
    // A third of what float16 takes.
    expect(model.memory().weightsBytes).toBeLessThan(4.1e6);
  });
});
