import { Hono } from 'hono';
import type { Context } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import { cors } from 'hono/cors';
import { APIError, EventStream } from '../openai/index.ts';
import type {
  ChatCompletionRequest,
  CompletionRequest,
  EmbeddingRequest,
  Engine,
  RequestOptions,
} from '../openai/index.ts';
import { requireHost, requireJson, requireToken } from './access.ts';
import { eventBody } from './event_body.ts';
import { Gate } from './gate.ts';
import { Metrics } from './metrics.ts';
import type { RequestLog } from './request_log.ts';
import { Exchange } from './request_log.ts';

export interface AppOptions {
  /** What requests must bear as `Authorization: Bearer TOKEN`, but for `/health`; anybody may ask when absent. */
  readonly token?: string;
  /** Origins whose pages may ask, or `['*']`; none when absent. */
  readonly cors?: readonly string[];
  /** Hosts that requests may be sent to, without port; any when absent. */
  readonly hosts?: readonly string[];
  /** Requests that are served at the same time; 64 when absent, the most that one batch decodes. */
  readonly maxRunning?: number;
  /** Requests that wait; 256 when absent. Further ones get 429. */
  readonly maxWaiting?: number;
  /** Bytes of the largest body; 4 MiB when absent. */
  readonly maxBodyBytes?: number;
  /** How long a request may take, waiting included; ten minutes when absent. */
  readonly timeoutMs?: number;
  /** How long a client may take nothing of a stream; 30 seconds when absent. */
  readonly stallMs?: number;
  /** Is told of every request when it ends. */
  readonly onRequest?: (log: RequestLog) => void;
}

/** OpenAI's API over HTTP. */
export interface ServedApp {
  /**
   * Answers a request; for any server that speaks `Request` and `Response`.
   *
   * @param breakOff breaks the connection of a client that takes nothing any more
   */
  fetch(request: Request, breakOff?: () => void): Promise<Response>;
  /**
   * Refuses new requests from now on, and ends those in progress after `graceMs`; resolves when they have ended. A
   * further call can shorten the time.
   */
  drain(graceMs: number): Promise<void>;
}

interface Environment {
  readonly Bindings: { readonly breakOff?: (() => void) | undefined };
  readonly Variables: { readonly exchange: Exchange };
}

/** The engine looks at every field of a request itself: what came over the network is handed on as it is. */
type Create = (request: unknown, options: RequestOptions) => Promise<unknown>;

const WIND_UP_MS = 1000;

/** Routes whose paths metrics are kept of: what clients make up is one. */
const PATHS = ['/v1/chat/completions', '/v1/completions', '/v1/embeddings', '/v1/models', '/health', '/metrics'];

/** The HTTP face of an engine. @see startServer, which gives it a port */
export function createApp(engine: Engine, options: AppOptions = {}): ServedApp {
  const gate = new Gate({ running: options.maxRunning ?? 64, waiting: options.maxWaiting ?? 256 });
  const stop = new AbortController();
  const open = new Set<Exchange>();
  const metrics = new RequestMetrics(gate);
  let deadline = Infinity;
  const app = new Hono<Environment>();

  app.use(async (context, next) => {
    const exchange = new Exchange(context.req.raw, `req_${crypto.randomUUID()}`, (log) => {
      open.delete(exchange);
      metrics.count(log);
      options.onRequest?.(log);
    });
    open.add(exchange);
    context.set('exchange', exchange);
    context.header('X-Request-Id', exchange.id);
    await next();
    if (!exchange.isStreaming) exchange.end(context.res.status, undefined, context.error?.message);
  });
  if (options.hosts !== undefined) app.use(requireHost(options.hosts));
  if (options.cors !== undefined) {
    const exposeHeaders = ['X-Request-Id', 'Retry-After'];
    app.use(cors({ origin: options.cors.includes('*') ? '*' : [...options.cors], exposeHeaders }));
  }
  app.get('/health', (context) =>
    context.json({ status: gate.isClosed ? 'shutting down' : 'ok' }, gate.isClosed ? 503 : 200),
  );
  if (options.token !== undefined) app.use(requireToken(options.token));
  app.get('/metrics', (context) =>
    context.text(metrics.text(), 200, { 'Content-Type': 'text/plain; version=0.0.4; charset=utf-8' }),
  );
  app.get('/v1/models', async (context) => context.json(await engine.models.list()));
  app.get('/v1/models/:id{.+}', async (context) => context.json(await engine.models.retrieve(context.req.param('id'))));

  const post = (path: string, create: Create): void => {
    const limit = bodyLimit({
      maxSize: options.maxBodyBytes ?? 4 * 2 ** 20,
      onError: () => {
        throw new APIError(413, 'invalid_request_error', 'The body is too large.', { code: 'body_too_large' });
      },
    });
    app.post(path, requireJson(), limit, (context) => answer(context, create, { gate, stop: stop.signal, options }));
  };
  post('/v1/chat/completions', (request, how) => engine.chat.completions.create(request as ChatCompletionRequest, how));
  post('/v1/completions', (request, how) => engine.completions.create(request as CompletionRequest, how));
  post('/v1/embeddings', (request, how) => engine.embeddings.create(request as EmbeddingRequest, how));

  app.notFound((context) => {
    const message = `Unknown request: ${context.req.method} ${context.req.path}.`;
    return failure(context, new APIError(404, 'invalid_request_error', message, { code: 'unknown_url' }), gate);
  });
  app.onError((error, context) => failure(context, error, gate));

  return {
    fetch: async (request, breakOff) => await app.fetch(request, { breakOff }),
    drain: async (graceMs) => {
      gate.close();
      deadline = Math.min(deadline, performance.now() + graceMs);
      while (open.size > 0 && performance.now() < deadline) await pause(20);
      stop.abort(new APIError(503, 'server_error', 'The server is shutting down.', { code: 'shutting_down' }));
      // What was aborted winds up within a step, or a chunk of a prompt.
      const end = performance.now() + WIND_UP_MS;
      while (open.size > 0 && performance.now() < end) await pause(20);
    },
  };
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** What requests have done so far. */
class RequestMetrics {
  readonly #metrics = new Metrics();
  readonly #requests = this.#metrics.counter('mambalab_requests_total', 'Requests that ended.');
  readonly #prompt = this.#metrics.counter('mambalab_prompt_tokens_total', 'Tokens of prompts.');
  readonly #written = this.#metrics.counter('mambalab_completion_tokens_total', 'Tokens that were written.');
  readonly #seconds = this.#metrics.histogram('mambalab_request_seconds', 'From a request to the end of its answer.');
  readonly #first = this.#metrics.histogram(
    'mambalab_first_event_seconds',
    'From a request to the first of its answer.',
  );

  constructor(gate: Gate) {
    this.#metrics.gauge('mambalab_requests_running', 'Requests that are served now.', () => gate.running);
    this.#metrics.gauge('mambalab_requests_waiting', 'Requests that wait now.', () => gate.waiting);
  }

  count({
    path: asked,
    status,
    outcome,
    ms,
    firstMs,
    model,
    promptTokens = 0,
    completionTokens = 0,
  }: RequestLog): void {
    const path = PATHS.find((known) => known === asked) ?? 'other';
    this.#requests.add({ path, status: String(status), outcome });
    this.#seconds.observe({ path }, ms / 1000);
    if (firstMs !== undefined) this.#first.observe({ path }, firstMs / 1000);
    if (model === undefined) return;
    this.#prompt.add({ model }, promptTokens);
    this.#written.add({ model }, completionTokens);
  }

  text(): string {
    return this.#metrics.text();
  }
}

interface Serving {
  readonly gate: Gate;
  readonly stop: AbortSignal;
  readonly options: AppOptions;
}

/** Serves one request that takes its place in the queue. */
async function answer(context: Context<Environment>, create: Create, serving: Serving): Promise<Response> {
  const { gate, stop, options } = serving;
  const exchange = context.get('exchange');
  const request = await readJson(context);
  const { timeoutMs = 600_000, stallMs = 30_000 } = options;
  const timeout = new AbortController();
  const timer = setTimeout(
    () => timeout.abort(new APIError(504, 'timeout_error', 'The request took too long.', { code: 'timeout' })),
    timeoutMs,
  );
  const signal = AbortSignal.any([context.req.raw.signal, stop, timeout.signal]);
  let leave = (): void => undefined;
  const end = (): void => {
    clearTimeout(timer);
    leave();
  };
  try {
    leave = await gate.enter(signal);
    const result = await create(request, {
      signal,
      onUsage: (usage, model) => exchange.count(usage, model),
    });
    exchange.markFirst();
    if (!(result instanceof EventStream)) {
      end();
      return context.json(result);
    }
    exchange.isStreaming = true;
    const body = eventBody(result, {
      stallMs,
      breakOff: context.env.breakOff,
      describe: (error) => JSON.stringify(apiError(error)),
      onEnd: ({ error, left }) => {
        end();
        if (left === true || context.req.raw.signal.aborted) exchange.end(200, 'left');
        else exchange.end(200, error === undefined ? 'done' : 'failed', messageOf(error));
      },
    });
    return context.body(body, 200, {
      'Content-Type': 'text/event-stream; charset=utf-8',
      'Cache-Control': 'no-cache',
      // Proxies would gather events.
      'X-Accel-Buffering': 'no',
    });
  } catch (error) {
    end();
    if (!context.req.raw.signal.aborted) throw error;
    // Nobody reads this.
    exchange.end(499, 'left');
    return context.body(null, 408);
  }
}

/** @throws APIError (400) for what is no JSON */
async function readJson(context: Context<Environment>): Promise<unknown> {
  try {
    return (await context.req.json()) as unknown;
  } catch (cause) {
    throw new APIError(400, 'invalid_request_error', 'The body is no JSON.', { code: 'invalid_json', cause });
  }
}

function messageOf(error: unknown): string | undefined {
  return error === undefined ? undefined : apiError(error).message;
}

function apiError(error: unknown): APIError {
  if (error instanceof APIError) return error;
  return new APIError(500, 'server_error', 'The server failed.', { code: 'internal_error', cause: error });
}

function failure(context: Context<Environment>, error: unknown, gate: Gate): Response {
  const known = apiError(error);
  if (known.status === 429 || known.status === 503) context.header('Retry-After', String(gate.retryAfter));
  context.status(known.status as 400);
  return context.json(known.toJSON());
}
