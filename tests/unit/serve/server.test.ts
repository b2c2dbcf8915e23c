import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { ArgumentError } from '@mambalab/models';
import { createEngine } from '@mambalab/models/openai';
import type { RequestLog, RunningServer, ServerOptions } from '@mambalab/models/serve';
import { createApp, logLine, startServer } from '@mambalab/models/serve';
import OpenAI, { InternalServerError, RateLimitError } from 'openai';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { Script, ScriptedModel } from '../../support/scripted_model.ts';
import { scriptedModel } from '../../support/scripted_model.ts';

const servers: RunningServer[] = [];
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.close(0)));
});

interface Served {
  readonly server: RunningServer;
  readonly model: ScriptedModel;
  readonly client: OpenAI;
  readonly logs: RequestLog[];
}

async function serve(script: Partial<Script> = {}, options: ServerOptions = {}): Promise<Served> {
  const model = scriptedModel({ text: () => 'Hello there.', ...script });
  const logs: RequestLog[] = [];
  const server = await startServer(createEngine(model), { port: 0, onRequest: (log) => logs.push(log), ...options });
  servers.push(server);
  const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: options.token ?? 'none', maxRetries: 0 });
  return { server, model, client, logs };
}

const body = { model: 'scripted', messages: [{ role: 'user' as const, content: 'Hello' }] };
const long: Partial<Script> = { text: () => 'abc'.repeat(2000), delayMs: 1 };
const post = (url: string, text: string, headers: Record<string, string> = {}): Promise<Response> =>
  fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    body: text,
    headers: { 'content-type': 'application/json', ...headers },
  });

describe('bodies', () => {
  it('that are no JSON, no object, too large, or say to be something else are refused, and the server lives on', async () => {
    const { server, client } = await serve({}, { maxBodyBytes: 2000 });
    const cases: readonly (readonly [string, Record<string, string>, number, string | null])[] = [
      ['{"model": ', {}, 400, 'invalid_json'],
      ['', {}, 400, 'invalid_json'],
      ['\u0000\ufffd', {}, 400, 'invalid_json'],
      ['[]', {}, 400, null],
      ['"x"', {}, 400, null],
      [`"${'x'.repeat(3000)}"`, {}, 413, 'body_too_large'],
      [JSON.stringify(body), { 'content-type': 'text/plain' }, 415, 'unsupported_media_type'],
    ];
    for (const [text, headers, status, code] of cases) {
      const answer = await post(server.url, text, headers);
      expect([text.slice(0, 10), answer.status]).toEqual([text.slice(0, 10), status]);
      expect(await answer.json()).toMatchObject({ error: { type: 'invalid_request_error', code } });
    }
    const deep = `${'['.repeat(900)}${']'.repeat(900)}`;
    expect((await post(server.url, `{"messages": ${deep}}`)).status).toBe(400);
    // Without a length, it counts as it comes.
    const chunked = await fetch(`${server.url}/v1/chat/completions`, {
      method: 'POST',
      body: new Blob(['"', 'x'.repeat(3000), '"']).stream(),
      headers: { 'content-type': 'application/json' },
      duplex: 'half',
    } as RequestInit);
    expect(chunked.status).toBe(413);
    expect((await client.chat.completions.create(body)).choices[0]?.message.content).toBe('Hello there.');
  });

  it('that break off leave nothing behind', async () => {
    const { server, client, model } = await serve();
    const socket = await openSocket(server);
    socket.write('POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n');
    socket.write('Content-Length: 500\r\n\r\n{"mod');
    socket.destroy();
    await client.chat.completions.create(body);
    expect(model.calls).toHaveLength(1);
  });

  it('asked for elsewhere are not found', async () => {
    const { server } = await serve();
    for (const path of ['/v1/nothing', '/v1/chat', '/']) {
      const answer = await fetch(server.url + path);
      expect(answer.status).toBe(404);
      expect(await answer.json()).toMatchObject({ error: { code: 'unknown_url' } });
    }
    expect((await fetch(`${server.url}/v1/chat/completions`)).status).toBe(404);
  });
});

describe('who may ask', () => {
  it('bears the token, where there is one; anybody may ask for its health', async () => {
    const { server, client } = await serve({}, { token: 'secret' });
    expect((await fetch(`${server.url}/health`)).status).toBe(200);
    for (const authorization of ['', 'Bearer', 'Bearer secre', 'Bearer secret2', 'Basic secret', 'secret']) {
      for (const path of ['/metrics', '/v1/models']) {
        const answer = await fetch(server.url + path, { headers: { authorization } });
        expect([authorization, answer.status]).toEqual([authorization, 401]);
        expect(answer.headers.get('www-authenticate')).toBe('Bearer');
      }
    }
    expect((await client.models.retrieve('scripted')).id).toBe('scripted');
  });

  it('sends to a name of this machine, so that pages under another name cannot reach it', async () => {
    const { server } = await serve();
    const status = async (host: string): Promise<string> => {
      const socket = await openSocket(server);
      socket.write(`GET /v1/models HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
      const parts: Buffer[] = [];
      for await (const part of socket) parts.push(part as Buffer);
      return /^HTTP\/1.1 (\d+)/.exec(Buffer.concat(parts).toString())?.[1] ?? '';
    };
    expect(await status('evil.example:80')).toBe('403');
    expect(await status('localhost:1234')).toBe('200');
    expect(await status('[::1]')).toBe('200');
  });

  it('is a page of another origin only where that is asked for', async () => {
    const preflight = async (url: string): Promise<Headers> =>
      (await fetch(`${url}/v1/chat/completions`, { method: 'OPTIONS', headers: { origin: 'https://a.example' } }))
        .headers;
    const closed = await serve();
    expect((await preflight(closed.server.url)).get('access-control-allow-origin')).toBeNull();
    const open = await serve({}, { cors: ['https://a.example'], token: 'secret' });
    expect((await preflight(open.server.url)).get('access-control-allow-origin')).toBe('https://a.example');
    const other = await fetch(`${open.server.url}/health`, { headers: { origin: 'https://b.example' } });
    expect(other.headers.get('access-control-allow-origin')).toBeNull();
  });
});

describe('many requests', () => {
  it('wait for each other up to a number, beyond which they are refused', async () => {
    const { server, client, model } = await serve({ delayMs: 20 }, { maxRunning: 2, maxWaiting: 3 });
    const asked = Array.from({ length: 8 }, () => client.chat.completions.create(body));
    const results = await Promise.allSettled(asked);
    const refused = results.flatMap((result) => (result.status === 'rejected' ? [result.reason as unknown] : []));
    expect(refused).toHaveLength(3);
    for (const error of refused) {
      if (!(error instanceof RateLimitError)) throw error;
      expect(error.code).toBe('queue_full');
      expect(Number(error.headers.get('retry-after'))).toBeGreaterThanOrEqual(1);
    }
    expect(model.calls).toHaveLength(5);
    const metrics = await (await fetch(`${server.url}/metrics`)).text();
    expect(metrics).toContain('mambalab_requests_total{path="/v1/chat/completions",status="429",outcome="done"} 3\n');
    expect(metrics).toContain('mambalab_completion_tokens_total{model="scripted"} 20\n');
    expect(metrics).toMatch(/^mambalab_request_seconds_bucket\{path="\/v1\/chat\/completions",le="\+Inf"\} 8$/m);
  });

  it('that wait and leave take no place', async () => {
    const { client, model } = await serve(long, { maxRunning: 1 });
    const first = await client.chat.completions.create({ ...body, stream: true });
    const abort = new AbortController();
    const waiting = client.chat.completions.create(body, { signal: abort.signal });
    setTimeout(() => abort.abort(), 50);
    await expect(waiting).rejects.toThrow('aborted');
    first.controller.abort();
    await vi.waitFor(() => expect(model.running).toBe(0));
    expect(model.calls).toHaveLength(1);
  });

  it('as 200 streams at the same time are all served', { timeout: 30_000 }, async () => {
    const { client, model, logs } = await serve(
      { text: (_call, at) => `${at} `.repeat(4), delayMs: 20 },
      { maxRunning: 32 },
    );
    const texts = await Promise.all(
      Array.from({ length: 200 }, async () => {
        const parts: string[] = [];
        for await (const { choices } of await client.chat.completions.create({ ...body, stream: true })) {
          parts.push(choices[0]?.delta.content ?? '');
        }
        return parts.join('');
      }),
    );
    const numbers = texts.map((text) => Number(/^(\d+ )\1{3}$/.exec(text)?.[1] ?? NaN));
    expect(numbers.sort((a, b) => a - b)).toEqual(Array.from({ length: 200 }, (_, at) => at));
    expect(model.mostRunning).toBeGreaterThan(8);
    expect(model.mostRunning).toBeLessThanOrEqual(32);
    await vi.waitFor(() => expect(logs).toHaveLength(200));
    expect(new Set(logs.map(({ id }) => id)).size).toBe(200);
  });
});

describe('a stream', () => {
  it('stops where its connection breaks', async () => {
    const { server, model, logs } = await serve(long);
    const socket = await openSocket(server);
    ask(socket);
    await new Promise((resolve) => socket.once('data', resolve));
    socket.destroy();
    await vi.waitFor(() => expect(model.running).toBe(0));
    expect(model.calls[0]).toMatchObject({ outcome: 'abort' });
    expect(model.calls[0]?.written).toBeLessThan(1500);
    await vi.waitFor(() => expect(logs).toMatchObject([{ outcome: 'left', status: 200 }]));
  });

  it('waits for a client that reads slowly, and ends where it reads nothing', async () => {
    // More than the network keeps of it.
    const text = 'x'.repeat(40_000_000);
    const { server, model, logs } = await serve({ text: () => text, size: 4000 }, { stallMs: 300 });
    const socket = await openSocket(server);
    ask(socket, 10_000);
    await new Promise((resolve) => socket.once('data', resolve));
    socket.pause();
    await vi.waitFor(() => expect(logs).toMatchObject([{ outcome: 'left' }]), { timeout: 4000 });
    expect(model.running).toBe(0);
    expect(model.calls[0]?.written).toBeLessThan(9000);
    socket.destroy();
  });

  it('tells of what goes wrong on its way', async () => {
    const { client, logs } = await serve({ ...long, failAt: 4 });
    const stream = await client.chat.completions.create({ ...body, stream: true });
    const reading = (async (): Promise<void> => {
      for await (const _chunk of stream);
    })();
    await expect(reading).rejects.toMatchObject({ error: { message: 'The script fails. Do not.' } });
    await vi.waitFor(() => expect(logs).toMatchObject([{ outcome: 'failed', error: 'The script fails. Do not.' }]));
  });

  it('may take so long and no longer, as may a whole answer', async () => {
    const { client, model } = await serve(long, { timeoutMs: 100 });
    await expect(client.chat.completions.create(body)).rejects.toMatchObject({ status: 504, code: 'timeout' });
    const reading = (async (): Promise<void> => {
      for await (const _chunk of await client.chat.completions.create({ ...body, stream: true }));
    })();
    await expect(reading).rejects.toMatchObject({ error: { code: 'timeout' } });
    expect(model.running).toBe(0);
  });
});

describe('the end of a server', () => {
  it('lets texts in progress end, and takes no more', async () => {
    const { server, client, model } = await serve({ text: () => 'abc'.repeat(40), delayMs: 5 }, { maxRunning: 1 });
    const stream = await client.chat.completions.create({ ...body, stream: true });
    const waiting = client.chat.completions.create(body);
    await new Promise((resolve) => setTimeout(resolve, 50));
    const closed = server.close(5000);
    await expect(waiting).rejects.toThrow(InternalServerError);
    await expect(waiting).rejects.toMatchObject({ status: 503, code: 'shutting_down' });
    const parts: string[] = [];
    for await (const { choices } of stream) parts.push(choices[0]?.delta.content ?? '');
    expect(parts.join('')).toBe('abc'.repeat(40));
    await closed;
    expect(model.calls).toHaveLength(1);
    await expect(fetch(`${server.url}/health`)).rejects.toThrow('fetch failed');
  });

  it('ends those that take too long, with what happened', async () => {
    const { server, client, model } = await serve(long);
    const stream = await client.chat.completions.create({ ...body, stream: true });
    const reading = (async (): Promise<void> => {
      for await (const _chunk of stream);
    })();
    const failed = expect(reading).rejects.toMatchObject({ error: { code: 'shutting_down' } });
    const began = performance.now();
    const closing = server.close(60_000);
    await server.close(50);
    await closing;
    expect(performance.now() - began).toBeLessThan(5000);
    await failed;
    expect(model.running).toBe(0);
  });
});

it('says why nothing can listen', async () => {
  const { server } = await serve();
  const port = Number(new URL(server.url).port);
  const second = startServer(createEngine(scriptedModel({ text: () => '' })), { port });
  await expect(second).rejects.toThrow(ArgumentError);
  await expect(second).rejects.toThrow(/EADDRINUSE/);
});

it('is an app for other servers, too, and logs a line a request', async () => {
  const logs: string[] = [];
  const app = createApp(createEngine(scriptedModel({ text: () => 'Hi.' })), {
    onRequest: (log) => logs.push(logLine(log)),
  });
  const answer = await app.fetch(
    new Request('http://host/v1/completions', {
      method: 'POST',
      body: JSON.stringify({ prompt: 'x' }),
      headers: { 'content-type': 'application/json; charset=utf-8' },
    }),
  );
  expect(await answer.json()).toMatchObject({ choices: [{ text: 'Hi.' }] });
  await app.fetch(new Request('http://host/%0Aforged'));
  expect(logs).toHaveLength(2);
  expect(logs[0]).toMatch(
    /^\S+Z POST \/v1\/completions 200 \d+ms first=\d+ms model=scripted prompt=1 written=1 req_\S+$/,
  );
  expect(logs[1]).toMatch(
    /^\S+Z GET \/%250Aforged 404 \d+ms "Unknown.*" req_\S+$|^\S+Z GET \/%250Aforged 404 \d+ms req_\S+$/,
  );
  expect(logs.join('')).not.toContain('\n');
});

async function openSocket(server: RunningServer): Promise<Socket> {
  const socket = connect(Number(new URL(server.url).port), '127.0.0.1');
  socket.on('error', () => undefined);
  await new Promise((resolve) => socket.once('connect', resolve));
  return socket;
}

function ask(socket: Socket, tokens = 3000): void {
  const text = JSON.stringify({ ...body, stream: true, max_tokens: tokens });
  socket.write(
    `POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n` +
      `Content-Length: ${text.length}\r\n\r\n${text}`,
  );
}
