import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Cache } from '@mambalab/models';
import { onTestFinished } from 'vitest';

/** A cache in memory; `values` is what it holds. */
export function memoryCache(): Cache & { readonly values: Map<string, Uint8Array> } {
  const values = new Map<string, Uint8Array>();
  return {
    values,
    get: (key, { start, end } = { start: 0, end: values.get(key)?.byteLength ?? 0 }) => {
      const value = values.get(key);
      return Promise.resolve(value === undefined || value.byteLength < end ? undefined : value.slice(start, end));
    },
    put: (key, bytes) => {
      values.set(key, bytes.slice());
      return Promise.resolve();
    },
    list: (prefix = '') =>
      Promise.resolve(
        [...values].filter(([key]) => key.startsWith(prefix)).map(([key, { byteLength }]) => ({ key, byteLength })),
      ),
    delete: (key) => {
      values.delete(key);
      return Promise.resolve();
    },
  };
}

/** A folder for one test, removed after it. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'mambalab-cache-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}
