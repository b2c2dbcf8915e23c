/** A call as a model wrote it. */
export interface RawCall {
  readonly name: string;
  /** A JSON object. */
  readonly arguments: Readonly<Record<string, unknown>>;
}

/** How models of one template style write calls. */
export interface ToolCallFormat {
  readonly name: string;
  /** What begins calls; '' where only a whole text that is JSON is one. */
  readonly open: string;
  /** What ends them; undefined where they go on to the end of the text. */
  readonly close?: string;
}

/**
 * The styles of common chat templates. Hermes and Qwen: `<tool_call>{...}</tool_call>`, one a call. Granite:
 * `<|tool_call|>[{...}, ...]` (3.x), or with `<tool_call>` in front of the list. Mistral: `[TOOL_CALLS][{...}, ...]`, or
 * `[TOOL_CALLS]name{...}` for later tokenizers. Llama 3: `<|python_tag|>{...}; {...}`, or a text that is JSON alone.
 */
export const TOOL_CALL_FORMATS: readonly ToolCallFormat[] = [
  { name: 'granite', open: '<|tool_call|>' },
  { name: 'hermes', open: '<tool_call>', close: '</tool_call>' },
  { name: 'mistral', open: '[TOOL_CALLS]' },
  { name: 'llama', open: '<|python_tag|>' },
];

/** Tokens that are part of calls and would be left out as special ones. */
export const TOOL_CALL_MARKERS: ReadonlySet<string> = new Set([
  ...TOOL_CALL_FORMATS.flatMap(({ open, close }) => (close === undefined ? [open] : [open, close])),
  '[ARGS]',
  '[CALL_ID]',
]);

/** The calls of one block of a text, undefined where it holds anything else. */
export function parseCalls(block: string): readonly RawCall[] | undefined {
  const text = block.trim();
  const parsed = parseJson(text);
  if (parsed !== undefined) return callsOf(parsed);
  return parseNamed(text) ?? parseSeparated(text);
}

function callsOf(value: unknown): readonly RawCall[] | undefined {
  const items: readonly unknown[] = Array.isArray(value) ? value : [value];
  const calls = items.map(callOf);
  return calls.length > 0 && calls.every((call) => call !== undefined) ? calls : undefined;
}

function callOf(value: unknown): RawCall | undefined {
  if (!isObject(value)) return undefined;
  // OpenAI's own form nests them.
  const call = isObject(value['function']) ? value['function'] : value;
  const name = call['name'];
  const given = call['arguments'] ?? call['parameters'] ?? {};
  const parameters = typeof given === 'string' ? parseJson(given) : given;
  return typeof name === 'string' && name !== '' && isObject(parameters) ? { name, arguments: parameters } : undefined;
}

/** `name{...}`, `name[ARGS]{...}`, `name[CALL_ID]id[ARGS]{...}`, one after another. */
function parseNamed(text: string): readonly RawCall[] | undefined {
  const calls: RawCall[] = [];
  for (const part of text.split('[TOOL_CALLS]')) {
    const match = /^\s*([\w.-]+)\s*(?:\[CALL_ID\][\w-]*)?\s*(?:\[ARGS\])?\s*(\{.*\})\s*$/su.exec(part);
    const parameters = parseJson(match?.[2] ?? '');
    if (match?.[1] === undefined || !isObject(parameters)) return undefined;
    calls.push({ name: match[1], arguments: parameters });
  }
  return calls;
}

/** Objects with semicolons between them. */
function parseSeparated(text: string): readonly RawCall[] | undefined {
  const values: unknown[] = [];
  let rest = text;
  while (rest !== '') {
    // The first semicolon at which an object is complete.
    let end = rest.indexOf(';');
    let value = end < 0 ? parseJson(rest) : parseJson(rest.slice(0, end));
    while (value === undefined && end >= 0) {
      end = rest.indexOf(';', end + 1);
      value = parseJson(end < 0 ? rest : rest.slice(0, end));
    }
    if (value === undefined) return undefined;
    values.push(value);
    rest = end < 0 ? '' : rest.slice(end + 1).trim();
  }
  return callsOf(values);
}

export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
