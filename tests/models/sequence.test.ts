import { loadModel } from '@mambalab/models/node';
import { describe, expect, it, vi } from 'vitest';
import { fixturePath } from '../support/fixtures.ts';
import { openTestDevice } from '../support/gpu.ts';
import { nmse, Random } from '../support/numbers.ts';

const device = await openTestDevice();

// One with attention alone, one with Mamba-2, attention and feed-forward layers.
describe.each(['llama', 'nemotron_h'])('%s', (name) => {
  it('processes a long prompt in chunks, whatever their borders', async () => {
    using model = await loadModel(fixturePath(`models/${name}`), { device, contextLength: 1100 });
    const { vocabSize } = model.spec;
    // Two full chunks and the smallest possible third.
    const tokens = [...new Random(5).integers(1025, vocabSize)];
    const all = await model.logits(tokens, { positions: 'all' });
    // Other borders between chunks: 600 = 512 + 88, then 423, then single tokens.
    const other = await model.withSequence(tokens.length, async (sequence) => {
      await sequence.prefill(tokens.slice(0, 600));
      const early = await sequence.lastLogits();
      expect(nmse(early, all.subarray(599 * vocabSize, 600 * vocabSize))).toBeLessThan(1e-9);
      await sequence.prefill(tokens.slice(600, 1023));
      await sequence.prepareSteps(2);
      for (const token of tokens.slice(1023)) {
        sequence.setToken(token);
        await sequence.step();
      }
      expect(sequence.length).toBe(1025);
      return await sequence.lastLogits();
    });
    expect(nmse(other, all.subarray(1024 * vocabSize))).toBeLessThan(1e-9);
  });

  it('starts afresh after a reset', async () => {
    using model = await loadModel(fixturePath(`models/${name}`), { device, contextLength: 64 });
    const first = await model.logits([7, 8, 9]);
    const [again, other] = await model.withSequence(3, async (sequence) => {
      await sequence.prefill([90, 80, 70, 60]);
      const before = await sequence.lastLogits();
      sequence.reset();
      expect(sequence.length).toBe(0);
      await sequence.prefill([7, 8, 9]);
      return [await sequence.lastLogits(), before];
    });
    expect(again).toEqual(first);
    expect(other).not.toEqual(first);
  });

  it('writes tokens without making or writing anything from JavaScript', async () => {
    using model = await loadModel(fixturePath(`models/${name}`), { device, contextLength: 64 });
    const options = { ignoreEos: true, temperature: 1, seed: 1 };
    await model.generate([1, 2, 3], { ...options, maxTokens: 4 }).result;
    const { gpu } = device;
    const counts = async (maxTokens: number): Promise<Record<string, number>> => {
      const spies = {
        createBuffer: vi.spyOn(gpu, 'createBuffer'),
        createBindGroup: vi.spyOn(gpu, 'createBindGroup'),
        createComputePipelineAsync: vi.spyOn(gpu, 'createComputePipelineAsync'),
        writeBuffer: vi.spyOn(gpu.queue, 'writeBuffer'),
        submit: vi.spyOn(gpu.queue, 'submit'),
      };
      await model.generate([1, 2, 3], { ...options, maxTokens }).result;
      const result = Object.fromEntries(Object.entries(spies).map(([key, spy]) => [key, spy.mock.calls.length]));
      for (const spy of Object.values(spies)) spy.mockRestore();
      return result;
    };
    const few = await counts(4);
    const many = await counts(9);
    expect(few).toMatchObject({ createBuffer: 0, createBindGroup: 0, createComputePipelineAsync: 0 });
    // One submission a token, and nothing else that depends on how many there are.
    expect(many).toEqual({ ...few, submit: (few['submit'] ?? 0) + 5 });
    // The prompt and the settings of sampling.
    expect(few['writeBuffer']).toBeLessThanOrEqual(3);
    expect(few['submit']).toBeGreaterThanOrEqual(4);
  });
});

describe('a sequence that is driven by hand', async () => {
  const model = await loadModel(fixturePath('models/mamba2'), { device });

  it('refuses steps that were not prepared', async () => {
    await model.withSequence(3, async (sequence) => {
      await sequence.prefill([1, 2, 3]);
      await expect(sequence.step()).rejects.toThrow('prepareSteps');
    });
  });

  it('refuses more steps on their way than it has places for', async () => {
    await model.withSequence(3, async (sequence) => {
      await sequence.prefill([1, 2, 3]);
      await sequence.prepareSteps(10);
      const steps: Promise<number>[] = [];
      while (sequence.freeSlots > 0) steps.push(sequence.step());
      const { length } = sequence;
      await expect(sequence.step()).rejects.toThrow('ring');
      // A refused step is no step.
      expect(sequence.length).toBe(length);
      await Promise.all(steps);
      expect(sequence.freeSlots).toBe(steps.length);
    });
  });

  it('refuses tokens outside of the vocabulary', async () => {
    await model.withSequence(3, async (sequence) => {
      expect(() => sequence.setToken(128)).toThrow('128');
      await expect(sequence.prefill([1, -2])).rejects.toThrow('Token 1 is -2');
      expect(sequence.length).toBe(0);
    });
  });

  it('gives one token of the logits of a prompt in one row', async () => {
    const logits = await model.logits([1, 2, 3]);
    expect(logits).toHaveLength(model.spec.vocabSize);
    const best = logits.indexOf(Math.max(...logits));
    const { tokens } = await model.generate([1, 2, 3], { maxTokens: 1, ignoreEos: true }).result;
    expect(tokens).toEqual([best]);
  });
});
