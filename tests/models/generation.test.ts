import type { GeneratedPiece, GenerateOptions, Generation, GenerationResult, Prompt } from '@mambalab/models';
import { loadModel } from '@mambalab/models/node';
import { describe, expect, it } from 'vitest';
import { copyCheckpoint } from '../support/checkpoints.ts';
import { fixturePath, readFixture } from '../support/fixtures.ts';
import { openTestDevice } from '../support/gpu.ts';
import { nmse, Random } from '../support/numbers.ts';

const device = await openTestDevice();
const stories = fixturePath('models/stories260k');
const expected = readFixture<{ prompt: string; prompt_ids: number[]; greedy_ids: number[] }>(
  'models/stories260k/expected.json',
);
const greedy = expected.greedy_ids;
// Software GPUs take their time over the caches of a long context.
const model = await loadModel(stories, { device, contextLength: 64 });

const write = (options: GenerateOptions, prompt: Prompt = expected.prompt): Promise<GenerationResult> =>
  model.generate(prompt, options).result;

async function readAll(text: AsyncIterable<GeneratedPiece>): Promise<GeneratedPiece[]> {
  const pieces: GeneratedPiece[] = [];
  for await (const piece of text) pieces.push(piece);
  return pieces;
}

const textOf = (pieces: readonly GeneratedPiece[]): string => pieces.map(({ text }) => text).join('');

describe('drawing at a temperature', () => {
  const options: GenerateOptions = { maxTokens: 6, temperature: 1.5, seed: 7 };

  it('gives the same for the same seed, and something else for another', async () => {
    const { tokens } = await write(options);
    expect((await write(options)).tokens).toEqual(tokens);
    expect((await write({ ...options, seed: 8 })).tokens).not.toEqual(tokens);
    // The high word of a seed counts as well.
    expect((await write({ ...options, seed: 7 + 2 ** 40 })).tokens).not.toEqual(tokens);
    expect((await write({ ...options, temperature: 0 })).tokens).toEqual(greedy.slice(0, 6));
  });

  it('draws anew without a seed', async () => {
    const { tokens } = await write({ maxTokens: 6, temperature: 3 });
    expect((await write({ maxTokens: 6, temperature: 3 })).tokens).not.toEqual(tokens);
  });
});

describe('ends', () => {
  it('at a stop token, which is no part of the text', async () => {
    const at = 5;
    const stop = greedy[at] ?? 0;
    expect(greedy.indexOf(stop)).toBe(at);
    const result = await write({ maxTokens: 20, stopTokens: [stop, 511] });
    expect(result.tokens).toEqual(greedy.slice(0, at));
    expect(result.finishReason).toBe('stop');
    expect(result.usage).toEqual({ promptTokens: 5, completionTokens: at });
    expect(result.text).toBe(model.tokenizer.decode(greedy.slice(0, at)));
  });

  it('at once, where the first token stops', async () => {
    const result = await write({ stopTokens: greedy.slice(0, 1) });
    expect(result).toMatchObject({ text: '', tokens: [], finishReason: 'stop' });
    expect(result.timings).toMatchObject({ decodeMs: 0, decodeTokensPerSecond: 0 });
  });

  it.each<[string, string, unknown]>([
    ['generation_config.json', '{"eos_token_id": EOS}', 2],
    ['a list in generation_config.json', '{"eos_token_id": [2, EOS]}', 2],
    ['config.json, where the other says nothing', '{}', [2, greedy[5]]],
  ])('at the token that ends sequences by %s', async (_name, generationConfig, eos) => {
    const path = await copyCheckpoint('stories260k', {
      config: { eos_token_id: eos },
      files: { 'generation_config.json': generationConfig.replace('EOS', String(greedy[5])) },
    });
    using other = await loadModel(path, { device, contextLength: 64 });
    const result = await other.generate(expected.prompt, { maxTokens: 8 }).result;
    expect([result.tokens, result.finishReason]).toEqual([greedy.slice(0, 5), 'stop']);
    const further = await other.generate(expected.prompt, { maxTokens: 8, ignoreEos: true }).result;
    expect([further.tokens, further.finishReason]).toEqual([greedy.slice(0, 8), 'length']);
  });

  it.each([1, 2, 3, 4, 5])('after %i tokens where that many are asked for', async (maxTokens) => {
    const result = await write({ maxTokens });
    expect([result.tokens, result.finishReason]).toEqual([greedy.slice(0, maxTokens), 'length']);
  });

  it('when the context is full: with the token that the last of it gives', async () => {
    using other = await loadModel(stories, { device, contextLength: 12 });
    const result = await other.generate(expected.prompt, { maxTokens: 50 }).result;
    // 5 tokens of the prompt and 7 written ones fill the context; its last one gives one more.
    expect([result.tokens, result.finishReason]).toEqual([greedy.slice(0, 8), 'length']);
    expect((await other.generate(expected.prompt, { maxTokens: 50 }).result).tokens).toEqual(greedy.slice(0, 8));
  });
});

describe('readers', () => {
  const start = (maxTokens = 4): Generation => model.generate(expected.prompt, { maxTokens });
  const four = greedy.slice(0, 4);

  it('the result needs none', async () => {
    const result = await start().result;
    expect(result.tokens).toEqual(four);
    expect(result.timings.timeToFirstTokenMs).toBeGreaterThan(0);
    expect(result.timings.decodeTokensPerSecond).toBeGreaterThan(0);
  });

  it('the same text can be read twice, and its result be asked for twice', async () => {
    const text = start();
    const first = await readAll(text);
    const second = await readAll(text);
    expect(second).toEqual(first);
    expect(first.map(({ token }) => token)).toEqual(four);
    expect(await text.result).toBe(await text.result);
    expect((await text.result).text).toBe(textOf(first));
  });

  it('two at the same time, and a result beside them', async () => {
    const text = start();
    const [first, second, result] = await Promise.all([readAll(text), readAll(text), text.result]);
    expect(first).toEqual(second);
    expect(textOf(first)).toBe(result.text);
    expect(result.tokens).toEqual(four);
  });

  it('one that leaves does not end the text for the other', async () => {
    const text = start();
    const leave = async (): Promise<void> => {
      for await (const piece of text) if (piece.token === four[1]) break;
    };
    const [pieces] = await Promise.all([readAll(text), leave()]);
    expect(pieces.map(({ token }) => token)).toEqual(four);
    expect((await text.result).finishReason).toBe('length');
  });

  it('when the last one leaves, the text ends there', async () => {
    const text = start(50);
    for await (const piece of text) if (piece.token === four[2]) break;
    const result = await text.result;
    expect(result.finishReason).toBe('abort');
    expect(result.tokens).toEqual(four.slice(0, 3));
    expect(result.text).toBe(model.tokenizer.decode(four.slice(0, 3)));
    expect(result.usage).toEqual({ promptTokens: 5, completionTokens: 3 });
    expect(result.timings.prefillMs).toBeGreaterThan(0);
    // The pieces that were written can be read again.
    expect((await readAll(text)).map(({ token }) => token)).toEqual(four.slice(0, 3));
    expect((await start().result).tokens).toEqual(four);
  });

  it('whoever comes while the last reader leaves keeps the text going', async () => {
    const text = start();
    const reader = text[Symbol.asyncIterator]();
    await reader.next();
    const [, result] = await Promise.all([reader.return(), text.result]);
    expect([result.tokens, result.finishReason]).toEqual([four, 'length']);
  });

  it('whoever comes while a text winds up gets what there is', async () => {
    const text = start(50);
    const reader = text[Symbol.asyncIterator]();
    await reader.next();
    const leaving = reader.return();
    await new Promise((resolve) => setTimeout(resolve));
    const result = await text.result;
    await leaving;
    expect([result.tokens, result.finishReason]).toEqual([four.slice(0, 1), 'abort']);
    expect(await text.result).toBe(result);
  });

  it('a failing reader ends it as leaving does', async () => {
    const text = start(50);
    const error = new Error('of the reader');
    const read = async (): Promise<void> => {
      for await (const _ of text) throw error;
    };
    await expect(read()).rejects.toBe(error);
    expect((await text.result).finishReason).toBe('abort');
  });

  it('as a stream of strings', async () => {
    const text = start();
    const chunks: string[] = [];
    const reader = text.toReadableStream().getReader();
    for (let next = await reader.read(); !next.done; next = await reader.read()) chunks.push(next.value);
    expect(chunks.join('')).toBe((await text.result).text);
    expect(chunks).toHaveLength(4);
  });

  it('a stream that is cancelled ends the text', async () => {
    const text = start(50);
    const reader = text.toReadableStream().getReader();
    await reader.read();
    await reader.cancel();
    const result = await text.result;
    expect(result.finishReason).toBe('abort');
    expect(result.tokens.length).toBeLessThan(5);
    expect((await start().result).tokens).toEqual(four);
  });

  it('a stream of a text that fails, fails', async () => {
    const reader = model.generate([9999]).toReadableStream().getReader();
    await expect(reader.read()).rejects.toThrow('9999');
  });
});

describe('texts at the same time', () => {
  it('do not change each other', async () => {
    const prompts = ['Once upon a time', 'Lily and Tom', 'The dog'];
    const options = (index: number): GenerateOptions => ({ maxTokens: 5, temperature: index === 2 ? 1 : 0, seed: 3 });
    const alone: (readonly number[])[] = [];
    for (const [index, prompt] of prompts.entries()) alone.push((await write(options(index), prompt)).tokens);
    const together = await Promise.all(prompts.map((prompt, index) => write(options(index), prompt)));
    expect(together.map(({ tokens }) => tokens)).toEqual(alone);
    expect(new Set(alone.map(String)).size).toBe(3);
  });

  it('nor do logits of prompts of different lengths', async () => {
    const prompts = [[1, 403], [1, 403, 407, 261, 378], [1]];
    const alone: Float32Array[] = [];
    for (const prompt of prompts) alone.push(await model.logits(prompt, { positions: 'all' }));
    const together = await Promise.all(prompts.map((prompt) => model.logits(prompt, { positions: 'all' })));
    expect(together).toEqual(alone);
  });

  it('give their memory back', async () => {
    await write({ maxTokens: 2 });
    const before = device.allocatedBytes;
    await Promise.all([write({ maxTokens: 2 }), write({ maxTokens: 2 })]);
    expect(device.allocatedBytes).toBe(before);
  });
});

it('caches that grow in the middle of a text keep what they hold', async () => {
  using llama = await loadModel(fixturePath('models/llama'), { device, contextLength: 700 });
  const tokens = [...new Random(3).integers(516, 128)];
  const grown = await llama.withSequence(508, async (sequence) => {
    await sequence.prefill(tokens.slice(0, 508));
    const { kvBytesPerToken } = llama.memory();
    expect(sequence.bytes().kvBytes).toBe(512 * kvBytesPerToken);
    await sequence.prepareSteps(8);
    // Doubled, and never beyond the context.
    expect(sequence.bytes().kvBytes).toBe(700 * kvBytesPerToken);
    for (const token of tokens.slice(508)) {
      sequence.setToken(token);
      await sequence.step();
    }
    await expect(sequence.prepareSteps(185)).rejects.toThrow('701');
    return await sequence.lastLogits();
  });
  expect(nmse(grown, await llama.logits(tokens))).toBeLessThan(1e-9);
});

describe('memory', () => {
  /** Two Mamba-2 mixers: 4 heads of 16 x 32, and 3 inputs of a convolution over 64 + 2 * 2 * 32 channels. */
  const stateBytes = 2 * 4 * (4 * 16 * 32 + 3 * 192);

  it.each<['f32' | 'f16', number]>([
    ['f32', 4],
    ['f16', 2],
  ])('of a hybrid is exact with %s caches', async (cacheDtype, bytes) => {
    using hybrid = await loadModel(fixturePath('models/nemotron_h'), { device, cacheDtype });
    // Keys and values of 2 heads of 16.
    const kvBytesPerToken = 2 * 2 * 16 * bytes;
    expect(hybrid.memory()).toMatchObject({ kvBytesPerToken, stateBytes, kvBytes: 0 });
    for (const length of [1, 40]) {
      await hybrid.logits(Array.from({ length }, (_, index) => index));
      expect(hybrid.memory()).toMatchObject({ kvBytesPerToken, stateBytes, kvBytes: 512 * kvBytesPerToken });
    }
    expect(hybrid.memory().weightsBytes).toBeGreaterThan(100_000);
    expect(hybrid.memory().scratchBytes).toBeGreaterThan(0);
  });

  it('of a model without attention has no part that grows', async () => {
    using mamba2 = await loadModel(fixturePath('models/mamba2'), { device });
    await mamba2.logits([1, 2, 3]);
    const first = mamba2.memory();
    await mamba2.generate([1, 2, 3], { maxTokens: 8, ignoreEos: true }).result;
    expect(mamba2.memory()).toMatchObject({ stateBytes: first.stateBytes, kvBytes: 0, kvBytesPerToken: 0 });
    expect(mamba2.contextLength).toBe(Infinity);
  });
});
