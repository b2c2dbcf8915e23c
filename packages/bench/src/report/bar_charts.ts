import * as Plot from '@observablehq/plot';
import type { Frame, Chart } from './chart.ts';
import { colorAt, drawPlot, shortNumber } from './chart.ts';

/** One bar, with the range of its samples. */
export interface Bar {
  readonly name: string;
  /** Bars of one group have a colour; the legend names it. */
  readonly group: string;
  readonly value: number;
  readonly low?: number;
  readonly high?: number;
  readonly title: string;
}

export interface BarOptions extends Pick<Chart, 'id' | 'title' | 'note'> {
  readonly label: string;
}

const BAR = 20;
const LETTER = 6.6;

/** Horizontal bars, with names in full; one row a name, or a row a group where there are several. */
export function barChart(bars: readonly Bar[], { id, title, note, label }: BarOptions): Chart | undefined {
  if (bars.length === 0) return undefined;
  const groups = [...new Set(bars.map(({ group }) => group))];
  const series = groups.map((name, index) => ({ name, color: colorAt(index) }));
  const rows = bars.map((bar) => ({ ...bar, row: groups.length > 1 ? `${bar.name} · ${bar.group}` : bar.name }));
  const longest = Math.max(...rows.map(({ row }) => row.length));
  const draw = (frame: Frame): SVGSVGElement => {
    // On narrow pages names stand above their bars.
    const isNarrow = longest * LETTER > frame.width * 0.45;
    const band = BAR + (isNarrow ? 18 : 4);
    return drawPlot(frame, groups.length > 1 ? series : [], {
      height: rows.length * band + 60 + 18 * series.length,
      marginLeft: isNarrow ? 12 : Math.round(longest * LETTER) + 16,
      marginRight: 44,
      x: { label, grid: true, ticks: 5, tickFormat: shortNumber, domain: [0, Math.max(...bars.map(most))] },
      y: { label: null, domain: rows.map(({ row }) => row), axis: isNarrow ? null : 'left', padding: 0.15 },
      marks: [
        Plot.barX(rows, {
          x: 'value',
          y: 'row',
          fill: (bar: Bar) => colorAt(groups.indexOf(bar.group)),
          ...(isNarrow && { insetTop: 16 }),
        }),
        Plot.text(rows, {
          x: 'value',
          y: 'row',
          text: ({ value }: Bar) => shortNumber(value),
          textAnchor: 'start',
          dx: 5,
          dy: isNarrow ? 8 : 0,
        }),
        ...(isNarrow
          ? [Plot.text(rows, { x: 0, y: 'row', text: 'row', textAnchor: 'start', dy: -band / 2 + 8, dx: 2 })]
          : []),
        ...(frame.interactive
          ? [Plot.tip(rows, Plot.pointerY({ x: 'value', y: 'row', title: 'title', maxRadius: 80 }))]
          : []),
      ],
    });
  };
  return { id, title, note, draw };
}

const most = ({ value, high = value }: Bar): number => Math.max(value, high);
