import { IntegrityError } from '@mambalab/kernels';
import type { HttpAnswer } from './http_request.ts';

/** What a server says about a file before it is read. */
export interface FileFacts {
  /** Bytes. */
  readonly size: number;
  /** What changes when the content does, without quotes; of the content itself where the server redirects to it. */
  readonly etag?: string;
  /** 64 hexadecimal digits. */
  readonly sha256?: string;
}

/**
 * The facts in the headers of an answer and of the redirects to it.
 *
 * @param size bytes that the answer itself tells
 * @throws IntegrityError if a redirect announced another size
 */
export function factsOf(name: string, answer: HttpAnswer, size: number): FileFacts {
  const announced = linkedSize(answer);
  if (announced !== undefined && announced !== size) {
    throw new IntegrityError(
      `${name} has ${size} bytes on the server, which announces ${announced}.`,
      'Load the model again; if that does not help, its upload is incomplete.',
    );
  }
  const linked = etagText(firstHeader(answer, 'x-linked-etag'));
  const etag = linked ?? etagOf(answer.headers);
  // The hub names large files by their SHA-256, and small ones by their hash in git.
  const sha256 = linked !== undefined && /^[0-9a-f]{64}$/.test(linked) ? linked : undefined;
  return { size, ...(etag !== undefined && { etag }), ...(sha256 !== undefined && { sha256 }) };
}

/** From `Content-Range: bytes 0-99/1234`; undefined if the server or CORS hides it. */
export function rangeOf(answer: HttpAnswer): { start: number; end: number; size: number | undefined } | undefined {
  const match = /^bytes\s+(\d+)-(\d+)\/(\d+|\*)$/.exec(answer.headers.get('content-range') ?? '');
  if (match === null) return undefined;
  const [, first, last, size] = match;
  return { start: Number(first), end: Number(last) + 1, size: size === '*' ? undefined : Number(size) };
}

/** From `Content-Length`, which of a compressed body is not the length of the file. */
export function lengthOf(answer: HttpAnswer): number | undefined {
  const text = answer.headers.get('content-encoding') === null ? answer.headers.get('content-length') : null;
  return text !== null && /^\d+$/.test(text) ? Number(text) : undefined;
}

/** From `X-Linked-Size`: the size of what a hub redirects to. */
export function linkedSize(answer: HttpAnswer): number | undefined {
  const text = firstHeader(answer, 'x-linked-size');
  return text !== undefined && /^\d+$/.test(text) ? Number(text) : undefined;
}

/** The first value of a header on the way to an answer. */
export function firstHeader(answer: HttpAnswer, name: string): string | undefined {
  for (const headers of answer.trail) {
    const value = headers.get(name);
    if (value !== null && value !== '') return value;
  }
  return undefined;
}

/** The value of `ETag`. */
export const etagOf = (headers: Headers): string | undefined => etagText(headers.get('etag') ?? undefined);

/** Without quotes and the mark of weak ones. */
function etagText(etag: string | undefined): string | undefined {
  const text = etag?.replace(/^W\//, '').replaceAll('"', '');
  return text === '' ? undefined : text;
}
