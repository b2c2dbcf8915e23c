import { requestDevice } from '@mambalab/kernels/node';
import type { WeightDtype } from '@mambalab/models';
import { loadModel } from '@mambalab/models/node';
import { AskedModel } from '../evaluation/asked_model.ts';
import { taskNamed } from '../evaluation/tasks.ts';
import type { RecallCell } from '../evaluation/recall.ts';
import { isBookTask, RECALL_TASKS, RecallRun } from '../evaluation/recall.ts';
import type { RecallModel, RecallReport } from '../evaluation/results.ts';
import { environmentLines, formatPercent } from '../format.ts';
import { describeEnvironment } from '../harness/environment.ts';
import { describeNode } from './environment.ts';
import { untilInterrupted } from './interrupt.ts';
import { UsageError, writeReport } from './kernels_command.ts';
import { showProgress } from './progress.ts';
import type { Column } from './table.ts';
import { formatHeader, formatRow } from './table.ts';

export interface PhonebookOptions {
  readonly task: string;
  readonly entries?: readonly number[];
  readonly lengths?: readonly number[];
  readonly queries: number;
  readonly perBook: number;
  readonly shots: number;
  readonly seed: number;
  readonly dtype: WeightDtype;
  readonly toggles: 'default' | 'native';
  readonly json?: string;
}

const number = (title: string, width: number): Column => ({ title, width, align: 'right' });

/** `mambalab-bench phonebook`: what models recall of texts of growing size. @returns whether it ended by itself */
export async function benchPhonebook(sources: readonly string[], options: PhonebookOptions): Promise<boolean> {
  if (sources.length === 0) throw new UsageError('Give a model.');
  const task = taskNamed(options.task, RECALL_TASKS);
  const isBook = isBookTask(task);
  const [given, other] = isBook ? [options.entries, options.lengths] : [options.lengths, options.entries];
  if (other !== undefined) throw new UsageError(`The task '${task}' takes --${isBook ? 'entries' : 'lengths'}.`);
  const { queries: questions, perBook, shots, seed, dtype } = options;
  const settings = { task, questions, perBook, shots, seed, ...(given === undefined ? {} : { sizes: given }) };
  const columns: readonly Column[] = [
    { title: 'model', width: Math.max(12, ...sources.map((source) => source.length)) },
    number(isBook ? 'entries' : 'tokens', 7),
    number('prompt', 8),
    number('queries', 7),
    number('right', 8),
    number('+-', 7),
    ...(isBook ? [number('tokens', 8), { title: 'right by quarter of the book', width: 28 } as const] : []),
  ];
  const device = await requestDevice({ toggles: options.toggles });
  const environment = describeEnvironment(device, describeNode(options.toggles));
  const models: RecallModel[] = [];
  const report = (complete: boolean): RecallReport => ({
    schema: 'mambalab-bench/recall',
    version: 1,
    environment,
    complete,
    task,
    unit: isBook ? 'entries' : 'tokens',
    seed,
    shots,
    perBook,
    models,
  });
  let complete = false;
  try {
    console.log(`${environmentLines(environment).join('\n')}\ntask ${task}, seed ${seed}\n\n${formatHeader(columns)}`);
    complete = await untilInterrupted(async (signal) => {
      for (const source of sources) {
        const model = await loadModel(source, { device, dtype, signal, warmUp: false });
        const asked = new AskedModel(model);
        const cells: RecallCell[] = [];
        models.push({ name: source, dtype, cells });
        try {
          const onCell = (cell: RecallCell): void => {
            cells.push(cell);
            showProgress('');
            console.log(formatRow(columns, [source, ...cellTexts(cell)]));
          };
          const onQuestions = (size: number, asked: number): void =>
            showProgress(`${source}: ${size}, ${asked} of ${questions}`);
          await new RecallRun(asked, settings).run(signal, onCell, onQuestions);
        } finally {
          asked.dispose();
          model.dispose();
        }
      }
    });
    if (!complete) console.log('interrupted');
    return complete;
  } finally {
    // What was measured before a failure or Ctrl-C is kept.
    if (models.some(({ cells }) => cells.length > 0)) writeReport(options.json, report(complete));
    device.dispose();
  }
}

function cellTexts({ size, meanTokens, questions, score, standardError, tokens, quarters }: RecallCell): string[] {
  return [
    String(size),
    meanTokens.toFixed(1),
    String(questions),
    formatPercent(100 * score),
    standardError === undefined ? '' : formatPercent(100 * standardError),
    ...(tokens === undefined ? [] : [formatPercent(100 * tokens)]),
    ...(quarters === undefined ? [] : [quarters.map(({ questions: asked, right }) => `${right}/${asked}`).join('  ')]),
  ];
}
