import { ArgumentError, NetworkError } from '@mambalab/kernels';
import { addressText, Interruption } from './http_request.ts';
import type { HttpAnswer, HttpOptions } from './http_request.ts';

const RETRIES = 3;
const BACKOFF_MS = 500;
/** A server that asks for more than this is taken for one that does not answer: whoever waits is to decide. */
const MAX_WAIT_MS = 60_000;

/**
 * Runs `body`, again after each {@link Interruption}, waiting twice as long every time and at least as long as the
 * server asks for. Progress in between begins the count anew.
 *
 * @param progress a number that grows with what `body` achieves
 * @throws NetworkError after too many interruptions in a row; `signal.reason` if aborted; what else `body` throws
 */
export async function retrying<T>(
  url: URL,
  options: HttpOptions,
  signal: AbortSignal | undefined,
  body: () => Promise<T>,
  progress: () => number = () => 0,
): Promise<T> {
  const retries = options.retries ?? RETRIES;
  let failures = 0;
  let reached = progress();
  for (;;) {
    signal?.throwIfAborted();
    try {
      return await body();
    } catch (error) {
      if (signal?.aborted === true) throw signal.reason;
      if (!(error instanceof Interruption)) throw error;
      if (progress() > reached) failures = 0;
      reached = progress();
      failures += 1;
      if (failures > retries || error.waitMs > MAX_WAIT_MS) throw failed(url, error, failures);
      const backoff = (options.backoffMs ?? BACKOFF_MS) * 2 ** (failures - 1);
      await sleep(Math.max(backoff, error.waitMs), signal);
    }
  }
}

/**
 * Passes on what brings a file, or tells that there is none: 200, 206, 404, 410 and 416.
 *
 * @param explain what the server at hand means by a refusal, where it says more than a status
 * @throws Interruption for 408, 425, 429 and 5xx; for other answers, what `explain` returns or an ArgumentError
 */
export async function acceptAnswer(
  url: URL,
  answer: HttpAnswer,
  explain?: (answer: HttpAnswer) => Error | undefined,
): Promise<HttpAnswer> {
  const { status } = answer;
  if (status === 200 || status === 206) return answer;
  await answer.drop();
  if (status === 408 || status === 425 || status === 429 || status >= 500) {
    throw new Interruption(`answered with status ${status}`, { waitMs: retryAfter(answer.headers) });
  }
  const explained = explain?.(answer);
  if (explained !== undefined) throw explained;
  if (status === 404 || status === 410 || status === 416) return answer;
  throw new ArgumentError(
    `${addressText(url)} answered with status ${status}.`,
    status === 401 || status === 403
      ? 'Check the address, and give a token that may read it.'
      : 'Check the address, then try again.',
  );
}

/** `Retry-After` in milliseconds: seconds or a date. */
function retryAfter(headers: Headers): number {
  const text = headers.get('retry-after') ?? '';
  if (/^\d+$/.test(text)) return Number(text) * 1000;
  const date = Date.parse(text);
  return Number.isNaN(date) ? 0 : Math.max(0, date - Date.now());
}

function failed(url: URL, error: Interruption, attempts: number): NetworkError {
  const times = attempts > 1 ? ` (after ${attempts} attempts)` : '';
  const wait = error.waitMs > 0 ? ` It asks to wait ${Math.ceil(error.waitMs / 1000)} s.` : '';
  const hint = error.message.includes('status')
    ? 'The server is busy or out of order: try again later.'
    : 'Check the address and the connection, then try again.';
  return new NetworkError(`${addressText(url)} ${error.message}${times}.${wait}`, hint, { cause: error });
}

async function sleep(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const stop = (): void => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', stop);
      resolve();
    }, milliseconds);
    signal?.addEventListener('abort', stop, { once: true });
  });
}
