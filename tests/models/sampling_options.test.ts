import type { GenerateOptions, GenerationResult, Prompt } from '@mambalab/models';
import { loadModel } from '@mambalab/models/node';
import { describe, expect, it } from 'vitest';
import { copyCheckpoint } from '../support/checkpoints.ts';
import { fixturePath, readFixture } from '../support/fixtures.ts';
import { openTestDevice } from '../support/gpu.ts';

const device = await openTestDevice();
const { prompt, greedy_ids: greedy } = readFixture<{ prompt: string; greedy_ids: number[] }>(
  'models/stories260k/expected.json',
);
const model = await loadModel(fixturePath('models/stories260k'), { device, contextLength: 96, warmUp: false });

const write = (options: GenerateOptions, text: Prompt = prompt): Promise<GenerationResult> =>
  model.generate(text, { maxTokens: 8, ...options }).result;

/** log softmax in float64. */
function logprobsOf(logits: Float32Array): Float64Array {
  const values = Float64Array.from(logits);
  const largest = values.reduce((best, value) => Math.max(best, value));
  const mass = values.reduce((sum, value) => sum + Math.exp(value - largest), 0);
  return values.map((value) => value - largest - Math.log(mass));
}

describe('filters', () => {
  it('of one token are greedy at any temperature', async () => {
    for (const options of [{ topK: 1 }, { topP: 0 }, { minP: 1 }]) {
      expect((await write({ temperature: 5, seed: 3, ...options })).tokens).toEqual(greedy.slice(0, 8));
    }
  });

  it('keep what is drawn among the tokens that they name', async () => {
    const logits = await model.logits(model.tokenizer.encode(prompt));
    const best = [...logits.keys()].sort((a, b) => (logits[b] ?? 0) - (logits[a] ?? 0));
    const drawn = new Set<number>();
    for (let seed = 0; seed < 12; seed++) {
      const { tokens } = await write({ temperature: 100, topK: 3, seed, maxTokens: 1 });
      drawn.add(tokens[0] ?? -1);
    }
    expect([...drawn].sort()).toEqual(best.slice(0, 3).sort());
  });
});

describe('logits', () => {
  it('get a bias, which bans or forces tokens', async () => {
    const [first = 0] = greedy;
    expect((await write({ logitBias: { [first]: -Infinity } })).tokens[0]).not.toBe(first);
    const forced = await write({ logitBias: new Map([[300, 1000]]), maxTokens: 3 });
    expect(forced.tokens).toEqual([300, 300, 300]);
    // The next text has no bias.
    expect((await write({})).tokens).toEqual(greedy.slice(0, 8));
  });

  it('get penalties for tokens of the prompt and of the text', async () => {
    const bias = new Map([[300, 1000]]);
    const penalized = await write({ logitBias: bias, frequencyPenalty: 600, maxTokens: 4 });
    // 1000, then 400, then below all others.
    expect(penalized.tokens.slice(0, 2)).toEqual([300, 300]);
    expect(penalized.tokens[2]).not.toBe(300);
    const once = await write({ logitBias: bias, presencePenalty: 2000, maxTokens: 2 });
    expect([once.tokens[0], once.tokens[1] === 300]).toEqual([300, false]);
    // One token back is all that counts: every other one.
    const windowed = await write({ logitBias: bias, presencePenalty: 2000, penaltyWindow: 1, maxTokens: 4 });
    expect(windowed.tokens.map((token) => token === 300)).toEqual([true, false, true, false]);
    const again = [...model.tokenizer.encode(prompt), 300];
    expect((await write({ logitBias: bias, presencePenalty: 2000, maxTokens: 1 }, again)).tokens[0]).not.toBe(300);
    const repeated = await write({ logitBias: bias, repetitionPenalty: 1e6, maxTokens: 2 });
    expect([repeated.tokens[0], repeated.tokens[1] === 300]).toEqual([300, false]);
  });

  it('have probabilities, of the token and of the best', async () => {
    const pieces = [];
    const text = model.generate(prompt, { maxTokens: 3, logprobs: 4 });
    for await (const piece of text) pieces.push(piece);
    const { logprobs } = await text.result;
    expect(pieces.map(({ token }) => token)).toEqual(greedy.slice(0, 3));
    const context = model.tokenizer.encode(prompt);
    for (const [at, { token, logprob = NaN, topLogprobs = [] }] of pieces.entries()) {
      const expected = logprobsOf(await model.logits(context));
      const best = [...expected.keys()].sort((a, b) => (expected[b] ?? 0) - (expected[a] ?? 0)).slice(0, 4);
      expect(Math.abs(logprob - (expected[token] ?? NaN))).toBeLessThan(1e-3);
      expect(logprobs?.[at]).toBe(logprob);
      expect(topLogprobs.map((top) => top.token)).toEqual(best);
      for (const top of topLogprobs) expect(Math.abs(top.logprob - (expected[top.token] ?? NaN))).toBeLessThan(1e-3);
      context.push(token);
    }
    const alone = await write({ logprobs: 0, maxTokens: 3 });
    expect(alone.logprobs).toEqual(logprobs);
    expect((await write({ maxTokens: 3 })).logprobs).toBeUndefined();
  });

  it('can be changed by a function, in place or not', async () => {
    const seen: number[][] = [];
    const processed = await write({
      maxTokens: 3,
      logitsProcessor: (logits, tokens) => {
        seen.push([...tokens]);
        logits[300 + seen.length] = 1000;
      },
    });
    expect(processed.tokens).toEqual([301, 302, 303]);
    const context = model.tokenizer.encode(prompt);
    expect(seen).toEqual([context, [...context, 301], [...context, 301, 302]]);
    expect((await write({ logitsProcessor: (logits) => logits.slice() })).tokens).toEqual(greedy.slice(0, 8));
    await expect(write({ logitsProcessor: () => new Float32Array(3) })).rejects.toThrow('3 logits of 512');
  });
});

describe('draws', () => {
  it('of the same seed are the same with every part of sampling recorded', async () => {
    const options: GenerateOptions = { temperature: 0.9, seed: 11 };
    const { tokens } = await write(options);
    const neutral: GenerateOptions[] = [
      { logprobs: 2 },
      { logitBias: { 5: 0 } },
      { minP: 1e-30 },
      { frequencyPenalty: 1e-30 },
      { logitsProcessor: () => undefined },
    ];
    for (const extra of neutral) expect((await write({ ...options, ...extra })).tokens).toEqual(tokens);
  });

  it('of the first two tokens use different random numbers', async () => {
    // With all logits equal, the token is where the random number is largest.
    const flat: GenerateOptions = { temperature: 1, maxTokens: 3, logitsProcessor: (logits) => logits.fill(0) };
    for (let seed = 0; seed < 3; seed++) expect(new Set((await write({ ...flat, seed })).tokens).size).toBe(3);
  });
});

it('conversations are continued as generation_config.json says, unless told otherwise', async () => {
  const template = '{% for message in messages %}{{ message.content }}{% endfor %}';
  const folder = await copyCheckpoint('stories260k', {
    files: {
      'chat_template.jinja': template,
      'generation_config.json':
        '{"do_sample": true, "temperature": 3, "top_k": 40, "top_p": 0.95, "repetition_penalty": 1.3, "eos_token_id": 2}',
    },
  });
  using chat = await loadModel(folder, { device, contextLength: 96, warmUp: false });
  const messages = [{ role: 'user', content: prompt }];
  const settings = { temperature: 3, topK: 40, topP: 0.95, repetitionPenalty: 1.3 };
  const ids = chat.tokenizer.encode(prompt, { addSpecialTokens: false });
  const told = await chat.generate(messages, { maxTokens: 8, seed: 5 }).result;
  expect(told.tokens).toEqual((await chat.generate(ids, { maxTokens: 8, seed: 5, ...settings }).result).tokens);
  expect(told.tokens).not.toEqual((await chat.generate(ids, { maxTokens: 8 }).result).tokens);
  const greedily = await chat.generate(messages, { maxTokens: 8, temperature: 0, repetitionPenalty: 1 }).result;
  expect(greedily.tokens).toEqual((await chat.generate(ids, { maxTokens: 8 }).result).tokens);
});

describe('stop texts', () => {
  it('end the text before them, wherever tokens end', async () => {
    const text = model.tokenizer.decode(greedy.slice(0, 9));
    for (let begin = 1; begin + 5 <= text.length; begin += 7) {
      const stop = text.slice(begin, begin + 5);
      const shown: string[] = [];
      const generation = model.generate(prompt, { maxTokens: 9, stop: ['never', stop] });
      for await (const piece of generation) shown.push(piece.text);
      const result = await generation.result;
      expect(result).toMatchObject({ text: text.slice(0, text.indexOf(stop)), finishReason: 'stop' });
      expect(shown.join('')).toBe(result.text);
    }
  });
});

it('a stream writes a token only when it is asked for', async () => {
  let written = 0;
  const generation = model.generate(prompt, { maxTokens: 8, logitsProcessor: () => void (written += 1) });
  const reader = generation.toReadableStream().getReader();
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(written).toBe(0);
  await reader.read();
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(written).toBe(1);
  await reader.cancel();
});

it('an abort takes effect before the next token', async () => {
  const controller = new AbortController();
  const generation = model.generate(prompt, { maxTokens: 50, signal: controller.signal });
  const tokens: number[] = [];
  const reading = (async (): Promise<void> => {
    for await (const { token } of generation) {
      tokens.push(token);
      if (tokens.length === 3) controller.abort(new Error('enough'));
    }
  })();
  await expect(reading).rejects.toThrow('enough');
  expect(tokens).toEqual(greedy.slice(0, 3));
  expect((await write({})).tokens).toEqual(greedy.slice(0, 8));
});
