import { readdirSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { requestDevice } from '@mambalab/kernels/node';
import { ArgumentError } from '@mambalab/kernels';
import type { WeightDtype } from '@mambalab/models';
import { loadModel } from '@mambalab/models/node';
import type { Metric } from '../evaluation/metrics.ts';
import { perplexity, pooledMetrics, textMetrics } from '../evaluation/metrics.ts';
import type { EvaluationReport } from '../evaluation/results.ts';
import type { TaskResult } from '../evaluation/run_task.ts';
import { TaskRun } from '../evaluation/run_task.ts';
import { AskedModel } from '../evaluation/asked_model.ts';
import { taskNamed, TASKS } from '../evaluation/tasks.ts';
import { environmentLines } from '../format.ts';
import { describeEnvironment } from '../harness/environment.ts';
import { describeNode } from './environment.ts';
import { untilInterrupted } from './interrupt.ts';
import { writeReport } from './kernels_command.ts';
import { showProgress } from './progress.ts';

export interface EvalOptions {
  readonly data: readonly string[];
  readonly fewShot: number;
  readonly examples?: string;
  readonly limit?: number;
  readonly maxLength?: number;
  readonly seed: number;
  readonly dtype: WeightDtype;
  readonly toggles: 'default' | 'native';
  readonly json?: string;
}

/** `mambalab-bench eval`: a task over the documents of files. @returns whether it ended by itself */
export async function benchEval(taskName: string, source: string, options: EvalOptions): Promise<boolean> {
  const name = taskNamed(taskName);
  const { [name]: task } = TASKS;
  if (task === undefined) throw new RangeError(`There is no task '${name}'.`);
  const files = options.data.flatMap(filesOf);
  if (options.examples !== undefined) filesOf(options.examples);
  const { fewShot, examples, limit, maxLength: maximumLength, seed, dtype } = options;
  const device = await requestDevice({ toggles: options.toggles });
  const environment = describeEnvironment(device, describeNode(options.toggles));
  const runs: TaskRun[] = [];
  const report = (complete: boolean): EvaluationReport => {
    const results = runs.map(({ result }) => result).filter(({ documents }) => documents > 0);
    return {
      schema: 'mambalab-bench/eval',
      version: 1,
      environment,
      complete,
      task: name,
      model: source,
      dtype,
      fewShot,
      seed,
      files: results,
      metrics: overall(results),
    };
  };
  let complete = false;
  try {
    console.log(`${environmentLines(environment).join('\n')}\n`);
    complete = await untilInterrupted(async (signal) => {
      const model = await loadModel(source, { device, dtype, signal, warmUp: false });
      const asked = new AskedModel(model);
      try {
        for (const file of files) {
          const run = new TaskRun(asked, task, file, {
            fewShot,
            seed,
            ...(examples === undefined ? {} : { examples }),
            ...(limit === undefined ? {} : { limit }),
            ...(maximumLength === undefined ? {} : { maximumLength }),
          });
          runs.push(run);
          await run.run(signal, (documents) => showProgress(`${basename(file)}: ${documents} documents`));
          showProgress('');
          console.log(resultLine(run.result));
        }
      } finally {
        asked.dispose();
        model.dispose();
      }
    });
    const { files: results, metrics } = report(complete);
    if (!complete)
      console.log(`interrupted after ${results.reduce((sum, { documents }) => sum + documents, 0)} documents`);
    if (results.length > 1 || !complete) console.log(`${name}: ${metricTexts(metrics)}`);
    return complete;
  } finally {
    // What was measured before a failure or Ctrl-C is kept.
    if (runs.some(({ result }) => result.documents > 0)) writeReport(options.json, report(complete));
    device.dispose();
  }
}

/** Of all documents together. */
function overall(results: readonly TaskResult[]): readonly Metric[] {
  const [first, ...others] = results;
  if (first === undefined) return [];
  if (others.length === 0) return first.metrics;
  if (first.texts !== undefined) return textMetrics(results.flatMap(({ texts = [] }) => texts));
  const isMean = ({ name }: Metric): boolean => name !== 'perplexity';
  const means = pooledMetrics(results.map((result) => ({ ...result, metrics: result.metrics.filter(isMean) })));
  const hasPerplexity = !first.metrics.every(isMean);
  return hasPerplexity ? [...means, perplexity(results.flatMap(({ logprobs }) => logprobs.flat()))] : means;
}

function resultLine({ file, documents, truncated, metrics }: TaskResult): string {
  const cut = truncated === 0 ? '' : `, ${truncated} contexts cut from the left`;
  return `${basename(file)}: ${documents} documents${cut}: ${metricTexts(metrics)}`;
}

function metricTexts(metrics: readonly Metric[]): string {
  return metrics
    .map(({ name, value, standardError }) => {
      const error = standardError === undefined ? '' : ` +- ${standardError.toFixed(4)}`;
      return `${name} ${value.toFixed(4)}${error}`;
    })
    .join(', ');
}

/** A file, or the `.jsonl` files of a folder. */
function filesOf(path: string): readonly string[] {
  const found = statSync(path, { throwIfNoEntry: false });
  if (found === undefined) throw new ArgumentError(`There is no ${path}.`, 'Give a JSONL file, or a folder of them.');
  if (!found.isDirectory()) return [path];
  const files = readdirSync(path)
    .filter((file) => file.endsWith('.jsonl'))
    .toSorted();
  if (files.length === 0) throw new ArgumentError(`${path} holds no .jsonl file.`, 'Name the files.');
  return files.map((file) => join(path, file));
}
