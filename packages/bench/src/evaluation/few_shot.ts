import { ArgumentError } from '@mambalab/kernels';
import type { Document } from './documents.ts';
import { PythonRandom } from './python_random.ts';
import type { Task } from './tasks.ts';

/** Examples in front of a prompt. */
export interface FewShotOptions {
  readonly count: number;
  /** Where they are taken from. */
  readonly pool: readonly Document[];
  /** The documents that are asked about are in the pool, and must not be their own example. */
  readonly isOwnPool: boolean;
  readonly seed: number;
}

/**
 * Chooses examples as the lm-evaluation-harness does: with its seed, the very same. They are drawn anew for each
 * document, in the order of documents.
 */
export class FewShots {
  readonly #task: Task;
  readonly #options: FewShotOptions;
  readonly #random: PythonRandom;

  /** @throws ArgumentError if there are too few examples, or the task takes none */
  constructor(task: Task, options: FewShotOptions) {
    const { count, pool, isOwnPool, seed } = options;
    this.#task = task;
    this.#options = options;
    this.#random = new PythonRandom(seed);
    if (count === 0) return;
    if (task.kind === 'text') {
      throw new ArgumentError('Texts are scored from their beginning, without examples.', 'Leave --few-shot out.');
    }
    const available = pool.length - (isOwnPool ? 1 : 0);
    if (count <= available) return;
    throw new ArgumentError(
      `${count} examples are needed; there are ${Math.max(0, available)}.`,
      'Ask for fewer, or name a file that has more with --examples.',
    );
  }

  /** What stands in front of the prompt of a document. */
  before(document: Document): string {
    const { count } = this.#options;
    const examples = count === 0 ? [] : this.#choose(document);
    const description = this.#task.kind === 'choice' ? (this.#task.describe?.(document) ?? '') : '';
    return description + examples.map((example) => `${solved(this.#task, example)}\n\n`).join('');
  }

  #choose(document: Document): readonly Document[] {
    const { count, pool, isOwnPool } = this.#options;
    const own = JSON.stringify(document.fields);
    const others = (documents: readonly Document[]): readonly Document[] =>
      isOwnPool ? documents.filter(({ fields }) => JSON.stringify(fields) !== own) : documents;
    if (this.#task.kind === 'choice' && this.#task.takesFirst === true) return others(pool).slice(0, count);
    const drawn = others(this.#random.sample(pool, isOwnPool ? count + 1 : count));
    // Where a document is in the pool several times, more than one of it may be drawn.
    return drawn.length < count ? this.#random.sample(others(pool), count) : drawn.slice(0, count);
  }
}

/** A prompt with its answer. */
function solved(task: Task, document: Document): string {
  switch (task.kind) {
    case 'choice':
      return `${task.prompt(document)} ${task.choices(document)[task.gold(document)] ?? ''}`;
    case 'prompt':
      return `${task.prompts(document)[task.gold(document)] ?? ''} ${task.continuation(document)}`;
    case 'continuation':
      return `${task.prompt(document)} ${task.target(document)}`;
    case 'text':
      return '';
  }
}
