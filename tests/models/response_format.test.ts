import type { GenerateOptions, GenerationResult, ResponseFormat } from '@mambalab/models';
import { loadModel } from '@mambalab/models/node';
import { Ajv } from 'ajv';
import { describe, expect, it } from 'vitest';
import { fixturePath } from '../support/fixtures.ts';
import { openTestDevice } from '../support/gpu.ts';

const device = await openTestDevice();
const model = await loadModel(fixturePath('models/stories260k'), { device, contextLength: 512, warmUp: false });

const write = (responseFormat: ResponseFormat, options: GenerateOptions = {}): Promise<GenerationResult> =>
  model.generate('Once upon a time', { maxTokens: 60, responseFormat, ...options }).result;

describe('a text of a response format', () => {
  it('is valid JSON of its schema, whatever is drawn', async () => {
    const schema = { type: 'object', properties: { ok: { enum: ['yes', 7, null] } }, required: ['ok'] };
    const result = await write({ type: 'json_schema', schema }, { maxTokens: 80, temperature: 1, seed: 1 });
    expect(new Ajv({ strict: false }).validate(schema, JSON.parse(result.text))).toBe(true);
    expect(result.finishReason).toBe('stop');
  });

  it('is what a regular expression matches', async () => {
    const { text, finishReason } = await write({ type: 'regex', pattern: '[0-9]{3}-(red|blue)' });
    expect(text).toMatch(/^[0-9]{3}-(red|blue)$/);
    expect(finishReason).toBe('stop');
  });

  it('is what a grammar has', async () => {
    const grammar = 'root ::= greeting ", " name\ngreeting ::= "Hello" | "Bye"\nname ::= "Tom" | "Lily"';
    const { text, tokens } = await write({ type: 'grammar', grammar }, { temperature: 3, seed: 1 });
    expect(['Hello, Tom', 'Hello, Lily', 'Bye, Tom', 'Bye, Lily']).toContain(text);
    // No token of a text that is complete is of no use: the text ended by itself.
    expect(model.tokenizer.decode(tokens)).toBe(text);
  });

  it('is a JSON object, or the beginning of one', async () => {
    const { text } = await write({ type: 'json_object' }, { maxTokens: 8 });
    expect(text).toMatch(/^\{\s*("|\}|$)/);
  });

  it('says that it was cut where the tokens do not suffice', async () => {
    const format: ResponseFormat = { type: 'regex', pattern: '[a-z]{50}' };
    expect(await write(format, { maxTokens: 5 })).toMatchObject({ finishReason: 'length' });
  });

  it('ends where it is complete, also where the model has no end token', async () => {
    const result = await write({ type: 'regex', pattern: '[0-9]{4}' }, { ignoreEos: true, logprobs: 1 });
    expect(result).toMatchObject({ finishReason: 'stop' });
    expect(result.text).toMatch(/^[0-9]{4}$/);
    expect(result.logprobs).toHaveLength(result.tokens.length);
  });

  it('leaves the next text free', async () => {
    const write3 = (): Promise<GenerationResult> => model.generate('Once upon a time', { maxTokens: 3 }).result;
    const before = await write3();
    await write({ type: 'regex', pattern: 'a' });
    expect((await write3()).tokens).toEqual(before.tokens);
  });
});

it('is written beside a batch of others, and guesses of another, each as alone', async () => {
  const options = { ignoreEos: true, maxTokens: 14 } as const;
  const each: readonly (readonly [readonly number[], GenerateOptions])[] = [
    [[1, 403, 407], options],
    [[1, 320, 410, 9], { ...options, temperature: 1, seed: 4 }],
    [[1, 403, 9, 403, 9], { ...options, draft: 'prompt-lookup', draftTokens: 3 }],
    [[1, 403], { ...options, temperature: 1, seed: 2, responseFormat: { type: 'regex', pattern: '[a-z ]{6}' } }],
  ];
  const alone: (readonly number[])[] = [];
  for (const [prompt, way] of each) alone.push((await model.generate(prompt, way).result).tokens);
  await model.runtime.decodePlan(512, 2);
  let most = 0;
  const together = each.map(async ([prompt, way]) => {
    const tokens: number[] = [];
    for await (const { token } of model.generate(prompt, way)) {
      tokens.push(token);
      most = Math.max(most, model.scheduler.batched);
    }
    return tokens;
  });
  const written = await Promise.all(together);
  // The last piece of a text may bring characters without a token.
  expect(written.map((tokens, index) => tokens.slice(0, alone[index]?.length))).toEqual(alone);
  expect(most).toBe(2);
});

it.each<[string, ResponseFormat]>([
  ['schema', { type: 'json_schema', schema: 3 }],
  ['pattern', { type: 'regex', pattern: '[' }],
  ['root', { type: 'grammar', grammar: 'start ::= "a"' }],
  ['xml', { type: 'xml' } as unknown as ResponseFormat],
  ['refuses', { type: 'json_schema', schema: { type: 'nothing' } }],
])('refuses a bad %s', async (word, format) => {
  await expect(write(format)).rejects.toThrow(word);
});
