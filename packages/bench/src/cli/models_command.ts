import { requestDevice } from '@mambalab/kernels/node';
import { environmentLines, formatBytes, formatNumber, formatPercent } from '../format.ts';
import { measureCeilings } from '../harness/ceilings.ts';
import { describeEnvironment } from '../harness/environment.ts';
import type { ModelBenchOptions, ModelChoice, OpenModel } from '../harness/model_bench.ts';
import { FULL_MODEL_BENCH, measureModel, QUICK_MODEL_BENCH, requiredCapacity } from '../harness/model_bench.ts';
import { timeOptions } from '../harness/time_options.ts';
import type { ModelReport, ModelResult } from '../results.ts';
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
];

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
  };
  const device = await requestDevice({ toggles: options.toggles });
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
      const dtype = options.dtype === undefined ? {} : { dtype: options.dtype };
      const model = await openModel(device, choice, { ...dtype, capacity: requiredCapacity(settings) });
      try {
        const result = await measureModel(model, ceilings, settings);
        for (const line of modelLines(result)) progress.line(line);
        models.push(result);
        // A run that something ends keeps what it has.
        saveReport(options.json, reportOf(false));
      } finally {
        model.dispose();
      }
    }
    writeReport(options.json, reportOf(!interrupt.signal.aborted));
  } finally {
    device.dispose();
  }
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
    ]),
  );
}
