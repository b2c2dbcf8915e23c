import type { Model } from '@mambalab/models';
import { Observable, oncePerFrame } from './observable.ts';
import type { Run } from './run.ts';
import { writeOn } from './run.ts';
import type { ModelChoice, Shelf } from './shelf.ts';
import type { Tasks } from './tasks.ts';

/** What one of the compared models wrote, so far. */
export interface CompareRun {
  readonly key: string;
  readonly label: string;
  readonly model: Model;
  readonly text: string;
  readonly run: Run | undefined;
}

/** Lets models write after the same prompt, greedily, in turns. */
export class Comparison {
  readonly runs: Observable<readonly CompareRun[]> = new Observable<readonly CompareRun[]>([]);
  readonly status: Observable<string> = new Observable('');
  readonly #shelf: Shelf;
  readonly #tasks: Tasks;

  constructor(shelf: Shelf, tasks: Tasks) {
    this.#shelf = shelf;
    this.#tasks = tasks;
  }

  start(choices: readonly ModelChoice[], prompt: string, tokens: number): Promise<void> {
    return this.#tasks.start(async (signal) => {
      this.runs.value = [];
      try {
        const models: Model[] = [];
        for (const choice of choices) {
          this.status.value = `Loading ${choice.label} …`;
          models.push(await this.#shelf.open(choice, signal));
        }
        this.runs.value = models.map((model, at) => {
          const { key = '', label = '' } = choices[at] ?? {};
          return { key: `${at}:${key}`, label: label.replace(', shipped', ''), model, text: '', run: undefined };
        });
        for (const [at, model] of models.entries()) await this.#write(at, model, prompt, tokens, signal);
        this.status.value = 'Both texts are written.';
      } catch (error) {
        this.status.value = signal.aborted ? 'Stopped.' : 'The comparison was not finished.';
        throw error;
      }
    });
  }

  async #write(at: number, model: Model, prompt: string, maxTokens: number, signal: AbortSignal): Promise<void> {
    const label = this.runs.value[at]?.label ?? '';
    this.status.value = `${label} writes …`;
    // What either model processed before must not shorten its first token.
    using session = model.session({ prefixCache: false });
    let text = '';
    let latest: Run | undefined;
    const draw = (): void => {
      const run = latest && { ...latest };
      this.runs.value = this.runs.value.map((other, index) => (index === at ? { ...other, text, run } : other));
    };
    const drawSoon = oncePerFrame(draw);
    const options = { maxTokens, temperature: 0, ignoreEos: true, signal };
    await writeOn(session, prompt, options, (piece, run) => {
      text += piece;
      latest = run;
      drawSoon();
    });
    draw();
  }
}
