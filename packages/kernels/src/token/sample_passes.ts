// The dispatches that sampling is made of, one function each, with what they hand on to each other.
import { sampleAdjustShader } from '../generated/token/sample_adjust.ts';
import { sampleHistogramShader } from '../generated/token/sample_histogram.ts';
import { sampleLogprobsShader } from '../generated/token/sample_logprobs.ts';
import { sampleResolveShader } from '../generated/token/sample_resolve.ts';
import { sampleShader } from '../generated/token/sample.ts';
import { sampleSlicesShader } from '../generated/token/sample_slices.ts';
import { sampleSplitShader } from '../generated/token/sample_split.ts';
import type { Recording, TensorRef } from '../core/recording.ts';
import { strideOfRows } from '../core/recording.ts';
import type { Size } from '../core/size.ts';
import { flatGrid, maximumSize, multiplySize } from '../core/size.ts';

/** What all dispatches know, after the checks. */
export interface SamplePass {
  readonly recording: Recording;
  readonly batch: Size;
  readonly vocabSize: number;
  readonly logits: TensorRef;
  readonly token: TensorRef;
  readonly position: TensorRef | undefined;
  readonly settings: TensorRef | undefined;
  readonly recent: TensorRef | undefined;
  readonly bias: TensorRef | undefined;
  readonly mask: TensorRef | undefined;
  readonly advance: boolean;
  /** How many of the largest log-probabilities; undefined for none, not even the chosen token's. */
  readonly tops: number | undefined;
}

/** The best of each slice and, where asked for, what log-probabilities and filters are made from. */
export interface SampleRecords {
  readonly tensor: TensorRef;
  readonly slices: number;
  readonly sliceWorkgroup: number;
  /** Pairs of words of one slice, and of one sequence. */
  readonly pairs: number;
  readonly stride: number;
}

/** Logits that one invocation looks at: one block of random numbers. */
const QUAD = 4;
/** Bins of the histogram, three words each: `BINS` of shared/sampling. */
const BINS = 1024;
const MARKS = 16;
/** Logits in doubt that are listed; where there are more, all keys are looked at. */
const LIST_CAPACITY = 4096;
/** Workgroups over all sequences that a pass over the keys should have: a few for each core of a large GPU. */
const PASS_WORKGROUPS = 512;

/** A power of two from 32 to 256 that covers `count` where it can. */
function workgroupSizeFor(count: number): number {
  let size = 32;
  while (size < 256 && size < count) size *= 2;
  return size;
}

/** Of the passes with more to do: one size, so that a device compiles each once; software runs small ones faster. */
const workgroupSizeOf = ({ capabilities }: Recording): number => (capabilities.software ? 64 : 256);

/** Stands in for a tensor that a shader could write; a placeholder may be bound to one that it reads as well. */
const unused = (recording: Recording, name: string): TensorRef => recording.scratch(`sample.${name}`, 'u32', [4]);

const settingsParams = ({ settings }: SamplePass): { settingsOffset: Size; settingsStride: number } => ({
  settingsOffset: settings?.offset ?? 0,
  settingsStride: settings === undefined ? 0 : strideOfRows('settings', settings, 1),
});

const logitsParams = ({ logits }: SamplePass): { logitsOffset: Size; logitsStride: number } => ({
  logitsOffset: logits.offset,
  logitsStride: strideOfRows('logits', logits, 1),
});

const recentParams = ({ recent }: SamplePass): { recentOffset: Size; recentStride: number; recentSize: number } => ({
  recentOffset: recent?.offset ?? 0,
  recentStride: recent === undefined ? 0 : strideOfRows('recent', recent, 1),
  recentSize: maximumSize(recent?.shape[1] ?? 1) - 1,
});

/** Draws from the logits as they are. */
export function recordSlices(pass: SamplePass): SampleRecords {
  const { recording, batch, vocabSize, logits, position, settings, advance } = pass;
  const sliceWorkgroup = workgroupSizeFor(Math.ceil(vocabSize / QUAD));
  const slices = Math.ceil(vocabSize / (QUAD * sliceWorkgroup));
  const partials = recording.scratch('sample.partials', 'u32', [batch, slices, 2]);
  recording.dispatch(sampleSlicesShader, {
    bindings: {
      logits,
      settings: settings ?? recording.placeholder('u32'),
      position: position ?? recording.placeholder('u32'),
      partials,
    },
    params: {
      batch,
      vocabSize,
      slices,
      ...logitsParams(pass),
      ...settingsParams(pass),
      positionOffset: position?.offset ?? 0,
      advance: advance ? 1 : 0,
    },
    overrides: {
      WORKGROUP_SIZE: sliceWorkgroup,
      HAS_SETTINGS: settings !== undefined,
      HAS_POSITION: position !== undefined,
    },
    workgroups: flatGrid(multiplySize(batch, slices)),
  });
  return { tensor: partials, slices, sliceWorkgroup, pairs: 1, stride: slices };
}

/** Applies biases, penalties and mask; then draws, or writes the keys that the filters read. */
export function recordAdjust(pass: SamplePass, keys: TensorRef | undefined): SampleRecords {
  const { recording, batch, vocabSize, logits, position, settings, recent, bias, mask, advance, tops } = pass;
  const sliceWorkgroup = workgroupSizeOf(recording);
  const slices = Math.ceil(vocabSize / (QUAD * sliceWorkgroup));
  const pairs = tops === undefined ? 1 : 2 + tops;
  const binPairs = keys === undefined ? 0 : (3 * BINS) / 2;
  const stride = slices * pairs + binPairs;
  const tensor = recording.scratch('sample.records', 'u32', [batch, 2 * stride]);
  const placeholder = recording.placeholder('u32');
  recording.dispatch(sampleAdjustShader, {
    bindings: {
      logits,
      settings: settings ?? placeholder,
      position: position ?? placeholder,
      recent: recent ?? placeholder,
      bias: bias ?? placeholder,
      mask: mask ?? placeholder,
      records: tensor,
      keys: keys ?? unused(recording, 'keys'),
    },
    params: {
      batch,
      vocabSize,
      slices,
      recordPairs: pairs,
      recordsStride: stride,
      tops: tops ?? 0,
      clearSteps: Math.ceil(binPairs / (slices * sliceWorkgroup)),
      ...logitsParams(pass),
      ...settingsParams(pass),
      positionOffset: position?.offset ?? 0,
      advance: advance ? 1 : 0,
      ...recentParams(pass),
      biasOffset: bias?.offset ?? 0,
      biasStride: bias === undefined ? 0 : strideOfRows('bias', bias, 2),
      biasSize: bias?.shape[1] ?? 0,
      maskOffset: mask?.offset ?? 0,
      maskStride: mask === undefined ? 0 : strideOfRows('mask', mask, 1),
    },
    overrides: {
      WORKGROUP_SIZE: sliceWorkgroup,
      HAS_SETTINGS: settings !== undefined,
      HAS_POSITION: position !== undefined,
      HAS_RECENT: recent !== undefined,
      HAS_BIAS: bias !== undefined,
      HAS_MASK: mask !== undefined,
      FILTERS: keys !== undefined,
      LOGPROBS: tops !== undefined,
    },
    workgroups: flatGrid(multiplySize(batch, slices)),
  });
  return { tensor, slices, sliceWorkgroup, pairs, stride };
}

/** A tensor for the keys of {@link recordAdjust}. */
export function keysFor({ recording, batch, vocabSize }: SamplePass): TensorRef {
  return recording.scratch('sample.keys', 'u32', [batch, QUAD * Math.ceil(vocabSize / QUAD)]);
}

/** The best of all slices is the token. */
export function recordMerge(pass: SamplePass, records: SampleRecords): void {
  const { recording, batch, token, position, recent, advance } = pass;
  const workgroup = workgroupSizeFor(records.slices);
  recording.dispatch(sampleShader, {
    // What stays as it is is not bound, so that nothing waits for this dispatch because of it.
    bindings: {
      partials: records.tensor,
      token,
      position: advance && position !== undefined ? position : recording.placeholder('u32'),
      recent: recent ?? unused(recording, 'recent'),
    },
    params: {
      batch,
      slices: records.slices,
      steps: Math.ceil(records.slices / workgroup),
      recordPairs: records.pairs,
      recordsStride: records.stride,
      tokenOffset: token.offset,
      positionOffset: position?.offset ?? 0,
      ...recentParams(pass),
    },
    overrides: { WORKGROUP_SIZE: workgroup, ADVANCE: advance, APPEND: recent !== undefined },
    workgroups: flatGrid(batch),
  });
}

/** Top-k, top-p and min-p on the keys, and a draw of what they keep. */
export function recordFilters(pass: SamplePass, keys: TensorRef, records: SampleRecords): void {
  const { recording, batch, vocabSize, token, position, settings, recent, advance } = pass;
  const quads = Math.ceil(vocabSize / QUAD);
  const workgroup = workgroupSizeOf(recording);
  const wanted = Math.max(1, Math.floor(PASS_WORKGROUPS / maximumSize(batch)));
  const steps = Math.ceil(quads / (workgroup * wanted));
  const slices = Math.ceil(quads / (workgroup * steps));
  const capacity = Math.min(vocabSize, LIST_CAPACITY);
  const marks = recording.scratch('sample.marks', 'u32', [batch, MARKS]);
  const list = recording.scratch('sample.list', 'u32', [batch, capacity]);
  const bests = recording.scratch('sample.bests', 'u32', [batch, slices, 2]);
  const given = settings ?? recording.placeholder('u32');
  const common = { batch, vocabSize, slices, ...settingsParams(pass) };
  const positionOffset = position?.offset ?? 0;
  const reading = {
    ...common,
    steps,
    records: records.slices,
    recordWords: 2 * records.pairs,
    recordsStride: 2 * records.stride,
    recordSteps: Math.ceil(records.slices / workgroup),
  };
  recording.dispatch(sampleHistogramShader, {
    bindings: { keys, settings: given, records: records.tensor, marks },
    params: reading,
    overrides: { WORKGROUP_SIZE: workgroup },
    workgroups: flatGrid(multiplySize(batch, slices)),
  });
  recording.dispatch(sampleSplitShader, {
    bindings: {
      keys,
      settings: given,
      position: position ?? recording.placeholder('u32'),
      records: records.tensor,
      marks,
      list,
      bests,
    },
    params: { ...reading, capacity, positionOffset, advance: advance ? 1 : 0 },
    overrides: { WORKGROUP_SIZE: workgroup, HAS_POSITION: position !== undefined },
    workgroups: flatGrid(multiplySize(batch, slices)),
  });
  recording.dispatch(sampleResolveShader, {
    bindings: {
      keys,
      settings: given,
      marks,
      list,
      bests,
      token,
      position: position ?? unused(recording, 'position'),
      recent: recent ?? unused(recording, 'recent'),
    },
    params: {
      ...common,
      bestSteps: Math.ceil(slices / workgroup),
      capacity,
      positionOffset,
      advance: advance ? 1 : 0,
      tokenOffset: token.offset,
      ...recentParams(pass),
    },
    overrides: { WORKGROUP_SIZE: workgroup, HAS_POSITION: position !== undefined },
    workgroups: flatGrid(batch),
  });
}

/** Where the log-probabilities go. */
export interface LogprobTensors {
  readonly logprob: TensorRef;
  readonly topTokens: TensorRef | undefined;
  readonly topLogprobs: TensorRef | undefined;
}

/** Log-probabilities of the token that was chosen and of the largest logits. */
export function recordLogprobs(
  pass: SamplePass,
  records: SampleRecords,
  { logprob, topTokens, topLogprobs }: LogprobTensors,
): void {
  const { recording, batch, vocabSize, logits, token, tops = 0 } = pass;
  const workgroup = workgroupSizeOf(recording);
  recording.dispatch(sampleLogprobsShader, {
    bindings: {
      logits,
      token,
      records: records.tensor,
      logprob,
      topTokens: topTokens ?? unused(recording, 'topTokens'),
      topLogprobs: topLogprobs ?? unused(recording, 'topLogprobs'),
    },
    params: {
      batch,
      vocabSize,
      slices: records.slices,
      steps: Math.ceil(records.slices / workgroup),
      recordPairs: records.pairs,
      recordsStride: records.stride,
      tops,
      ...logitsParams(pass),
      tokenOffset: token.offset,
      logprobOffset: logprob.offset,
      topTokensOffset: topTokens?.offset ?? 0,
      topTokensStride: topTokens === undefined ? 0 : strideOfRows('topTokens', topTokens, 1),
      topLogprobsOffset: topLogprobs?.offset ?? 0,
      topLogprobsStride: topLogprobs === undefined ? 0 : strideOfRows('topLogprobs', topLogprobs, 1),
    },
    overrides: { WORKGROUP_SIZE: workgroup, SLICE_WORKGROUP_SIZE: records.sliceWorkgroup },
    workgroups: flatGrid(batch),
  });
}
