import { requestDevice } from '@mambalab/kernels/node';
import { environmentLines, formatBytes, formatNumber, formatPercent } from '../format.ts';
import { measureCeilings } from '../harness/ceilings.ts';
import { describeEnvironment } from '../harness/environment.ts';
import { Heater } from '../harness/heater.ts';
import type { ModelBenchOptions, ModelChoice, OpenModel } from '../harness/model_bench.ts';
import { FULL_MODEL_BENCH, measureModel, QUICK_MODEL_BENCH, requiredCapacity } from '../harness/model_bench.ts';
import { timeOptions } from '../harness/time_options.ts';
import type { BatchResult, DraftResult, ModelReport, ModelResult } from '../results.ts';
import { describeNode } from './environment.ts';
import { onInterrupt } from './interrupt.ts';
import { saveReport, timeRequest, UsageError, writeReport } from './kernels_command.ts';
import type { ModelsOptions } from './options.ts';
import { startProgress } from './progress.ts';
import type { Column } from './table.ts';
import { formatHeader, formatRow } from './table.ts';

const number = (title: string, width: number): Column => ({ title, width, align: 'right' });
const COLUMNS: readonly Column[] = [
  { title: 'model', width: 28 },
  number('prompt', 7),
  number('prefill tok/s', 13),
  number('decode tok/s', 12),
  number('of read', 8),
  number('CPU us/tok', 10),
  number('dispatches', 10),
  number('weights', 9),
  number('state', 9),
  number('cache', 9),
  number('spread', 7),
];

/** How long the GPU is kept busy before each sample. */
const WARM_UP = { full: 1000, quick: 200 };

/** `mambalab-bench models`: opens each model, measures it, prints and writes. */
export async function benchModels(
  sources: readonly string[],
  options: ModelsOptions,
  openModel: OpenModel,
): Promise<void> {
  const choices: ModelChoice[] = [
    ...sources.map((source) => ({ source })),
    ...options.preset.map((preset) => ({ preset })),
  ];
  if (choices.length === 0) throw new UsageError('Give a model, or --preset with the name of a shape.');
  const base = options.quick === true ? QUICK_MODEL_BENCH : FULL_MODEL_BENCH;
  const settings: ModelBenchOptions = {
    ...base,
    prompts: options.prompts ?? base.prompts,
    steps: options.steps ?? base.steps,
    batches: options.batch,
    draft: options.draft,
  };
  const device = await requestDevice({ toggles: options.toggles });
  const heater = await Heater.create(device);
  const warmUp = (): Promise<void> =>
    heater?.burst(options.quick === true ? WARM_UP.quick : WARM_UP.full) ?? Promise.resolve();
  using interrupt = onInterrupt();
  using progress = startProgress();
  try {
    const environment = describeEnvironment(device, describeNode(options.toggles));
    const ceilings = await measureCeilings(device, timeOptions(device.capabilities, timeRequest(options)));
    progress.line(`${environmentLines(environment, ceilings).join('\n')}\n\n${formatHeader(COLUMNS)}`);
    const models: ModelResult[] = [];
    const reportOf = (complete: boolean): ModelReport => ({
      schema: 'mambalab-bench/models',
      version: 1,
      environment,
      ceilings,
      models,
      complete,
    });
    for (const [index, choice] of choices.entries()) {
      if (interrupt.signal.aborted) break;
      progress.stage('source' in choice ? choice.source : choice.preset, index, choices.length);
      const { dtype, draft } = options;
      const capacity = requiredCapacity(settings);
      const model = await openModel(device, choice, { ...(dtype !== undefined && { dtype }), draft, capacity });
      try {
        const result = await measureModel(model, ceilings, { ...settings, warmUp });
        for (const line of modelLines(result)) progress.line(line);
        for (const batch of result.batches ?? []) progress.line(batchLine(batch));
        if (result.draft !== undefined) progress.line(draftLine(result.draft));
        models.push(result);
        // A run that something ends keeps what it has.
        saveReport(options.json, reportOf(false));
      } finally {
        model.dispose();
      }
    }
    writeReport(options.json, reportOf(!interrupt.signal.aborted));
  } finally {
    heater?.dispose();
    device.dispose();
  }
}

function batchLine(run: BatchResult): string {
  const shared = run.together < run.batch ? ` (${run.together} of them together)` : '';
  return (
    `  ${run.batch} at a time${shared}: ${formatNumber(run.tokensPerSecond)} tok/s, ` +
    `${formatNumber(run.tokensPerSecondEach)} each (spread ${formatPercent(100 * run.millisecondsPerStep.spread)}); ` +
    `state ${formatBytes(run.stateBytes)}, cache ${formatBytes(run.cacheBytes)}`
  );
}

function draftLine(run: DraftResult): string {
  return (
    `  draft ${run.draft}: ${run.accepted} of ${run.drafted} accepted (${formatPercent(100 * run.acceptance)}); ` +
    `${formatNumber(run.tokensPerSecond)} tok/s, without ${formatNumber(run.plainTokensPerSecond)}: ` +
    `${formatNumber(run.speedup)} times as fast`
  );
}

function modelLines({ name, dispatchesPerToken, memory, prefill, decode }: ModelResult): string[] {
  return decode.map((run, index) =>
    formatRow(COLUMNS, [
      name,
      String(run.context),
      formatNumber(prefill[index]?.tokensPerSecond ?? NaN),
      formatNumber(run.tokensPerSecond),
      formatPercent(run.bandwidthPercent),
      formatNumber(run.cpuMicrosecondsPerToken),
      String(dispatchesPerToken),
      formatBytes(memory.weights),
      formatBytes(memory.state),
      formatBytes(memory.cache),
      formatPercent(100 * run.millisecondsPerToken.spread),
    ]),
  );
}
