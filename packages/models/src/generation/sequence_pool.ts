import { ArgumentError } from '@mambalab/kernels';
import type { LentSequence } from './run_generation.ts';
import type { ModelRuntime } from './runtime.ts';
import { Sequence } from './sequence.ts';

/** The sequences of calls that remember nothing. One that is done is kept: its buffers and bind groups serve the next. */
export class SequencePool {
  readonly #runtime: ModelRuntime;
  readonly #lent = new Set<Sequence>();
  #idle: Sequence | undefined;
  #isDisposed = false;

  constructor(runtime: ModelRuntime) {
    this.#runtime = runtime;
  }

  /** One of the sequences, if there are any. */
  get any(): Sequence | undefined {
    return this.#idle ?? [...this.#lent][0];
  }

  /** An empty sequence with room for `length` tokens. @throws OutOfMemoryError */
  async acquire(length: number): Promise<LentSequence> {
    this.#refuseDisposed();
    const { contextLength } = this.#runtime;
    const reused = this.#idle;
    reused?.reset();
    this.#idle = undefined;
    const sequence = reused ?? (await Sequence.create(this.#runtime, Math.min(length, contextLength)));
    if (this.#isDisposed) sequence.dispose();
    this.#refuseDisposed();
    this.#lent.add(sequence);
    return {
      sequence,
      release: (): void => {
        if (!this.#lent.delete(sequence) || this.#isDisposed) return;
        if (this.#idle === undefined) this.#idle = sequence;
        else sequence.dispose();
      },
    };
  }

  /** Frees all of them, those in use as well: what they are used for fails. */
  dispose(): void {
    this.#isDisposed = true;
    for (const sequence of [this.#idle, ...this.#lent]) sequence?.dispose();
    this.#idle = undefined;
    this.#lent.clear();
  }

  #refuseDisposed(): void {
    if (this.#isDisposed) throw new ArgumentError('The model is disposed.', 'Load it again.');
  }
}
