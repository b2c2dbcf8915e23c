import type { Dtype, TensorRef } from '@mambalab/kernels';
import { columns, sample, SAMPLE_SETTINGS_WORDS } from '@mambalab/kernels';
import type { GraphContext } from './context.ts';

/**
 * What the choice of a token may depend on: which parts of sampling a recording holds. A row that does not use a part
 * has neutral values there, so that rows of different options share a batch.
 */
export interface SamplingFeatures {
  /** Top-k, top-p and min-p. */
  readonly filters: boolean;
  /** Penalties for recent tokens. */
  readonly penalties: boolean;
  readonly bias: boolean;
  /** A set of allowed tokens. */
  readonly mask: boolean;
  /** How many of the largest log-probabilities, beside that of the token; undefined for none at all. */
  readonly tops: number | undefined;
}

export const PLAIN_SAMPLING: SamplingFeatures = {
  filters: false,
  penalties: false,
  bias: false,
  mask: false,
  tops: undefined,
};

/** Tokens that penalties look back at, at most. */
export const RECENT_TOKENS = 4096;

/** Entries of logit bias that a sequence has room for. */
export const BIAS_ENTRIES = 1024;

/** Alternatives that log-probabilities are given for, at most. */
export const MAXIMUM_TOPS = 20;

/** The features of a batch whose rows have these. */
export function joinFeatures(rows: Iterable<SamplingFeatures>): SamplingFeatures {
  let joined = PLAIN_SAMPLING;
  for (const row of rows) {
    const tops = [joined.tops, row.tops].filter((count) => count !== undefined);
    joined = {
      filters: joined.filters || row.filters,
      penalties: joined.penalties || row.penalties,
      bias: joined.bias || row.bias,
      mask: joined.mask || row.mask,
      tops: tops.length === 0 ? undefined : Math.max(...tops),
    };
  }
  return joined;
}

/** Names the recording of these features. */
export function featuresKey({ filters, penalties, bias, mask, tops }: SamplingFeatures): string {
  const used = Object.entries({ filters, penalties, bias, mask }).flatMap(([name, used]) => (used ? [name] : []));
  return [...used, ...(tops === undefined ? [] : [`tops${tops}`])].join('+');
}

/** The tensors of sampling, one row a sequence, and what of them a recording with these features binds. */
export function samplingTensors(
  features: SamplingFeatures,
  batch: number,
  vocabSize: number,
): readonly { readonly name: string; readonly dtype: Dtype; readonly shape: readonly number[] }[] {
  const { penalties, bias, mask, tops } = features;
  const width = topsWidth(vocabSize);
  const u32 = 'u32' as const;
  const f32 = 'f32' as const;
  return [
    { name: 'settings', dtype: u32, shape: [batch, SAMPLE_SETTINGS_WORDS] },
    ...(penalties ? [{ name: 'recent', dtype: u32, shape: [batch, 1 + RECENT_TOKENS] }] : []),
    ...(bias ? [{ name: 'bias', dtype: u32, shape: [batch, BIAS_ENTRIES, 2] }] : []),
    ...(mask ? [{ name: 'mask', dtype: u32, shape: [batch, Math.ceil(vocabSize / 32)] }] : []),
    ...(tops === undefined
      ? []
      : [
          { name: 'logprob', dtype: f32, shape: [batch] },
          { name: 'topTokens', dtype: u32, shape: [batch, width] },
          { name: 'topLogprobs', dtype: f32, shape: [batch, width] },
        ]),
  ];
}

/** Chooses `token` (B) from logits (B, V); `advancing` adds 1 to `position` before. */
export function addSampling(
  context: GraphContext,
  logits: TensorRef,
  features: SamplingFeatures,
  advancing: boolean,
): void {
  const { recording } = context;
  const { batch, spec } = context.options;
  const { filters, tops = 0 } = features;
  const tensors = new Map(
    samplingTensors(features, batch, spec.vocabSize).map(({ name, dtype, shape }) => [
      name,
      recording.external(name, dtype, shape),
    ]),
  );
  const [recent, bias, mask, logprob] = ['recent', 'bias', 'mask', 'logprob'].map((name) => tensors.get(name));
  const [settings, topTokens, topLogprobs] = ['settings', 'topTokens', 'topLogprobs'].map((name) => tensors.get(name));
  const width = Math.min(tops, topsWidth(spec.vocabSize));
  sample(
    recording,
    {
      logits,
      token: recording.external('token', 'u32', [batch]),
      position: context.position(),
      ...(settings && { settings }),
      ...(recent && { recent }),
      ...(bias && { bias }),
      ...(mask && { mask }),
      ...(logprob && { logprob }),
      ...(topTokens &&
        topLogprobs &&
        width > 0 && { topTokens: columns(topTokens, 0, width), topLogprobs: columns(topLogprobs, 0, width) }),
    },
    { advance: advancing, filters },
  );
}

const topsWidth = (vocabSize: number): number => Math.min(MAXIMUM_TOPS, vocabSize);
