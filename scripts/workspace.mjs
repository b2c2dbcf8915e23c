// Places and processes that every script shares. No dependency: it must load before anything is installed.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = resolve(dirname(fileURLToPath(import.meta.url)), '..');
export const cache = join(root, '.cache');

/** A failure whose message is all that the user needs: no stack is printed. */
export class TaskError extends Error {
  constructor(message, exitCode = 1) {
    super(message);
    this.exitCode = exitCode;
  }
}

export const say = (message) => process.stderr.write(`mambalab: ${message}\n`);

/** Runs a command in the repository root, with this terminal; throws a TaskError with its exit code. */
export function execute(label, command, args, options = {}) {
  const { status, signal, error } = spawnSync(command, args, {
    cwd: options.cwd ?? root,
    env: { ...process.env, ...options.env },
    stdio: 'inherit',
    // npm and npx are batch files on Windows, which start only through a shell.
    shell: process.platform === 'win32' && command !== process.execPath,
  });
  if (error) throw new TaskError(`${label} did not start: ${error.message}`);
  if (status !== 0) throw new TaskError(`${label} failed (${signal ?? `exit code ${status}`})`, status ?? 1);
}

/** Runs the command-line program of an installed package (named otherwise than the package: `bin`) under this Node. */
export function executeTool(name, args, options = {}) {
  const folder = join(root, 'node_modules', name);
  const { bin } = readJson(join(folder, 'package.json'));
  const program = typeof bin === 'string' ? bin : bin[options.bin ?? name];
  execute(name, process.execPath, [join(folder, program), ...args], options);
}

export const readJson = (file) => JSON.parse(readFileSync(file, 'utf8'));

export const isMain = (moduleUrl) =>
  process.argv[1] !== undefined && fileURLToPath(moduleUrl) === resolve(process.argv[1]);

/** Every file under a folder, sorted; none where it does not exist. */
function filesUnder(path) {
  if (!existsSync(path)) return [];
  const entries = readdirSync(path, { withFileTypes: true, recursive: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
}

/** A hash of the names and contents of files and of everything under folders. */
export function contentHash({ files = [], folders = [], extra = '' }) {
  const hash = createHash('sha256').update(extra);
  for (const file of [...files.filter((path) => existsSync(path)), ...folders.flatMap(filesUnder)]) {
    hash.update(`\0${relative(root, file)}\0`).update(readFileSync(file));
  }
  return hash.digest('hex');
}

/** Runs a script's main function and turns a TaskError into one line and an exit code. */
export async function main(action) {
  try {
    await action();
  } catch (error) {
    if (!(error instanceof TaskError)) throw error;
    say(error.message);
    process.exitCode = error.exitCode;
  }
}
