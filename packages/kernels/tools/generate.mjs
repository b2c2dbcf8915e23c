// Turns every shader under wgsl/ into a typed module under packages/kernels/src/generated/.
//   node packages/kernels/tools/generate.mjs [--force]
// Incremental: a stamp holds the hash of the shaders and of these tools.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openChecker } from './check.mjs';
import { linkVariant, reflect } from './link.mjs';
import { renderCode, renderPieces, renderPrelude, sharedPieces } from './pieces.mjs';
import { allVariants, isShared, parseDirectives, readShaders } from './shader-source.mjs';

const tools = dirname(fileURLToPath(import.meta.url));
const root = join(tools, '..', '..', '..');
const out = join(tools, '..', 'src', 'generated');
const stampFile = join(out, '.stamp');
const PIECES = 'pieces';

const shaders = readShaders(join(root, 'wgsl'));
const hash = createHash('sha256');
for (const file of readdirSync(tools).sort()) hash.update(file).update(readFileSync(join(tools, file)));
for (const { path, text } of shaders) hash.update(path).update(text);
const stamp = hash.digest('hex');

let previous = '';
try {
  previous = readFileSync(stampFile, 'utf8');
} catch {
  // First build: there is no stamp yet.
}

if (previous === stamp && !process.argv.includes('--force')) {
  console.log(`shaders: up to date (${shaders.filter(({ name }) => !isShared(name)).length})`);
} else {
  await generate();
}

async function generate() {
  const sources = Object.fromEntries(shaders.map(({ path, text }) => [path, text]));
  const checker = await openChecker();
  const modules = new Map();
  const problems = [];
  for (const shader of shaders.filter(({ name }) => !isShared(name))) {
    try {
      modules.set(shader.name, await linkModule(shader, sources, checker));
    } catch (error) {
      problems.push({ name: shader.name, message: error.message });
    }
  }
  checker.close();
  // A module is replaced only when it changed and in one step, so that what runs meanwhile never finds it missing; the
  // shaders that are right are written even when another one fails.
  const failed = new Set(problems.map(({ name }) => name));
  const shared = sharedPieces([...modules.values()].map(codesOf));
  const piecesFile = join(out, `${PIECES}.ts`);
  const kept = failed.size > 0 && existsSync(piecesFile) ? readFileSync(piecesFile, 'utf8') : '';
  replaceFile(piecesFile, renderPieces(shared, kept));
  for (const [name, module] of modules) replaceFile(join(out, `${name}.ts`), render({ name, shared, ...module }));
  for (const name of writtenModules()) {
    if (name !== PIECES && !modules.has(name) && !failed.has(name)) rmSync(join(out, `${name}.ts`));
  }
  if (problems.length > 0) {
    console.error(problems.map(({ message }) => message).join('\n\n'));
    process.exit(1);
  }
  replaceFile(stampFile, stamp);
  console.log(`shaders: ${modules.size} modules`);
  // Dawn's null device keeps the process alive.
  process.exit(0);
}

function replaceFile(file, text) {
  if (existsSync(file) && readFileSync(file, 'utf8') === text) return;
  mkdirSync(dirname(file), { recursive: true });
  const next = `${file}.${process.pid}.next`;
  writeFileSync(next, text);
  renameSync(next, file);
}

/** Names of the modules that stand in the output folder. */
function writtenModules() {
  if (!existsSync(out)) return [];
  return readdirSync(out, { recursive: true })
    .map((file) => file.split('\\').join('/'))
    .filter((file) => file.endsWith('.ts'))
    .map((file) => file.replace(/\.ts$/, ''));
}

/** What the module of one shader says, after linking, reflecting and compiling every variant. */
async function linkModule(shader, sources, checker) {
  const { axes, constants, requires: always, unroll } = parseDirectives(shader.name, shader.text);
  const variants = [];
  let shape;
  for (const choices of allVariants(axes)) {
    const label = `${shader.name} ${JSON.stringify(choices)}`;
    let code;
    try {
      code = await linkVariant(shader, sources, axes, choices);
    } catch (error) {
      throw new Error(`${label}: ${error.message}`, { cause: error });
    }
    const chosen = axes.flatMap(({ axis, choices: all }) => all.find((c) => c.choice === choices[axis]).requires);
    const requires = [...always, ...chosen];
    await checker.check(label, code, requires);
    const found = reflect(label, code);
    const common = JSON.stringify({
      ...found,
      bindings: found.bindings.map(({ name, index, access }) => ({ name, index, access })),
    });
    if (shape !== undefined && shape.common !== common) {
      throw new Error(
        `${label}: bindings, Params and overrides must be the same in every variant\n${shape.common}\n${common}`,
      );
    }
    shape ??= { common, found };
    variants.push({ choices, code, scalars: found.bindings.map(({ scalar }) => scalar) });
  }
  const declared = constantDeclarations(shader.name, constants, variants);
  return { axes, requires: always, constants: declared, found: shape.found, variants, unroll };
}

function constantDeclarations(name, constants, variants) {
  return constants.map((constant) => {
    const pattern = new RegExp(`^const ${constant}: (u32|i32|f32) = [^;]+;$`, 'm');
    const found = variants.map(({ code }) => pattern.exec(code));
    const declaration = found[0]?.[0];
    if (declaration === undefined || found.some((match) => match?.[0] !== declaration)) {
      throw new Error(
        `${name}: the constant ${constant} must be declared as "const ${constant}: u32 = 64u;" in every variant`,
      );
    }
    return { name: constant, type: found[0][1], declaration };
  });
}

function union(names) {
  return names.length === 0 ? 'never' : names.map((name) => `'${name}'`).join(' | ');
}

function codesOf({ variants }) {
  return variants.map(({ code }) => code);
}

function render({ name, shared, axes, requires, constants, found, variants, unroll }) {
  const depth = '../'.repeat(name.split('/').length);
  const identifier = name
    .split('/')
    .at(-1)
    .replace(/_(\w)/g, (_, letter) => letter.toUpperCase());
  const axesType =
    axes.length === 0
      ? 'Record<never, never>'
      : `{ ${axes.map(({ axis, choices }) => `readonly ${axis}: ${union(choices.map((c) => c.choice))}`).join('; ')} }`;
  const bindings = found.bindings.map((binding, at) => ({
    name: binding.name,
    index: binding.index,
    access: binding.access,
    scalars: variants.map(({ scalars }) => scalars[at]),
  }));
  const value = {
    name,
    bindings,
    ...(found.paramsBinding === undefined ? {} : { paramsBinding: found.paramsBinding }),
    paramsSize: found.paramsSize,
    params: found.params,
    overrides: found.overrides,
    constants: Object.fromEntries(
      constants.map(({ name: constant, type, declaration }) => [constant, { declaration, type }]),
    ),
    ...(unroll.length === 0 ? {} : { unroll }),
    requires,
    axes: Object.fromEntries(axes.map(({ axis, choices }) => [axis, choices])),
    variants: variants.map(({ choices }, at) => ({ choices, code: at })),
  };
  const body = JSON.stringify(value, null, 1).replace(/"code": (\d+)/g, (_, at) => renderCode(variants[at].code));
  const text =
    found.paramsBinding === undefined
      ? body.replace('\n "paramsSize"', '\n "paramsBinding": undefined,\n "paramsSize"')
      : body;
  return `// Written by packages/kernels/tools/generate.mjs from wgsl/${name}.wgsl. Do not edit.
import type { Shader } from '${depth}core/shader.ts';
${renderPrelude(codesOf({ variants }), shared, `${'../'.repeat(name.split('/').length - 1)}${PIECES}.ts`)}
export const ${identifier}Shader: Shader<
  ${union(found.bindings.map((binding) => binding.name))},
  ${union(Object.keys(found.params))},
  ${union(Object.keys(found.overrides))},
  ${union(constants.map((constant) => constant.name))},
  ${axesType}
> = ${text};
`;
}
