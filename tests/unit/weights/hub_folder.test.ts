import { createHash } from 'node:crypto';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { ArgumentError, IntegrityError, NetworkError } from '@mambalab/kernels';
import { openFolder } from '@mambalab/models/node';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { openCheckpoint } from '../../../packages/models/src/weights/folder.ts';
import { isHubId, openHubFolder } from '../../../packages/models/src/weights/hub_folder.ts';
import { memoryCache, temporaryFolder } from '../../support/caches.ts';
import type { Fault, SeenRequest, TestServer } from '../../support/http_server.ts';
import { serveFiles } from '../../support/http_server.ts';
import { weightFile } from './fixtures.ts';

const COMMIT = '0123456789abcdef0123456789abcdef01234567';
const weights = weightFile({ a: [1, 2, 3] });
const sha256 = createHash('sha256').update(weights).digest('hex');
const config = '{"model_type": "mamba"}';

/** A hub with one model, its large file on another host, as `resolve` gives it. */
async function serveHub(
  fault: (request: SeenRequest) => Fault | undefined = () => undefined,
): Promise<{ hub: TestServer; store: TestServer; endpoint: string }> {
  const store = await serveFiles({ '/blob': weights });
  const at = (revision: string): Record<string, string> => ({
    [`/org/name/resolve/${revision}/config.json`]: config,
    [`/org/name/resolve/${revision}/model.safetensors`]: 'not here',
  });
  const files = { ...at('main'), ...at(COMMIT), ...at('refs/pr/1') };
  const hub = await serveFiles(files, (request) => {
    const headers = { 'x-repo-commit': COMMIT };
    const wrong = fault(request);
    if (wrong !== undefined) return { ...wrong, headers: { ...headers, ...wrong.headers } };
    if (!Object.hasOwn(files, request.path)) {
      return { status: 404, headers: { ...headers, 'x-error-code': 'EntryNotFound' } };
    }
    if (!request.path.endsWith('.safetensors')) return { headers };
    const linked = { 'x-linked-etag': `"${sha256}"`, 'x-linked-size': String(weights.byteLength) };
    return { redirect: `${store.url}/blob`, headers: { ...headers, ...linked } };
  });
  return { hub, store, endpoint: hub.url };
}

const paths = (server: TestServer): string[] =>
  server.requests.map(({ path }) => path.replace('/org/name/resolve/', ''));

afterEach(() => {
  vi.unstubAllEnvs();
});

describe('isHubId', () => {
  it.each(['org/name', 'state-spaces/mamba2-130m', 'Qwen/Qwen3-0.6B', '01-ai/Yi_1.5'])('takes %j', (id) => {
    expect(isHubId(id)).toBe(true);
  });

  it.each([
    '',
    'name',
    'a/b/c',
    'org/',
    '/name',
    './name',
    '../name',
    'org/..',
    'org/name/',
    'org/na me',
    'org/name@main',
    'org/a--b',
    'org/name.git',
    'https://host/name',
    `org/${'n'.repeat(96)}`,
  ])('does not take %j', (id) => {
    expect(isHubId(id)).toBe(false);
  });
});

describe('openHubFolder', () => {
  it.each(['follow', 'manual'] as const)('reads all files of the first commit (%s)', async (redirects) => {
    const { hub, store, endpoint } = await serveHub();
    const folder = openHubFolder('org/name', { endpoint, redirects });
    const checkpoint = await openCheckpoint(folder);
    expect(checkpoint.config).toEqual({ model_type: 'mamba' });
    expect([...new Float32Array((await checkpoint.source.read('a')).buffer)]).toEqual([1, 2, 3]);
    expect(paths(hub)[0]).toBe('main/config.json');
    expect(
      paths(hub)
        .slice(1)
        .every((path) => path.startsWith(`${COMMIT}/`)),
    ).toBe(true);
    expect(paths(hub).filter((path) => path.endsWith('config.json') && !path.includes('_'))).toHaveLength(1);
    expect(store.requests).toHaveLength(1);
  });

  it('asks for the revision that is named, and for a commit at once', async () => {
    const { hub, endpoint } = await serveHub();
    expect(await openHubFolder('org/name', { endpoint, revision: 'refs/pr/1' }).readText('config.json')).toBe(config);
    expect(await openHubFolder('org/name', { endpoint, revision: COMMIT }).readText('config.json')).toBe(config);
    expect(paths(hub)).toEqual(['refs/pr/1/config.json', `${COMMIT}/config.json`]);
    for (const revision of ['', '..', 'a/../b', 'a?b', '-x']) {
      expect(() => openHubFolder('org/name', { endpoint, revision })).toThrow(ArgumentError);
    }
    expect(() => openHubFolder('name', { endpoint })).toThrow(ArgumentError);
  });

  it('sends the token to the endpoint, and to no other host', async () => {
    const { hub, store, endpoint } = await serveHub(({ headers }) =>
      headers.authorization === 'Bearer secret' ? undefined : { status: 401 },
    );
    for (const redirects of ['follow', 'manual'] as const) {
      const { source } = await openCheckpoint(openHubFolder('org/name', { endpoint, token: 'secret', redirects }));
      await source.dispose();
    }
    expect(hub.requests.every(({ headers }) => headers.authorization === 'Bearer secret')).toBe(true);
    expect(store.requests.map(({ headers }) => headers.authorization)).toEqual([undefined, undefined]);
  });

  it('refuses a file of another commit, and one of another size than the hub names', async () => {
    const other = await serveHub(({ path }) =>
      path.endsWith('tokenizer.json') ? { bytes: new Uint8Array(1), headers: { 'x-repo-commit': 'other' } } : undefined,
    );
    const folder = openHubFolder('org/name', { endpoint: other.endpoint });
    const reading = folder.readText('tokenizer.json');
    await expect(reading).rejects.toThrow(IntegrityError);
    await expect(reading).rejects.toThrow(/is of commit other/);
    const longer = await serveHub(({ path }) =>
      path.endsWith('config.json') ? { bytes: new Uint8Array(9), headers: { 'x-linked-size': '10' } } : undefined,
    );
    await expect(openHubFolder('org/name', { endpoint: longer.endpoint }).readText('config.json')).rejects.toThrow(
      IntegrityError,
    );
  });

  it('reads a mirror that names no commit', async () => {
    const server = await serveFiles({
      '/hub/org/name/resolve/main/config.json': config,
      '/hub/org/name/resolve/main/model.safetensors': weights,
    });
    const { source } = await openCheckpoint(openHubFolder('org/name', { endpoint: `${server.url}/hub` }));
    expect(source.tensors.has('a')).toBe(true);
  });

  it.each<[string, Fault, { token?: string }, RegExp]>([
    [
      'a gated model',
      { status: 401, headers: { 'x-error-code': 'GatedRepo' } },
      {},
      /gated\. Accept its terms.*HF_TOKEN/,
    ],
    [
      'a gated model that the token may not read',
      { status: 403, headers: { 'x-error-code': 'GatedRepo' } },
      { token: 't' },
      /gated\. Accept its terms.*with the account of the token/,
    ],
    [
      'a model that is not there',
      { status: 401, headers: { 'x-error-code': 'RepoNotFound' } },
      {},
      /has no model 'org\/name', or does not show it.*spelling.*HF_TOKEN/,
    ],
    [
      'a model that is not there, on a plain server',
      { status: 404, headers: { 'x-repo-commit': '' } },
      {},
      /has no model/,
    ],
    [
      'a revision that is not there',
      { status: 404, headers: { 'x-error-code': 'RevisionNotFound' } },
      {},
      /no revision 'main'/,
    ],
    ['a token that is not accepted', { status: 401 }, { token: 't' }, /does not accept the token/],
    [
      'a token that may not',
      { status: 403 },
      { token: 't' },
      /refuses access to 'org\/name'.*that the token may read it/,
    ],
  ])('says what to do about %s', async (_what, fault, options, message) => {
    const { hub, endpoint } = await serveHub(() => fault);
    const opening = openCheckpoint(openHubFolder('org/name', { endpoint, ...options }));
    await expect(opening).rejects.toThrow(ArgumentError);
    await expect(opening).rejects.toThrow(message);
    expect(new Set(paths(hub)).size).toBeLessThan(7);
  });

  it('needs no request where all of a commit is in the cache, and one where a branch may have moved', async () => {
    const { hub, store, endpoint } = await serveHub();
    const cache = memoryCache();
    const load = async (revision: string): Promise<void> => {
      const folder = openHubFolder('org/name', { endpoint, cache, revision, backoffMs: 1 });
      const { source, config: parsed } = await openCheckpoint(folder);
      await folder.beginStreaming?.();
      expect(parsed).toEqual({ model_type: 'mamba' });
      expect([...new Float32Array((await source.read('a')).buffer)]).toEqual([1, 2, 3]);
      await folder.endStreaming?.();
      await source.dispose();
    };
    await load('main');
    expect(hub.requests.length + store.requests.length).toBeGreaterThan(5);
    hub.requests.length = 0;
    store.requests.length = 0;
    await load('main');
    expect(paths(hub)).toEqual(['main/config.json']);
    await load(COMMIT);
    expect(hub.requests).toHaveLength(1);
    // And none at all where the hub is out of reach.
    await hub.close();
    await store.close();
    await load('main');
    await expect(
      openCheckpoint(openHubFolder('org/name', { endpoint, cache, revision: 'other', retries: 0 })),
    ).rejects.toThrow(NetworkError);
  });
});

describe('openFolder in Node', () => {
  it('takes what exists as a path before an id, and settings from the environment', async () => {
    const { hub, endpoint } = await serveHub(({ headers }) =>
      headers.authorization === 'Bearer of the environment' ? undefined : { status: 401 },
    );
    const folder = await temporaryFolder();
    await mkdir(join(folder, 'org', 'name'), { recursive: true });
    vi.stubEnv('HF_ENDPOINT', endpoint);
    vi.stubEnv('HF_TOKEN', 'of the environment');
    vi.stubEnv('MAMBALAB_CACHE', join(folder, 'cache'));
    const remote = await openFolder('org/name', { cache: false });
    expect(remote.label).toBe('org/name (main)');
    expect(await remote.readText('config.json')).toBe(config);
    const own = await openFolder('org/name', { token: 'own' });
    await expect(own.readText('config.json')).rejects.toThrow(/no folder of that name either/);
    expect(hub.requests.map(({ headers }) => headers.authorization)).toEqual([
      'Bearer of the environment',
      'Bearer own',
    ]);
    const before = process.cwd();
    process.chdir(folder);
    const local = await openFolder('org/name').finally(() => process.chdir(before));
    expect(local.label).toBe('org/name');
    expect(hub.requests).toHaveLength(2);
  });
});
