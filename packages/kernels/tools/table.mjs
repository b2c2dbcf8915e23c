// Writes docs/kernels/variants.md: every kernel, the shaders that it records, their variants and what those need.
//   node packages/kernels/tools/table.mjs [--check]
// With --check nothing is written; the exit code says whether the file is up to date.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isShared, parseDirectives, readShaders } from './shader-source.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..');
const sources = join(root, 'packages', 'kernels', 'src');
const file = join(root, 'docs', 'kernels', 'variants.md');

/** Functions of a host half that record a kernel. */
const KERNEL = /^export function (\w+)\(\s*recording: Recording,/gm;
const imports = (text, pattern) => [...text.matchAll(pattern)].map((match) => match[1]);

/** Host halves that `families.ts` exports, as { kernels, path, text }. */
function hostHalves() {
  const families = readFileSync(join(sources, 'families.ts'), 'utf8');
  const paths = [...new Set(imports(families, /from '\.\/([a-z_0-9]+\/[a-z_0-9]+\.ts)';/g))];
  return paths.flatMap((path) => {
    const text = readFileSync(join(sources, path), 'utf8');
    const kernels = imports(text, KERNEL).filter((name) => new RegExp(`\\b${name}\\b`).test(families));
    return kernels.length === 0 ? [] : [{ kernels, path, text }];
  });
}

/** Shaders that a host half records, those of helpers in its family included but not those of other kernels. */
function shadersOf(path, text, kernelPaths, seen = new Set([path])) {
  const own = imports(text, /from '\.\.\/generated\/([a-z_0-9/]+)\.ts';/g);
  const near = imports(text, /^import \{[^}]*\} from '\.\/([a-z_0-9]+\.ts)';/gm)
    .map((name) => join(dirname(path), name).split('\\').join('/'))
    .filter((next) => !kernelPaths.has(next) && !seen.has(next) && existsSync(join(sources, next)));
  for (const next of near) seen.add(next);
  const further = near.flatMap((next) => shadersOf(next, readFileSync(join(sources, next), 'utf8'), kernelPaths, seen));
  return [...new Set([...own, ...further])];
}

const code = (text) => `\`${text}\``;
const needs = (list) => (list.length === 0 ? 'nothing' : list.map(code).join(', '));

/** The whole document. */
export function variantsTable() {
  const halves = hostHalves();
  const kernelPaths = new Set(halves.map(({ path }) => path));
  const directives = new Map(
    readShaders(join(root, 'wgsl'))
      .filter(({ name }) => !isShared(name))
      .map(({ name, text }) => [name, parseDirectives(name, text)]),
  );
  const rows = halves
    .flatMap(({ kernels, path, text }) =>
      kernels.map((kernel) => ({ kernel, path, shaders: shadersOf(path, text, kernelPaths) })),
    )
    .sort((a, b) => (a.path < b.path ? -1 : a.path > b.path ? 1 : 0));
  const lines = rows.flatMap(({ kernel, shaders }) =>
    shaders.length === 0
      ? [`| ${code(kernel)} | records other kernels | | |`]
      : shaders.map((shader, at) => {
          const { axes, requires } = directives.get(shader);
          const variants = axes.map(({ axis, choices }) => {
            const listed = choices.map((one) =>
              one.requires.length === 0 ? one.choice : `${one.choice} (${needs(one.requires)})`,
            );
            return `${axis}: ${listed.join(', ')}`;
          });
          return `| ${at === 0 ? code(kernel) : ''} | ${code(shader)} | ${variants.join('; ') || 'one'} | ${needs(requires)} |`;
        }),
  );
  return `${[
    '# Kernels, variants and requirements',
    '',
    'Written by `node packages/kernels/tools/table.mjs`; do not edit. A variant is a choice on every axis; the first choice',
    'whose needs (in brackets) the device meets is taken, and the last one needs nothing beyond the default limits of',
    'WebGPU. A shader that always needs something stands beside another that does not.',
    '',
    '| kernel | shader | variants | always needs |',
    '| --- | --- | --- | --- |',
    ...lines,
  ].join('\n')}\n`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const text = variantsTable();
  const current = existsSync(file) ? readFileSync(file, 'utf8') : '';
  if (process.argv.includes('--check')) {
    if (current !== text) {
      console.error('docs/kernels/variants.md is out of date: run node packages/kernels/tools/table.mjs');
      process.exitCode = 1;
    }
  } else writeFileSync(file, text);
}
