import { Observable } from './observable.ts';

/** One thing at a time: a new wish ends what is under way. */
export class Tasks {
  readonly isBusy: Observable<boolean> = new Observable(false);
  /** What went wrong last, until the next task. */
  readonly problem: Observable<unknown> = new Observable<unknown>(undefined);
  #current: { readonly abort: AbortController; readonly done: Promise<void> } | undefined;

  /** Runs a task after the one under way has ended. Its error becomes the problem, unless it was stopped. */
  async start(body: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const previous = this.#current;
    previous?.abort.abort();
    const abort = new AbortController();
    const done = this.#run(previous?.done, abort.signal, body);
    const current = { abort, done };
    this.#current = current;
    await done;
    if (this.#current === current) this.isBusy.value = false;
  }

  stop(): void {
    this.#current?.abort.abort();
  }

  async #run(
    previous: Promise<void> | undefined,
    signal: AbortSignal,
    body: (signal: AbortSignal) => Promise<void>,
  ): Promise<void> {
    this.isBusy.value = true;
    await previous;
    if (signal.aborted) return;
    this.problem.value = undefined;
    try {
      await body(signal);
    } catch (error) {
      if (!signal.aborted) this.problem.value = error;
    }
  }
}
