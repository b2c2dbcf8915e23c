// The program of a report's page.
import { chartsOf } from './charts.ts';
import type { PageData } from './html.ts';
import { DATA_ID, prefixOf } from './html.ts';
import { renderCharts } from './render.ts';

const { reports } = JSON.parse(document.getElementById(DATA_ID)?.textContent ?? '{"reports":[]}') as PageData;
renderCharts(reports.flatMap(({ report }, index) => chartsOf(report, prefixOf(report, index))));
