import { ShaderError } from './errors.ts';

// Writes loops of a shader's text out. Drivers keep an array in slow memory when a variable indexes it, and do not unroll
// every loop whose bounds they know.

/**
 * Writes out each `for (var v = 0u; v < COUNT; v++) { ... }` over one of these variables.
 *
 * @throws ShaderError if COUNT is not made of numbers and the `const` declarations of the text
 */
export function unrollLoops(code: string, variables: readonly string[]): string {
  const constants = new Map<string, string>();
  for (const [, name = '', value = ''] of code.matchAll(/^const (\w+): u32 = ([^;]+);/gm)) constants.set(name, value);
  let text = code;
  for (const variable of variables) {
    const head = new RegExp(`for \\(var ${variable} = 0u; ${variable} < ([^;]+); ${variable}\\+\\+\\) \\{`);
    const use = new RegExp(`\\b${variable}\\b`, 'g');
    for (let found = head.exec(text); found !== null; found = head.exec(text)) {
      const begin = found.index + found[0].length;
      const end = closingBrace(text, begin);
      const body = text.slice(begin, end);
      const count = valueOf(found[1] ?? '', constants);
      const copies = Array.from({ length: count }, (_, at) => `{${body.replace(use, `${at}u`)}}`);
      text = `${text.slice(0, found.index)}${copies.join('\n')}${text.slice(end + 1)}`;
    }
  }
  return text;
}

/** Where the block closes that is open at `begin`. */
function closingBrace(text: string, begin: number): number {
  let depth = 1;
  for (let at = begin; at < text.length; at++) {
    if (text[at] === '{') depth += 1;
    else if (text[at] === '}') depth -= 1;
    if (depth === 0) return at;
  }
  return text.length;
}

/** The value of a constant expression of u32: numbers, names of constants, brackets, and + - * /, which rounds down. */
function valueOf(expression: string, constants: ReadonlyMap<string, string>): number {
  const tokens = expression.match(/\w+|[-+*/()]/g) ?? [];
  let at = 0;
  const fail = (): never => {
    throw new ShaderError(
      `'${expression}' is no constant.`,
      'Name constants of the shader in loops that are written out.',
    );
  };
  const term = (): number => {
    const token = tokens[at++] ?? fail();
    if (token === '(') {
      const value = sum();
      return tokens[at++] === ')' ? value : fail();
    }
    const number = /^(\d+)u?$/.exec(token)?.[1];
    if (number !== undefined) return Number(number);
    const constant = constants.get(token);
    return constant === undefined ? fail() : valueOf(constant, constants);
  };
  const product = (): number => {
    let value = term();
    while (tokens[at] === '*' || tokens[at] === '/') {
      value = tokens[at++] === '*' ? value * term() : Math.floor(value / term());
    }
    return value;
  };
  const sum = (): number => {
    let value = product();
    while (tokens[at] === '+' || tokens[at] === '-')
      value = tokens[at++] === '+' ? value + product() : value - product();
    return value;
  };
  const value = sum();
  return at === tokens.length ? value : fail();
}
