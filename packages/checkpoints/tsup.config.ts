import type { Options } from 'tsup';

const options: Options = {
  entry: { index: 'src/index.ts' },
  format: 'esm',
  target: 'es2022',
  dts: true,
  sourcemap: true,
  clean: true,
  external: [/^@mambalab\//, 'webgpu'],
};

export default options;
