import { APIError } from '../openai/index.ts';

interface Waiting {
  readonly enter: () => void;
  readonly refuse: (reason: unknown) => void;
}

export interface GateLimits {
  /** Requests that are served at the same time. */
  readonly running: number;
  /** Requests that wait for one of them to end; further ones are refused. */
  readonly waiting: number;
}

/** Lets so many requests in at a time, keeps so many waiting in their order, and refuses the others. */
export class Gate {
  readonly #limits: GateLimits;
  readonly #queue = new Set<Waiting>();
  #running = 0;
  #isClosed = false;
  /** A moving mean of how long a request takes. */
  #seconds = 1;

  constructor(limits: GateLimits) {
    this.#limits = limits;
  }

  get running(): number {
    return this.#running;
  }

  get waiting(): number {
    return this.#queue.size;
  }

  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Seconds after which there may be room. */
  get retryAfter(): number {
    const rounds = (this.#queue.size + 1) / this.#limits.running;
    return Math.min(60, Math.max(1, Math.ceil(rounds * this.#seconds)));
  }

  /**
   * Waits for room, and returns what leaves it again.
   *
   * @throws APIError (429) if too many wait, (503) if the server shuts down; `signal.reason` when aborted
   */
  async enter(signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    if (this.#isClosed) throw shuttingDown();
    if (this.#running >= this.#limits.running) await this.#wait(signal);
    else this.#running += 1;
    const began = performance.now();
    let isIn = true;
    return () => {
      if (!isIn) return;
      isIn = false;
      this.#seconds += ((performance.now() - began) / 1000 - this.#seconds) / 8;
      this.#leave();
    };
  }

  /** Refuses whoever waits and whoever comes. */
  close(): void {
    this.#isClosed = true;
    for (const { refuse } of this.#queue) refuse(shuttingDown());
    this.#queue.clear();
  }

  async #wait(signal: AbortSignal): Promise<void> {
    if (this.#queue.size >= this.#limits.waiting) {
      throw new APIError(429, 'rate_limit_error', 'Too many requests are waiting. Try again later.', {
        code: 'queue_full',
      });
    }
    await new Promise<void>((resolve, reject) => {
      const stop = (): void => {
        this.#queue.delete(waiting);
        reject(signal.reason as unknown);
      };
      const waiting = {
        enter: (): void => {
          signal.removeEventListener('abort', stop);
          resolve();
        },
        refuse: (reason: unknown): void => {
          signal.removeEventListener('abort', stop);
          reject(reason);
        },
      };
      signal.addEventListener('abort', stop, { once: true });
      this.#queue.add(waiting);
    });
  }

  #leave(): void {
    const [next] = this.#queue;
    if (next === undefined) {
      this.#running -= 1;
      return;
    }
    // The place goes to who waited longest.
    this.#queue.delete(next);
    next.enter();
  }
}

function shuttingDown(): APIError {
  return new APIError(503, 'server_error', 'The server is shutting down.', { code: 'shutting_down' });
}
