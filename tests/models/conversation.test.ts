import type { ChatMessage, GenerationResult } from '@mambalab/models';
import { loadModel } from '@mambalab/models/node';
import { afterAll, describe, expect, it } from 'vitest';
import { copyCheckpoint } from '../support/checkpoints.ts';
import { openTestDevice } from '../support/gpu.ts';
import { nmse } from '../support/numbers.ts';

// Full attention, with a text of its own for every turn.
const TEMPLATE =
  '{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}';
const device = await openTestDevice();
const folder = await copyCheckpoint('stories260k', { files: { 'chat_template.jinja': TEMPLATE } });
const model = await loadModel(folder, { device, contextLength: 96, warmUp: false });
afterAll(() => model.dispose());

const OPTIONS = { maxTokens: 5, ignoreEos: true, temperature: 0 } as const;
const system: ChatMessage = { role: 'system', content: 'Tell a story.' };
const user = (content: string): ChatMessage => ({ role: 'user', content });
const ask = (...messages: ChatMessage[]): Promise<GenerationResult> => model.generate(messages, OPTIONS).result;
const lengthOf = (text: string): number => model.tokenizer.encode(text, { addSpecialTokens: false }).length;

describe('a conversation in a session', () => {
  it('processes what is new in each turn, and one turn when the last message is edited', async () => {
    using session = model.session();
    const first = await session.generate([system, user('Who is Tom?')], OPTIONS).result;
    const border = session.length;
    const told = [system, user('Who is Tom?'), { role: 'assistant', content: first.text }];
    await session.generate([user('And Lily?')], OPTIONS).result;
    const processed = session.prefilledTokens;
    await session.rewind(border);
    const edited = await session.generate([user('And the dog?')], OPTIONS).result;
    // What the template writes after the answer, and the last token of the answer.
    expect(session.prefilledTokens - processed).toBe(edited.usage.promptTokens + 1);
    expect(edited.usage.promptTokens).toBe(lengthOf('\nuser: And the dog?\nassistant: '));
    expect(edited.tokens).toEqual((await ask(...told, user('And the dog?'))).tokens);
  });

  it('copies nothing to go back where there are caches alone', async () => {
    using session = model.session({ prefixCache: false });
    const prompt = model.tokenizer.encode('Once upon a time');
    const all = (await model.generate(prompt, { ...OPTIONS, maxTokens: 10 }).result).tokens;
    await session.append(prompt);
    expect((await session.generate(OPTIONS).result).tokens).toEqual(all.slice(0, 5));
    expect(session.checkpoints).toEqual([]);
    using fork = session.fork();
    const saved = await session.save();
    await fork.generate([9], OPTIONS).result;
    expect((await session.generate(OPTIONS).result).tokens).toEqual(all.slice(5));
    using restored = await model.restore(saved);
    expect((await restored.generate(OPTIONS).result).tokens).toEqual(all.slice(5));
    const processed = session.prefilledTokens;
    await session.rewind(prompt.length + 3);
    expect((await session.generate({ ...OPTIONS, maxTokens: 7 }).result).tokens).toEqual(all.slice(3));
    expect(session.prefilledTokens).toBe(processed + 1);
    const [exact, half, eighth] = [saved, await session.save({ dtype: 'f16' }), await session.save({ dtype: 'q8' })];
    expect(half.length).toBeLessThan(exact.length);
    const logits = await model.logits([...session.tokens, 3]);
    for (const [bytes, tolerance] of [
      [half, 1e-5],
      [eighth, 1e-2],
    ] as const) {
      using smaller = await model.restore(bytes);
      expect(nmse(await model.logits([3], { session: smaller }), logits)).toBeLessThan(tolerance);
    }
  });
});

describe('a system message', () => {
  it('is processed once for all conversations, with or without a session', async () => {
    model.prefixes.clear();
    const shared = lengthOf('system: Tell a story.\n');
    const first = await ask(system, user('Who is Tom?'));
    expect(first.usage.cachedTokens).toBeUndefined();
    expect(model.prefixes.lengths).toEqual([shared]);
    const second = await ask(system, user('Who is Lily?'));
    expect(second.usage.cachedTokens).toBe(shared);
    using session = model.session();
    const third = await session.generate([system, user('Who is Tom?')], OPTIONS).result;
    expect([third.usage.cachedTokens, third.tokens]).toEqual([shared, first.tokens]);
    expect(session.prefilledTokens).toBe(third.usage.promptTokens - shared);
    // The same text, whether it was kept or not; and what is no conversation shares nothing.
    model.prefixes.clear();
    expect((await ask(system, user('Who is Lily?'))).tokens).toEqual(second.tokens);
    const plain = model.generate('system: Tell a story.\nuser: Who is Lily?\nassistant: ', OPTIONS);
    expect((await plain.result).usage.cachedTokens).toBeUndefined();
    expect((await ask(user('Who is Lily?'))).usage.cachedTokens).toBeUndefined();
  });

  it('is kept once where conversations begin at the same time', async () => {
    model.prefixes.clear();
    const texts = await Promise.all(['Tom', 'Lily', 'Tom'].map((name) => ask(system, user(name))));
    expect(texts[2]?.tokens).toEqual(texts[0]?.tokens);
    expect(model.prefixes.lengths).toHaveLength(1);
  });
});
