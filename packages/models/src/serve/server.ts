import type { Server } from 'node:http';
import { createAdaptorServer } from '@hono/node-server';
import { ArgumentError } from '@mambalab/kernels';
import type { Engine } from '../openai/index.ts';
import type { AppOptions } from './app.ts';
import { createApp } from './app.ts';

export interface ServerOptions extends Omit<AppOptions, 'hosts'> {
  /** 8080 when absent; 0 takes a free one. */
  readonly port?: number;
  /** Address to listen at: this machine alone (`127.0.0.1`) when absent. */
  readonly host?: string;
}

/** A server that listens. */
export interface RunningServer {
  /** With the port, and without a path. */
  readonly url: string;
  /**
   * Takes no more requests, lets those in progress end for `graceMs` (10 seconds when absent), ends the others, and
   * closes all connections. Called again, it can shorten that time.
   */
  close(graceMs?: number): Promise<void>;
  [Symbol.asyncDispose](): Promise<void>;
}

const LOOPBACK: readonly string[] = ['127.0.0.1', 'localhost', '::1'];

/** How long a client may take to send the head of a request, and all of it. */
const HEADERS_MS = 15_000;
const REQUEST_MS = 60_000;
const MOST_CONNECTIONS = 2048;

/**
 * Serves an engine over HTTP: `/v1/chat/completions`, `/v1/completions`, `/v1/embeddings`, `/v1/models`, `/health` and
 * `/metrics`. In Node. The models stay the caller's to dispose of.
 *
 * @throws ArgumentError if nobody can listen there
 */
export async function startServer(engine: Engine, options: ServerOptions = {}): Promise<RunningServer> {
  const { port = 8080, host = '127.0.0.1', ...others } = options;
  const isLocal = LOOPBACK.includes(host);
  // Without a token, whoever reaches a local server may use it: then pages must not reach it under a name of their own.
  const app = createApp(engine, { ...others, ...(isLocal && { hosts: ['127.0.0.1', 'localhost', '[::1]'] }) });
  const server = createAdaptorServer({
    fetch: (request, { outgoing }) => app.fetch(request, () => outgoing.destroy()),
    overrideGlobalObjects: false,
    serverOptions: { headersTimeout: HEADERS_MS, requestTimeout: REQUEST_MS },
  }) as Server;
  server.maxConnections = MOST_CONNECTIONS;
  await listen(server, port, host);
  const address = server.address();
  const used = typeof address === 'object' && address !== null ? address.port : port;
  let closing: Promise<void> | undefined;
  const close = (graceMs = 10_000): Promise<void> => {
    const drained = app.drain(graceMs);
    closing ??= shutDown(server, drained);
    return closing;
  };
  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${used}`,
    close,
    [Symbol.asyncDispose]: () => close(),
  };
}

async function listen(server: Server, port: number, host: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const refuse = (cause: Error): void => {
      reject(
        new ArgumentError(`Nothing can listen at ${host}, port ${port}: ${cause.message}.`, 'Choose another port.', {
          cause,
        }),
      );
    };
    server.once('error', refuse);
    server.listen(port, host, () => {
      server.off('error', refuse);
      resolve();
    });
  });
}

async function shutDown(server: Server, drained: Promise<void>): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  await drained;
  server.closeAllConnections();
  await closed;
}
