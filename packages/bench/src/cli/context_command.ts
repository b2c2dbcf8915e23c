import { requestDevice } from '@mambalab/kernels/node';
import { SCALES, withLayers } from '../context/family.ts';
import type { FamilyShape } from '../context/family.ts';
import { contextModels } from '../context/open_context_model.ts';
import type { Architecture, ContextReport, Crossing } from '../context/results.ts';
import { ARCHITECTURES } from '../context/results.ts';
import type { ChosenScale } from '../context/scale.ts';
import { chooseScale, weightsBytesOf } from '../context/scale.ts';
import type { AnyPoint } from '../context/suite.ts';
import {
  ABLATION_SHARES,
  CONTEXT_LENGTHS,
  FULL_CONTEXT,
  measureContext,
  QUICK_CONTEXT,
  QUICK_LENGTHS,
  SOFTWARE_CONTEXT,
} from '../context/suite.ts';
import { environmentLines, formatBytes, formatNumber, formatPercent } from '../format.ts';
import { measureCeilings } from '../harness/ceilings.ts';
import { describeEnvironment } from '../harness/environment.ts';
import { Heater } from '../harness/heater.ts';
import { timeOptions } from '../harness/time_options.ts';
import type { Ceilings } from '../results.ts';
import type { ContextCommandOptions } from './context_options.ts';
import { deviceMemory } from './device_memory.ts';
import { describeNode } from './environment.ts';
import { onInterrupt } from './interrupt.ts';
import { saveReport, timeRequest, UsageError, writeReport } from './kernels_command.ts';
import { unknownName } from '../near.ts';
import { startProgress } from './progress.ts';
import type { Column } from './table.ts';
import { formatHeader, formatRow } from './table.ts';

const number = (title: string, width: number): Column => ({ title, width, align: 'right' });
const COLUMNS: readonly Column[] = [
  { title: 'model', width: 16 },
  { title: 'what', width: 7 },
  number('batch', 5),
  number('context', 7),
  number('tok/s', 9),
  number('ms', 9),
  number('spread', 7),
  number('of read', 8),
  number('state', 9),
  number('cache', 9),
];
const SPEEDUP_COLUMNS: readonly Column[] = [
  { title: 'architecture', width: 12 },
  { title: 'over', width: 15 },
  number('batch', 5),
  number('context', 7),
  number('speed', 7),
  number('by bytes', 8),
  number('memory', 8),
];
const FULL_MINUTES = 20;
const QUICK_MINUTES = 2;

/** `mambalab-bench context`: measures, prints, writes. @returns whether nothing failed */
export async function benchContext(options: ContextCommandOptions): Promise<boolean> {
  const architectures = readArchitectures(options.architectures);
  const quick = options.quick === true;
  const lengths = options.lengths ?? (quick ? QUICK_LENGTHS : CONTEXT_LENGTHS);
  if ((lengths[0] ?? 0) < 2) throw new UsageError('Contexts have two tokens or more: one is decoded after the others.');
  const device = await requestDevice({ toggles: options.toggles });
  const heater = await Heater.create(device);
  using interrupt = onInterrupt();
  using progress = startProgress();
  try {
    const { software } = device.capabilities;
    const timing = software ? SOFTWARE_CONTEXT : quick ? QUICK_CONTEXT : FULL_CONTEXT;
    const request = timeRequest(options);
    const timed = timeOptions(device.capabilities, { ...request, memory: undefined });
    const memory = deviceMemory(device.capabilities, request.memory);
    const environment = describeEnvironment(device, describeNode(options.toggles));
    const ceilings = await measureCeilings(device, timed);
    const chosen = readScale(options, memory.bytes, ceilings);
    const shape = withLayersScale(chosen.shape, options.layersScale);
    for (const line of environmentLines(environment, ceilings)) console.log(line);
    console.log(`memory: ${formatBytes(memory.bytes)} ${memory.source}`);
    console.log(`family: ${chosen.scale} (${chosen.reason}), weights ${options.dtype}, seed ${timed.seed}`);
    console.log(`\n${formatHeader(COLUMNS)}`);
    const report = await measureContext({
      environment,
      ceilings,
      scale: options.layersScale === 1 ? chosen.scale : `${chosen.scale}, ${options.layersScale} of its layers`,
      shape,
      reason: chosen.reason,
      dtype: options.dtype,
      seed: timed.seed,
      quick,
      architectures,
      lengths,
      batches: options.batches ?? (quick ? [1] : [1, 8, 32]),
      ablation: options.ablation && !quick ? ABLATION_SHARES : [],
      prefill: options.prefill,
      minutes: options.minutes ?? (quick ? QUICK_MINUTES : FULL_MINUTES),
      timing: { ...timing, steps: options.steps ?? timing.steps },
      memory: memory.bytes,
      allocated: () => device.allocatedBytes,
      heater,
      signal: interrupt.signal,
      open: contextModels(device, {
        dtype: options.dtype,
        contextLength: lengths[lengths.length - 1] ?? 1,
        seed: timed.seed,
      }),
      weightsBytes: (config) => weightsBytesOf(config, options.dtype),
      onStage: (text, done, total) => progress.stage(text, done, total),
      onPoint: (name, kind, point) => progress.line(formatRow(COLUMNS, pointCells(name, kind, point))),
      onSkip: ({ architecture, reason }) => progress.line(`${architecture}: skipped: ${reason}`),
      // A run that something ends keeps what it has.
      onReport: (partial) => saveReport(options.json, partial),
    });
    for (const line of summaryLines(report)) progress.line(line);
    writeReport(options.json, report);
    return nothingFailed(report);
  } finally {
    heater?.dispose();
    device.dispose();
  }
}

function readArchitectures(names: readonly string[] | undefined): readonly Architecture[] {
  if (names === undefined) return ARCHITECTURES;
  return names.map((name) => {
    const found = ARCHITECTURES.find((architecture) => architecture === name);
    if (found !== undefined) return found;
    throw new UsageError(unknownName('architecture', name, ARCHITECTURES));
  });
}

function readScale({ preset, dtype, quick }: ContextCommandOptions, memory: number, ceilings: Ceilings): ChosenScale {
  if (preset === 'auto') return chooseScale(memory, ceilings, dtype, quick === true);
  const shape = SCALES[preset];
  if (shape !== undefined) return { scale: preset, shape, reason: 'as asked for' };
  throw new UsageError(unknownName('size', preset, ['auto', ...Object.keys(SCALES)]));
}

const withLayersScale = (shape: FamilyShape, factor: number): FamilyShape =>
  factor === 1 ? shape : withLayers(shape, factor);

function pointCells(name: string, kind: string, point: AnyPoint): string[] {
  const place = [name, kind, String(point.batch), String(point.context)];
  if (point.status !== 'measured') return [...place, `${point.status}: ${point.reason}`];
  const time = 'millisecondsPerStep' in point ? point.millisecondsPerStep : point.milliseconds;
  const speed = [formatNumber(point.tokensPerSecond), formatNumber(time.median), formatPercent(100 * time.spread)];
  if (!('memory' in point)) return [...place, ...speed];
  const { state, cache } = point.memory;
  return [...place, ...speed, formatPercent(point.bandwidthPercent), formatBytes(state), formatBytes(cache)];
}

function summaryLines({ architectures, speedups, complete }: ContextReport): string[] {
  const agreements = architectures.flatMap((result) =>
    'agreement' in result && result.agreement !== undefined
      ? [
          `${result.architecture}: after random states a step takes ${formatNumber(result.agreement.ratio)} times what it takes after ` +
            `a prompt of ${result.agreement.context} tokens; bytes ${result.agreement.filledBytes === result.agreement.promptBytes ? 'equal' : 'DIFFER'}`,
        ]
      : [],
  );
  const rows = speedups.flatMap(({ architecture, over, batch, points }) =>
    points.map(({ context, speed, bytes, memory }) =>
      formatRow(SPEEDUP_COLUMNS, [
        architecture,
        over,
        String(batch),
        String(context),
        formatNumber(speed),
        formatNumber(bytes),
        formatNumber(memory),
      ]),
    ),
  );
  const crossings = speedups.map(
    ({ architecture, over, batch, faster, smaller }) =>
      `${architecture} against ${over}, batch ${batch}: faster ${tellCrossing(faster)}, smaller ${tellCrossing(smaller)}`,
  );
  return [
    '',
    ...agreements,
    ...(rows.length === 0 ? [] : ['', formatHeader(SPEEDUP_COLUMNS), ...rows, '', ...crossings]),
    ...(complete ? [] : ['', 'interrupted: what was measured until then']),
  ];
}

function tellCrossing(crossing: Crossing): string {
  if (crossing.at === 'context') return `from ${crossing.tokens} tokens on`;
  return crossing.at === 'always' ? 'at every context' : 'nowhere';
}

function nothingFailed({ architectures, ablation }: ContextReport): boolean {
  return [...architectures, ...ablation].every(
    (result) =>
      !('decode' in result) || [...result.decode, ...result.prefill].every(({ status }) => status !== 'failed'),
  );
}
