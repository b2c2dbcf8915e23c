import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadModel } from '@mambalab/models/node';
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { buildProgram } from '../../packages/bench/src/cli/program.ts';
import { AskedModel } from '../../packages/bench/src/evaluation/asked_model.ts';
import type { EvaluationReport } from '../../packages/bench/src/evaluation/results.ts';
import { TaskRun } from '../../packages/bench/src/evaluation/run_task.ts';
import { TrainingBooks } from '../../packages/bench/src/evaluation/training_book.ts';
import { HARNESS_CASES, harnessCase } from '../support/evaluation.ts';
import { fixturePath, readFixture } from '../support/fixtures.ts';
import { openTestDevice } from '../support/gpu.ts';

// Commands request a device and dispose of it; here all get the same one, whose shaders are compiled once.
vi.mock(import('@mambalab/kernels/node'), async (importOriginal) => {
  const { withSharedDevice } = await import('../support/commands.ts');
  return withSharedDevice(await importOriginal());
});

const device = await openTestDevice();
const stories = await loadModel(fixturePath('models/stories260k'), { device, warmUp: false });
const asked = new AskedModel(stories);
afterAll(() => asked.dispose());
const isLong = process.env['MAMBALAB_LONG'] === '1';
const never = new AbortController().signal;

// tests/unit/bench/tasks.test.ts holds the tokens and the arithmetic of all cases. Each length of chunks that a prompt is
// processed in has shaders of its own to compile: those of this case are of one.
const SHORT = ['winogrande'];

describe('tasks', () => {
  it.each(isLong ? HARNESS_CASES : SHORT)('%s gives the numbers of the lm-evaluation-harness', async (name) => {
    const { expected, task, file, options } = harnessCase(name);
    const run = new TaskRun(asked, task, file, options);
    await run.run(never);
    const { logprobs, metrics } = run.result;
    const errors = logprobs.flat().map((value, index) => Math.abs(value - (expected.logprobs.flat()[index] ?? NaN)));
    expect(errors).toHaveLength(expected.logprobs.flat().length);
    expect(Math.max(...errors)).toBeLessThan(1e-3);
    for (const { name: metric, value } of metrics) {
      const reference = expected.metrics[metric] ?? NaN;
      expect(Math.abs(value - reference)).toBeLessThan(1e-3 * Math.max(1, reference));
    }
  });
});

describe('recall', () => {
  const { models } = readFixture<RecallFixture>('evaluation/recall.json');
  const cells = Object.entries(models).flatMap(([name, sizes]) =>
    Object.keys(sizes).map((size) => [name, size] as const),
  );

  // Minutes on a software GPU, half of them compiling. Committed results have whole cells, of an H200.
  it.runIf(isLong).each(cells)('of the shipped %s, %s entries, is what transformers has', async (name, size) => {
    const rows = models[name]?.[size] ?? [];
    const path = fileURLToPath(new URL(`../../packages/checkpoints/models/${name}`, import.meta.url));
    await using model = await loadModel(path, { device, warmUp: false });
    const asked = new AskedModel(model);
    const questions = new TrainingBooks(model.tokenizer).questions(Number(size), rows.length);
    const scores = await asked.score(
      questions.map(({ context, answer }) => ({ context, continuation: answer })),
      never,
    );
    const right = scores.map(({ matches }) => matches.filter(Boolean).length);
    expect(right).toEqual(rows.map((row) => row.right));
    asked.dispose();
  });
});

describe('commands', () => {
  const folder = mkdtempSync(join(tmpdir(), 'mambalab-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  let out = '';
  beforeEach(() => {
    out = '';
    vi.spyOn(console, 'log').mockImplementation((text: string) => {
      out += `${text}\n`;
    });
  });
  afterEach(() => vi.restoreAllMocks());
  const call = async (...words: readonly string[]): Promise<unknown> => {
    const json = join(folder, `${words[0] ?? ''}.json`);
    const unused = (): Promise<never> => Promise.reject(new Error('no model is measured'));
    const program = buildProgram({ openModel: unused, checkLeaks: unused });
    await program.parseAsync(['node', 'mambalab-bench', ...words, '--json', json]);
    return JSON.parse(readFileSync(json, 'utf8'));
  };

  const rounded = (value: number): number => Math.round(100 * value);

  it('phonebook asks several questions of one book, and writes what came of it', async () => {
    const report = await call('phonebook', fixturePath('models/stories260k'), '--entries', '4', '--queries', '2');
    expect(report).toMatchObject({
      schema: 'mambalab-bench/recall',
      complete: true,
      task: 'standard',
      unit: 'entries',
    });
    expect(report).toMatchObject({ models: [{ dtype: 'auto', cells: [{ size: 4, questions: 2, score: 0 }] }] });
    expect(out).toMatch(/stories260k +4 +\d+\.\d +2 +0\.0 %/);
  });

  it('eval scores a file, and keeps what there is when it is interrupted', async () => {
    const { expected, file } = harnessCase('winogrande');
    const words = ['eval', 'winogrande', fixturePath('models/stories260k'), '--data', file];
    const report = (await call(...words, '--limit', '2')) as EvaluationReport;
    expect(report).toMatchObject({
      schema: 'mambalab-bench/eval',
      complete: true,
      metrics: [{ name: 'acc' }],
    });
    expect(report.files[0]?.logprobs.flat().map(rounded)).toEqual(expected.logprobs.slice(0, 2).flat().map(rounded));
    expect(out).toMatch(/winogrande\.jsonl: 2 documents: acc [01]\.\d{4} \+- 0\.\d{4}/);
    // As Ctrl-C does, once the first document is there.
    const { score } = AskedModel.prototype;
    const ask = vi.spyOn(AskedModel.prototype, 'score');
    ask.mockImplementation(async function (this: AskedModel, requests, signal) {
      if (ask.mock.calls.length > 1) process.emit('SIGINT');
      return await score.call(this, requests, signal);
    });
    expect(await call(...words)).toMatchObject({ complete: false, files: [{ documents: 1 }] });
    expect(out).toContain('interrupted after 1 documents');
    expect(process.exitCode).toBe(130);
    process.exitCode = undefined;
  });
});

interface RecallFixture {
  /** By model and number of entries: tokens of nine that are right, of each question. */
  readonly models: Readonly<Record<string, Readonly<Record<string, readonly { readonly right: number }[]>>>>;
}
