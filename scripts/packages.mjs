// Builds the packages in order of dependency, each only when something that it is made of has changed.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { TaskError, cache, contentHash, executeTool, readJson, root, say } from './workspace.mjs';

const order = ['kernels', 'models', 'bench', 'checkpoints'];

/** Builds what is out of date. Linking and reflecting the shaders comes first: their bindings are sources of kernels. */
export function buildPackages() {
  // A package's declarations and bundle depend on those before it, so their hash is part of its own.
  let upstream = contentHash({ files: [join(root, 'tsconfig.base.json'), join(root, 'pnpm-lock.yaml')] });
  for (const name of order) {
    const folder = join(root, 'packages', name);
    upstream = contentHash({
      files: ['package.json', 'tsconfig.json', 'tsup.config.ts'].map((file) => join(folder, file)),
      folders: ['src', 'reference'].map((child) => join(folder, child)),
      extra: upstream,
    });
    const stamp = join(cache, 'build', name);
    const current = existsSync(stamp) && readFileSync(stamp, 'utf8') === upstream;
    if (current && publishedFiles(folder).every((file) => existsSync(file))) continue;
    say(`building @mambalab/${name}`);
    executeTool('tsup', ['--silent'], { cwd: folder });
    const missing = publishedFiles(folder).filter((file) => !existsSync(file));
    if (missing.length > 0) throw new TaskError(`the build of @mambalab/${name} did not write ${missing.join(', ')}`);
    mkdirSync(join(cache, 'build'), { recursive: true });
    writeFileSync(stamp, upstream);
  }
}

/** The built files that a package's manifest promises. */
function publishedFiles(folder) {
  const { exports = {}, bin = {} } = readJson(join(folder, 'package.json'));
  const paths = (value) => (typeof value === 'string' ? [value] : Object.values(value).flatMap(paths));
  return [...paths(exports), ...paths(bin)]
    .filter((path) => path.startsWith('./dist/') && !path.includes('*'))
    .map((path) => join(folder, path));
}
