// Checks the built packages as their users see them: manifests, types, sizes and licences.
import { mkdirSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { gzipSync } from 'node:zlib';
import { checkLicences } from './licences.mjs';
import { TaskError, cache, executeTool, readJson, root, say } from './workspace.mjs';

const names = ['kernels', 'models', 'bench', 'checkpoints'];
const folderOf = (name) => join(root, 'packages', name);

/** Everything that must hold before a package may be published. */
export async function checkPackages() {
  for (const name of names) executeTool('publint', ['run', folderOf(name), '--pack', 'false', '--strict']);
  await checkTypes();
  checkConsumers();
  await checkSizes();
  checkLicences();
}

/** Compares what `exports` promises with what each way of resolving modules finds, by @arethetypeswrong/core. */
async function checkTypes() {
  const { Package, checkPackage } = await import('@arethetypeswrong/core');
  // Packages are ES modules alone. Node 10 knows no `exports`; `require` of a module works from Node 20.19 on.
  const modes = ['node16-esm', 'bundler'];
  const problems = [];
  for (const name of names) {
    const { name: full, version } = readJson(join(folderOf(name), 'package.json'));
    const files = Object.fromEntries(
      publishedFiles(name).map((file) => [`/node_modules/${full}/${file}`, readFileSync(join(folderOf(name), file))]),
    );
    const result = await checkPackage(new Package(files, full, version));
    if (result.types === false) problems.push(`${full} has no types`);
    else problems.push(...result.problems.filter((problem) => concerns(problem, modes)).map((p) => describe(full, p)));
  }
  if (problems.length > 0) throw new TaskError(`types of packages are wrong:\n${problems.join('\n')}`);
}

const concerns = ({ resolutionKind, resolutionOption }, modes) =>
  resolutionKind !== undefined
    ? modes.includes(resolutionKind)
    : modes.some((mode) => mode.startsWith(resolutionOption ?? ''));

const describe = (name, problem) => `${name}: ${JSON.stringify(problem)}`;

/** Manifest, modules, declarations, and what else `exports` names; of checkpoints not the weights. */
function publishedFiles(name) {
  const { exports } = readJson(join(folderOf(name), 'package.json'));
  const paths = (value) => (typeof value === 'string' ? [value] : Object.values(value).flatMap(paths));
  const others = paths(exports).filter((path) => !path.startsWith('./dist/') && !path.includes('*'));
  const dist = join(folderOf(name), 'dist');
  const built = readdirSync(dist, { recursive: true }).filter((file) => /\.(?:js|d\.ts)$/.test(file));
  const inDist = built.map((file) => join('dist', file).split('\\').join('/'));
  return ['package.json', ...others.map((path) => path.slice(2)), ...inDist];
}

// What a user's compiler must find: one name of every entry, used as its type says.
const consumer = `
import { hybrid } from '@mambalab/checkpoints';
import { rmsNorm, run } from '@mambalab/kernels';
import type { Device } from '@mambalab/kernels';
import { requestDevice } from '@mambalab/kernels/node';
import { rmsNorm as reference } from '@mambalab/kernels/reference';
import { loadModel } from '@mambalab/models';
import type { GenerateOptions, Model } from '@mambalab/models';
import { loadModel as loadInNode } from '@mambalab/models/node';
import * as bench from '@mambalab/bench';

const options: GenerateOptions = { maxTokens: 4, temperature: 0 };
export async function write(): Promise<string> {
  const model: Model = await loadModel(hybrid);
  return (await model.generate('', options).result).text;
}
export const device: () => Promise<Device> = requestDevice;
export const all: readonly unknown[] = [rmsNorm, run, reference, loadInNode, bench];
// @ts-expect-error types are not \`any\`
export const wrong: number = hybrid;
`;

/** Compiles a program against the packages as they are installed, by both ways that resolve \`exports\`. */
function checkConsumers() {
  const folder = join(cache, 'consumer');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(join(folder, 'node_modules', '@mambalab'), { recursive: true });
  for (const name of names) symlinkSync(folderOf(name), join(folder, 'node_modules', '@mambalab', name), 'junction');
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ type: 'module' }));
  writeFileSync(join(folder, 'main.ts'), consumer);
  const types = [join(root, 'node_modules', '@webgpu', 'types')];
  for (const [moduleResolution, module] of [
    ['bundler', 'esnext'],
    ['node16', 'node16'],
  ]) {
    const lib = ['ES2023', 'DOM', 'DOM.Iterable', 'DOM.AsyncIterable', 'ESNext.Disposable'];
    const compilerOptions = { strict: true, noEmit: true, target: 'es2022', lib, types, module, moduleResolution };
    const file = join(folder, `tsconfig.${moduleResolution}.json`);
    writeFileSync(file, JSON.stringify({ compilerOptions, files: ['main.ts'] }));
    executeTool('typescript', ['-p', file], { bin: 'tsc' });
  }
}

/**
 * Kilobytes (1000 bytes) that a page loads at first, gzipped; what is imported later (the grammar engine, the reader of
 * zip files) is not counted. All kernels' shaders are in the first.
 */
const budgets = [
  { label: 'loadModel with every kernel', code: `export { loadModel } from '@mambalab/models';`, kilobytes: 275 },
  { label: 'one kernel', code: `export { rmsNorm } from '@mambalab/kernels';`, kilobytes: 6 },
];

async function checkSizes() {
  const { build } = await import('esbuild');
  const problems = [];
  for (const { label, code, kilobytes } of budgets) {
    const { outputFiles, metafile } = await build({
      stdin: { contents: code, resolveDir: join(cache, 'consumer') },
      bundle: true,
      // The paths of our own tsconfig lead to the sources.
      tsconfigRaw: {},
      minify: true,
      splitting: true,
      format: 'esm',
      platform: 'browser',
      outdir: 'out',
      write: false,
      metafile: true,
      logLevel: 'error',
    });
    const entry = outputFiles.find(({ path }) => path.endsWith('stdin.js'));
    const gzipped = gzipSync(entry.contents, { level: 9 }).byteLength / 1000;
    say(`${label}: ${gzipped.toFixed(1)} kB gzipped, of ${kilobytes} at most`);
    if (gzipped > kilobytes) problems.push(`${label}: ${gzipped.toFixed(1)} kB\n${heaviest(metafile)}`);
  }
  if (problems.length > 0) throw new TaskError(`bundles are larger than they may be:\n${problems.join('\n')}`);
}

/** The modules that take most of the first file. */
function heaviest({ outputs }) {
  const [, { inputs }] = Object.entries(outputs).find(([path]) => path.endsWith('stdin.js'));
  const sorted = Object.entries(inputs).sort(([, a], [, b]) => b.bytesInOutput - a.bytesInOutput);
  return sorted
    .slice(0, 10)
    .map(([path, { bytesInOutput }]) => `  ${bytesInOutput} bytes (not gzipped): ${relative(root, path)}`)
    .join('\n');
}
