import type { Options } from 'tsup';

const options: Options = {
  entry: { index: 'src/index.ts', node: 'src/node.ts', testing: 'src/testing.ts', cli: 'src/cli/main.ts' },
  format: 'esm',
  target: 'es2022',
  dts: true,
  sourcemap: true,
  clean: true,
  external: [/^@mambalab\//, 'webgpu'],
};

export default options;
