import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { filesIn, headerOf, importsOf, PASSES, readText, ROOT, unwrittenBindings, withoutComments } from './support.ts';

const SHADERS = filesIn('wgsl', '.wgsl');
const STEMS = SHADERS.map((path) => path.slice('wgsl/'.length, -'.wgsl'.length)).filter(
  (stem) => !stem.startsWith('shared/'),
);
const KERNELS = [...new Set(STEMS.map((stem) => PASSES[stem] ?? stem))];
const inFolder = (path: string, ...folders: readonly string[]): boolean =>
  folders.some((folder) => path.startsWith(`${folder}/`));

describe('one stem, mirrored paths', () => {
  it.each(KERNELS)('%s has its host half, reference, test and bench', (stem) => {
    const missing = [
      `packages/kernels/src/${stem}.ts`,
      `packages/kernels/reference/${stem}.ts`,
      `tests/kernels/${stem}.test.ts`,
      `packages/bench/src/kernels/${stem}.bench.ts`,
    ].filter((path) => !existsSync(join(ROOT, path)));
    expect(missing).toEqual([]);
  });

  it('every pass that is named exists', () => {
    expect(Object.keys(PASSES).filter((pass) => !STEMS.includes(pass))).toEqual([]);
  });

  it('every kernel test and every bench has a host half', () => {
    const stemOf = (path: string, folder: string, ending: string): string =>
      path.slice(folder.length + 1, -ending.length);
    const families = new Set(STEMS.map((stem) => stem.split('/')[0]));
    const tested = filesIn('tests/kernels', '.test.ts')
      .map((path) => stemOf(path, 'tests/kernels', '.test.ts'))
      .filter((stem) => families.has(stem.split('/')[0] ?? ''));
    // A kernel's variants for matrix units may have a test of their own.
    const lacksHost = (stem: string): boolean =>
      !existsSync(join(ROOT, `packages/kernels/src/${stem.replace(/_matrix$/, '')}.ts`));
    expect(tested.filter(lacksHost)).toEqual([]);
    const folder = 'packages/bench/src/kernels';
    const measured = filesIn(folder, '.bench.ts').map((path) => stemOf(path, folder, '.bench.ts'));
    expect(measured.filter(lacksHost)).toEqual([]);
  });

  it('every bench is in the list of benches, every kernel in the list of families', () => {
    const listed = importsOf('packages/bench/src/kernels/index.ts');
    expect(filesIn('packages/bench/src/kernels', '.bench.ts').filter((path) => !listed.includes(path))).toEqual([]);
    const exported = importsOf('packages/kernels/src/families.ts');
    expect(KERNELS.filter((stem) => !exported.includes(`packages/kernels/src/${stem}.ts`))).toEqual([]);
  });
});

describe('imports point one way', () => {
  const kernels = 'packages/kernels/src';

  /** Imports of all files below a folder that a rule does not allow, as `file -> import`. */
  const offences = (folder: string, allowed: (file: string, target: string) => boolean): string[] =>
    filesIn(folder, '.ts').flatMap((file) =>
      importsOf(file)
        .filter((target) => !allowed(file, target))
        .map((target) => `${file} -> ${target}`),
    );

  it('a family imports itself, its generated shaders and core', () => {
    const families = offences(kernels, (file, target) => {
      const [family, ...rest] = file.slice(kernels.length + 1).split('/');
      if (rest.length === 0 || family === 'core') return true;
      return inFolder(target, `${kernels}/${family}`, `${kernels}/generated/${family}`, `${kernels}/core`);
    });
    expect(families).toEqual([]);
  });

  it('core imports itself alone', () => {
    expect(offences(`${kernels}/core`, (_, target) => inFolder(target, `${kernels}/core`))).toEqual([]);
  });

  it('only the entry for Node knows Dawn', () => {
    const dawn = offences(kernels, (file, target) => target !== 'webgpu' || file === `${kernels}/node.ts`);
    expect(dawn).toEqual([]);
  });

  it('a reference imports references alone', () => {
    const folder = 'packages/kernels/reference';
    expect(offences(folder, (_, target) => inFolder(target, folder))).toEqual([]);
  });

  it('models reach kernels by name, and neither Dawn nor the benchmarks', () => {
    const folder = 'packages/models/src';
    const found = offences(folder, (_, target) =>
      target.startsWith('packages/') || target.startsWith('wgsl/')
        ? inFolder(target, folder) || target === 'packages/models/package.json'
        : target !== 'webgpu' && !target.endsWith('.wgsl') && !target.startsWith('@mambalab/bench'),
    );
    expect(found).toEqual([]);
  });

  it('models hold no GPU objects but the device that an app hands over', () => {
    const offending = filesIn('packages/models/src', '.ts').flatMap((file) => {
      const code = withoutComments(readText(file));
      const types = Array.from(code.matchAll(/\bGPU[A-Z]\w*/g), ([name]) => name).filter(
        (name) => name !== 'GPUDevice',
      );
      const calls = Array.from(
        code.matchAll(
          /\.(?:createBindGroup|createComputePipeline|createShaderModule|createCommandEncoder|beginComputePass)\w*\(/g,
        ),
        ([call]) => call,
      );
      return [...types, ...calls].map((what) => `${file}: ${what}`);
    });
    expect(offending).toEqual([]);
  });

  it('benchmarks reach the other packages by name', () => {
    const folder = 'packages/bench/src';
    const found = offences(
      folder,
      // Versions come from the packages' own descriptions.
      (_, target) => !target.startsWith('packages/') || inFolder(target, folder) || target.endsWith('/package.json'),
    );
    expect(found).toEqual([]);
  });
});

describe('shaders', () => {
  it.each(STEMS)('%s says what it does before anything else', (stem) => {
    const header = headerOf(readText(`wgsl/${stem}.wgsl`));
    expect(header.length).toBeGreaterThanOrEqual(6);
    const words = ['Source:', 'Work:', 'Workgroup memory:', 'Barriers:', 'Requirements:'];
    const text = header.join('\n');
    // In this order, after the equation.
    expect(words.map((word) => text.indexOf(word)).filter((at) => at <= 0)).toEqual([]);
    expect(words.toSorted((a, b) => text.indexOf(a) - text.indexOf(b))).toEqual(words);
  });

  it.each(STEMS)('%s writes what it binds to write', (stem) => {
    expect(unwrittenBindings(readText(`wgsl/${stem}.wgsl`))).toEqual([]);
  });

  it.each(SHADERS.filter((path) => path.startsWith('wgsl/shared/')))('%s is imported by a shader', (path) => {
    const name = path.slice('wgsl/'.length, -'.wgsl'.length).replace('/', '::');
    const users = SHADERS.filter((other) => new RegExp(`^import package::${name}::`, 'm').test(readText(other)));
    expect(users.length).toBeGreaterThan(0);
  });
});

describe('the checks of this file', () => {
  it('find imports of every form, and none in comments', () => {
    const here = importsOf('tests/layout/layout.test.ts');
    expect(here).toEqual(['node:fs', 'node:path', 'vitest', 'tests/layout/support.ts']);
  });

  it('find bindings that are not written', () => {
    const declare = (name: string): string => `@group(0) @binding(1) var<storage, read_write> ${name}: array<f32>;\n`;
    const cases: readonly [string, boolean][] = [
      ['a[0] = 1.0;', true],
      ['a[i + b[j]] += 1.0;', true],
      ['a = c;', true],
      ['atomicAdd(&a[0], 1);', true],
      ['let x = a[0];', false],
      ['if (a[0] == 1.0) { b[0] = 2.0; }', false],
      ['ba[0] = 1.0; // a[0] = 1', false],
      ['c.a = 1.0;', false],
    ];
    for (const [body, written] of cases) {
      expect([body, unwrittenBindings(`${declare('a')}fn main() { ${body} }`)]).toEqual([body, written ? [] : ['a']]);
    }
  });
});
