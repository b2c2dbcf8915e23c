// Every task of the repository: node scripts/run.mjs TASK [arguments]. Each installs and builds what it needs first.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { bootstrap } from './bootstrap.mjs';
import { checkPackages } from './check-packages.mjs';
import { buildPackages } from './packages.mjs';
import { gpuEnvironment } from './software-gpu.mjs';
import { TaskError, execute, executeTool, isMain, main, root } from './workspace.mjs';

const tasks = { build, check, lint, test, fuzz, demo, page, bench, docs };

/** Links and reflects the shaders; the generator itself skips those that did not change. */
const generateShaders = () =>
  execute('the shader generator', process.execPath, ['packages/kernels/tools/generate.mjs']);

function build() {
  generateShaders();
  buildPackages();
}

async function check() {
  generateShaders();
  executeTool('typescript', ['-p', 'tsconfig.json'], { bin: 'tsc' });
  buildPackages();
  await checkPackages();
}

/** With --fix: mends what can be mended. */
function lint(args) {
  const fix = args.includes('--fix');
  executeTool('oxlint', ['--deny-warnings', ...(fix ? ['--fix'] : [])]);
  executeTool('prettier', [fix ? '--write' : '--check', '--log-level', 'warn', '--ignore-unknown', '.']);
}

/** Arguments go to vitest: file names, --project unit, --reporter ... The GPU is chosen by tests/support. */
function test(args) {
  generateShaders();
  executeTool('vitest', ['run', ...args]);
}

/** Gives the readers of files changed ones. Arguments: inputs of each reader, 100,000 when absent, and a seed. */
function fuzz([inputs = '100000', seed = '1']) {
  process.env.MAMBALAB_FUZZ = `${inputs},${seed}`;
  generateShaders();
  executeTool('vitest', ['run', '--project', 'unit', 'tests/unit/fuzz']);
}

/** Writes a story with the hybrid checkpoint. Arguments: a prompt of your own, and options of `mambalab generate`. */
async function demo(args) {
  const prompt =
    args[0] === undefined || args[0].startsWith('-') ? ['Once upon a time there was a little princess who'] : [];
  // Greedy output of so small a model loops; a later option overrides an earlier one.
  const options = ['--max-tokens', '96', '--temperature', '0.7', '--seed', '1'];
  build();
  await onGpu('the demo', [
    'packages/models/dist/cli.js',
    'generate',
    'packages/checkpoints/models/hybrid',
    ...options,
    ...prompt,
    ...args,
  ]);
}

/** Serves a folder of examples/ for a browser on this machine. Arguments: its name, playground when absent, and vite's. */
function page(args) {
  const [first] = args;
  const named = first !== undefined && existsSync(join(root, 'examples', first, 'vite.config.ts'));
  generateShaders();
  executeTool('vite', [`examples/${named ? first : 'playground'}`, ...(named ? args.slice(1) : args)]);
}

async function bench(args) {
  build();
  await onGpu('the benchmark', ['packages/bench/dist/cli.js', ...args]);
}

/** Writes the site to .cache/site: the reference from docstrings, then all pages; a dead link fails. `--base /name/` */
function docs(args) {
  generateShaders();
  const entries = [
    'packages/kernels/src/index.ts',
    'packages/kernels/reference/index.ts',
    'packages/models/src/index.ts',
    'packages/bench/src/index.ts',
    'packages/checkpoints/src/index.ts',
  ];
  const options =
    '--tsconfig tsconfig.json --out docs/api --name API --readme none --excludePrivate --excludeInternal ' +
    '--plugin typedoc-plugin-markdown --outputFileStrategy modules --entryFileName README --disableSources --logLevel Error';
  executeTool('typedoc', [...entries.flatMap((entry) => ['--entryPoints', entry]), ...options.split(' ')]);
  executeTool('vitepress', ['build', 'docs', ...args]);
}

/** Starts a Node program so that Dawn finds an adapter. */
async function onGpu(label, args) {
  const { env } = await gpuEnvironment();
  execute(label, process.execPath, args, { env });
}

if (isMain(import.meta.url)) {
  await main(async () => {
    const [name, ...args] = process.argv.slice(2);
    const task = Object.hasOwn(tasks, name ?? '') ? tasks[name] : undefined;
    if (!task) throw new TaskError(`unknown task '${name ?? ''}'; one of ${Object.keys(tasks).join(', ')} is expected`);
    process.chdir(root);
    bootstrap();
    await task(args);
  });
}
