// Links one shader for one variant (WESL) and reflects the result (wgsl_reflect).
import { link } from 'wesl';
import { WgslReflect } from 'wgsl_reflect/wgsl_reflect.module.js';
import { conditionsOf } from './shader-source.mjs';

// The words of the experimental matrix extension, which WESL cannot resolve. For linking they become declarations of a
// module of stubs, named by their path so that no import is needed; in the linked text they get their names back.
const MATRIX_WORD = /\b(subgroupMatrix\w+|subgroup_matrix_(?:left|right|result)|row_major|col_major)\b/g;
const STUBS = 'matrix_stubs';
const stubOf = (word) => `stub_of_${word}`;
const stubText = (word) => `fn ${stubOf(word)}() { }`;
// Module-scope names of matrix types, which the reflection library cannot read.
const MATRIX_DECLARATION =
  /^alias \w+ = (?:array<)?subgroup_matrix_[^;]*;$|^struct \w+ \{[^}]*subgroup_matrix_[^}]*\}$/gm;
// A stub as the linker prints it.
const STUB_DECLARATION = /^fn stub_of_\w+\(\)\s*\{\s*\}$/gm;

/** The sources with matrix words replaced, and the module that declares what replaces them. */
function hideMatrixWords(sources) {
  const words = new Set();
  const hidden = Object.entries(sources).map(([path, text]) => {
    const lines = text.split('\n').map((line) => {
      const [code, ...comment] = line.split('//');
      const renamed = (code ?? '').replace(MATRIX_WORD, (word) => {
        words.add(word);
        return `package::${STUBS}::${stubOf(word)}`;
      });
      return [renamed, ...comment].join('//');
    });
    return [path, lines.join('\n')];
  });
  return { ...Object.fromEntries(hidden), [`${STUBS}.wgsl`]: [...words].sort().map(stubText).join('\n') };
}

const restoreMatrixWords = (code) => code.replace(STUB_DECLARATION, '').replace(/\bstub_of_(\w+)/g, '$1');

/** Linked, deterministic WGSL of one variant: no imports, no conditions, no comments, no unused declarations. */
export async function linkVariant(shader, sources, axes, variant) {
  const linked = await link({
    weslSrc: hideMatrixWords(sources),
    rootModuleName: shader.name,
    conditions: conditionsOf(axes, variant),
  });
  return restoreMatrixWords(linked.dest)
    .split('\n')
    .map((line) => line.replace(/\/\/.*$/, '').trimEnd())
    .filter((line) => line.trim() !== '')
    .map((line) => line.replace(/^( {2})+/, (indent) => ' '.repeat(indent.length / 2)))
    .join('\n');
}

/**
 * Linked text without its functions, the entry point's signature excepted. The reflection library does not know every
 * word of current WGSL, and what is reflected stands outside of function bodies.
 */
function interfaceOf(code) {
  let out = '';
  let rest = code;
  for (;;) {
    const start = /^(?:@compute[^\n]*?\s)?fn (\w+)/m.exec(rest);
    if (start === null) return (out + rest).replace(MATRIX_DECLARATION, '');
    const open = rest.indexOf('{', start.index);
    let depth = 1;
    let end = open + 1;
    for (; depth > 0 && end < rest.length; end++) depth += rest[end] === '{' ? 1 : rest[end] === '}' ? -1 : 0;
    out += rest.slice(0, start.index);
    if (start[0].startsWith('@compute')) out += `${rest.slice(start.index, open)}{}\n`;
    rest = rest.slice(end);
  }
}

/** Interface of linked text: bindings, Params, overrides, workgroup size. */
export function reflect(name, code) {
  const module = new WgslReflect(interfaceOf(code));
  const [entry, ...others] = module.entry.compute;
  if (entry === undefined || others.length > 0 || entry.name !== 'main') {
    throw new Error(`${name}: a shader has exactly one entry point, named main`);
  }
  if (module.uniforms.length > 1) throw new Error(`${name}: a shader has at most one uniform binding, Params`);
  const params = module.uniforms[0];
  const fields = {};
  for (const member of params?.type.members ?? []) {
    if (!['u32', 'i32', 'f32'].includes(member.type.name)) {
      throw new Error(`${name}: Params.${member.name} must be u32, i32 or f32`);
    }
    fields[member.name] = { type: member.type.name, offset: member.offset };
  }
  const bindings = module.storage.map((binding) => {
    if (binding.group !== 0) throw new Error(`${name}: ${binding.name} must be in group 0`);
    return { name: binding.name, index: binding.binding, access: binding.access, scalar: scalarOf(binding.type) };
  });
  const overrides = {};
  for (const override of module.overrides) {
    const declared = new RegExp(`override ${override.name}\\s*(?::\\s*\\w+)?\\s*=\\s*([^;]+);`).exec(code);
    overrides[override.name] = { type: override.type?.name ?? 'u32', default: defaultOf(declared?.[1]) };
  }
  return {
    bindings: bindings.sort((a, b) => a.index - b.index),
    paramsBinding: params?.binding,
    paramsSize: params?.size ?? 0,
    params: fields,
    overrides,
  };
}

function defaultOf(text) {
  if (text === undefined) return undefined;
  if (text === 'true' || text === 'false') return text === 'true';
  const number = Number(text.replace(/[uif]$/, ''));
  return Number.isNaN(number) ? undefined : number;
}

/** `array<vec4<u32>>` -> `u32` */
function scalarOf(type) {
  let inner = type;
  while (inner.format !== undefined && inner.format !== null) inner = inner.format;
  const short = /^(?:vec\d|mat\dx\d)([fhiu])$/.exec(inner.name);
  if (short !== null) return { f: 'f32', h: 'f16', i: 'i32', u: 'u32' }[short[1]];
  const atomic = /^atomic$/.exec(inner.name);
  return atomic === null ? inner.name : 'u32';
}
