import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Host } from '../harness/environment.ts';

/** What this process of Node measures with. */
export function describeNode(toggles: Host['toggles']): Host {
  const commit = currentCommit();
  return {
    platform: `${process.platform} ${process.arch}`,
    runtime: `node ${process.version}`,
    packages: dawnVersion(),
    ...(commit === undefined ? {} : { commit }),
    toggles,
  };
}

function dawnVersion(): Record<string, string> {
  try {
    const main = createRequire(import.meta.url).resolve('webgpu');
    const found = JSON.parse(readFileSync(join(dirname(main), 'package.json'), 'utf8')) as { version?: string };
    return found.version === undefined ? {} : { webgpu: found.version };
  } catch {
    // Packages that another tool bundled or moved do not say their version.
    return {};
  }
}

/** The commit of the sources that this program stands in, or the one that MAMBALAB_COMMIT names; none elsewhere. */
function currentCommit(): string | undefined {
  const { MAMBALAB_COMMIT: named } = process.env;
  if (named !== undefined) return named;
  const cwd = dirname(fileURLToPath(import.meta.url));
  // Installed in a project, git would name the commit of that project.
  if (cwd.includes('node_modules')) return undefined;
  try {
    return execFileSync('git', ['rev-parse', 'HEAD'], { cwd, encoding: 'utf8', stdio: 'pipe' }).trim();
  } catch {
    return undefined;
  }
}
