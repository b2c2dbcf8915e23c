import * as Plot from '@observablehq/plot';
import type { RecallCell } from '../evaluation/recall.ts';
import type { RecallReport } from '../evaluation/results.ts';
import { formatPercent } from '../format.ts';
import type { Chart, Frame } from './chart.ts';
import { colorAt, drawPlot, tokensLabel } from './chart.ts';

interface RecallPoint {
  readonly name: string;
  readonly size: number;
  readonly percent: number;
  readonly low: number;
  readonly high: number;
  readonly title: string;
}

/** Answers that are right over the size of what they are looked up in, a line for each model. */
export function recallCharts({ models, task, unit }: RecallReport, prefix: string): Chart[] {
  const names = models.map(({ name }) => name);
  const points = models.flatMap(({ name, cells }) => cells.map((cell) => pointOf(name, cell, unit)));
  if (points.length === 0) return [];
  const sizes = [...new Set(points.map(({ size }) => size))].sort((a, b) => a - b);
  const series = names.map((name, index) => ({ name, color: colorAt(index) }));
  const stroke = ({ name }: RecallPoint): string => colorAt(names.indexOf(name));
  return [
    {
      id: `${prefix}-recall`,
      title: `Recall: ${task}`,
      note: `Answers that are right, over ${unit}. Bars: two standard errors.`,
      draw: (frame: Frame) =>
        drawPlot(frame, series, {
          x: { label: unit, type: 'log', ticks: sizes, tickFormat: tokensLabel },
          y: { label: '% right', domain: [0, 100], grid: true },
          marks: [
            Plot.ruleX(points, { x: 'size', y1: 'low', y2: 'high', stroke }),
            Plot.lineY(points, { x: 'size', y: 'percent', z: 'name', stroke, strokeWidth: 2 }),
            Plot.dot(points, { x: 'size', y: 'percent', fill: stroke, r: 3 }),
            ...(frame.interactive
              ? [Plot.tip(points, Plot.pointer({ x: 'size', y: 'percent', title: 'title', maxRadius: 80 }))]
              : []),
          ],
        }),
    },
  ];
}

function pointOf(name: string, { size, score, standardError = 0, questions }: RecallCell, unit: string): RecallPoint {
  const percent = 100 * score;
  return {
    name,
    size,
    percent,
    low: Math.max(0, percent - 200 * standardError),
    high: Math.min(100, percent + 200 * standardError),
    title: `${name}, ${size} ${unit}\n${formatPercent(percent)} of ${questions} right`,
  };
}
