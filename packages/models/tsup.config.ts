import type { Options } from 'tsup';

type Plugin = NonNullable<Options['esbuildPlugins']>[number];

/**
 * The grammar engine names modules of Node in a branch that browsers never take, and bundlers of apps fail over them. So
 * it is bundled here without these. Node loads it from its own package.
 */
const browserGrammarEngine: Plugin = {
  name: 'browser-grammar-engine',
  setup(build) {
    build.onResolve({ filter: /^(?:module|url)$/ }, ({ path, importer }) =>
      importer.includes('web-xgrammar') ? { path, namespace: 'absent' } : undefined,
    );
    build.onLoad({ filter: /.*/, namespace: 'absent' }, () => ({ contents: 'export {};' }));
  },
};

const options: Options = {
  entry: {
    index: 'src/index.ts',
    node: 'src/node.ts',
    testing: 'src/testing.ts',
    cli: 'src/cli/main.ts',
    openai: 'src/openai/index.ts',
    serve: 'src/serve/index.ts',
    ai_sdk: 'src/ai_sdk/index.ts',
    worker: 'src/worker/index.ts',
    worker_entry: 'src/worker/entry.ts',
  },
  format: 'esm',
  target: 'es2022',
  dts: true,
  sourcemap: true,
  clean: true,
  external: [/^@mambalab\//, 'webgpu'],
  noExternal: ['@mlc-ai/web-xgrammar'],
  esbuildPlugins: [browserGrammarEngine],
};

export default options;
