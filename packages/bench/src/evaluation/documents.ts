import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { ArgumentError } from '@mambalab/kernels';

/** One line of a JSONL file. */
export class Document {
  readonly fields: Readonly<Record<string, unknown>>;
  /** `file:line` */
  readonly place: string;

  constructor(fields: Readonly<Record<string, unknown>>, place: string) {
    this.fields = fields;
    this.place = place;
  }

  has(name: string): boolean {
    return this.fields[name] !== undefined;
  }

  text(name: string): string {
    const value = this.fields[name];
    return typeof value === 'string' ? value : this.refuse(name, 'a text');
  }

  /** A list of texts. */
  texts(name: string): readonly string[] {
    return this.#listOf(name, this.fields[name]);
  }

  /** The texts and labels of `{ "text": [...], "label": [...] }`, as ARC has them. */
  labelled(name: string): { readonly texts: readonly string[]; readonly labels: readonly string[] } {
    const value = this.fields[name];
    const { text, label } = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
    const [texts, labels] = [this.#listOf(`${name}.text`, text), this.#listOf(`${name}.label`, label)];
    return texts.length === labels.length ? { texts, labels } : this.refuse(name, 'as many labels as texts');
  }

  /** Which of `choices` is right: an index, also written as a text, or where `labels` are given one of them. */
  gold(name: string, choices: number, labels?: readonly string[]): number {
    const value = this.fields[name];
    const text = typeof value === 'string' ? value.trim() : undefined;
    // A number among labels is a label: ARC counts from 1 where its labels are numbers.
    const index = text === undefined ? value : labels === undefined ? Number(text || NaN) : labels.indexOf(text);
    if (typeof index === 'number' && Number.isInteger(index) && index >= 0 && index < choices) return index;
    const expected = labels === undefined ? '' : `, or one of ${labels.join(', ')}`;
    return this.refuse(name, `a whole number from 0 to ${choices - 1}${expected}`);
  }

  /** @throws ArgumentError always: a field is not what the task needs */
  refuse(name: string, expected: string): never {
    const value: unknown = this.fields[name];
    const found =
      value === undefined ? `it has ${Object.keys(this.fields).join(', ') || 'no field'}` : JSON.stringify(value);
    throw new ArgumentError(
      `${this.place}: '${name}' should be ${expected}; ${found.slice(0, 120)}.`,
      'Give the fields that the data set has on the Hugging Face hub; docs/bench/evaluation.md lists them.',
    );
  }

  #listOf(name: string, value: unknown): readonly string[] {
    const isList = Array.isArray(value) && value.length > 0 && value.every((entry) => typeof entry === 'string');
    return isList ? (value as string[]) : this.refuse(name, 'a list of texts');
  }
}

/**
 * The documents of a JSONL file, one at a time, so that memory does not grow with the file. Empty lines are passed over.
 *
 * @throws ArgumentError for a line that is no JSON object, with its number, or a file without any
 */
export async function* readDocuments(file: string): AsyncGenerator<Document> {
  const lines = createInterface({ input: createReadStream(file, 'utf8'), crlfDelay: Infinity });
  let number = 0;
  let count = 0;
  for await (const line of lines) {
    number += 1;
    // Files from Windows may begin with a byte order mark.
    const text = number === 1 ? line.replace(/^\uFEFF/, '') : line;
    if (text.trim() === '') continue;
    count += 1;
    yield new Document(parseObject(text, `${file}:${number}`), `${file}:${number}`);
  }
  if (count === 0)
    throw new ArgumentError(`${file} holds no document.`, 'Give a file with a JSON object on each line.');
}

function parseObject(text: string, place: string): Record<string, unknown> {
  const hint = 'Each line of a JSONL file is one JSON object.';
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ArgumentError(`${place}: this is no JSON: ${reason}.`, hint, { cause });
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new ArgumentError(`${place}: this is no JSON object.`, hint);
}
