import { ArgumentError } from '@mambalab/kernels';

/** How files are fetched. */
export interface HttpOptions {
  /** Default: the global `fetch`. */
  readonly fetch?: typeof fetch;
  /**
   * Sent with every request to the host of the address, for example an `authorization`, and to no other host that it
   * redirects to. With `redirects: 'follow'`, `fetch` itself takes care of that, for `authorization` alone.
   */
  readonly headers?: Readonly<Record<string, string>>;
  /** How often in a row a request is repeated after a network error or a status of 429 or 5xx. Default 3. */
  readonly retries?: number;
  /** Milliseconds before the first repetition; each later one waits twice as long. Default 500. */
  readonly backoffMs?: number;
  /** Milliseconds without a byte after which a request is given up, and repeated. Default 30,000. */
  readonly stallMs?: number;
  /**
   * `manual` follows redirects here, one by one, and sees the headers of each answer on the way. Browsers hide these:
   * there `fetch` must `follow`, which is the default.
   */
  readonly redirects?: 'follow' | 'manual';
  /** Keeps answers out of the HTTP cache of the browser, where they are kept elsewhere. */
  readonly bypassHttpCache?: boolean;
}

export interface HttpRequest {
  readonly method?: 'GET' | 'HEAD';
  readonly headers?: Readonly<Record<string, string>>;
}

/** What a server answered; the body is unread. */
export interface HttpAnswer {
  readonly status: number;
  readonly headers: Headers;
  /** The headers of redirects that were followed here, then those of the answer. */
  readonly trail: readonly Headers[];
  /** The address that answered, after redirects. */
  readonly url: URL;
  /**
   * The body, to be read once; leaving the loop cancels the rest.
   *
   * @throws Interruption where it breaks off
   */
  chunks(): AsyncGenerator<Uint8Array>;
  /** Cancels the body. */
  drop(): Promise<void>;
}

/** A request failed in a way that may pass. */
export class Interruption extends Error {
  /** Milliseconds that the server asks to wait. */
  readonly waitMs: number;

  constructor(problem: string, options: ErrorOptions & { readonly waitMs?: number } = {}) {
    super(problem, options);
    this.waitMs = options.waitMs ?? 0;
  }
}

const STALL_MS = 30_000;
const MAX_REDIRECTS = 10;
const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

/**
 * Sends one request and returns when the head of the answer is here.
 *
 * @throws Interruption if there is no answer; ArgumentError for a redirect that must not be followed; `signal.reason`
 */
export async function send(
  url: URL,
  request: HttpRequest,
  options: HttpOptions,
  signal: AbortSignal | undefined,
): Promise<HttpAnswer> {
  // Called as a free function: the browser's fetch refuses another `this`.
  const fetchNow = options.fetch ?? fetch;
  const stop = new AbortController();
  const ends = signal === undefined ? stop.signal : AbortSignal.any([stop.signal, signal]);
  const watched = <T>(problem: string, promise: Promise<T>): Promise<T> =>
    watch(problem, promise, options.stallMs ?? STALL_MS, signal, stop);
  const trail: Headers[] = [];
  let at = url;
  for (;;) {
    const response = await watched(
      'could not be reached',
      fetchNow(at, {
        method: request.method ?? 'GET',
        headers: { ...(at.origin === url.origin ? options.headers : {}), ...request.headers },
        redirect: options.redirects ?? 'follow',
        ...(options.bypassHttpCache === true && { cache: 'no-store' }),
        signal: ends,
      }),
    );
    trail.push(response.headers);
    const next = REDIRECTS.has(response.status) ? response.headers.get('location') : null;
    if (next === null) return answerOf(response, at, trail, watched);
    await response.body?.cancel();
    at = redirectTarget(url, at, next, trail.length);
  }
}

function answerOf(
  response: Response,
  at: URL,
  trail: readonly Headers[],
  watched: <T>(problem: string, promise: Promise<T>) => Promise<T>,
): HttpAnswer {
  const { status, headers, body } = response;
  return {
    status,
    headers,
    trail,
    // Empty for a response that did not come from a network.
    url: response.url === '' ? at : new URL(response.url),
    async *chunks(): AsyncGenerator<Uint8Array> {
      const reader = body?.getReader();
      try {
        for (;;) {
          const part = reader === undefined ? undefined : await watched('broke off', reader.read());
          if (part?.value === undefined) return;
          yield part.value;
        }
      } finally {
        // Of a body that broke off there is nothing to cancel.
        await reader?.cancel().catch(() => undefined);
      }
    },
    drop: async () => {
      await body?.cancel().catch(() => undefined);
    },
  };
}

function redirectTarget(from: URL, at: URL, location: string, hops: number): URL {
  const target = URL.canParse(location, at) ? new URL(location, at) : undefined;
  const allowed = target?.protocol === 'https:' || (target?.protocol === 'http:' && at.protocol === 'http:');
  if (target === undefined || !allowed || hops > MAX_REDIRECTS) {
    const problem = hops > MAX_REDIRECTS ? `redirects more than ${MAX_REDIRECTS} times` : `redirects to '${location}'`;
    throw new ArgumentError(`${addressText(from)} ${problem}.`, 'Give the address of the files themselves.');
  }
  return target;
}

/** Turns a failing or stalled promise into an interruption, and an aborted one into the reason. */
async function watch<T>(
  problem: string,
  promise: Promise<T>,
  stallMs: number,
  signal: AbortSignal | undefined,
  stop: AbortController,
): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const stalled = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => {
      const error = new Interruption(`sent nothing for ${stallMs / 1000} s`);
      stop.abort(error);
      reject(error);
    }, stallMs);
  });
  try {
    return await Promise.race([promise, stalled]);
  } catch (cause) {
    if (signal?.aborted === true) throw signal.reason;
    throw cause instanceof Interruption ? cause : new Interruption(problem, { cause });
  } finally {
    clearTimeout(timer);
  }
}

/** An address for messages: without the query, which may hold a signature. */
export function addressText(url: URL): string {
  return url.origin + url.pathname;
}
