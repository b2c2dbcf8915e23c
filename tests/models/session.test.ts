import type { Model, Session } from '@mambalab/models';
import { loadModel } from '@mambalab/models/node';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { fixturePath } from '../support/fixtures.ts';
import { openTestDevice } from '../support/gpu.ts';
import { nmse, Random } from '../support/numbers.ts';

const device = await openTestDevice();
const GREEDY = { ignoreEos: true, temperature: 0 } as const;

const open = (name: string, contextLength = 64): Promise<Model> =>
  loadModel(fixturePath(`models/${name}`), { device, contextLength, warmUp: false });

const write = async (session: Session, maxTokens = 6, part?: readonly number[]): Promise<readonly number[]> => {
  const options = { ...GREEDY, maxTokens };
  const text = part === undefined ? session.generate(options) : session.generate(part, options);
  return (await text.result).tokens;
};

// Together they have every kind of mixer: Mamba with experts, Mamba-2, gated delta nets, short convolutions, attention
// beside them and alone. A usual run takes two.
const isLong = process.env['MAMBALAB_LONG'] === '1';
describe.each(isLong ? ['jamba', 'nemotron_h', 'qwen3_5_text', 'lfm2', 'llama'] : ['nemotron_h', 'lfm2'])(
  '%s',
  (name) => {
    it('goes on with the same tokens when forked, saved, restored and rewound', async () => {
      const before = device.allocatedBytes;
      const model = await open(name);
      const prompt = [...new Random(4).integers(7, model.spec.vocabSize)];
      const alone = (await model.generate(prompt, { ...GREEDY, maxTokens: 12 }).result).tokens;
      const session = model.session();
      await session.append(prompt.slice(0, 5));
      expect(session.length).toBe(5);
      const first = await write(session, 6, prompt.slice(5));
      expect(first).toEqual(alone.slice(0, 6));
      expect(session.length).toBe(13);
      const saved = await session.save();
      for (const dtype of isLong ? (['f16', 'q8'] as const) : []) {
        using smaller = await model.restore(await session.save({ dtype }));
        const expected = await model.logits([...session.tokens, 3]);
        const found = await model.logits([3], { session: smaller });
        expect(nmse(found, expected)).toBeLessThan(dtype === 'f16' ? 1e-4 : 3e-2);
      }
      const fork = session.fork();
      // Neither sees what the other does.
      expect(await write(fork, 3, [1, 2])).toHaveLength(3);
      expect(await write(session)).toEqual(alone.slice(6));
      const restored = await model.restore(saved);
      expect([restored.length, restored.tokens]).toEqual([13, [...prompt, ...first]]);
      expect(await write(restored)).toEqual(alone.slice(6));
      expect(await write(restored, 4, [9])).toEqual(await write(session, 4, [9]));
      // Back into the first text, and to its end again.
      await session.rewind(10);
      expect(session.tokens).toEqual([...prompt, ...alone.slice(0, 3)]);
      expect(await write(session, 9)).toEqual(alone.slice(3));
      const logits = await model.logits([5, 6], { session: restored });
      expect(nmse(logits, await model.logits(restored.tokens))).toBeLessThan(1e-9);
      expect(session.bytes).toBeGreaterThan(0);
      for (const each of [session, fork, restored]) each.dispose();
      model.dispose();
      await device.idle();
      expect(device.allocatedBytes).toBe(before);
    });
  },
);

describe('a session', async () => {
  const model = await open('nemotron_h');
  const [bases, extra] = [[...new Random(6).integers(8, 128)], [7, 8, 9]];
  afterAll(() => model.dispose());

  it('keeps what was read when a stop token ends a text', async () => {
    using session = model.session();
    const all = (await model.generate(bases, { ...GREEDY, maxTokens: 8 }).result).tokens;
    const at = all.findIndex((token, index) => index >= 2 && all.indexOf(token) === index);
    const result = await session.generate(bases, { ...GREEDY, maxTokens: 20, stopTokens: all.slice(at, at + 1) })
      .result;
    expect([result.finishReason, result.tokens]).toEqual(['stop', all.slice(0, at)]);
    expect(session.tokens).toEqual([...bases, ...all.slice(0, at)]);
    // What the GPU had begun beyond the stop is not in the state.
    expect(await write(session, 8 - at)).toEqual(all.slice(at));
  });

  it('costs one turn when the last message is edited', async () => {
    using session = model.session();
    await session.generate(bases, { ...GREEDY, maxTokens: 5 }).result;
    const border = session.length;
    await session.generate(extra, { ...GREEDY, maxTokens: 5 }).result;
    const processed = session.prefilledTokens;
    await session.rewind(border);
    expect(session.prefilledTokens).toBe(processed);
    const edited = await write(session, 5, [10, 11]);
    // The new message, and the token before it.
    expect(session.prefilledTokens - processed).toBe(3);
    using afresh = model.session({ prefixCache: false });
    expect(await write(afresh, 5, session.tokens.slice(0, border + 2))).toEqual(edited);
  });

  it('processes a beginning that others share once', async () => {
    using first = model.session();
    await first.append(bases);
    expect(first.prefilledTokens).toBe(7);
    using second = model.session();
    const text = await write(second, 4, [...bases, ...extra]);
    expect(second.prefilledTokens).toBe(4);
    using other = model.session({ prefixCache: false });
    expect(await write(other, 4, [...bases, ...extra])).toEqual(text);
    expect(other.prefilledTokens).toBe(11);
  });

  it('is as it was when a call is aborted before its first token, and has what was read afterwards', async () => {
    using session = model.session();
    await session.append(bases);
    const reason = new Error('enough');
    await expect(session.append(extra, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    expect(session.tokens).toEqual(bases);
    await expect(session.generate(extra, { signal: AbortSignal.abort(reason) }).result).rejects.toBe(reason);
    expect(session.tokens).toEqual(bases);
    const abort = new AbortController();
    const read: number[] = [];
    const reading = (async (): Promise<void> => {
      for await (const { token } of session.generate({ ...GREEDY, maxTokens: 30, signal: abort.signal })) {
        read.push(token);
        if (read.length === 3) abort.abort(reason);
      }
    })();
    await expect(reading).rejects.toBe(reason);
    expect(session.tokens).toEqual([...bases, ...read]);
    const all = (await model.generate(bases, { ...GREEDY, maxTokens: 6 }).result).tokens;
    expect([...read, ...(await write(session, 3))]).toEqual(all);
  });

  it('does one thing at a time', async () => {
    using session = model.session();
    const text = session.generate(bases, { ...GREEDY, maxTokens: 4 })[Symbol.asyncIterator]();
    await text.next();
    await expect(session.append(extra)).rejects.toThrow('busy');
    expect(() => session.fork()).toThrow('busy');
    await expect(session.generate(extra).result).rejects.toThrow('busy');
    await text.return();
    expect(session.length).toBe(9);
    await session.append(extra);
    expect(session.length).toBe(12);
  });

  it('refuses what it cannot do, and stays usable', async () => {
    using session = model.session();
    await expect(session.generate().result).rejects.toThrow('no token');
    await expect(session.append([1, 128])).rejects.toThrow('Token 1 is 128');
    expect(session.length).toBe(0);
    await session.append(bases);
    await expect(session.rewind(9)).rejects.toThrow('8 tokens');
    await expect(session.append([...new Random(1).integers(60, 128)])).rejects.toThrow('context is 64');
    expect(session.tokens).toEqual(bases);
    const other = model.session();
    other.dispose();
    await expect(other.append([1])).rejects.toThrow('disposed');
    expect(() => model.generate([1], { session: other })).toThrow('disposed');
    session.reset();
    expect([session.length, await write(session, 2, bases)]).toEqual([0, await write(model.session(), 2, bases)]);
  });

  it('is saved smaller, near to what it was', async () => {
    using session = model.session();
    await session.append(bases);
    const sizes: number[] = [];
    const expected = await model.logits([...bases, 3]);
    for (const [dtype, tolerance] of [
      ['f32', 1e-9],
      ['f16', 1e-4],
      ['q8', 3e-2],
    ] as const) {
      const bytes = await session.save({ dtype });
      sizes.push(bytes.length);
      using restored = await model.restore(bytes);
      expect(nmse(await model.logits([3], { session: restored }), expected)).toBeLessThan(tolerance);
    }
    expect(sizes[1]).toBeLessThan(0.6 * (sizes[0] ?? 0));
    expect(sizes[2]).toBeLessThan(0.4 * (sizes[0] ?? 0));
  });

  it('is refused where its bytes are not those of this model, whole and of this version', async () => {
    using session = model.session();
    await session.append(bases);
    const bytes = await session.save();
    using other = await open('lfm2');
    await expect(other.restore(bytes)).rejects.toMatchObject({ code: 'integrity', message: /another model/ });
    await expect(model.restore(bytes.slice(0, 40))).rejects.toMatchObject({ code: 'integrity' });
    for (const [at, message] of [
      [0, /not the bytes/],
      [4, /version 2/],
      [bytes.length - 100, /damaged/],
      [30, /damaged/],
    ] as const) {
      const changed = bytes.slice();
      changed[at] = at === 4 ? 2 : (changed[at] ?? 0) ^ 1;
      await expect(model.restore(changed)).rejects.toMatchObject({ code: 'integrity', message });
    }
  });
});

describe('a long prompt', async () => {
  // Rings of four pages of 256 tokens.
  const model = await open('variants/mistral', 2 ** 18);
  afterAll(() => model.dispose());

  it('can be gone back into where a ring of pages was written over', async () => {
    using session = model.session({ prefixCache: false });
    const tokens = [...new Random(7).integers(1600, 32)];
    await session.append(tokens);
    expect(session.checkpoints).toEqual([513, 1025, 1537]);
    await session.rewind(700);
    const logits = await model.logits([3], { session });
    // From the checkpoint after the first chunk.
    expect(session.prefilledTokens).toBe(1599 + 701 - 512);
    expect(nmse(logits, await model.logits([...tokens.slice(0, 700), 3]))).toBeLessThan(1e-7);
  });

  it('ends within a chunk of an abort, and the session is where it was', async () => {
    using session = model.session({ prefixCache: false });
    const tokens = [...new Random(5).integers(2000, 32)];
    await session.append(tokens.slice(0, 20));
    const bytes = session.bytes;
    const abort = new AbortController();
    const reason = new Error('enough');
    let chunks = 0;
    const { write: plainWrite } = device;
    const spy = vi.spyOn(device, 'write').mockImplementation((tensor, data, at) => {
      if (tensor.label === 'sequence/tokens') {
        chunks += 1;
        // While the second chunk is submitted.
        if (chunks === 2) abort.abort(reason);
      }
      plainWrite.call(device, tensor, data, at);
    });
    try {
      await expect(session.append(tokens.slice(20), { signal: abort.signal })).rejects.toBe(reason);
    } finally {
      spy.mockRestore();
    }
    expect([chunks, session.tokens]).toEqual([2, tokens.slice(0, 20)]);
    const logits = await model.logits([3], { session });
    expect(nmse(logits, await model.logits([...tokens.slice(0, 20), 3]))).toBeLessThan(1e-9);
    // Room for the prompt stays with the session until it is disposed of.
    expect(session.bytes).toBeGreaterThan(bytes);
    session.dispose();
    await model.logits([3]);
    await device.idle();
    const before = device.allocatedBytes;
    await expect(model.logits(tokens, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    expect(device.allocatedBytes).toBe(before);
  });
});
