import { createTokenizer } from '@mambalab/models';
import { describe, expect, it } from 'vitest';
import type { RecallCell, RecallOptions, WritingModel } from '../../../packages/bench/src/evaluation/recall.ts';
import { RECALL_TASKS, RecallRun } from '../../../packages/bench/src/evaluation/recall.ts';
import { plotRecall } from '../../../packages/bench/tools/plot_recall.mjs';
import { readFixture } from '../../support/fixtures.ts';

const stories = 'models/stories260k/';
const tokenizer = createTokenizer(
  readFixture(`${stories}tokenizer.json`),
  readFixture(`${stories}tokenizer_config.json`),
);
const OPTIONS: RecallOptions = { task: 'standard', questions: 8, perBook: 4, shots: 2, seed: 3 };

/** A model that knows every second answer, and of the others all but the last token. */
function halfModel(contextLength = 4096): WritingModel & { readonly groups: number[] } {
  const groups: number[] = [];
  let asked = 0;
  return {
    tokenizer,
    contextLength,
    groups,
    score: (requests) => {
      groups.push(requests.length);
      return Promise.resolve(
        requests.map(({ continuation }) => {
          asked += 1;
          const isRight = asked % 2 === 0;
          return { logprob: 0, matches: continuation.map((_, index) => isRight || index < continuation.length - 1) };
        }),
      );
    },
    // What the text says of needles: the first number that it hides.
    write: (tokens) => Promise.resolve(/is: (\d{7})/.exec(tokenizer.decode(tokens))?.[1] ?? ''),
  };
}

/** Without sizes, the usual ones. */
async function cellsOf(model: WritingModel, { sizes, ...options }: Partial<RecallOptions>): Promise<RecallCell[]> {
  const cells: RecallCell[] = [];
  const run = new RecallRun(model, { ...OPTIONS, ...options, ...(sizes === undefined ? {} : { sizes }) });
  await run.run(new AbortController().signal, (cell) => cells.push(cell));
  return cells;
}

describe('RecallRun', () => {
  it('counts answers that are right in full, and their tokens', async () => {
    const model = halfModel();
    const [cell] = await cellsOf(model, { sizes: [6] });
    expect(model.groups).toEqual([4, 4]);
    expect(cell).toMatchObject({ size: 6, questions: 8, score: 0.5 });
    expect(cell?.standardError).toBeCloseTo(Math.sqrt((8 * 0.25) / 7 / 8), 12);
    expect(cell?.tokens).toBeGreaterThan(0.9);
    expect(cell?.tokens).toBeLessThan(1);
    const total = (of: 'questions' | 'right'): number =>
      (cell?.quarters ?? []).reduce((sum, quarter) => sum + quarter[of], 0);
    expect([total('questions'), total('right')]).toEqual([8, 4]);
  });

  it('asks once of a reversed book, and by lengths for texts', async () => {
    const model = halfModel();
    await cellsOf(model, { task: 'reversed', sizes: [4, 5], questions: 3 });
    expect(model.groups).toEqual([1, 1, 1, 1, 1, 1]);
    const [one] = await cellsOf(model, { task: 'needle', sizes: [900], questions: 5 });
    expect(one).toMatchObject({ size: 900, questions: 5, score: 1, standardError: 0 });
    const [several] = await cellsOf(model, { task: 'needle-values', sizes: [900], questions: 2 });
    expect(several?.score).toBe(0.25);
    expect(several?.quarters).toBeUndefined();
  });

  it('refuses lengths beyond the model before anything is asked', async () => {
    const model = halfModel(300);
    await expect(cellsOf(model, { sizes: [4, 60] })).rejects.toThrow(
      /60 entries needs \d+ tokens; the model takes 300/,
    );
    await expect(cellsOf(model, { task: 'needle', sizes: [301] })).rejects.toThrow(
      '301 tokens are asked for; the model takes 300',
    );
    expect(model.groups).toEqual([]);
    // Of the usual sizes those are taken that fit.
    const usual = await cellsOf(model, { questions: 1 });
    expect(usual.map(({ size }) => size)).toEqual([4]);
    await expect(cellsOf(halfModel(30), {})).rejects.toThrow('A book of 4 entries needs');
    expect(RECALL_TASKS).toContain('training');
  });
});

describe('plotRecall', () => {
  it('draws a line for each model', async () => {
    const cells = [...(await cellsOf(halfModel(), { sizes: [4, 8] }))];
    const report = {
      schema: 'mambalab-bench/recall',
      version: 1,
      environment: { device: { name: 'a <GPU>' } },
      task: 'standard',
      unit: 'entries',
      models: [
        { name: 'folder/one', cells },
        { name: 'two', cells },
      ],
    };
    const picture = plotRecall([report]);
    expect(picture.match(/<circle/g)).toHaveLength(4);
    expect(picture).toContain('>one<');
    expect(picture).toContain('a &lt;GPU&gt;');
    expect(plotRecall([report, report], ['f16', 'q4'])).toContain('>two, q4<');
    expect(() => plotRecall([{ ...report, version: 2 }])).toThrow('no report');
  });
});
