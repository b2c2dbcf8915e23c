import { ArgumentError, IntegrityError, WeightFormatError } from '@mambalab/kernels';
import { isPlainFileName } from './folder.ts';
import { fetchWithRetry } from './http_retry.ts';
import type { HttpOptions, HttpReply } from './http_retry.ts';
import type { ByteFile, Folder } from './source.ts';

/** A server that cannot send parts of a file is put up with to this size; beyond it every block would load the file. */
const MAX_WHOLE_FILE_BYTES = 64 * 2 ** 20;
/** The first request asks for this much: it tells the size and nearly always brings the whole safetensors header. */
const HEAD_BYTES = 64 * 2 ** 10;

/**
 * A folder behind HTTP, read with Range requests.
 *
 * @param url the folder's address; file names are appended to its path and its query is kept
 * @throws ArgumentError if `url` is no http(s) address. Reading: ArgumentError if the server refuses or cannot be
 * reached, also after retries; WeightFormatError if it sends a file above 64 MiB only whole, or fewer bytes than asked
 * for; IntegrityError if the file changed between two reads; `signal.reason` if aborted.
 */
export function openHttpFolder(url: string | URL, options: HttpOptions = {}): Folder {
  const base = parseBase(url);
  const addressOf = (name: string): URL => {
    const address = new URL(base);
    address.pathname += name.split('/').map(encodeURIComponent).join('/');
    return address;
  };
  const open = new Map<string, Promise<ByteFile | undefined>>();
  return {
    label: base.origin + base.pathname,
    file: (name, signal) => {
      if (!isPlainFileName(name)) return Promise.resolve(undefined);
      let file = open.get(name);
      if (file === undefined) {
        file = HttpFile.open(name, addressOf(name), options, signal);
        open.set(name, file);
        // A failure is not kept: the next call may have better luck, or another signal.
        file.catch(() => open.delete(name));
      }
      return file;
    },
    readText: async (name, signal) => {
      if (!isPlainFileName(name)) return undefined;
      const reply = await fetchWithRetry(addressOf(name), {}, options, signal);
      return reply.status === 404 ? undefined : new TextDecoder().decode(reply.bytes);
    },
    dispose: () => {
      open.clear();
      return Promise.resolve();
    },
  };
}

function parseBase(url: string | URL): URL {
  const base = URL.canParse(url) ? new URL(url) : undefined;
  if (base === undefined || !/^https?:$/.test(base.protocol)) {
    throw new ArgumentError(`'${String(url)}' is not an http(s) address.`, 'Give the address of a checkpoint folder.');
  }
  base.hash = '';
  if (!base.pathname.endsWith('/')) base.pathname += '/';
  return base;
}

class HttpFile implements ByteFile {
  readonly name: string;
  readonly #url: URL;
  readonly #options: HttpOptions;
  readonly #size: number;
  readonly #etag: string | null;
  /** The first bytes of the file; all of it if the server does not serve ranges. */
  readonly #head: Uint8Array;

  private constructor(
    name: string,
    url: URL,
    options: HttpOptions,
    size: number,
    etag: string | null,
    head: Uint8Array,
  ) {
    this.name = name;
    this.#url = url;
    this.#options = options;
    this.#size = size;
    this.#etag = etag;
    this.#head = head;
  }

  static async open(
    name: string,
    url: URL,
    options: HttpOptions,
    signal: AbortSignal | undefined,
  ): Promise<ByteFile | undefined> {
    const reply = await requestRange(url, 0, HEAD_BYTES, name, options, signal);
    const etag = reply.headers.get('etag');
    if (reply.status === 404) return undefined;
    if (reply.status === 200) return new HttpFile(name, url, options, reply.bytes.byteLength, etag, reply.bytes);
    // 416: not even byte 0 exists.
    if (reply.status === 416) return new HttpFile(name, url, options, 0, etag, new Uint8Array(0));
    const size = totalOf(reply) ?? (await sizeByHead(url, name, options, signal));
    return new HttpFile(name, url, options, size, etag, reply.bytes);
  }

  size(): Promise<number> {
    return Promise.resolve(this.#size);
  }

  async read(start: number, end: number, signal?: AbortSignal): Promise<Uint8Array> {
    signal?.throwIfAborted();
    if (start === end || end <= this.#head.byteLength) return this.#head.slice(start, end);
    if (end > this.#size) throw cutShort(this.name, this.#size, end);
    const reply = await requestRange(this.#url, start, end, this.name, this.#options, signal);
    const etag = reply.headers.get('etag');
    const changed = (etag !== null && this.#etag !== null && etag !== this.#etag) || reply.status === 404;
    if (changed || (totalOf(reply) ?? this.#size) !== this.#size) {
      throw new IntegrityError(`${this.name} changed on the server while it was read.`, 'Load the model again.');
    }
    const bytes = reply.status === 200 ? reply.bytes.slice(start, end) : reply.bytes;
    if (bytes.byteLength !== end - start) throw cutShort(this.name, start + bytes.byteLength, end);
    return bytes;
  }
}

async function requestRange(
  url: URL,
  start: number,
  end: number,
  name: string,
  options: HttpOptions,
  signal: AbortSignal | undefined,
): Promise<HttpReply> {
  const init = { headers: { range: `bytes=${start}-${end - 1}` }, maxWholeBytes: MAX_WHOLE_FILE_BYTES };
  const reply = await fetchWithRetry(url, init, options, signal);
  if (reply.tooLong) {
    throw new WeightFormatError(
      `The server of ${name} ignores Range requests, and the file is larger than ${MAX_WHOLE_FILE_BYTES} bytes.`,
      'Serve the folder from a server with Range support, or download it and open the local folder.',
    );
  }
  return reply;
}

/** The file's size from `Content-Range: bytes 0-99/1234`; undefined if the server or CORS hides it. */
function totalOf(reply: HttpReply): number | undefined {
  const match = /^bytes\s+[\d*-]+\/(\d+)$/.exec(reply.headers.get('content-range') ?? '');
  return match?.[1] === undefined ? undefined : Number(match[1]);
}

async function sizeByHead(
  url: URL,
  name: string,
  options: HttpOptions,
  signal: AbortSignal | undefined,
): Promise<number> {
  const reply = await fetchWithRetry(url, { method: 'HEAD' }, options, signal);
  const length = reply.headers.get('content-length');
  if (length === null || !/^\d+$/.test(length)) {
    throw new WeightFormatError(
      `The server does not tell the size of ${name}: neither Content-Range nor Content-Length can be read.`,
      'Let the server expose Content-Range (Access-Control-Expose-Headers), or download the folder.',
    );
  }
  return Number(length);
}

function cutShort(name: string, found: number, expected: number): WeightFormatError {
  return new WeightFormatError(
    `${name} ends at byte ${found}, expected bytes up to ${expected}.`,
    'The file on the server is cut short: upload or export it again.',
  );
}
