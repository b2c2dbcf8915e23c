import type { RawCall, ToolCallFormat } from './formats.ts';
import { parseCalls, parseJson, TOOL_CALL_FORMATS } from './formats.ts';

/** A complete call of a tool. */
export interface ToolCall {
  /** Names this call among those of the text. */
  readonly id: string;
  readonly name: string;
  readonly arguments: Readonly<Record<string, unknown>>;
}

/** What became known of a call: its name first, then the text of its arguments in pieces, then that it is complete. */
export interface ToolCallPart {
  /** Which call, counted from 0. */
  readonly index: number;
  readonly id: string;
  readonly name?: string;
  /** More of the JSON text of the arguments, as the model wrote it. */
  readonly argumentsText?: string;
  /** The whole call. */
  readonly call?: ToolCall;
}

/** What a piece of a text settled. */
export interface ParsedPiece {
  readonly text: string;
  readonly parts: readonly ToolCallPart[];
}

/**
 * Takes calls of tools out of a text that comes in pieces. What is not a well-formed call stays text, and shows when it
 * is known not to be one. A call that was begun in parts and then turns out malformed is never `call`; its text follows.
 */
export class ToolCallParser {
  readonly #calls: ToolCall[] = [];
  #held = '';
  #block: { readonly format: ToolCallFormat; text: string } | undefined;
  /** Whether anything but white space went out as text: JSON alone is no longer possible. */
  #begun = false;
  /** How much of the arguments of the call in the making went out, and whether its name did. */
  #sent = { name: false, length: 0 };

  /** The complete calls so far. */
  get calls(): readonly ToolCall[] {
    return [...this.#calls];
  }

  push(piece: string): ParsedPiece {
    this.#held += piece;
    const texts: string[] = [];
    const parts: ToolCallPart[] = [];
    while (this.#advance(texts, parts));
    return { text: texts.join(''), parts };
  }

  /** The end of the text: what was held back is a call, or text. */
  flush(): ParsedPiece {
    const texts: string[] = [];
    const parts: ToolCallPart[] = [];
    const rest = this.#held;
    this.#held = '';
    const block = this.#block;
    this.#block = undefined;
    const source = block === undefined ? rest : block.text + rest;
    const calls = parseCalls(source);
    if (source.trim() !== '' && calls !== undefined) parts.push(...this.#complete(calls));
    else texts.push((block?.format.open ?? '') + source);
    return { text: texts.join(''), parts };
  }

  /** Moves what is settled from the held text; whether there may be more. */
  #advance(texts: string[], parts: ToolCallPart[]): boolean {
    const block = this.#block;
    if (block !== undefined) return this.#advanceBlock(block, texts, parts);
    if (!this.#begun && isJsonSoFar(this.#held)) return false;
    const found = TOOL_CALL_FORMATS.map((format) => ({ format, at: this.#held.indexOf(format.open) }))
      .filter(({ at }) => at >= 0)
      .sort((a, b) => a.at - b.at)[0];
    const end = found?.at ?? this.#held.length - longestOpening(this.#held);
    const text = this.#held.slice(0, end);
    if (text.trim() !== '') this.#begun = true;
    texts.push(text);
    this.#held = this.#held.slice(end + (found?.format.open.length ?? 0));
    if (found === undefined) return false;
    this.#block = { format: found.format, text: '' };
    this.#begun = true;
    return true;
  }

  #advanceBlock(
    block: { readonly format: ToolCallFormat; text: string },
    texts: string[],
    parts: ToolCallPart[],
  ): boolean {
    const { open, close } = block.format;
    block.text += this.#held;
    this.#held = '';
    const end = close === undefined ? -1 : block.text.indexOf(close);
    if (close === undefined || end < 0) {
      parts.push(...this.#partial(block.text));
      return false;
    }
    this.#held = block.text.slice(end + close.length);
    const inner = block.text.slice(0, end);
    this.#block = undefined;
    const calls = parseCalls(inner);
    if (calls === undefined) texts.push(open + inner + close);
    else parts.push(...this.#complete(calls));
    this.#sent = { name: false, length: 0 };
    return true;
  }

  /** What is known of the first call of a block that goes on. */
  #partial(text: string): ToolCallPart[] {
    const index = this.#calls.length;
    const id = idOf(index);
    const parts: ToolCallPart[] = [];
    const name = /^\s*\[?\s*\{\s*"name"\s*:\s*("(?:[^"\\]|\\.)*")/u.exec(text);
    const head = name?.[1] === undefined ? undefined : parseJson(name[1]);
    if (typeof head !== 'string' || name === null) return parts;
    if (!this.#sent.name) parts.push({ index, id, name: head });
    this.#sent.name = true;
    const key = /^\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)/u.exec(text.slice(name[0].length));
    if (key === null) return parts;
    const body = text.slice(name[0].length + key[0].length);
    const known = body.slice(0, objectLength(body));
    if (known.length > this.#sent.length) {
      parts.push({ index, id, argumentsText: known.slice(this.#sent.length) });
      this.#sent.length = known.length;
    }
    return parts;
  }

  #complete(calls: readonly RawCall[]): ToolCallPart[] {
    const parts: ToolCallPart[] = [];
    for (const { name, arguments: given } of calls) {
      const index = this.#calls.length;
      const call: ToolCall = { id: idOf(index), name, arguments: given };
      this.#calls.push(call);
      if (!this.#sent.name) parts.push({ index, id: call.id, name });
      if (this.#sent.length === 0) parts.push({ index, id: call.id, argumentsText: JSON.stringify(given) });
      parts.push({ index, id: call.id, call });
      this.#sent = { name: false, length: 0 };
    }
    return parts;
  }
}

const idOf = (index: number): string => `call_${index}`;

/** Whether a text may yet be JSON and nothing else: Llama 3 writes calls so. */
function isJsonSoFar(text: string): boolean {
  const trimmed = text.trimStart();
  if (trimmed === '') return true;
  if (trimmed.startsWith('{')) return objectLength(trimmed) === trimmed.trimEnd().length || isOpen(trimmed);
  return false;
}

const isOpen = (text: string): boolean => objectLength(text) === text.length;

/** Characters of the object that a text begins with; all of them where it is not complete. */
function objectLength(text: string): number {
  let depth = 0;
  let isString = false;
  for (let at = 0; at < text.length; at++) {
    const character = text[at];
    if (isString) {
      if (character === '\\') at += 1;
      else if (character === '"') isString = false;
    } else if (character === '"') isString = true;
    else if (character === '{') depth += 1;
    else if (character === '}') depth -= 1;
    if (depth === 0 && character === '}' && !isString) return at + 1;
  }
  return text.length;
}

/** Length of the end of a text that may be the beginning of calls. */
function longestOpening(text: string): number {
  const longest = Math.max(...TOOL_CALL_FORMATS.map(({ open }) => open.length)) - 1;
  for (let length = Math.min(longest, text.length); length > 0; length--) {
    const end = text.slice(-length);
    if (TOOL_CALL_FORMATS.some(({ open }) => open.startsWith(end))) return length;
  }
  return 0;
}
