import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { loadModel } from '@mambalab/models/node';
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { buildProgram } from '../../packages/bench/src/cli/program.ts';
import { AskedModel } from '../../packages/bench/src/evaluation/asked_model.ts';
import type { RecallCell } from '../../packages/bench/src/evaluation/recall.ts';
import { RecallRun } from '../../packages/bench/src/evaluation/recall.ts';
import type { EvaluationReport } from '../../packages/bench/src/evaluation/results.ts';
import { TaskRun } from '../../packages/bench/src/evaluation/run_task.ts';
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
const never = new AbortController().signal;

// One of each way of scoring; tests/unit/bench/tasks.test.ts holds the tokens and the arithmetic of all.
const SHORT = ['openbookqa', 'winogrande', 'blimp', 'lambada'];

describe('tasks', () => {
  it.each(process.env['MAMBALAB_LONG'] === '1' ? HARNESS_CASES : SHORT)(
    '%s gives the numbers of the lm-evaluation-harness',
    async (name) => {
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
    },
  );
});

describe('recall', () => {
  it('answers the questions that transformers answers, of a shipped model', async () => {
    const { models } = readFixture<RecallFixture>('evaluation/recall.json');
    const rows = (models['hybrid']?.['4'] ?? []).slice(0, 2);
    const path = fileURLToPath(new URL('../../packages/checkpoints/models/hybrid', import.meta.url));
    await using model = await loadModel(path, { device, warmUp: false });
    const asked = new AskedModel(model);
    const options = { task: 'training', sizes: [4], questions: rows.length, perBook: 1, shots: 2, seed: 7000 };
    const cells: RecallCell[] = [];
    await new RecallRun(asked, options).run(never, (cell) => cells.push(cell));
    // Of the nine tokens of a number the space and the dash are always right.
    expect(cells[0]?.score).toBeCloseTo(rows.filter(({ right }) => right === 9).length / rows.length, 12);
    expect(cells[0]?.tokens).toBeCloseTo(rows.reduce((sum, { right }) => sum + right - 2, 0) / 7 / rows.length, 12);
    // Neither all nor none, or nothing would be compared.
    expect(rows.map(({ right }) => right)).toEqual([9, 8]);
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
    const program = buildProgram(() => Promise.reject(new Error('no model is measured')));
    await program.parseAsync(['node', 'mambalab-bench', ...words, '--json', json]);
    return JSON.parse(readFileSync(json, 'utf8'));
  };

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
    const words = ['eval', 'blimp', fixturePath('models/stories260k'), '--data', fixturePath('evaluation/blimp.jsonl')];
    const report = (await call(...words, '--limit', '2')) as EvaluationReport;
    const { expected } = harnessCase('blimp');
    expect(report).toMatchObject({
      schema: 'mambalab-bench/eval',
      complete: true,
      metrics: [{ name: 'acc', value: 1 }],
    });
    expect(report.files[0]?.logprobs.flat()[0]).toBeCloseTo(expected.logprobs[0]?.[0] ?? NaN, 3);
    expect(out).toContain('blimp.jsonl: 2 documents: acc 1.0000 +- 0.0000');
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
