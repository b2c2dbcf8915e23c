// Installs the workspace when node_modules is missing or older than the manifests. Needs Node and npm, nothing else.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { TaskError, contentHash, execute, isMain, main, readJson, root, say } from './workspace.mjs';

const oldestNode = [20, 19];
const pnpmMajor = 10;
const lockfile = join(root, 'pnpm-lock.yaml');
const stamp = join(root, 'node_modules', '.mambalab-stamp');

/** What an install depends on: the lockfile, and of each manifest only the parts that name packages. */
function fingerprint() {
  const folders = ['packages', 'examples'].flatMap((parent) =>
    existsSync(join(root, parent)) ? readdirSync(join(root, parent)).map((name) => join(root, parent, name)) : [],
  );
  const manifests = [root, ...folders].map((folder) => join(folder, 'package.json')).filter((file) => existsSync(file));
  const requirements = manifests.map((file) => {
    const { name, dependencies, devDependencies, peerDependencies, optionalDependencies } = readJson(file);
    return [name, dependencies, devDependencies, peerDependencies, optionalDependencies];
  });
  return contentHash({
    files: [lockfile, join(root, 'pnpm-workspace.yaml')],
    extra: JSON.stringify([process.platform, process.arch, requirements]),
  });
}

/** The command that starts pnpm: the one on PATH if it is new enough, otherwise one that npm fetches for this run. */
export function pnpmCommand() {
  const shell = process.platform === 'win32';
  const { status, stdout } = spawnSync('pnpm', ['--version'], { cwd: root, encoding: 'utf8', shell });
  if (status === 0 && Number.parseInt(stdout, 10) >= pnpmMajor) return ['pnpm'];
  return ['npm', 'exec', '--yes', '--', `pnpm@${pnpmMajor}`];
}

/** Makes node_modules match the manifests; does nothing when it already does. */
export function bootstrap() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < oldestNode[0] || (major === oldestNode[0] && minor < oldestNode[1])) {
    throw new TaskError(`Node ${oldestNode.join('.')} or later is needed; this is Node ${process.versions.node}`);
  }
  const wanted = fingerprint();
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return;

  const [command, ...prefix] = pnpmCommand();
  const frozen = existsSync(lockfile) ? ['--frozen-lockfile'] : ['--no-frozen-lockfile'];
  say(`installing dependencies with ${[command, ...prefix].join(' ')}`);
  const settings = [
    // On a first install pnpm warns of commands that the build makes only later.
    '--loglevel=error',
    // A node_modules that npm or another pnpm left is replaced without a question.
    '--config.confirmModulesPurge=false',
    // Install scripts of packages stay unrun, as pnpm-workspace.yaml wants; later pnpm versions call that an error.
    '--config.strictDepBuilds=false',
  ];
  execute('the install', command, [...prefix, 'install', ...frozen, ...settings]);
  writeFileSync(stamp, fingerprint());
}

if (isMain(import.meta.url)) await main(bootstrap);
