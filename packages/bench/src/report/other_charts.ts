import * as Plot from '@observablehq/plot';
import { formatBytes, formatChoices, formatNumber } from '../format.ts';
import type { PeersReport } from '../peers/results.ts';
import type { KernelReport, MeasuredCase, ModelReport } from '../results.ts';
import { barChart } from './bar_charts.ts';
import type { Chart, Frame } from './chart.ts';
import { colorAt, drawPlot, shortNumber } from './chart.ts';

interface KernelDot extends MeasuredCase {
  readonly kernel: string;
  readonly family: string;
  readonly intensity: number;
  readonly title: string;
}

/** Pictures of kernels: all cases below the ceilings of the device, and each kernel's share of them. */
export function kernelCharts(report: KernelReport, prefix: string): Chart[] {
  const dots = report.kernels.flatMap(({ name, cases }) =>
    cases.flatMap((result): KernelDot[] =>
      result.status === 'measured'
        ? [
            {
              ...result,
              kernel: name,
              family: name.slice(0, Math.max(0, name.indexOf('/'))) || name,
              intensity: result.flops / result.bytes,
              title:
                `${name}\n${result.label}\n${formatNumber(result.microseconds.median)} us, ` +
                `${formatNumber(result.gigabytesPerSecond)} GB/s (${result.bandwidthPercent.toFixed(0)} %)\n` +
                `${formatNumber(result.teraflops)} TFLOP/s, ${formatBytes(result.bytes)}\n${formatChoices(result.dispatches)}`,
            },
          ]
        : [],
    ),
  );
  if (dots.length === 0) return [];
  return [shareChart(dots, prefix), roofline(dots, report, prefix)];
}

function shareChart(dots: readonly KernelDot[], prefix: string): Chart {
  const kernels = [...new Set(dots.map(({ kernel }) => kernel))];
  const families = [...new Set(dots.map(({ family }) => family))];
  const longest = Math.max(...kernels.map((name) => name.length));
  return {
    id: `${prefix}-kernels`,
    title: 'Kernels against the memory',
    note: 'Each dot is a case: bytes that it must touch in its time, of what a trivial kernel reaches.',
    draw: (frame: Frame) => {
      const marginLeft = Math.min(Math.round(longest * 6.6) + 14, Math.round(frame.width * 0.5));
      return drawPlot(frame, [], {
        height: kernels.length * 20 + 60,
        marginLeft,
        x: { label: '% of the bandwidth ceiling', grid: true, ticks: 5, nice: true, zero: true },
        y: {
          label: null,
          domain: kernels,
          tickFormat: (name: string) => (6.6 * name.length > marginLeft ? name.slice(name.indexOf('/') + 1) : name),
        },
        marks: [
          Plot.ruleX([100], { strokeOpacity: 0.6 }),
          Plot.dot(dots, {
            x: 'bandwidthPercent',
            y: 'kernel',
            r: 4,
            fillOpacity: 0.75,
            fill: ({ family }: KernelDot) => colorAt(families.indexOf(family)),
          }),
          ...(frame.interactive
            ? [Plot.tip(dots, Plot.pointer({ x: 'bandwidthPercent', y: 'kernel', title: 'title', maxRadius: 80 }))]
            : []),
        ],
      });
    },
  };
}

function roofline(dots: readonly KernelDot[], { ceilings }: KernelReport, prefix: string): Chart {
  const shown = dots.filter(({ flops, teraflops }) => flops > 0 && teraflops > 0);
  const families = [...new Set(shown.map(({ family }) => family))];
  const series = families.map((name, index) => ({ name, color: colorAt(index) }));
  const ridge = (1000 * ceilings.fmaTeraflops) / ceilings.readGigabytesPerSecond;
  const intensities = [...shown.map(({ intensity }) => intensity), ridge];
  const [least, greatest] = [Math.min(...intensities), Math.max(...intensities)];
  const roof = [least, ridge, greatest].map((x) => ({
    x,
    y: Math.min(ceilings.fmaTeraflops, (x * ceilings.readGigabytesPerSecond) / 1000),
  }));
  return {
    id: `${prefix}-roofline`,
    title: 'Roofline',
    note: 'The line is the least of the read ceiling and of float32 multiply-adds; kernels on matrix units may stand above it.',
    draw: (frame: Frame) =>
      drawPlot(frame, series, {
        x: { label: 'flops a byte', type: 'log', ticks: 5, tickFormat: shortNumber },
        y: { label: 'TFLOP/s', type: 'log', grid: true, ticks: 5, tickFormat: shortNumber },
        marks: [
          Plot.lineY(roof, { x: 'x', y: 'y', strokeOpacity: 0.6 }),
          Plot.dot(shown, {
            x: 'intensity',
            y: 'teraflops',
            r: 3.5,
            fillOpacity: 0.75,
            fill: ({ family }: KernelDot) => colorAt(families.indexOf(family)),
          }),
          ...(frame.interactive
            ? [Plot.tip(shown, Plot.pointer({ x: 'intensity', y: 'teraflops', title: 'title', maxRadius: 80 }))]
            : []),
        ],
      }),
  };
}

/** Tokens per second of models, after prompts of several lengths. */
export function modelCharts({ models }: ModelReport, prefix: string): Chart[] {
  const decode = models.flatMap(({ name, decode: runs }) =>
    runs.map(({ context, tokensPerSecond, millisecondsPerToken: time, bandwidthPercent }) => ({
      name,
      group: `after ${context} tokens`,
      value: tokensPerSecond,
      title: `${name} after ${context}\n${formatNumber(tokensPerSecond)} tokens/s, ${formatNumber(time.median)} ms\n${bandwidthPercent.toFixed(0)} % of the read ceiling`,
    })),
  );
  const prefill = models.flatMap(({ name, prefill: runs }) =>
    runs.map(({ tokens, tokensPerSecond, milliseconds }) => ({
      name,
      group: `${tokens} tokens`,
      value: tokensPerSecond,
      title: `${name}, ${tokens} tokens\n${formatNumber(tokensPerSecond)} tokens/s, ${formatNumber(milliseconds.median)} ms`,
    })),
  );
  return [
    barChart(decode, {
      id: `${prefix}-decode`,
      title: 'Decoding',
      note: 'Batch 1, greedy, every token read back.',
      label: 'tokens/s',
    }),
    barChart(prefill, {
      id: `${prefix}-prefill`,
      title: 'Prefill',
      note: 'Tokens of a prompt per second.',
      label: 'tokens/s',
    }),
  ].filter((chart) => chart !== undefined);
}

/** Engines on the same prompt. */
export function peersCharts({ engines }: PeersReport, prefix: string): Chart[] {
  const measured = engines.filter((engine) => engine.status === 'measured');
  const bars = (value: (engine: (typeof measured)[number]) => number): Parameters<typeof barChart>[0] =>
    measured.map((engine) => ({
      name: engine.engine,
      group: 'tokens/s',
      value: value(engine),
      title: `${engine.engine} ${engine.version}\n${engine.model} on ${engine.device}\n${formatNumber(value(engine))} tokens/s`,
    }));
  const base = {
    note: 'The same prompt on the same device; see the table for how each stores its weights.',
    label: 'tokens/s',
  };
  return [
    barChart(
      bars(({ decodeTokensPerSecond }) => decodeTokensPerSecond),
      { ...base, id: `${prefix}-decode`, title: 'Decoding' },
    ),
    barChart(
      bars(({ prefillTokensPerSecond }) => prefillTokensPerSecond),
      { ...base, id: `${prefix}-prefill`, title: 'Prefill' },
    ),
  ].filter((chart) => chart !== undefined);
}
