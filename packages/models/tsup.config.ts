import type { Options } from 'tsup';

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
};

export default options;
