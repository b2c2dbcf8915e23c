import type { Model } from '@mambalab/models';
import type { VNode } from 'preact';
import { formatBytes } from './format.ts';
import { memoryOfText } from './run.ts';

export interface Point {
  readonly x: number;
  readonly y: number;
}

export interface Series {
  readonly label: string;
  /** Which of the line styles of style.css. */
  readonly style: number;
  readonly points: readonly Point[];
}

/** Numbers along an axis, with their texts. */
export type Ticks = readonly (readonly [value: number, text: string])[];

interface ChartProps {
  readonly series: readonly Series[];
  readonly xMax: number;
  readonly yMax: number;
  readonly xTicks: Ticks;
  readonly yTicks: Ticks;
  readonly xLabel: string;
  /** What the picture shows, in words. */
  readonly description: string;
  readonly hasMarkers?: boolean;
}

const WIDTH = 320;
const HEIGHT = 150;
const LEFT = 56;
const BOTTOM = 32;
const TOP = 8;
const RIGHT = 12;

/** Lines over one axis; colours and dashes both tell them apart. */
export function LineChart(props: ChartProps): VNode {
  const { series, xMax, yMax, xTicks, yTicks, xLabel, description, hasMarkers = false } = props;
  const atX = (x: number): number => LEFT + (x / xMax) * (WIDTH - LEFT - RIGHT);
  const atY = (y: number): number => HEIGHT - BOTTOM - (y / yMax) * (HEIGHT - BOTTOM - TOP);
  const place = ({ x, y }: Point): string => `${atX(x).toFixed(1)},${atY(y).toFixed(1)}`;
  return (
    <figure class="chart">
      <svg viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={description}>
        {yTicks.map(([value, text]) => (
          <g key={text}>
            <line class="grid" x1={LEFT} x2={WIDTH - RIGHT} y1={atY(value)} y2={atY(value)} />
            <text x={LEFT - 6} y={atY(value) + 4} text-anchor="end">
              {text}
            </text>
          </g>
        ))}
        {xTicks.map(([value, text]) => (
          <text key={text} x={atX(value)} y={HEIGHT - BOTTOM + 14} text-anchor="middle">
            {text}
          </text>
        ))}
        <text x={(LEFT + WIDTH - RIGHT) / 2} y={HEIGHT - 3} text-anchor="middle">
          {xLabel}
        </text>
        {series.map(({ label, style, points }) => (
          <g key={label} class={`line line-${style}`}>
            <polyline points={points.map(place).join(' ')} />
            {hasMarkers && points.map((point) => <circle key={point.x} cx={atX(point.x)} cy={atY(point.y)} r="3" />)}
          </g>
        ))}
      </svg>
      <figcaption>
        {series.map(({ label, style }) => (
          <span key={label} class={`key line-${style}`}>
            {label}
          </span>
        ))}
      </figcaption>
    </figure>
  );
}

/** What a text of a model takes, token by token: the state, and the KV cache that grows beside it. */
export function memorySeries(model: Model, name: string, tokens: number, style: number = 0): Series[] {
  const { state, cache } = memoryOfText(model, tokens);
  const named = (what: string): string => (name === '' ? what : `${name}: ${what}`);
  const lines: Series[] = [];
  if (state > 0) {
    const points = [0, tokens].map((x) => ({ x, y: state }));
    lines.push({ label: named(`state, ${formatBytes(state)}`), style, points });
  }
  if (model.memory().kvBytesPerToken > 0) {
    const points = [
      { x: 0, y: 0 },
      { x: tokens, y: cache },
    ];
    lines.push({ label: named(`KV cache, ${formatBytes(cache)}`), style: style + 1, points });
  }
  return lines;
}

interface MemoryChartProps {
  readonly series: readonly Series[];
  readonly tokens: number;
  /** Whose memory it is. */
  readonly subject: string;
}

export function MemoryChart({ series, tokens, subject }: MemoryChartProps): VNode {
  // The axis doubles, so that the picture moves while a text grows and does not jump with every token.
  const xMax = 2 ** Math.ceil(Math.log2(Math.max(tokens, 32)));
  const highest = Math.max(1024, ...series.flatMap(({ points }) => points.map(({ y }) => y)));
  const yMax = highest * 1.1;
  const description = `GPU memory of ${subject} after ${tokens} tokens: ${series.map(({ label }) => label).join('; ')}.`;
  return (
    <LineChart
      series={series}
      xMax={xMax}
      yMax={yMax}
      xTicks={[0, xMax / 2, xMax].map((value) => [value, String(value)])}
      yTicks={[0, highest].map((value) => [value, formatBytes(value)])}
      xLabel="tokens"
      description={description}
    />
  );
}
