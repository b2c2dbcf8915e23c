import type { CompletionUsage } from '../openai/index.ts';

/** What is known of a request when it ends. */
export interface RequestLog {
  readonly id: string;
  /** ISO 8601, of its beginning. */
  readonly time: string;
  readonly method: string;
  readonly path: string;
  readonly status: number;
  readonly ms: number;
  /** Until the first event of a stream, or the answer. */
  readonly firstMs?: number;
  readonly model?: string;
  readonly promptTokens?: number;
  readonly completionTokens?: number;
  /** `left`: the client went away before the end. */
  readonly outcome: 'done' | 'left' | 'failed';
  /** What went wrong. */
  readonly error?: string;
}

/** A request in the making: what its log line will say. */
export class Exchange {
  readonly id: string;
  readonly method: string;
  readonly path: string;
  readonly began: number = performance.now();
  readonly #time = new Date().toISOString();
  readonly #onEnd: (log: RequestLog) => void;
  #first: number | undefined;
  #usage: CompletionUsage | undefined;
  #model: string | undefined;
  #isOver = false;

  constructor(request: Request, id: string, onEnd: (log: RequestLog) => void) {
    this.id = id;
    this.method = request.method;
    this.path = new URL(request.url).pathname;
    this.#onEnd = onEnd;
  }

  /** Whether the end of the request is told by whoever streams its answer. */
  isStreaming = false;

  markFirst(): void {
    this.#first ??= performance.now() - this.began;
  }

  count(usage: CompletionUsage, model: string): void {
    this.#usage = usage;
    this.#model = model;
  }

  end(status: number, outcome: RequestLog['outcome'] = status < 500 ? 'done' : 'failed', error?: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    const round = (ms: number): number => Math.round(ms * 10) / 10;
    this.#onEnd({
      id: this.id,
      time: this.#time,
      method: this.method,
      path: this.path,
      status,
      ms: round(performance.now() - this.began),
      ...(this.#first !== undefined && { firstMs: round(this.#first) }),
      ...(this.#model !== undefined && { model: this.#model }),
      ...(this.#usage !== undefined && {
        promptTokens: this.#usage.prompt_tokens,
        completionTokens: this.#usage.completion_tokens,
      }),
      outcome,
      ...(error !== undefined && { error }),
    });
  }
}

/** A request as one line for people. What a client sent is written so that it cannot begin another line. */
export function logLine(log: RequestLog): string {
  const { time, method, path, status, ms, firstMs, model, promptTokens, completionTokens, outcome, error, id } = log;
  const parts = [
    time,
    method,
    encodeURI(path),
    String(status),
    `${ms.toFixed(0)}ms`,
    ...(firstMs === undefined ? [] : [`first=${firstMs.toFixed(0)}ms`]),
    ...(model === undefined ? [] : [`model=${model}`]),
    ...(promptTokens === undefined ? [] : [`prompt=${promptTokens}`, `written=${completionTokens ?? 0}`]),
    ...(outcome === 'done' ? [] : [outcome]),
    ...(error === undefined ? [] : [JSON.stringify(error)]),
    id,
  ];
  return parts.join(' ');
}
