import { ContextLengthError } from '@mambalab/kernels';
import { TEXT_TASKS, shareFound, textQuestions } from './long_texts.ts';
import { mean, standardError } from './metrics.ts';
import { phoneBookQuestions } from './phone_books.ts';
import type { Question } from './questions.ts';
import type { ScoringModel } from './asked_model.ts';
import { TrainingBooks } from './training_book.ts';

export const BOOK_TASKS = ['standard', 'reversed', 'training'] as const;
export const RECALL_TASKS: readonly string[] = [...BOOK_TASKS, ...Object.keys(TEXT_TASKS)];

/** Quarters of a book, by where the entry that is asked for stands. */
const QUARTERS = 4;
/** Answers that are written together. */
const TOGETHER = 4;

export interface RecallOptions {
  readonly task: string;
  /** Entries of books, or tokens of texts; usual ones that the model takes when absent. */
  readonly sizes?: readonly number[];
  /** Questions for each size. */
  readonly questions: number;
  /** Questions of one book, whose tokens are processed once. */
  readonly perBook: number;
  readonly shots: number;
  /** The seed of a size is the sum of both. */
  readonly seed: number;
}

/** What a model recalled of texts of one size. */
export interface RecallCell {
  readonly size: number;
  readonly questions: number;
  readonly meanTokens: number;
  /** Share of answers that are right in full; of the parts of answers where a text asks for several. */
  readonly score: number;
  readonly standardError?: number;
  /** Share of tokens of the answer that are right, all before them given; phone books only: of digits where each is a token. */
  readonly tokens?: number;
  /** By the quarter of the book that the entry is in: questions, and answers that are right. */
  readonly quarters?: readonly { readonly questions: number; readonly right: number }[];
}

/** Whether sizes are numbers of entries. */
export function isBookTask(task: string): boolean {
  return (BOOK_TASKS as readonly string[]).includes(task);
}

/** What these tasks need of a model. */
export interface WritingModel extends ScoringModel {
  write(tokens: readonly number[], maxTokens: number, signal: AbortSignal): Promise<string>;
}

/** Asks a model for what texts of growing size hold. */
export class RecallRun {
  readonly #model: WritingModel;
  readonly #options: RecallOptions;
  #training: TrainingBooks | undefined;

  constructor(model: WritingModel, options: RecallOptions) {
    this.#model = model;
    this.#options = options;
  }

  /**
   * Asks for every size in turn.
   *
   * @param onCell called with what a size came to
   * @param onQuestions called with how many questions of a size were asked
   * @throws ContextLengthError before anything is asked, if a size has more tokens than the model takes
   */
  async run(
    signal: AbortSignal,
    onCell: (cell: RecallCell) => void,
    onQuestions: (size: number, asked: number) => void = () => undefined,
  ): Promise<void> {
    const { task } = this.#options;
    for (const size of this.#sizes()) {
      const progress = (asked: number): void => onQuestions(size, asked);
      const ask = isBookTask(task) ? this.#askBooks(size, signal, progress) : this.#askTexts(size, signal, progress);
      onCell(await ask);
    }
  }

  #sizes(): readonly number[] {
    const { task, sizes = usualSizes(task) } = this.#options;
    const { contextLength } = this.#model;
    const large = sizes.find((size) => this.#tokensOf(size) > contextLength);
    if (large === undefined) return sizes;
    const fitting = sizes.filter((size) => this.#tokensOf(size) <= contextLength);
    if (this.#options.sizes === undefined && fitting.length > 0) return fitting;
    const needed = this.#tokensOf(large);
    const what = isBookTask(task)
      ? `A book of ${large} entries needs ${needed} tokens`
      : `${large} tokens are asked for`;
    throw new ContextLengthError(`${what}; the model takes ${contextLength}.`, 'Ask for smaller ones.');
  }

  /** Tokens of the first question of a size. */
  #tokensOf(size: number): number {
    const [first] = isBookTask(this.#options.task) ? this.#books(size, 1).flat() : [];
    return first === undefined ? size : first.context.length + first.answer.length - 1;
  }

  /** Questions about books of a size, those of one book together. */
  #books(entries: number, questions: number): Question[][] {
    const { task, perBook, shots, seed } = this.#options;
    const { tokenizer } = this.#model;
    if (task !== 'training') {
      const form = task === 'reversed' ? 'reversed' : 'standard';
      return phoneBookQuestions(tokenizer, { entries, questions, perBook, shots, seed: seed + entries, form });
    }
    this.#training ??= new TrainingBooks(tokenizer);
    return this.#training.questions(entries, questions, seed + entries).map((question) => [question]);
  }

  async #askBooks(size: number, signal: AbortSignal, onAsked: (asked: number) => void): Promise<RecallCell> {
    const right: number[] = [];
    const shares: number[] = [];
    const lengths: number[] = [];
    const quarters = Array.from({ length: QUARTERS }, () => ({ questions: 0, right: 0 }));
    for (const group of this.#books(size, this.#options.questions)) {
      const requests = group.map(({ context, answer }) => ({ context, continuation: answer }));
      const scores = await this.#model.score(requests, signal);
      for (const [index, { answer, context, counted = answer, depth }] of group.entries()) {
        const matches = scores[index]?.matches ?? [];
        const isRight = matches.every(Boolean);
        right.push(isRight ? 1 : 0);
        shares.push(mean(matches.filter((_, at) => counted.includes(answer[at] ?? -1)).map(Number)));
        lengths.push(context.length);
        const quarter = quarters[Math.floor(depth * QUARTERS)];
        if (quarter !== undefined) {
          quarter.questions += 1;
          quarter.right += isRight ? 1 : 0;
        }
      }
      onAsked(right.length);
    }
    return { ...cellOf(size, right, lengths), tokens: mean(shares), quarters };
  }

  async #askTexts(size: number, signal: AbortSignal, onAsked: (asked: number) => void): Promise<RecallCell> {
    const { task, questions: count, seed } = this.#options;
    const found: number[] = [];
    const lengths: number[] = [];
    const model = this.#model;
    for (let from = 0; from < count; from += TOGETHER) {
      const part = {
        task,
        length: size,
        count: Math.min(TOGETHER, count - from),
        seed: seed + size + 1_000_003 * from,
      };
      const questions = textQuestions(model.tokenizer, part);
      const answers = await Promise.all(
        questions.map(({ tokens, maxTokens }) => model.write(tokens, maxTokens, signal)),
      );
      for (const [index, { tokens, references }] of questions.entries()) {
        found.push(shareFound(answers[index] ?? '', references));
        lengths.push(tokens.length);
      }
      onAsked(found.length);
    }
    return cellOf(size, found, lengths);
  }
}

function cellOf(size: number, scores: readonly number[], lengths: readonly number[]): RecallCell {
  const error = standardError(scores);
  return {
    size,
    questions: scores.length,
    meanTokens: mean(lengths),
    score: mean(scores),
    ...(error === undefined ? {} : { standardError: error }),
  };
}

/** Sizes to ask for when none are given; of the small models those that PyTorch was asked for. */
function usualSizes(task: string): readonly number[] {
  if (!isBookTask(task)) return [512, 1024, 2048, 4096];
  return task === 'training' ? [2, 4, 8, 16, 24, 32, 48, 64] : [4, 8, 16, 32, 64, 128, 256];
}
