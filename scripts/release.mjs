// Packs the packages as npm gets them, into .cache/packages.
//   node scripts/release.mjs            packs, and lets npm say what it would publish
//   node scripts/release.mjs --publish  publishes each version that the registry lacks (the release workflow does)
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pnpmCommand } from './bootstrap.mjs';
import { TaskError, cache, execute, isMain, main, readJson, root, say } from './workspace.mjs';

const order = ['kernels', 'models', 'bench', 'checkpoints'];
const packed = join(cache, 'packages');

/** Provenance ties a package to the repository that its manifest names, which is wherever the workflow runs. */
function nameRepository(name) {
  const { GITHUB_REPOSITORY: repository } = process.env;
  if (repository === undefined) return;
  const file = join(root, 'packages', name, 'package.json');
  const manifest = readJson(file);
  manifest.repository = {
    type: 'git',
    url: `git+https://github.com/${repository}.git`,
    directory: `packages/${name}`,
  };
  writeFileSync(file, `${JSON.stringify(manifest, null, 2)}\n`);
}

/** Packs one package: pnpm puts versions in place of `workspace:`, and adds the licence of the repository. */
function pack(name) {
  nameRepository(name);
  const before = new Set(readdirSync(packed));
  const [command, ...prefix] = pnpmCommand();
  const folder = join(root, 'packages', name);
  execute('pnpm pack', command, [...prefix, 'pack', '--pack-destination', packed], { cwd: folder });
  const archive = readdirSync(packed).find((file) => !before.has(file));
  if (archive === undefined) throw new TaskError(`pnpm packed nothing for ${name}`);
  return join(packed, archive);
}

function isPublished(name, version) {
  const { status, stdout } = spawnSync('npm', ['view', `${name}@${version}`, 'version'], { encoding: 'utf8' });
  return status === 0 && stdout.trim() === version;
}

function release(publishes) {
  rmSync(packed, { recursive: true, force: true });
  mkdirSync(packed, { recursive: true });
  for (const folder of order) {
    const { name, version } = readJson(join(root, 'packages', folder, 'package.json'));
    if (publishes && isPublished(name, version)) {
      say(`${name}@${version} is published already`);
      continue;
    }
    const archive = pack(folder);
    if (readFileSync(archive).byteLength === 0) throw new TaskError(`${archive} is empty`);
    const how = publishes ? ['--provenance'] : ['--dry-run'];
    execute('npm publish', 'npm', ['publish', archive, '--access', 'public', ...how]);
    // The action that runs this makes tags of such lines.
    if (publishes) console.log(`New tag: ${name}@${version}`);
  }
}

if (isMain(import.meta.url)) await main(() => release(process.argv.includes('--publish')));
