import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { ImportPackage } from './peer.ts';

interface Manifest {
  readonly version?: string;
  readonly main?: string;
  readonly module?: string;
  readonly exports?: unknown;
}

const CONDITIONS: readonly string[] = ['node', 'import', 'default', 'require'];

/** Imports packages from the node_modules of a folder, where this program's own resolution would not look. */
export function packagesOf(folder: string): ImportPackage {
  return async (name) => {
    const parts = name.split('/');
    const own = parts.slice(0, name.startsWith('@') ? 2 : 1).join('/');
    const root = join(folder, 'node_modules', own);
    const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Manifest;
    const entry = name === own ? entryOf(manifest) : name.slice(own.length + 1);
    const module = (await import(pathToFileURL(join(root, entry)).href)) as Readonly<Record<string, unknown>>;
    return { module, version: manifest.version ?? 'unknown' };
  };
}

/** The file that `import` of a package takes in Node. */
function entryOf({ exports, module, main = 'index.js' }: Manifest): string {
  const all = typeof exports === 'object' && exports !== null && '.' in exports ? exports['.'] : exports;
  return conditional(all) ?? module ?? main;
}

function conditional(target: unknown): string | undefined {
  if (typeof target === 'string') return target;
  if (typeof target !== 'object' || target === null) return undefined;
  const choices = target as Readonly<Record<string, unknown>>;
  for (const condition of CONDITIONS) {
    const found = conditional(choices[condition]);
    if (found !== undefined) return found;
  }
  return undefined;
}
