import { loadModel } from '@mambalab/models/node';
import { afterAll, describe, expect, it } from 'vitest';
import { TaskRun } from '../../packages/bench/src/evaluation/run_task.ts';
import { TokenScorer } from '../../packages/bench/src/evaluation/score_tokens.ts';
import { HARNESS_CASES, harnessCase } from '../support/evaluation.ts';
import { fixturePath } from '../support/fixtures.ts';
import { openTestDevice } from '../support/gpu.ts';

const device = await openTestDevice();
const stories = await loadModel(fixturePath('models/stories260k'), { device, warmUp: false });
const scorer = new TokenScorer(stories);
afterAll(() => scorer.dispose());
const never = new AbortController().signal;

// One of each way of scoring; tests/unit/bench/tasks.test.ts holds the tokens and the arithmetic of all.
const SHORT = ['openbookqa', 'winogrande', 'blimp', 'lambada'];

describe('tasks', () => {
  it.each(process.env['MAMBALAB_LONG'] === '1' ? HARNESS_CASES : SHORT)(
    '%s gives the numbers of the lm-evaluation-harness',
    async (name) => {
      const { expected, task, file, options } = harnessCase(name);
      const run = new TaskRun(scorer, task, file, options);
      await run.run(never);
      const { logprobs, metrics } = run.result;
      const errors = logprobs.flat().map((value, index) => Math.abs(value - (expected.logprobs.flat()[index] ?? NaN)));
      expect(errors).toHaveLength(expected.logprobs.flat().length);
      expect(Math.max(...errors)).toBeLessThan(1e-3);
      for (const { name: metric, value } of metrics) {
        const reference = expected.metrics[metric] ?? NaN;
        expect(Math.abs(value - reference)).toBeLessThan(1e-3 * Math.max(1, reference));
      }
    },
  );
});
