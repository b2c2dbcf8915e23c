import { UnsupportedModelError } from '@mambalab/kernels';
import type { GrammarEngine } from './grammar_constraint.ts';

/** Loads XGrammar, 1.1 MB, when a text first has a response format. */
export async function importGrammarEngine(): Promise<GrammarEngine> {
  const module: unknown = await import('@mlc-ai/web-xgrammar');
  // The package calls itself an ES module, but is a script: some bundlers give it exports, plain imports a global.
  const candidates = [module, Object(module).default, Object(globalThis).xgrammar];
  const engine = candidates.find(isEngine);
  if (engine !== undefined) return engine;
  throw new UnsupportedModelError(
    'The grammar engine cannot be loaded.',
    "Check that the bundler resolves '@mlc-ai/web-xgrammar'.",
  );
}

/** Whether a value is what the package exports. */
export function isEngine(value: unknown): value is GrammarEngine {
  return typeof value === 'object' && value !== null && 'GrammarCompiler' in value && 'TokenizerInfo' in value;
}
