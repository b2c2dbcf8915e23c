import { parseHTML } from 'linkedom';
import type { AnyReport } from '../any_report.ts';
import { chartsOf } from './charts.ts';
import { svgText } from './render.ts';

const WIDTH = 800;

/** The charts of a report as files: names without an ending, and SVG. */
export function svgFiles(
  report: AnyReport,
  prefix: string,
): readonly { readonly name: string; readonly svg: string }[] {
  const { document } = parseHTML('<!doctype html><html><body></body></html>');
  return chartsOf(report, prefix).map((chart) => ({
    name: chart.id,
    svg: svgText(chart.draw({ width: WIDTH, document, interactive: false }), '#16191d', '#ffffff'),
  }));
}
