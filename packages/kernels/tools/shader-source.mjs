// Reads what a shader file declares about its own variants: lines that begin with `//!`.
//
//   //! axis weight: f32 | f16 | bf16            choices, best first; the condition `weight_f16` is true in one of them
//   //! axis simd: subgroups(subgroups) | baseline   in brackets what the device must have
//   //! requires subgroups, shader-f16        what the device must have for any variant
//   //! constant HEAD_DIM                        a `const` whose value the host sets when it makes the pipeline
//   //! unroll f, i                           loops `for (var f = 0u; f < COUNT; f++)` are written out on hardware: drivers
//                                             keep arrays of matrix fragments in memory where a variable indexes them
import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';

/** Every `.wgsl` file below a folder, as { path, name, text }, in a fixed order. */
export function readShaders(root) {
  return readdirSync(root, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith('.wgsl'))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)).split('\\').join('/'))
    .sort()
    .map((path) => ({ path, name: path.replace(/\.wgsl$/, ''), text: readFileSync(join(root, path), 'utf8') }));
}

/** Pieces that others import; they have no entry point of their own. */
export const isShared = (name) => name.startsWith('shared/');

export function parseDirectives(name, text) {
  const axes = [];
  const constants = [];
  const requires = [];
  const unroll = [];
  for (const line of text.split('\n')) {
    const match = /^\/\/!\s*(\w+)\s+(\w+)\s*(?::\s*(.*))?$/.exec(line.trim());
    if (!line.trim().startsWith('//!')) continue;
    const needs = /^\/\/!\s*requires\s+(.+)$/.exec(line.trim());
    if (needs !== null) {
      requires.push(...listed(needs[1]));
      continue;
    }
    const loops = /^\/\/!\s*unroll\s+(\w+(?:,\s*\w+)*)$/.exec(line.trim());
    if (loops !== null) {
      unroll.push(...listed(loops[1]));
      continue;
    }
    if (match === null) throw new Error(`${name}: cannot read the directive "${line}"`);
    const [, kind, subject, rest] = match;
    if (kind === 'axis') axes.push({ axis: subject, choices: parseChoices(name, subject, rest ?? '') });
    else if (kind === 'constant') constants.push(subject);
    else throw new Error(`${name}: unknown directive "${kind}"`);
  }
  return { axes, constants, requires, unroll };
}

function parseChoices(name, axis, text) {
  const choices = text.split('|').map((part) => {
    const match = /^([\w-]+)(?:\(([^)]*)\))?$/.exec(part.trim());
    if (match === null) throw new Error(`${name}: cannot read the choice "${part}" of axis ${axis}`);
    return { choice: match[1], requires: listed(match[2] ?? '') };
  });
  if (choices.at(-1).requires.length > 0) throw new Error(`${name}: the last choice of axis ${axis} must need nothing`);
  return choices;
}

function listed(text) {
  return text
    .split(',')
    .map((need) => need.trim())
    .filter((need) => need !== '');
}

/** Whether a requirement is a feature to ask for, and not a limit, a subgroup size or a matrix shape. */
export const isFeature = (need) => !/[=:]/.test(need);

/** The product of all axes, each variant as { axis: choice }. */
export function allVariants(axes) {
  return axes.reduce(
    (variants, { axis, choices }) =>
      variants.flatMap((variant) => choices.map(({ choice }) => ({ ...variant, [axis]: choice }))),
    [{}],
  );
}

/** WESL conditions of a variant: every choice of every axis, true or false. */
export function conditionsOf(axes, variant) {
  const conditions = {};
  for (const { axis, choices } of axes) {
    for (const { choice } of choices) conditions[`${axis}_${choice.replace(/-/g, '_')}`] = variant[axis] === choice;
  }
  return conditions;
}
