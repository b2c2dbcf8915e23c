import { IntegrityError, WeightFormatError } from '@mambalab/kernels';
import { etagOf, factsOf, firstHeader, lengthOf, linkedSize, rangeOf } from './http_headers.ts';
import type { FileFacts } from './http_headers.ts';
import { Interruption, send } from './http_request.ts';
import type { HttpAnswer, HttpOptions } from './http_request.ts';
import { acceptAnswer, retrying } from './http_retry.ts';
import { SequentialBody } from './sequential_body.ts';

export interface HttpFileOptions extends HttpOptions {
  /** What a refusal means, where the server says more than a status. */
  readonly explain?: (answer: HttpAnswer) => Error | undefined;
}

export interface OpenedFile {
  /** Undefined where there is none of that name. */
  readonly file: HttpFile | undefined;
  /** The commit that the server says it is of. */
  readonly commit: string | undefined;
}

/** The first request asks for this much: it tells the size and nearly always brings the whole safetensors header. */
const HEAD_BYTES = 64 * 2 ** 10;
/** A file that comes whole is kept in memory up to this size, and read from front to back beyond it. */
const SMALL_FILE_BYTES = 8 * 2 ** 20;
/** A server that tells neither size nor ranges is put up with to this size. */
const MAX_UNKNOWN_BYTES = 64 * 2 ** 20;

/** A file behind HTTP. */
export class HttpFile {
  readonly name: string;
  readonly facts: FileFacts;
  readonly #url: URL;
  readonly #options: HttpFileOptions;
  /** The first bytes of the file. */
  readonly #head: Uint8Array;
  /** Of the answer itself: the next ones must have the same. */
  readonly #etag: string | undefined;
  readonly #body: SequentialBody | undefined;
  /** Where the address redirects to: asked directly, until it refuses. */
  #target: URL | undefined;

  private constructor(
    name: string,
    url: URL,
    options: HttpFileOptions,
    first: { readonly answer: HttpAnswer; readonly facts: FileFacts; readonly head?: Uint8Array },
    signal?: AbortSignal,
  ) {
    this.name = name;
    this.facts = first.facts;
    this.#url = url;
    this.#options = options;
    this.#head = first.head ?? new Uint8Array(0);
    this.#etag = etagOf(first.answer.headers);
    if (first.answer.url.href !== url.href) this.#target = first.answer.url;
    if (first.head === undefined) {
      this.#body = new SequentialBody(name, first.answer, () => this.#request({}, signal));
    }
  }

  /**
   * Asks for the first bytes of a file.
   *
   * @param signal also ends reading later
   * @throws NetworkError if the server cannot be reached; ArgumentError if it refuses; WeightFormatError if it tells
   *   no size; IntegrityError if it contradicts itself
   */
  static async open(name: string, url: URL, options: HttpFileOptions, signal?: AbortSignal): Promise<OpenedFile> {
    return await retrying(url, options, signal, async () => {
      const range = { headers: { range: `bytes=0-${HEAD_BYTES - 1}` } };
      const answer = await acceptAnswer(url, await send(url, range, options, signal), options.explain);
      const commit = firstHeader(answer, 'x-repo-commit');
      if (answer.status === 404 || answer.status === 410) return { file: undefined, commit };
      const read =
        answer.status === 200 ? await readWhole(name, answer) : await readHead(name, url, answer, options, signal);
      const facts = factsOf(name, answer, read.size);
      const first = { answer, facts, ...(read.head !== undefined && { head: read.head }) };
      return { file: new HttpFile(name, url, options, first, signal), commit };
    });
  }

  /** Whether the server sends the file only whole, so that it should be read in its order. */
  get sequential(): boolean {
    return this.#body !== undefined;
  }

  /** Bytes from the beginning that are here already. */
  get headBytes(): number {
    return this.#head.byteLength;
  }

  /**
   * Exactly the bytes `[start, end)`; what breaks off is asked for again from where it broke.
   *
   * @param onBytes called with the number of bytes that have arrived, a part at a time
   * @throws IntegrityError if the file changed; NetworkError; `signal.reason`
   */
  async read(
    start: number,
    end: number,
    signal?: AbortSignal,
    onBytes: (count: number) => void = () => undefined,
  ): Promise<Uint8Array> {
    const bytes = new Uint8Array(end - start);
    const head = this.#head.subarray(start, end);
    bytes.set(head);
    let filled = head.byteLength;
    if (filled > 0) onBytes(filled);
    const arrived = (count: number): void => {
      filled += count;
      onBytes(count);
    };
    const rest = async (): Promise<void> => {
      if (filled === bytes.byteLength) return;
      const target = bytes.subarray(filled);
      await (this.#body?.fill(target, start + filled, arrived) ?? this.#fill(target, start + filled, arrived, signal));
    };
    await retrying(this.#url, this.#options, signal, rest, () => filled);
    return bytes;
  }

  async #fill(
    target: Uint8Array,
    start: number,
    onBytes: (count: number) => void,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const end = start + target.byteLength;
    const answer = await this.#request({ range: `bytes=${start}-${end - 1}` }, signal);
    if (answer.status === 200) {
      await answer.drop();
      throw new Interruption('ignores Range requests, which it answered before');
    }
    const range = rangeOf(answer);
    if (range !== undefined && (range.start !== start || range.end > end)) {
      await answer.drop();
      throw new WeightFormatError(
        `The server of ${this.name} sent bytes ${range.start} to ${range.end}; ${start} to ${end} were asked for.`,
        'Serve the folder from a server with correct Range support.',
      );
    }
    let filled = 0;
    for await (const chunk of answer.chunks()) {
      if (filled + chunk.byteLength > target.byteLength) {
        throw new WeightFormatError(
          `The server of ${this.name} sent more than the ${target.byteLength} bytes from ${start} on that were asked for.`,
          'Serve the folder from a server with correct Range support.',
        );
      }
      target.set(chunk, filled);
      filled += chunk.byteLength;
      onBytes(chunk.byteLength);
    }
    if (filled < target.byteLength) throw new Interruption(`ended at byte ${start + filled}, before byte ${end}`);
  }

  /** An answer that belongs to the file that was opened. */
  async #request(headers: Readonly<Record<string, string>>, signal: AbortSignal | undefined): Promise<HttpAnswer> {
    const answer = await this.#ask(headers, signal);
    const etag = etagOf(answer.headers);
    const size = rangeOf(answer)?.size ?? (answer.status === 200 ? lengthOf(answer) : undefined);
    const missing = answer.status !== 200 && answer.status !== 206;
    const otherEtag = etag !== undefined && this.#etag !== undefined && etag !== this.#etag;
    if (missing || otherEtag || (size ?? this.facts.size) !== this.facts.size) {
      await answer.drop();
      throw new IntegrityError(`${this.name} changed on the server while it was read.`, 'Load the model again.');
    }
    return answer;
  }

  async #ask(headers: Readonly<Record<string, string>>, signal: AbortSignal | undefined): Promise<HttpAnswer> {
    const target = this.#target;
    if (target !== undefined) {
      // Headers that are meant for the address do not go to another host.
      const { headers: own, ...others } = this.#options;
      const sent = target.origin === this.#url.origin && own !== undefined ? { ...others, headers: own } : others;
      const answer = await send(target, { headers }, sent, signal);
      if (![401, 403, 404, 410].includes(answer.status)) return await acceptAnswer(target, answer);
      // Such addresses are often signed for an hour: the original one gives the next.
      await answer.drop();
      this.#target = undefined;
    }
    const answer = await send(this.#url, { headers }, this.#options, signal);
    if (answer.url.href !== this.#url.href) this.#target = answer.url;
    return await acceptAnswer(this.#url, answer, this.#options.explain);
  }
}

interface FirstBytes {
  readonly size: number;
  /** Undefined where the body stays open, to be read from front to back. */
  readonly head?: Uint8Array;
}

async function readHead(
  name: string,
  url: URL,
  answer: HttpAnswer,
  options: HttpFileOptions,
  signal: AbortSignal | undefined,
): Promise<FirstBytes> {
  // 416: not even byte 0 exists.
  if (answer.status === 416) return { size: 0, head: new Uint8Array(0) };
  if ((rangeOf(answer)?.start ?? 0) !== 0) {
    await answer.drop();
    throw new WeightFormatError(
      `The server of ${name} sent another range than its first bytes.`,
      'Serve the folder from a server with correct Range support.',
    );
  }
  const head = await readTo(answer, HEAD_BYTES);
  const size = rangeOf(answer)?.size ?? linkedSize(answer) ?? (await sizeByHead(name, url, options, signal));
  return { size, head: head.subarray(0, size) };
}

async function readWhole(name: string, answer: HttpAnswer): Promise<FirstBytes> {
  const size = lengthOf(answer);
  if (size !== undefined && size > SMALL_FILE_BYTES) return { size };
  const head = await readTo(answer, MAX_UNKNOWN_BYTES + 1);
  if (size !== undefined && head.byteLength !== size) {
    throw new Interruption(`announced ${size} bytes and sent ${head.byteLength}`);
  }
  if (head.byteLength > MAX_UNKNOWN_BYTES) {
    throw new WeightFormatError(
      `The server of ${name} ignores Range requests and tells no size, and the file is larger than ${MAX_UNKNOWN_BYTES} bytes.`,
      'Serve the folder from a server with Range support, or download it and open the local folder.',
    );
  }
  return { size: head.byteLength, head };
}

/** The body, or its first `limit` bytes. */
async function readTo(answer: HttpAnswer, limit: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of answer.chunks()) {
    chunks.push(chunk);
    length += chunk.byteLength;
    if (length >= limit) break;
  }
  const bytes = new Uint8Array(length);
  let offset = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, offset);
    offset += chunk.byteLength;
  }
  return bytes.subarray(0, limit);
}

async function sizeByHead(
  name: string,
  url: URL,
  options: HttpFileOptions,
  signal: AbortSignal | undefined,
): Promise<number> {
  const answer = await acceptAnswer(url, await send(url, { method: 'HEAD' }, options, signal), options.explain);
  const size = lengthOf(answer);
  if (size === undefined) {
    throw new WeightFormatError(
      `The server does not tell the size of ${name}: neither Content-Range nor Content-Length can be read.`,
      'Let the server expose Content-Range (Access-Control-Expose-Headers), or download the folder.',
    );
  }
  return size;
}
