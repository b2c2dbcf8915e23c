import type { Model, Session } from '@mambalab/models';
import { blockCounts } from '@mambalab/models';
import { formatBytes, formatRate, formatTime } from './format.ts';
import type { Run } from './run.ts';
import { memoryOfText, ratesOf } from './run.ts';

/** Rows of a description list: what, and how much. */
export type Rows = readonly (readonly [term: string, description: string])[];

export function speedRows(run: Run | undefined): Rows {
  const { firstTokenMs, tokensPerSecond } =
    run === undefined ? { firstTokenMs: NaN, tokensPerSecond: NaN } : ratesOf(run);
  return [
    ['Prompt', run === undefined ? '–' : `${run.promptTokens} tokens`],
    ['Time to first token', Number.isNaN(firstTokenMs) ? '–' : formatTime(firstTokenMs)],
    ['Written', run === undefined ? '–' : `${run.writtenTokens} tokens`],
    ['Writing at', formatRate(tokensPerSecond)],
  ];
}

/** The state is the same after the first token and after the last; only attention's cache grows. */
export function memoryRows(model: Model | undefined, session: Session | undefined, tokens: number): Rows {
  if (model === undefined) return ['Weights', 'State (constant)', 'KV cache', 'Scratch'].map((term) => [term, '–']);
  const { weightsBytes, stateBytes, kvBytesPerToken, scratchBytes } = model.memory();
  const rows: [string, string][] = [
    ['Weights', formatBytes(weightsBytes)],
    ['State (constant)', stateBytes === 0 ? '–' : formatBytes(stateBytes)],
  ];
  if (kvBytesPerToken > 0) {
    rows.push(['KV cache per token', formatBytes(kvBytesPerToken)]);
    rows.push([`KV cache of ${tokens} tokens`, formatBytes(memoryOfText(model, tokens).cache)]);
  }
  rows.push(['This text, as allocated', formatBytes(session?.bytes ?? 0)]);
  rows.push(['Scratch', formatBytes(scratchBytes)]);
  return rows;
}

/** Optional features that kernels have variants for. */
const FEATURES = ['shader-f16', 'subgroups', 'chromium-experimental-subgroup-matrix', 'timestamp-query'];

export function deviceRows(model: Model | undefined): Rows {
  if (model === undefined) return [['Name', '–']];
  const { description, vendor, architecture, software, features, limits, subgroupSize } = model.capabilities;
  const names = FEATURES.map((name): [string, string] => {
    const sizes = name === 'subgroups' && subgroupSize !== undefined ? [subgroupSize.min, subgroupSize.max] : [];
    const size = sizes.length > 0 ? ` (${[...new Set(sizes)].join(' to ')})` : '';
    return [name.replace('chromium-experimental-', ''), features.has(name) ? `yes${size}` : 'no'];
  });
  return [
    ['Name', [description || vendor, software ? '(software)' : ''].join(' ').trim()],
    ['Vendor', [vendor, architecture].filter(Boolean).join(' ') || '–'],
    ...names,
    ['Buffer', `up to ${formatBytes(limits.maxBufferSize)}`],
    ['Storage binding', `up to ${formatBytes(limits.maxStorageBufferBindingSize)}`],
    ['Workgroup memory', formatBytes(limits.maxComputeWorkgroupStorageSize)],
    ['Workgroup size', `up to ${limits.maxComputeInvocationsPerWorkgroup}`],
  ];
}

/** `nemotron_h: 6 Mamba-2, 7 feed-forward, 1 attention, width 192` */
export function describeModel({ spec }: Model): string {
  const layers = [...blockCounts(spec)].map(([word, count]) => `${count} ${word}`);
  return `${spec.family}: ${layers.join(', ')}, width ${spec.hiddenSize}`;
}
