import type { TaskOptions } from '../../packages/bench/src/evaluation/run_task.ts';
import type { Task } from '../../packages/bench/src/evaluation/tasks.ts';
import { TASKS } from '../../packages/bench/src/evaluation/tasks.ts';
import { fixturePath, readFixture } from './fixtures.ts';

/** A case of tests/fixtures/evaluation/expected.json: what the lm-evaluation-harness computes. */
export interface HarnessCase {
  readonly metrics: Readonly<Record<string, number>>;
  /** Hash of [[context, continuation], ...] in token ids. */
  readonly tokens: string;
  readonly logprobs: readonly (readonly number[])[];
}

const { cases } = readFixture<{ readonly cases: Readonly<Record<string, HarnessCase>> }>('evaluation/expected.json');

export const HARNESS_CASES: readonly string[] = Object.keys(cases);

/** A case by its name: `arc 1-shot dev` is the task, the number of examples and the file that they are from. */
export function harnessCase(name: string): {
  readonly expected: HarnessCase;
  readonly task: Task;
  readonly file: string;
  readonly options: TaskOptions;
} {
  const [taskName = '', shots = '0', dev] = name.split(' ');
  const task = TASKS[taskName];
  const expected = cases[name];
  if (task === undefined || expected === undefined) throw new Error(`there is no case ${name}`);
  const isMmlu = taskName.startsWith('mmlu');
  const data = isMmlu ? 'mmlu' : taskName === 'perplexity' ? 'text' : taskName;
  const examples = isMmlu ? 'mmlu_dev' : dev;
  const path = (file: string): string => fixturePath(`evaluation/${file}.jsonl`);
  const options = {
    fewShot: Number.parseInt(shots, 10),
    // The harness's own.
    seed: 1234,
    ...(examples === undefined ? {} : { examples: path(examples) }),
  };
  return { expected, task, file: path(data), options };
}
