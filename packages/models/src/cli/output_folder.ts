import { randomUUID } from 'node:crypto';
import { mkdir, readdir, realpath, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve, sep } from 'node:path';
import { ArgumentError } from '../surface.ts';

/**
 * Fills a folder that appears under its name only when it is complete. Until then it has a temporary name beside it,
 * and whatever goes wrong, nothing is left of it.
 *
 * @param path the folder to make; its parent must exist
 * @param input what is read meanwhile, where that is a folder on disk: it is never replaced
 * @param replace whether a model folder of that name, or an empty one, may be replaced
 * @throws ArgumentError if there is something of that name that may not be replaced, or no parent
 */
export async function writeFolder(
  path: string,
  options: { readonly input: string | undefined; readonly replace: boolean },
  fill: (temporary: string) => Promise<void>,
): Promise<void> {
  const target = resolve(path);
  const exists = await checkTarget(target, options);
  const temporary = join(dirname(target), `.${basename(target)}.partial-${randomUUID()}`);
  await mkdir(temporary);
  try {
    await fill(temporary);
    const old = `${temporary}.old`;
    if (exists) await rename(target, old);
    try {
      await rename(temporary, target);
    } catch (error) {
      if (exists) await rename(old, target);
      throw error;
    }
    await rm(old, { recursive: true, force: true });
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

/** Whether something is there that will be replaced. */
async function checkTarget(
  target: string,
  { input, replace }: { readonly input: string | undefined; readonly replace: boolean },
): Promise<boolean> {
  const parent = dirname(target);
  if (!(await isFolder(parent))) {
    throw new ArgumentError(`There is no folder ${parent}.`, 'Make it first, or give another path.');
  }
  const exists = (await stat(target).catch(undefinedIfMissing)) !== undefined;
  if (!exists) return false;
  if (!replace) {
    throw new ArgumentError(`${target} exists already.`, 'Give another path, or --force to replace a model folder.');
  }
  const real = await realpath(target);
  const source = input === undefined ? undefined : await realpath(input).catch(undefinedIfMissing);
  if (source !== undefined && (source === real || source.startsWith(real + sep))) {
    throw new ArgumentError(`${target} holds what is to be converted.`, 'Give another path.');
  }
  // A slip of the hand must not cost more than a model.
  const names = (await isFolder(target)) ? await readdir(target) : undefined;
  if (names === undefined || (names.length > 0 && !names.includes('config.json'))) {
    throw new ArgumentError(
      `${target} is no model folder: --force replaces only folders that are empty or hold config.json.`,
      'Remove it yourself, or give another path.',
    );
  }
  return true;
}

async function isFolder(path: string): Promise<boolean> {
  return (await stat(path).catch(undefinedIfMissing))?.isDirectory() === true;
}

function undefinedIfMissing(error: unknown): undefined {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
  throw error;
}
