import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { ArgumentError, IntegrityError, WeightFormatError } from '@mambalab/kernels';
import { afterEach, describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../../packages/models/src/weights/folder.ts';
import { openHttpFolder } from '../../../packages/models/src/weights/http_folder.ts';
import { weightFile } from './fixtures.ts';

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

const servers: Server[] = [];

/** Serves on the loopback, and notes every request. */
async function serve(handler: Handler): Promise<{ url: string; requests: string[] }> {
  const requests: string[] = [];
  const server = createServer((request, response) => {
    requests.push(`${request.method} ${request.url} ${request.headers.range ?? ''}`.trim());
    handler(request, response);
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/model`, requests };
}

afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});

/** What a file server with Range support does. */
function sendRange(request: IncomingMessage, response: ServerResponse, bytes: Uint8Array, etag = '"1"'): void {
  const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(request.headers.range ?? '') ?? [];
  if (from === undefined) {
    response.writeHead(200, { etag }).end(bytes);
  } else if (Number(from) >= bytes.byteLength) {
    response.writeHead(416, { 'content-range': `bytes */${bytes.byteLength}` }).end();
  } else {
    const end = Math.min(Number(to) + 1, bytes.byteLength);
    const range = `bytes ${from}-${end - 1}/${bytes.byteLength}`;
    response.writeHead(206, { etag, 'content-range': range }).end(bytes.subarray(Number(from), end));
  }
}

const large = Uint8Array.from({ length: 200_000 }, (_, i) => i % 251);

describe('openHttpFolder', () => {
  it('opens a checkpoint with one request a file', async () => {
    const weights = weightFile({ a: [1, 2, 3] });
    const { url, requests } = await serve((request, response) => {
      if (request.url === '/model/config.json?key=1') response.end('{"model_type": "mamba"}');
      else if (request.url === '/model/model.safetensors?key=1') sendRange(request, response, weights);
      else response.writeHead(404).end();
    });
    const { config, source, tokenizerJson } = await openCheckpoint(openHttpFolder(`${url}?key=1`));
    expect(config).toEqual({ model_type: 'mamba' });
    expect(tokenizerJson).toBeUndefined();
    expect([...new Float32Array((await source.read('a', 4)).buffer)]).toEqual([2, 3]);
    expect(requests.filter((line) => line.includes('safetensors'))).toHaveLength(1);
  });

  it('reads ranges, and nothing for what is at hand', async () => {
    const { url, requests } = await serve((request, response) => sendRange(request, response, large));
    const file = await openHttpFolder(`${url}/`).file('sub dir/a.bin');
    expect(await file?.size()).toBe(large.byteLength);
    expect(await file?.read(10, 20)).toEqual(large.slice(10, 20));
    expect(await file?.read(199_000, 200_000)).toEqual(large.slice(199_000));
    expect(await file?.read(150_000, 150_000)).toHaveLength(0);
    expect(requests).toEqual([
      'GET /model/sub%20dir/a.bin bytes=0-65535',
      'GET /model/sub%20dir/a.bin bytes=199000-199999',
    ]);
    await expect(file?.read(199_999, 200_001)).rejects.toThrow(WeightFormatError);
  });

  it('sends the headers that it is given', async () => {
    const { url } = await serve((request, response) => {
      response.writeHead(request.headers.authorization === 'Bearer t' ? 200 : 401).end('text');
    });
    const headers = { authorization: 'Bearer t' };
    expect(await openHttpFolder(url, { headers }).readText('a')).toBe('text');
    await expect(openHttpFolder(url).readText('a')).rejects.toThrow(/status 401\..*token/);
  });

  it('keeps a small file whole where the server ignores ranges', async () => {
    const { url, requests } = await serve((_request, response) => response.end(large));
    const file = await openHttpFolder(url).file('a');
    expect(await file?.size()).toBe(large.byteLength);
    expect(await file?.read(150_000, 160_000)).toEqual(large.slice(150_000, 160_000));
    expect(requests).toHaveLength(1);
  });

  it.each([
    ['announces', { 'content-length': String(2 ** 27) }],
    ['does not announce', {}],
  ])('refuses a large file whole, where the server %s its length', async (_what, headers) => {
    const block = new Uint8Array(2 ** 20);
    const { url } = await serve((_request, response) => {
      response.writeHead(200, headers);
      const send = (): void => {
        while (!response.destroyed && response.write(block));
        if (!response.destroyed) response.once('drain', send);
      };
      send();
    });
    await expect(openHttpFolder(url).file('a')).rejects.toThrow(WeightFormatError);
  });

  it('learns the size by HEAD where Content-Range is hidden', async () => {
    const { url } = await serve((request, response) => {
      if (request.method === 'HEAD') response.writeHead(200, { 'content-length': '200000' }).end();
      else response.writeHead(206).end(large.subarray(0, 65_536));
    });
    expect(await (await openHttpFolder(url).file('a'))?.size()).toBe(200_000);
  });

  it('knows an empty file', async () => {
    const { url } = await serve((request, response) => sendRange(request, response, new Uint8Array(0)));
    expect(await (await openHttpFolder(url).file('a'))?.size()).toBe(0);
  });

  it('tries again after errors of the server and the network', async () => {
    let calls = 0;
    const { url, requests } = await serve((_request, response) => {
      calls++;
      if (calls === 1) response.writeHead(503).end();
      else if (calls === 2) response.destroy();
      else if (calls === 3) response.writeHead(200, { 'content-length': '10' }).write('cut', () => response.destroy());
      else response.end('text');
    });
    expect(await openHttpFolder(url, { backoffMs: 1 }).readText('a')).toBe('text');
    expect(requests).toHaveLength(4);
  });

  it('gives up after three repetitions, and at once where repeating is of no use', async () => {
    const { url, requests } = await serve((request, response) => {
      response.writeHead(request.url === '/model/broken' ? 500 : 403).end();
    });
    const folder = openHttpFolder(url, { backoffMs: 1 });
    await expect(folder.readText('broken')).rejects.toThrow(/status 500 \(after 4 attempts\)/);
    await expect(folder.file('secret')).rejects.toThrow(ArgumentError);
    expect(requests).toHaveLength(5);
    const unreachable = async (): Promise<Response> => {
      throw new TypeError('fetch failed');
    };
    await expect(openHttpFolder(url, { fetch: unreachable, retries: 0 }).readText('a')).rejects.toThrow(
      /could not be reached/,
    );
  });

  it('stops with the reason of its signal, also while it waits to try again', async () => {
    const { url } = await serve((_request, response) => response.writeHead(500).end());
    const reason = new Error('stop');
    const folder = openHttpFolder(url, { backoffMs: 60_000 });
    await expect(folder.readText('a', AbortSignal.abort(reason))).rejects.toBe(reason);
    const controller = new AbortController();
    const reading = folder.readText('a', controller.signal);
    setTimeout(() => controller.abort(reason), 50);
    await expect(reading).rejects.toBe(reason);
  });

  it('notices a file that changes, and a reply that is too short', async () => {
    let etag = '"1"';
    let content = large;
    const { url } = await serve((request, response) => sendRange(request, response, content, etag));
    const file = await openHttpFolder(url).file('a');
    etag = '"2"';
    await expect(file?.read(100_000, 100_010)).rejects.toThrow(IntegrityError);
    etag = '"1"';
    content = large.slice(0, 150_000);
    await expect(file?.read(100_000, 100_010)).rejects.toThrow(IntegrityError);
    const short = await serve((_request, response) => {
      response.writeHead(206, { 'content-range': 'bytes 0-65535/200000' }).end(large.subarray(0, 65_536));
    });
    const shortFile = await openHttpFolder(short.url).file('a');
    await expect(shortFile?.read(100_000, 170_000)).rejects.toThrow(WeightFormatError);
  });

  it('refuses addresses that are none, and finds nothing outside the folder', async () => {
    expect(() => openHttpFolder('model')).toThrow(ArgumentError);
    expect(() => openHttpFolder('file:///model')).toThrow(ArgumentError);
    const { url, requests } = await serve((_request, response) => response.end('text'));
    expect(await openHttpFolder(url).file('../a')).toBeUndefined();
    expect(await openHttpFolder(url).readText('..')).toBeUndefined();
    expect(requests).toEqual([]);
  });
});
