import type { Options } from 'tsup';

const common: Options = {
  format: 'esm',
  target: 'es2022',
  platform: 'node',
  sourcemap: true,
  splitting: false,
  // Several configurations write to one folder: none may empty it under the others.
  clean: false,
};

// What is bundled from CommonJS asks for Node's modules by require, which ES modules lack.
const banner = {
  js: "import { createRequire as requireFrom } from 'node:module';\nconst require = requireFrom(import.meta.url);",
};

const options: Options[] = [
  { ...common, entry: { index: 'src/index.ts' }, platform: 'neutral', dts: true, external: [/^@mambalab\//, 'webgpu'] },
  {
    ...common,
    // The program loads what opens models only when it is asked for one.
    entry: { cli: 'src/cli/main.ts', open_model: 'src/harness/open_model.ts' },
    splitting: true,
    external: [/^@mambalab\//, 'webgpu'],
    noExternal: ['commander', 'linkedom', /^@observablehq\//, /^d3/],
    banner,
  },
  // The program of the page that `report` writes, which it puts into the page.
  {
    ...common,
    entry: { report_page: 'src/report/page.ts' },
    format: 'iife',
    platform: 'browser',
    minify: true,
    sourcemap: false,
    noExternal: [/./],
    outExtension: () => ({ js: '.js' }),
  },
  // One file that runs wherever Node and the package webgpu are: copy it to the machine to be measured.
  { ...common, entry: { standalone: 'src/cli/main.ts' }, external: ['webgpu'], noExternal: [/^(?!webgpu$)/], banner },
];

export default options;
