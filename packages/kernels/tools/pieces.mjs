// Variants of a shader differ in a few declarations, and many shaders have the same ones: written out whole, the texts
// are nine times as long. So modules name declarations, each written once: in the module that has it alone, or in
// pieces.ts, where bundlers take what is used.
import { createHash } from 'node:crypto';

/** Parts of a linked text that begin at the left edge; joined by line ends they are the text. */
const split = (code) => code.split(/\n(?=[^\s}])/);

const nameOf = (piece) => `p${createHash('sha256').update(piece).digest('hex').slice(0, 12)}`;

/** Pieces that more than one module has. @param codesOfModules the texts of each module */
export function sharedPieces(codesOfModules) {
  const users = new Map();
  for (const codes of codesOfModules) {
    for (const piece of new Set(codes.flatMap(split))) users.set(piece, (users.get(piece) ?? 0) + 1);
  }
  return new Set([...users].filter(([, count]) => count > 1).map(([piece]) => piece));
}

const declare = (piece) => `const ${nameOf(piece)} = ${JSON.stringify(piece)};\n`;

/** The module of pieces. Constants that it had before stay where `kept` is its text: another module may still use them. */
export function renderPieces(shared, kept = '') {
  const lines = [...shared].map((piece) => `export ${declare(piece)}`);
  const before = kept.split('\n').flatMap((line) => (line.startsWith('export const') ? [`${line}\n`] : []));
  const sorted = [...new Set([...lines, ...before])].sort();
  return `// Written by packages/kernels/tools/generate.mjs: declarations that several shaders have. Do not edit.\n${sorted.join('')}`;
}

/** What a module needs before its shader: imports from the module of pieces, and pieces of its own. */
export function renderPrelude(codes, shared, address) {
  const pieces = [...new Set(codes.flatMap(split))];
  const imported = pieces.filter((piece) => shared.has(piece)).map(nameOf);
  const own = pieces.filter((piece) => !shared.has(piece)).map(declare);
  const imports = imported.length === 0 ? '' : `import { ${imported.sort().join(', ')} } from '${address}';\n`;
  return `${imports}\n${own.join('')}`;
}

/** A property that joins the pieces when it is read: a call would keep a bundler from leaving the shader out. */
export const renderCode = (code) =>
  `get code() {\n    return [${split(code).map(nameOf).join(', ')}].join('\\n');\n   }`;
