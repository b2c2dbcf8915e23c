import { createServer } from 'node:http';
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { onTestFinished } from 'vitest';

/** One request as the server saw it. */
export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  /** `0-65535`, or empty. */
  readonly range: string;
  readonly headers: IncomingHttpHeaders;
}

/** How an answer differs from what a good file server gives. */
export interface Fault {
  /** Answers with this status and no file. */
  readonly status?: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sends the whole file for a range. */
  readonly ignoreRange?: boolean;
  /** Does not announce the length of the body. */
  readonly chunked?: boolean;
  /** Closes the connection after so many bytes of the body. */
  readonly breakAfter?: number;
  /** Sends so many bytes of the body, and then nothing. */
  readonly stallAfter?: number;
  /** Ends the body in good order after so many bytes. */
  readonly endAfter?: number;
  /** Bytes that follow what was asked for. */
  readonly excess?: Uint8Array;
  /** Milliseconds before each 64 KiB of the body. */
  readonly slowMs?: number;
  /** Sends the client to another address, with `headers`. */
  readonly redirect?: string;
  /** Sends this in place of the file. */
  readonly bytes?: Uint8Array;
  readonly etag?: string;
}

export interface TestServer {
  /** `http://127.0.0.1:PORT` */
  readonly url: string;
  /** What was asked for, in order. */
  readonly requests: SeenRequest[];
  /** Lines like `GET /model/a 0-65535`, in order. */
  readonly lines: () => string[];
  /** Stops answering; clients cannot connect any more. */
  close(): Promise<void>;
}

type Files = Readonly<Record<string, string | Uint8Array>>;

/**
 * Serves files on the loopback with ranges and ETags, and closes after the test.
 *
 * @param files by path, beginning with `/`
 * @param fault asked for every request; what it returns is done in place of the good thing
 */
export async function serveFiles(
  files: Files | (() => Files),
  fault: (request: SeenRequest, index: number) => Fault | undefined = () => undefined,
): Promise<TestServer> {
  const requests: SeenRequest[] = [];
  const server = createServer((request, response) => {
    const seen = describe(request);
    requests.push(seen);
    const wrong = fault(seen, requests.length - 1) ?? {};
    const content = (typeof files === 'function' ? files() : files)[seen.path];
    void answer(seen, response, typeof content === 'string' ? new TextEncoder().encode(content) : content, wrong);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const close = async (): Promise<void> => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  };
  onTestFinished(close);
  return {
    url: `http://127.0.0.1:${port}`,
    requests,
    lines: () => requests.map(({ method, path, range }) => `${method} ${path} ${range}`.trim()),
    close,
  };
}

function describe({ method = '', url = '/', headers }: IncomingMessage): SeenRequest {
  const path = decodeURIComponent(new URL(url, 'http://localhost').pathname);
  return { method, path, range: headers.range?.replace('bytes=', '') ?? '', headers };
}

async function answer(
  { method, range }: SeenRequest,
  response: ServerResponse,
  file: Uint8Array | undefined,
  fault: Fault,
): Promise<void> {
  const bytes = fault.bytes ?? file;
  const etag = fault.etag ?? (bytes === undefined ? undefined : etagOf(bytes));
  const headers = { ...(etag !== undefined && { etag }), ...fault.headers };
  if (fault.redirect !== undefined) {
    response.writeHead(fault.status ?? 302, { ...headers, location: fault.redirect }).end();
    return;
  }
  if (fault.status !== undefined || bytes === undefined) {
    response.writeHead(fault.status ?? 404, fault.headers).end();
    return;
  }
  const [, from, to] = /^(\d+)-(\d+)$/.exec(fault.ignoreRange === true ? '' : range) ?? [];
  if (from !== undefined && Number(from) >= bytes.byteLength) {
    response.writeHead(416, { 'content-range': `bytes */${bytes.byteLength}` }).end();
    return;
  }
  const start = Number(from ?? 0);
  const end = Math.min(Number(to ?? Infinity) + 1, bytes.byteLength);
  const body = Buffer.concat([bytes.subarray(start, end), fault.excess ?? new Uint8Array()]);
  const length = fault.chunked === true || fault.endAfter !== undefined ? {} : { 'content-length': body.byteLength };
  const partial = from === undefined ? {} : { 'content-range': `bytes ${start}-${end - 1}/${bytes.byteLength}` };
  response.writeHead(from === undefined ? 200 : 206, { ...length, ...partial, ...headers });
  if (method === 'HEAD') response.end();
  else await sendBody(response, body, fault);
}

async function sendBody(response: ServerResponse, body: Uint8Array, fault: Fault): Promise<void> {
  const limit = fault.breakAfter ?? fault.stallAfter ?? fault.endAfter ?? Infinity;
  const step = 64 * 2 ** 10;
  for (let at = 0; at < Math.min(body.byteLength, limit) && !response.destroyed; at += step) {
    if (fault.slowMs !== undefined) await new Promise((resolve) => setTimeout(resolve, fault.slowMs));
    const part = body.subarray(at, Math.min(at + step, limit, body.byteLength));
    // The callback comes when the bytes have left, so that a break does not swallow them.
    await new Promise<void>((resolve) => response.write(part, () => resolve()));
  }
  if (fault.breakAfter !== undefined) response.destroy();
  else if (fault.stallAfter === undefined) response.end();
}

/** An ETag that changes with the content. */
function etagOf(bytes: Uint8Array): string {
  let sum = 0;
  for (let at = 0; at < bytes.byteLength; at += 997) sum = (Math.imul(sum, 31) + (bytes[at] ?? 0)) >>> 0;
  return `"${bytes.byteLength}-${sum}"`;
}

/** Bytes that differ from segment to segment. */
export function patternBytes(length: number, seed = 1): Uint8Array {
  const bytes = new Uint8Array(length);
  let state = seed >>> 0 || 1;
  for (let at = 0; at < length; at++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    bytes[at] = state >>> 24;
  }
  return bytes;
}
