import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { UnsupportedModelError } from '@mambalab/kernels';
import type { GrammarEngine } from './grammar_constraint.ts';
import { isEngine } from './grammar_engine.ts';

/**
 * As the browser's. Node takes the package for the ES module that it calls itself, which it is not, and fails: it is run
 * here as the script that it is.
 */
export async function grammarEngine(): Promise<GrammarEngine> {
  const require = createRequire(import.meta.url);
  const path = require.resolve('@mlc-ai/web-xgrammar');
  const source = await readFile(path, 'utf8');
  const module: { exports: unknown } = { exports: {} };
  // eslint-disable-next-line no-new-func -- the text of an installed package, as `import` would run it
  const run = new Function('exports', 'module', 'require', '__filename', source);
  run.call(globalThis, module.exports, module, require, path);
  if (isEngine(module.exports)) return module.exports;
  throw new UnsupportedModelError('The grammar engine cannot be loaded.', 'Install @mlc-ai/web-xgrammar again.');
}
