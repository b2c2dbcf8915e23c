import { ArgumentError } from '@mambalab/kernels';

/** How files are fetched. */
export interface HttpOptions {
  /** Default: the global `fetch`. */
  readonly fetch?: typeof fetch;
  /** Sent with every request, for example an `authorization`. */
  readonly headers?: Readonly<Record<string, string>>;
  /** How often a request is repeated after a network error or a status of 429 or 5xx. Default 3. */
  readonly retries?: number;
  /** Milliseconds before the first repetition; each later one waits twice as long. Default 500. */
  readonly backoffMs?: number;
}

/** A response whose body has arrived. */
export interface HttpReply {
  /** 200, 206, 404 or 416; anything else is an error. */
  readonly status: number;
  readonly headers: Headers;
  readonly bytes: Uint8Array;
  /** The body was left unread, because it is a whole file of more than `maxWholeBytes`. */
  readonly tooLong: boolean;
}

/** What one request needs beyond its address. */
export interface HttpRequest {
  readonly method?: 'GET' | 'HEAD';
  readonly headers?: Readonly<Record<string, string>>;
  /** Stop where a reply of status 200 is longer than this. */
  readonly maxWholeBytes?: number;
}

/**
 * Fetches and reads a whole body, repeating after network errors (also in the middle of the body), 429 and 5xx.
 *
 * @throws ArgumentError if the server refuses or cannot be reached; `signal.reason` if aborted.
 */
export async function fetchWithRetry(
  url: URL,
  request: HttpRequest,
  options: HttpOptions,
  signal: AbortSignal | undefined,
): Promise<HttpReply> {
  const retries = options.retries ?? 3;
  for (let attempt = 0; ; attempt++) {
    signal?.throwIfAborted();
    let failure: { readonly problem: string; readonly cause?: unknown };
    try {
      const reply = await fetchOnce(url, request, options, signal);
      if (typeof reply !== 'number') return reply;
      failure = { problem: `answered with status ${reply}` };
      if (reply !== 429 && reply < 500) throw refused(url, failure.problem, attempt);
    } catch (cause) {
      if (signal?.aborted) throw signal.reason;
      if (cause instanceof ArgumentError) throw cause;
      failure = { problem: 'could not be reached', cause };
    }
    if (attempt >= retries) throw refused(url, failure.problem, attempt, failure.cause);
    await sleep((options.backoffMs ?? 500) * 2 ** attempt, signal);
  }
}

/** A number is a status that brings no file. */
async function fetchOnce(
  url: URL,
  request: HttpRequest,
  options: HttpOptions,
  signal: AbortSignal | undefined,
): Promise<HttpReply | number> {
  // Called as a free function: the browser's fetch refuses another `this`.
  const send = options.fetch ?? fetch;
  const response = await send(url, {
    method: request.method ?? 'GET',
    headers: { ...options.headers, ...request.headers },
    ...(signal === undefined ? {} : { signal }),
  });
  const { status, headers } = response;
  if (status !== 200 && status !== 206) {
    await response.body?.cancel();
    const isAnswer = status === 404 || status === 416;
    return isAnswer ? { status, headers, bytes: new Uint8Array(0), tooLong: false } : status;
  }
  const limit = status === 200 ? (request.maxWholeBytes ?? Infinity) : Infinity;
  if (Number(headers.get('content-length') ?? 0) > limit && request.method !== 'HEAD') {
    await response.body?.cancel();
    return { status, headers, bytes: new Uint8Array(0), tooLong: true };
  }
  const bytes = await readBody(response, limit);
  return { status, headers, bytes: bytes ?? new Uint8Array(0), tooLong: bytes === undefined };
}

/** Undefined, with the rest cancelled, once the body exceeds `limit` bytes: the length need not be announced. */
async function readBody(response: Response, limit: number): Promise<Uint8Array | undefined> {
  if (limit === Infinity || response.body === null) return new Uint8Array(await response.arrayBuffer());
  const chunks: Uint8Array[] = [];
  let length = 0;
  const reader = response.body.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    chunks.push(part.value);
    length += part.value.byteLength;
    if (length > limit) {
      await reader.cancel();
      return undefined;
    }
  }
  const bytes = new Uint8Array(length);
  let offset = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, offset);
    offset += chunk.byteLength;
  }
  return bytes;
}

function refused(url: URL, problem: string, attempt: number, cause?: unknown): ArgumentError {
  const hint = /status 40[13]/.test(problem)
    ? 'Check the address, and give a token that may read it.'
    : 'Check the address and the connection, then try again.';
  // Without the query, which may hold a signature.
  const where = url.origin + url.pathname;
  const times = attempt === 0 ? '' : ` (after ${attempt + 1} attempts)`;
  return new ArgumentError(`${where} ${problem}${times}.`, hint, cause === undefined ? undefined : { cause });
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
