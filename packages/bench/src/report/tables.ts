import type { AnyReport } from '../any_report.ts';
import { isContextReport, isKernelReport, isModelReport, isPeersReport, isRecallReport } from '../any_report.ts';
import type { ArchitectureResult, ContextReport, SkippedArchitecture } from '../context/results.ts';
import type { RecallReport } from '../evaluation/results.ts';
import { formatBytes, formatChoices, formatNumber, formatPercent } from '../format.ts';
import type { PeersReport } from '../peers/results.ts';
import type { KernelReport, ModelReport } from '../results.ts';

/** Text in rows. Columns of numbers stand to the right. */
export interface Table {
  readonly title: string;
  readonly columns: readonly { readonly title: string; readonly isNumber?: boolean }[];
  readonly rows: readonly (readonly string[])[];
}

const text = (title: string): Table['columns'][number] => ({ title });
const number = (title: string): Table['columns'][number] => ({ title, isNumber: true });

/** Everything of a report as tables. */
export function tablesOf(report: AnyReport): readonly Table[] {
  if (isContextReport(report)) return contextTables(report);
  if (isKernelReport(report)) return [kernelTable(report)];
  if (isModelReport(report)) return [modelTable(report), batchTable(report)].filter(({ rows }) => rows.length > 0);
  if (isPeersReport(report)) return [peersTable(report)];
  if (isRecallReport(report)) return [recallTable(report)];
  return genericTables(report);
}

function contextTables({ architectures, ablation, speedups }: ContextReport): Table[] {
  const named = [...architectures, ...ablation].map((result) => [nameOf(result), result] as const);
  const points: Table = {
    title: 'Every point',
    columns: [
      text('model'),
      text('what'),
      ...['batch', 'context', 'tokens/s', 'ms', 'spread', 'of read', 'state', 'cache'].map(number),
    ],
    rows: named.flatMap(([name, result]) => pointRows(name, result)),
  };
  const sizes: Table = {
    title: 'Sizes',
    columns: [
      text('model'),
      ...['parameters', 'weights', 'states', 'KV a token', 'dispatches'].map(number),
      text('layers'),
    ],
    rows: named.map(([name, result]) =>
      'decode' in result
        ? [
            name,
            `${(result.parameters / 1e9).toPrecision(3)} G`,
            formatBytes(result.weightsBytes),
            formatBytes(result.stateBytes),
            formatBytes(result.kvBytesPerToken),
            String(result.dispatchesPerStep),
            result.pattern,
          ]
        : [name, '', '', '', '', '', result.reason],
    ),
  };
  const ratios: Table = {
    title: 'Speed-ups',
    columns: [text('architecture'), text('over'), ...['batch', 'context', 'speed', 'by bytes', 'memory'].map(number)],
    rows: speedups.flatMap(({ architecture, over, batch, points: at }) =>
      at.map(({ context, speed, bytes, memory }) => [
        architecture,
        over,
        String(batch),
        String(context),
        ...[speed, bytes, memory].map(formatNumber),
      ]),
    ),
  };
  const agreements: Table = {
    title: 'Random states against a real prompt',
    columns: [text('model'), ...['context', 'prompt, ms', 'random, ms', 'ratio', 'prompt', 'random'].map(number)],
    rows: named.flatMap(([name, result]) => {
      if (!('agreement' in result) || result.agreement === undefined) return [];
      const { context, prompt, filled, ratio, promptBytes, filledBytes } = result.agreement;
      const times = [prompt.median, filled.median, ratio].map(formatNumber);
      return [[name, String(context), ...times, formatBytes(promptBytes), formatBytes(filledBytes)]];
    }),
  };
  return [ratios, sizes, agreements, points].filter(({ rows }) => rows.length > 0);
}

const nameOf = ({ architecture, attentionPercent }: ArchitectureResult | SkippedArchitecture): string =>
  architecture === 'ablation' ? `${attentionPercent.toFixed(0)} % attention` : architecture;

function pointRows(name: string, result: ArchitectureResult | SkippedArchitecture): string[][] {
  if (!('decode' in result)) return [[name, `skipped: ${result.reason}`]];
  return [...result.decode, ...result.prefill].map((point) => {
    const isPrefill =
      point.status === 'measured' ? 'milliseconds' in point : result.prefill.some((other) => other === point);
    const place = [name, isPrefill ? 'prefill' : 'decode', String(point.batch), String(point.context)];
    if (point.status !== 'measured') return [...place, `${point.status}: ${point.reason}`];
    const time = 'milliseconds' in point ? point.milliseconds : point.millisecondsPerStep;
    const speed = [formatNumber(point.tokensPerSecond), formatNumber(time.median), formatPercent(100 * time.spread)];
    if ('milliseconds' in point) return [...place, ...speed, '', '', ''];
    const { state, cache } = point.memory;
    return [...place, ...speed, formatPercent(point.bandwidthPercent), formatBytes(state), formatBytes(cache)];
  });
}

function kernelTable({ kernels }: KernelReport): Table {
  return {
    title: 'Every case',
    columns: [
      text('kernel'),
      text('case'),
      ...['us', 'spread', 'GB/s', 'of ceiling', 'TFLOP/s', 'of fma', 'bytes'].map(number),
      text('variant'),
    ],
    rows: kernels.flatMap(({ name, verification, cases }) =>
      verification.passed
        ? cases.map((result) =>
            result.status === 'measured'
              ? [
                  name,
                  result.label,
                  formatNumber(result.microseconds.median),
                  formatPercent(100 * result.microseconds.spread),
                  formatNumber(result.gigabytesPerSecond),
                  formatPercent(result.bandwidthPercent),
                  formatNumber(result.teraflops),
                  formatPercent(result.fmaPercent),
                  formatBytes(result.bytes),
                  formatChoices(result.dispatches),
                ]
              : [name, result.label, `${result.status}: ${result.reason}`],
          )
        : [[name, `wrong: ${verification.reason}`]],
    ),
  };
}

function modelTable({ models }: ModelReport): Table {
  return {
    title: 'Every model',
    columns: [
      text('model'),
      ...['prompt', 'prefill tokens/s', 'decode tokens/s', 'spread', 'of read', 'CPU us a token', 'dispatches'].map(
        number,
      ),
      ...['weights', 'state', 'cache'].map(number),
    ],
    rows: models.flatMap(({ name, decode, prefill, dispatchesPerToken, memory }) =>
      decode.map((run, index) => [
        name,
        String(run.context),
        formatNumber(prefill[index]?.tokensPerSecond ?? NaN),
        formatNumber(run.tokensPerSecond),
        formatPercent(100 * run.millisecondsPerToken.spread),
        formatPercent(run.bandwidthPercent),
        formatNumber(run.cpuMicrosecondsPerToken),
        String(dispatchesPerToken),
        ...[memory.weights, memory.state, memory.cache].map(formatBytes),
      ]),
    ),
  };
}

function batchTable({ models }: ModelReport): Table {
  return {
    title: 'Texts at the same time',
    columns: [
      text('model'),
      ...['texts', 'together', 'tokens/s', 'each', 'ms a step', 'spread', 'states', 'cache'].map(number),
    ],
    rows: models.flatMap(({ name, batches = [] }) =>
      batches.map((run) => [
        name,
        String(run.batch),
        String(run.together),
        formatNumber(run.tokensPerSecond),
        formatNumber(run.tokensPerSecondEach),
        formatNumber(run.millisecondsPerStep.median),
        formatPercent(100 * run.millisecondsPerStep.spread),
        ...[run.stateBytes, run.cacheBytes].map(formatBytes),
      ]),
    ),
  };
}

function recallTable({ models, unit }: RecallReport): Table {
  return {
    title: 'Every size',
    columns: [
      text('model'),
      text('weights'),
      ...[unit, 'questions', 'prompt', 'right', '+-', 'tokens right'].map(number),
    ],
    rows: models.flatMap(({ name, dtype, cells }) =>
      cells.map((cell) => [
        name,
        dtype,
        String(cell.size),
        String(cell.questions),
        cell.meanTokens.toFixed(0),
        formatPercent(100 * cell.score),
        cell.standardError === undefined ? '' : formatPercent(100 * cell.standardError),
        cell.tokens === undefined ? '' : formatPercent(100 * cell.tokens),
      ]),
    ),
  };
}

function peersTable({ engines }: PeersReport): Table {
  return {
    title: 'Every engine',
    columns: [
      ...['engine', 'version', 'model', 'device'].map(text),
      ...['prompt', 'new', 'prefill tokens/s', 'decode tokens/s', 'ms a token', 'spread'].map(number),
    ],
    rows: engines.map((result) =>
      result.status === 'measured'
        ? [
            result.engine,
            result.version,
            result.model,
            result.device,
            String(result.promptTokens),
            String(result.newTokens),
            formatNumber(result.prefillTokensPerSecond),
            formatNumber(result.decodeTokensPerSecond),
            formatNumber(result.millisecondsPerToken.median),
            formatPercent(100 * result.millisecondsPerToken.spread),
          ]
        : [result.engine, `${result.status}: ${result.reason}`],
    ),
  };
}

/** Of results that are not known here: all flat objects of lists, a table for each path. */
function genericTables(report: object): Table[] {
  const lists = new Map<string, Record<string, unknown>[]>();
  const visit = (path: string, value: unknown): void => {
    if (Array.isArray(value)) {
      const objects = value.filter(isObject);
      if (objects.length > 0 && objects.length === value.length) {
        lists.set(path, [...(lists.get(path) ?? []), ...objects]);
        for (const entry of objects) for (const [name, part] of Object.entries(entry)) visit(`${path}.${name}`, part);
      }
      return;
    }
    if (!isObject(value)) return;
    for (const [name, part] of Object.entries(value)) {
      if (name !== 'environment') visit(path === '' ? name : `${path}.${name}`, part);
    }
  };
  visit('', report);
  return [...lists].map(([path, rows]) => flatTable(path, rows)).filter(({ columns }) => columns.length > 0);
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function flatTable(title: string, rows: readonly Record<string, unknown>[]): Table {
  const isFlat = (value: unknown): boolean => ['string', 'number', 'boolean'].includes(typeof value);
  const names = [...new Set(rows.flatMap((row) => Object.keys(row).filter((name) => isFlat(row[name]))))];
  const isNumber = (name: string): boolean =>
    rows.every((row) => row[name] === undefined || typeof row[name] === 'number');
  return {
    title,
    columns: names.map((name) => (isNumber(name) ? number(name) : text(name))),
    rows: rows.map((row) =>
      names.map((name) => {
        const value = row[name];
        if (typeof value === 'number') return Number.isInteger(value) ? String(value) : formatNumber(value);
        return isFlat(value) ? String(value) : '';
      }),
    ),
  };
}
