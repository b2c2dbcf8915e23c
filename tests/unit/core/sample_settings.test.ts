import type { SampleInputs, SampleOptions, SampleSettings, TensorRef } from '@mambalab/kernels';
import {
  ArgumentError,
  BASELINE_CAPABILITIES,
  Recording,
  sample,
  SAMPLE_SETTINGS_WORDS,
  sampleSettings,
} from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';

const floatsOf = (words: Uint32Array): Float32Array => new Float32Array(words.buffer);

describe('sampleSettings', () => {
  it('switches everything off by default', () => {
    const words = sampleSettings();
    expect(words.length).toBe(SAMPLE_SETTINGS_WORDS);
    expect([...floatsOf(words)]).toEqual([0, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  });

  it('puts each setting in its place', () => {
    const words = sampleSettings({
      temperature: 0.5,
      topK: 40,
      topP: 0.75,
      minP: 0.125,
      repetitionPenalty: 1.5,
      presencePenalty: -0.25,
      frequencyPenalty: 2,
      penaltyWindow: 64,
      seed: 2 ** 40 + 7,
    });
    const floats = floatsOf(words);
    expect([floats[0], ...words.subarray(1, 4)]).toEqual([0.5, 7, 256, 40]);
    expect([...floats.subarray(4, 9), words[9]]).toEqual([0.75, 0.125, 1.5, -0.25, 2, 64]);
    expect([...sampleSettings({ seed: [0xffffffff, 5] }).subarray(1, 3)]).toEqual([0xffffffff, 5]);
  });

  it('rounds no value to one that means something else', () => {
    const tiny = floatsOf(sampleSettings({ temperature: 1e-300, topP: 0, minP: 1e-300 }));
    for (const at of [0, 4, 5]) expect(tiny[at]).toBe(2 ** -126);
    expect(floatsOf(sampleSettings({ topP: 1 - 1e-12 }))[4]).toBeLessThan(1);
  });

  it.each<SampleSettings>([
    { temperature: -1 },
    { temperature: NaN },
    { temperature: Infinity },
    { topK: -1 },
    { topK: 1.5 },
    { topK: 2 ** 32 },
    { topP: 1.01 },
    { topP: NaN },
    { minP: -0.1 },
    { minP: 2 },
    { repetitionPenalty: 0 },
    { repetitionPenalty: Infinity },
    { presencePenalty: NaN },
    { frequencyPenalty: -Infinity },
    { penaltyWindow: -3 },
    { seed: -1 },
    { seed: 0.5 },
    { seed: 2 ** 53 },
    { seed: [0, 2 ** 32] },
  ])('refuses %o', (settings) => {
    expect(() => sampleSettings(settings)).toThrow(ArgumentError);
  });
});

describe('the dispatches of sample', () => {
  const record = (
    width: number,
    names: readonly (keyof SampleInputs)[],
    options: SampleOptions = {},
  ): readonly string[] => {
    const recording = new Recording(BASELINE_CAPABILITIES);
    const batch = 2;
    const shapes: Readonly<Record<keyof SampleInputs, readonly number[]>> = {
      logits: [batch, width],
      token: [batch],
      position: [batch],
      settings: [batch, SAMPLE_SETTINGS_WORDS],
      recent: [batch, 9],
      bias: [batch, 3, 2],
      mask: [batch, Math.ceil(width / 32)],
      logprob: [batch],
      topTokens: [batch, 5],
      topLogprobs: [batch, 5],
    };
    const floats = ['logits', 'logprob', 'topLogprobs'];
    const external = (name: keyof SampleInputs): TensorRef =>
      recording.external(name, floats.includes(name) ? 'f32' : 'u32', shapes[name]);
    const inputs = Object.fromEntries(names.map((name) => [name, external(name)]));
    sample(recording, { logits: external('logits'), token: external('token'), ...inputs }, options);
    return recording.dispatches.map(({ shader }) => shader.name.replace('token/', ''));
  };

  it('are two, four with filters, and one more for log-probabilities', () => {
    expect(record(1000, ['settings', 'position'])).toEqual(['sample_slices', 'sample']);
    const adjusted = ['settings', 'position', 'recent', 'bias', 'mask'] as const;
    expect(record(1000, adjusted)).toEqual(['sample_adjust', 'sample']);
    const filtered = ['sample_adjust', 'sample_histogram', 'sample_split', 'sample_resolve'];
    expect(record(1000, adjusted, { filters: true, advance: true })).toEqual(filtered);
    const all = [...adjusted, 'logprob', 'topTokens', 'topLogprobs'] as const;
    expect(record(1000, all, { filters: true })).toEqual([...filtered, 'sample_logprobs']);
    expect(record(1000, ['logprob'])).toEqual(['sample_adjust', 'sample', 'sample_logprobs']);
    // Plain sampling knows no largest vocabulary.
    expect(record(2 ** 20, ['settings'])).toEqual(['sample_slices', 'sample']);
  });

  it('refuse what lacks something', () => {
    expect(() => record(1000, [], { filters: true })).toThrow(ArgumentError);
    expect(() => record(1000, ['recent'])).toThrow(ArgumentError);
    expect(() => record(1000, ['topTokens', 'topLogprobs'])).toThrow(ArgumentError);
    expect(() => record(1000, ['logprob', 'topTokens'])).toThrow(ArgumentError);
    expect(() => record(4, ['logprob', 'topTokens', 'topLogprobs'])).toThrow(ArgumentError);
    expect(() => record(2 ** 20, ['settings'], { filters: true })).toThrow(ArgumentError);
    expect(() => record(1000, ['settings'], { advance: true })).toThrow(ArgumentError);
  });
});
