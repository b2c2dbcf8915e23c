import { WeightFormatError } from '@mambalab/kernels';

/** A string literal (kept), or a bare number word that Python's `json.dumps` writes and JSON does not allow. */
const STRING_OR_NON_FINITE = /"[^"\\]*(?:\\[^][^"\\]*)*"|-?\bInfinity\b|\bNaN\b/g;
const NON_FINITE: ReadonlyMap<string, number> = new Map([
  ['Infinity', Infinity],
  ['-Infinity', -Infinity],
  ['NaN', NaN],
]);

/**
 * Parses JSON as Hugging Face libraries write it: `{"__float__": "Infinity"}` (also `-Infinity`, `NaN`) becomes that
 * number, and so do the bare words `Infinity`, `-Infinity` and `NaN` of Python's `json.dumps`.
 *
 * @param file the file's name, for the message
 * @throws WeightFormatError if the text is not JSON.
 */
export function parseJson(text: string, file: string): unknown {
  const body = text.startsWith('\uFEFF') ? text.slice(1) : text;
  try {
    return parseTagged(body);
  } catch {
    // Only text that is no JSON is searched for Python's words, outside string literals.
    const tagged = body.replace(STRING_OR_NON_FINITE, (match) =>
      match.startsWith('"') ? match : `{"__float__":"${match}"}`,
    );
    try {
      return parseTagged(tagged);
    } catch (cause) {
      throw new WeightFormatError(`${file} is not JSON.`, 'Download or export the file again.', { cause });
    }
  }
}

function parseTagged(text: string): unknown {
  // A reviver is slow on a tokenizer of megabytes, and hardly any file needs it.
  return text.includes('"__float__"') ? JSON.parse(text, reviveFloat) : JSON.parse(text);
}

function reviveFloat(_key: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || !('__float__' in value)) return value;
  const { __float__: name, ...others } = value;
  const number = typeof name === 'string' ? NON_FINITE.get(name) : undefined;
  return number === undefined || Object.keys(others).length > 0 ? value : number;
}

/**
 * The first key that an object of the text repeats, looking `maxDepth` objects deep; undefined if none does.
 * JSON.parse silently keeps the last one, which lets two readers see two different files.
 *
 * @param text valid JSON
 */
export function duplicateKey(text: string, maxDepth: number): string | undefined {
  const keysOfOpenObjects: (Set<string> | undefined)[] = [];
  const token = /"[^"\\]*(?:\\[^][^"\\]*)*"(\s*:)?|[{}[\]]/g;
  for (let match = token.exec(text); match !== null; match = token.exec(text)) {
    const [lexeme, colon] = match;
    if (lexeme === '{') {
      keysOfOpenObjects.push(keysOfOpenObjects.length < maxDepth ? new Set() : undefined);
    } else if (lexeme === '[') {
      keysOfOpenObjects.push(undefined);
    } else if (lexeme === '}' || lexeme === ']') {
      keysOfOpenObjects.pop();
    } else if (colon !== undefined) {
      const keys = keysOfOpenObjects.at(-1);
      if (keys === undefined) continue;
      // Parsed, so that "a" and "\u0061" are one key.
      const key: unknown = JSON.parse(lexeme.slice(0, lexeme.length - colon.length));
      if (typeof key !== 'string') continue;
      if (keys.has(key)) return key;
      keys.add(key);
    }
  }
  return undefined;
}

/** Whether a parsed value is a JSON object. */
export function isFields(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
