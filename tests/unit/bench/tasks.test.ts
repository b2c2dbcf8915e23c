import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createTokenizer } from '@mambalab/models';
import { afterAll, describe, expect, it } from 'vitest';
import { Document } from '../../../packages/bench/src/evaluation/documents.ts';
import { PairEncoder, truncateLeft } from '../../../packages/bench/src/evaluation/encode_pair.ts';
import { pooledMetrics, standardError, textMetrics } from '../../../packages/bench/src/evaluation/metrics.ts';
import type { ScoringModel } from '../../../packages/bench/src/evaluation/asked_model.ts';
import { TaskRun } from '../../../packages/bench/src/evaluation/run_task.ts';
import { taskNamed, TASKS } from '../../../packages/bench/src/evaluation/tasks.ts';
import { HARNESS_CASES, harnessCase } from '../../support/evaluation.ts';
import { readFixture } from '../../support/fixtures.ts';

const stories = 'models/stories260k/';
const tokenizer = createTokenizer(
  readFixture(`${stories}tokenizer.json`),
  readFixture(`${stories}tokenizer_config.json`),
);
const never = new AbortController().signal;

const folder = mkdtempSync(join(tmpdir(), 'mambalab-'));
afterAll(() => rmSync(folder, { recursive: true }));

function fileOf(name: string, text: string): string {
  const file = join(folder, name);
  writeFileSync(file, text);
  return file;
}

/** A model that hands out numbers, and keeps what it was asked. */
function toldModel(logprobs: readonly number[], contextLength = 512): ScoringModel & { readonly asked: unknown[] } {
  const asked: unknown[] = [];
  return {
    tokenizer,
    contextLength,
    asked,
    score: (requests) =>
      Promise.resolve(
        requests.map(({ context, continuation }) => {
          const logprob = logprobs[asked.length] ?? NaN;
          asked.push([context, continuation]);
          return { logprob, matches: continuation.map(() => logprob > -1) };
        }),
      ),
  };
}

describe('tasks', () => {
  it.each(HARNESS_CASES)('%s asks for the tokens of the harness and makes its metrics', async (name) => {
    const { expected, task, file, options } = harnessCase(name);
    // A text of several windows has one number, which is told with the first of them.
    const told =
      task.kind === 'text'
        ? expected.logprobs.flatMap((logprobs, text) => (text === 1 ? [...logprobs, 0] : logprobs))
        : expected.logprobs.flat();
    const model = toldModel(told);
    const run = new TaskRun(model, task, file, options);
    await run.run(never);
    const hash = createHash('sha256').update(JSON.stringify(model.asked)).digest('hex');
    expect(hash.slice(0, 16)).toBe(expected.tokens);
    expect(run.result.metrics.map((metric) => metric.name).toSorted()).toEqual(
      Object.keys(expected.metrics)
        .filter((key) => !key.endsWith('_stderr'))
        .toSorted(),
    );
    for (const { name: metric, value } of run.result.metrics) {
      const reference = expected.metrics[metric] ?? NaN;
      expect(Math.abs(value - reference)).toBeLessThan(1e-5 * Math.max(1, reference));
    }
    // The harness draws samples for the error of a perplexity, which four documents are too few for.
    for (const { name: metric, standardError: error } of run.result.metrics.filter((one) =>
      one.name.startsWith('acc'),
    )) {
      expect(error).toBeCloseTo(expected.metrics[`${metric}_stderr`] ?? NaN, 5);
    }
  });

  it('puts all choices into the prompt of mmlu_text', () => {
    const document = new Document({ question: ' Who? ', choices: ['I', 'you'], answer: 'B', subject: 'a_b' }, 'here:1');
    const { mmlu_text: task } = TASKS;
    if (task?.kind !== 'choice') throw new Error('mmlu_text is a choice');
    expect(task.describe?.(document)).toBe('The following are multiple choice questions (with answers) about a b.\n\n');
    expect(task.prompt(document)).toBe('Who?\nA. I\nB. you\nAnswer:');
    expect([task.choices(document), task.gold(document)]).toEqual([['I', 'you'], 1]);
  });

  it('reads multiple choices under the usual names', () => {
    const { multiple_choice: task } = TASKS;
    if (task?.kind !== 'choice') throw new Error('multiple_choice is a choice');
    const gold = (fields: Record<string, unknown>): number => task.gold(new Document(fields, 'here:1'));
    expect(gold({ query: 'q', choices: ['a', 'b'], gold: 1 })).toBe(1);
    expect(gold({ question: 'q', endings: ['a', 'b'], label: '1' })).toBe(1);
    expect(gold({ question: 'q', options: ['a', 'b', 'c'], answer: 'C' })).toBe(2);
    expect(gold({ prompt: 'q', choices: { text: ['a', 'b'], label: ['x', 'y'] }, answerKey: 'y' })).toBe(1);
    expect(() => gold({ query: 'q', choices: ['a', 'b'], gold: 2 })).toThrow(
      "here:1: 'gold' should be a whole number from 0 to 1",
    );
    expect(() => gold({ query: 'q', choices: ['a', 'b'], gold: '' })).toThrow("'gold' should be a whole number");
    expect(() => gold({ query: 'q', choices: [1], gold: 0 })).toThrow("'choices' should be a list of texts");
    const labelled = { choices: { text: ['a', 'b'], label: ['A', 'B'] }, answerKey: '1' };
    expect(() => gold({ query: 'q', ...labelled })).toThrow('or one of A, B; "1"');
    expect(() => gold({ query: 'q' })).toThrow("'choices' should be there, or endings or options; it has query");
  });

  it('suggests the name of a task that there is not', () => {
    expect(taskNamed('arc')).toBe('arc');
    expect(() => taskNamed('hellaswap')).toThrow("Did you mean 'hellaswag'?");
    expect(() => taskNamed('mmlu-cloze')).toThrow("Did you mean 'mmlu_cloze'?");
    expect(() => taskNamed('something')).toThrow(/no task 'something'\. There are arc, /);
  });
});

describe('documents', () => {
  const run = async (file: string, options = { fewShot: 0, seed: 1 }, contextLength = 512): Promise<TaskRun> => {
    const { piqa } = TASKS;
    if (piqa === undefined) throw new Error('there is piqa');
    const task = new TaskRun(toldModel([-1, -2], contextLength), piqa, file, options);
    await task.run(never);
    return task;
  };
  const line = '{"goal": "g", "sol1": "a", "sol2": "b", "label": 0}\n';

  it('names file and line of what is wrong', async () => {
    await expect(run(fileOf('bad.jsonl', `${line}\n{"goal": }\n`))).rejects.toThrow(/bad\.jsonl:3: this is no JSON: /);
    await expect(run(fileOf('list.jsonl', '[1]\n'))).rejects.toThrow('list.jsonl:1: this is no JSON object');
    await expect(run(fileOf('field.jsonl', '{"goal": "g"}\n'))).rejects.toThrow(
      "field.jsonl:1: 'sol1' should be a text; it has goal",
    );
    await expect(run(fileOf('empty.jsonl', '\n'))).rejects.toThrow('empty.jsonl holds no document');
  });

  it('passes over empty lines and marks of Windows', async () => {
    expect((await run(fileOf('windows.jsonl', `\uFEFF${line.trimEnd()}\r\n\r\n`))).result.documents).toBe(1);
  });

  it('refuses examples that there are not, and choices that do not fit', async () => {
    await expect(run(fileOf('one.jsonl', line), { fewShot: 1, seed: 1 })).rejects.toThrow(
      '1 examples are needed; there are 0',
    );
    await expect(
      run(fileOf('long.jsonl', line.replace('"a"', `"${'a b '.repeat(9)}"`)), { fewShot: 0, seed: 1 }, 8),
    ).rejects.toThrow(/long\.jsonl:1: a continuation has \d+ tokens; 8 are processed together/);
  });

  it('cuts contexts from the left, and says how often', async () => {
    const { result } = await run(fileOf('cut.jsonl', line), { fewShot: 0, seed: 1 }, 6);
    expect(result.truncated).toBe(2);
    expect(truncateLeft({ context: [1, 2, 3], continuation: [4, 5] }, 3)).toEqual({
      context: [2, 3],
      continuation: [4, 5],
    });
    expect(truncateLeft({ context: [1, 2, 3], continuation: [4, 5] }, 4).context).toEqual([1, 2, 3]);
  });
});

describe('PairEncoder', () => {
  const encoder = new PairEncoder(tokenizer);

  it('moves spaces to the continuation, and begins without a context', () => {
    expect(encoder.encode('Once upon', ' a time')).toEqual(encoder.encode('Once upon ', 'a time'));
    const { context, continuation } = encoder.encode('', ' a time');
    expect(context).toEqual([1]);
    expect(continuation).toEqual(tokenizer.encode(' a time', { addSpecialTokens: false }));
    // A beginning that is written out is not added once more.
    expect(encoder.encode('<s>Once', ' a').context.filter((token) => token === 1)).toHaveLength(1);
  });

  it('predicts every token once, with as many before it as fit', () => {
    const tokens = tokenizer.encode('Once upon a time there was a cat.');
    for (const length of [3, 4, tokens.length - 1, tokens.length, Infinity]) {
      const windows = encoder.windows('Once upon a time there was a cat.', length);
      expect(windows.flatMap(({ continuation }) => continuation)).toEqual(tokens);
      for (const [index, { context, continuation }] of windows.entries()) {
        expect(context.length + continuation.length - 1).toBe(index === 0 ? Math.min(length, tokens.length) : length);
      }
    }
    expect(encoder.windows('', 4)).toHaveLength(1);
  });
});

describe('metrics', () => {
  it('have the errors of their means', () => {
    expect(standardError([1, 0, 1, 1])).toBeCloseTo(Math.sqrt(0.75 / 3 / 4), 12);
    expect(standardError([1])).toBeUndefined();
    // Two texts of the same rate leave no doubt.
    const [word, byte, bits] = textMetrics([
      { logprob: -2, words: 1, bytes: 4 },
      { logprob: -4, words: 2, bytes: 8 },
    ]);
    expect([word?.value, byte?.value, bits?.value]).toEqual([Math.exp(2), Math.exp(0.5), 0.5 / Math.LN2]);
    expect(bits?.standardError).toBe(0);
  });

  it('are pooled over files by their documents', () => {
    const part = (documents: number, value: number, error: number): Parameters<typeof pooledMetrics>[0][number] => ({
      documents,
      metrics: [{ name: 'acc', value, standardError: error }],
    });
    const [acc] = pooledMetrics([part(10, 0.5, 0.1), part(30, 0.7, 0.05)]);
    expect(acc?.value).toBeCloseTo(0.65, 12);
    expect(acc?.standardError).toBeCloseTo(Math.sqrt((9 * 0.01 * 10 + 29 * 0.0025 * 30) / 38 / 40), 12);
  });
});
