import * as Plot from '@observablehq/plot';
import type { ArchitectureResult, ContextReport, DecodePoint, PrefillPoint, SkippedPoint } from '../context/results.ts';
import { formatBytes, formatNumber } from '../format.ts';
import type { Chart, Frame, Series } from './chart.ts';
import { colorAt, drawPlot, shortNumber, tokensLabel } from './chart.ts';

const ORDER = ['hybrid', 'transformer', 'mamba2', 'transformer-gqa', 'mamba'];

/** A number at a context, with its range and what the pointer shows. */
interface Dot {
  readonly series: string;
  readonly x: number;
  readonly y: number;
  readonly low?: number;
  readonly high?: number;
  readonly title: string;
}

/** Pictures of decoding, speed-ups, memory, prefill and the shares of attention over the context. */
export function contextCharts(report: ContextReport, prefix: string): Chart[] {
  const results = report.architectures.filter((result): result is ArchitectureResult => 'decode' in result);
  const ablation = report.ablation.filter((result): result is ArchitectureResult => 'decode' in result);
  const batches = [...new Set(results.flatMap(({ decode }) => measured(decode).map(({ batch }) => batch)))];
  return [
    ...batches.map((batch) => decodeChart(results, batch, prefix)),
    ...batches.map((batch) => speedupChart(report, batch, prefix)),
    ...batches.slice(0, 1).map((batch) => memoryChart(results, batch, prefix)),
    prefillChart(results, prefix),
    ablationChart(ablation, prefix),
  ].filter((chart) => chart !== undefined);
}

const measured = <T extends { readonly status: 'measured' }>(points: readonly (T | SkippedPoint)[]): T[] =>
  points.filter((point): point is T => point.status === 'measured');

const colorOf = (name: string): string => colorAt(Math.max(0, ORDER.indexOf(name)));

const perSecond = (milliseconds: number, tokens: number): number => (1000 * tokens) / milliseconds;

function decodeChart(results: readonly ArchitectureResult[], batch: number, prefix: string): Chart | undefined {
  const dots = results.flatMap(({ architecture, decode }) =>
    measured<DecodePoint>(decode)
      .filter((point) => point.batch === batch)
      .map((point): Dot => {
        const { context, millisecondsPerStep: time, tokensPerSecond, bandwidthPercent } = point;
        return {
          series: architecture,
          x: context,
          y: tokensPerSecond,
          low: perSecond(time.upperQuartile, batch),
          high: perSecond(time.lowerQuartile, batch),
          title:
            `${architecture} at ${tokensLabel(context)}\n${formatNumber(tokensPerSecond)} tokens/s, ` +
            `${formatNumber(time.median)} ms a step\n${bandwidthPercent.toFixed(0)} % of the read ceiling`,
        };
      }),
  );
  return lines(dots, {
    id: `${prefix}-decode-${batch}`,
    title: `Decoding, batch ${batch}`,
    note: 'Tokens per second of all sequences together, over the tokens that each has. Bars: the middle half of the samples.',
    label: 'tokens/s',
    seriesOf: (name) => ({ name, color: colorOf(name) }),
  });
}

function speedupChart({ speedups }: ContextReport, batch: number, prefix: string): Chart | undefined {
  const dots = speedups
    .filter((speedup) => speedup.batch === batch && speedup.architecture === 'hybrid')
    .flatMap(({ over, points }) =>
      points.flatMap(({ context, speed, bytes }): Dot[] => [
        {
          series: `over ${over}`,
          x: context,
          y: speed,
          title: `over ${over} at ${tokensLabel(context)}\nmeasured ${formatNumber(speed)} times`,
        },
        {
          series: `over ${over}, by bytes`,
          x: context,
          y: bytes,
          title: `over ${over} at ${tokensLabel(context)}\nby bytes ${formatNumber(bytes)} times`,
        },
      ]),
    );
  return lines(dots, {
    id: `${prefix}-speedup-${batch}`,
    title: `Speed-up of the hybrid, batch ${batch}`,
    note: 'How many times as fast as the Transformers the hybrid decodes. Dashed: what the bytes that a step touches would give at equal bandwidth. Above 1 the hybrid is faster.',
    label: 'times',
    rule: 1,
    seriesOf: (name) => ({
      name,
      color: colorOf(name.includes('gqa') ? 'transformer-gqa' : 'transformer'),
      dashed: name.endsWith('bytes'),
    }),
  });
}

function memoryChart(results: readonly ArchitectureResult[], batch: number, prefix: string): Chart | undefined {
  const dots = results.flatMap(({ architecture, decode }) =>
    measured<DecodePoint>(decode)
      .filter((point) => point.batch === batch)
      .map(({ context, memory: { state, cache } }): Dot => ({
        series: architecture,
        x: context,
        y: (state + cache) / 2 ** 20,
        title: `${architecture} at ${tokensLabel(context)}\nstates ${formatBytes(state)}, KV cache ${formatBytes(cache)}`,
      })),
  );
  return lines(dots, {
    id: `${prefix}-memory`,
    title: `Memory beside the weights, batch ${batch}`,
    note: 'States and KV caches as allocated. States do not grow.',
    label: 'MiB',
    seriesOf: (name) => ({ name, color: colorOf(name) }),
  });
}

function prefillChart(results: readonly ArchitectureResult[], prefix: string): Chart | undefined {
  const dots = results.flatMap(({ architecture, prefill }) =>
    measured<PrefillPoint>(prefill).map(({ context, milliseconds, tokensPerSecond }): Dot => ({
      series: architecture,
      x: context,
      y: tokensPerSecond,
      low: perSecond(milliseconds.upperQuartile, context),
      high: perSecond(milliseconds.lowerQuartile, context),
      title: `${architecture}, ${tokensLabel(context)} tokens\n${formatNumber(tokensPerSecond)} tokens/s, ${formatNumber(milliseconds.median)} ms`,
    })),
  );
  return lines(dots, {
    id: `${prefix}-prefill`,
    title: 'Prefill',
    note: 'Tokens of a prompt per second, over its length.',
    label: 'tokens/s',
    seriesOf: (name) => ({ name, color: colorOf(name) }),
  });
}

function ablationChart(results: readonly ArchitectureResult[], prefix: string): Chart | undefined {
  const dots = results.flatMap(({ attentionPercent, decode }) =>
    measured<DecodePoint>(decode).map(({ context, tokensPerSecond, memory }): Dot => ({
      series: `${tokensLabel(context)} tokens`,
      x: attentionPercent,
      y: tokensPerSecond,
      title:
        `${attentionPercent.toFixed(0)} % attention at ${tokensLabel(context)}\n${formatNumber(tokensPerSecond)} tokens/s\n` +
        `states and cache ${formatBytes(memory.state + memory.cache)}`,
    })),
  );
  const names = [...new Set(dots.map(({ series }) => series))];
  return lines(dots, {
    id: `${prefix}-ablation`,
    title: 'Shares of attention at fixed depth',
    note: 'The hybrid with more and fewer of its Mamba-2 layers replaced by attention; half of the layers are feed-forward throughout.',
    label: 'tokens/s',
    x: { label: 'attention of the layers that mix tokens, %', type: 'linear', domain: [0, 100] },
    seriesOf: (name) => ({ name, color: colorAt(names.indexOf(name)) }),
  });
}

interface LineOptions extends Pick<Chart, 'id' | 'title' | 'note'> {
  readonly label: string;
  readonly rule?: number;
  readonly x?: Plot.ScaleOptions;
  seriesOf(name: string): Series;
}

function lines(dots: readonly Dot[], options: LineOptions): Chart | undefined {
  if (dots.length === 0) return undefined;
  const { id, title, note, label, rule, seriesOf } = options;
  const names = [...new Set(dots.map(({ series }) => series))];
  const series = names.map(seriesOf);
  const contexts = [...new Set(dots.map(({ x }) => x))].sort((a, b) => a - b);
  const domain = wideDomain([...dots.flatMap(({ y, low = y, high = y }) => [y, low, high]), ...(rule ? [rule] : [])]);
  const overTokens: Plot.ScaleOptions = { label: 'tokens of context', type: 'log', base: 2, ticks: contexts };
  const draw = (frame: Frame): SVGSVGElement => {
    // Labels of ticks that would touch are left out.
    const every = Math.ceil(contexts.length / Math.max(2, Math.floor(frame.width / 60)));
    return drawPlot(frame, series, {
      x: {
        ...overTokens,
        tickFormat: (value: number) => (contexts.indexOf(value) % every === 0 ? tokensLabel(value) : ''),
        ...options.x,
        ...(options.x && { tickFormat: (value: number) => String(value) }),
      },
      y: { label, type: 'log', domain, grid: true, ticks: 5, tickFormat: shortNumber },
      marks: [
        ...(rule === undefined ? [] : [Plot.ruleY([rule], { strokeOpacity: 0.6 })]),
        ...names.flatMap((name, index) => {
          const own = dots.filter((dot) => dot.series === name).sort((a, b) => a.x - b.x);
          const { color, dashed = false } = series[index] ?? { color: 'currentColor' };
          return [
            Plot.lineY(own, { x: 'x', y: 'y', stroke: color, ...(dashed && { strokeDasharray: '5 4' }) }),
            Plot.ruleX(
              own.filter(({ low, high }) => low !== undefined && high !== undefined),
              { x: 'x', y1: 'low', y2: 'high', stroke: color },
            ),
            ...(dashed ? [] : [Plot.dot(own, { x: 'x', y: 'y', fill: color, r: 3.5 })]),
          ];
        }),
        ...(frame.interactive ? [Plot.tip(dots, Plot.pointer({ x: 'x', y: 'y', title: 'title', maxRadius: 80 }))] : []),
      ],
    });
  };
  return { id, title, note, draw };
}

/** From the least value to the greatest, and never less than a doubling: what hardly changes should look so. */
function wideDomain(values: readonly number[]): [number, number] {
  const [least, greatest] = [Math.min(...values), Math.max(...values)];
  const missing = Math.sqrt(Math.max(1, (2 * least) / greatest));
  return [least / missing, greatest * missing];
}
