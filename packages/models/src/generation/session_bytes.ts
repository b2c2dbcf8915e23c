import { ArgumentError, fromHalfBits, IntegrityError, packMatrix, toHalfBits, unpackMatrix } from '@mambalab/kernels';
import { createHash } from '../weights/content_hash.ts';
import type { Conversation } from './conversation.ts';

/** How saved states are stored: exactly, or smaller. */
export type SaveDtype = 'f32' | 'f16' | 'q8';

/** One state tensor or cache of a saved session, as the GPU had it. */
export interface SavedRegion {
  readonly name: string;
  readonly dtype: 'f32' | 'f16';
  readonly bytes: Uint8Array;
}

/** What the bytes of a session say. */
export interface SavedSession {
  readonly fingerprint: string;
  readonly tokens: readonly number[];
  readonly conversation: Conversation | undefined;
  /** Tokens that the state holds. */
  readonly length: number;
  readonly furthest: number;
  readonly capacity: number;
  readonly regions: readonly SavedRegion[];
}

interface Header extends Omit<SavedSession, 'tokens' | 'regions'> {
  readonly tokenCount: number;
  readonly regions: readonly {
    readonly name: string;
    readonly dtype: 'f32' | 'f16';
    readonly stored: SaveDtype;
    /** Values of the tensor, and bytes in the file. */
    readonly values: number;
    readonly byteLength: number;
  }[];
}

const MAGIC = 0x5353424d; // MBSS
const VERSION = 1;
/** Magic, version and length of the header. */
const PREAMBLE = 12;
const DIGEST = 64;
const BLOCK = 32;

/**
 * The bytes of a session: magic, version and header length as u32; a header in JSON, padded with spaces to a multiple of
 * 4; token ids as u32; the regions in the order of the header, each at a multiple of 4; the SHA-256 of all this as 64
 * hexadecimal digits. All numbers are little-endian.
 *
 * @throws ArgumentError for states that the dtype cannot hold
 */
export function writeSession(session: SavedSession, dtype: SaveDtype): Uint8Array {
  const { tokens, regions, ...rest } = session;
  const stored = regions.map((region) => ({ region, ...storeRegion(region, dtype) }));
  const header: Header = {
    ...rest,
    tokenCount: tokens.length,
    regions: stored.map(({ region, as, bytes }) => ({
      name: region.name,
      dtype: region.dtype,
      stored: as,
      values: valuesOf(region),
      byteLength: bytes.byteLength,
    })),
  };
  const json = new TextEncoder().encode(JSON.stringify(header));
  const headerLength = Math.ceil(json.length / 4) * 4;
  const end = stored.reduce((sum, { bytes }) => sum + bytes.byteLength, PREAMBLE + headerLength + 4 * tokens.length);
  const result = new Uint8Array(end + DIGEST).fill(0x20, 0, PREAMBLE + headerLength);
  new Uint32Array(result.buffer, 0, 3).set([MAGIC, VERSION, headerLength]);
  result.set(json, PREAMBLE);
  new Uint32Array(result.buffer, PREAMBLE + headerLength, tokens.length).set(tokens);
  let at = PREAMBLE + headerLength + 4 * tokens.length;
  for (const { bytes } of stored) {
    result.set(bytes, at);
    at += bytes.byteLength;
  }
  result.set(new TextEncoder().encode(digestOf(result.subarray(0, end))), end);
  return result;
}

/** @throws IntegrityError unless the bytes are those of a session, whole, and of this version */
export function readSession(bytes: Uint8Array): SavedSession {
  // Aligned, whatever the caller cut them from; a Buffer of Node, whose slices share its memory, becomes plain bytes.
  const copy = Uint8Array.from(bytes);
  const view = new DataView(copy.buffer);
  if (copy.length < PREAMBLE + DIGEST || view.getUint32(0, true) !== MAGIC) {
    throw new IntegrityError('These are not the bytes of a session.', 'Give what session.save() returned.');
  }
  const version = view.getUint32(4, true);
  if (version !== VERSION) {
    throw new IntegrityError(
      `The session was saved in version ${version} of the format; this library reads version ${VERSION}.`,
      'Restore it with the version of the library that saved it, or process its text again.',
    );
  }
  const end = copy.length - DIGEST;
  if (new TextDecoder().decode(copy.subarray(end)) !== digestOf(copy.subarray(0, end))) {
    throw new IntegrityError(
      'The bytes of the session are damaged: their checksum differs.',
      'Restore it from another copy, or process its text again.',
    );
  }
  // The checksum fits: whoever wrote the bytes wrote this header.
  const headerLength = view.getUint32(8, true);
  const json = new TextDecoder().decode(copy.subarray(PREAMBLE, PREAMBLE + headerLength));
  const { tokenCount, regions, ...rest } = JSON.parse(json) as Header;
  const tokens = [...new Uint32Array(copy.buffer, PREAMBLE + headerLength, tokenCount)];
  let at = PREAMBLE + headerLength + 4 * tokenCount;
  return {
    ...rest,
    tokens,
    regions: regions.map(({ name, dtype, stored, values, byteLength }) => {
      const part = copy.slice(at, at + byteLength);
      at += byteLength;
      return { name, dtype, bytes: stored === dtype ? part : loadRegion(part, stored, dtype, values) };
    }),
  };
}

const digestOf = (bytes: Uint8Array): string => {
  const hash = createHash();
  hash.update(bytes);
  return hash.digest();
};

const valuesOf = ({ bytes, dtype }: SavedRegion): number => bytes.byteLength / (dtype === 'f16' ? 2 : 4);

/** A region in the dtype asked for, or in its own where that is as small. */
function storeRegion(region: SavedRegion, dtype: SaveDtype): { readonly as: SaveDtype; readonly bytes: Uint8Array } {
  if (dtype === 'f32' || dtype === region.dtype) return { as: region.dtype, bytes: region.bytes };
  const values = valuesIn(region);
  const rows = Math.ceil(values.length / BLOCK);
  const padded = new Float32Array(rows * BLOCK);
  padded.set(values);
  const packed = packMatrix(padded, [rows, BLOCK], dtype);
  if (dtype === 'f16' && unpackMatrix(packed).some((value, index) => !Number.isFinite(value - (padded[index] ?? 0)))) {
    throw new ArgumentError(
      `'${region.name}' has values beyond 65504, which f16 cannot hold.`,
      "Save with the dtype 'f32'.",
    );
  }
  const { buffer, byteOffset, byteLength } = packed.data;
  return { as: dtype, bytes: new Uint8Array(buffer as ArrayBuffer, byteOffset, byteLength) };
}

function loadRegion(bytes: Uint8Array, stored: SaveDtype, dtype: 'f32' | 'f16', values: number): Uint8Array {
  const rows = Math.ceil(values / BLOCK);
  const data = new Uint32Array(bytes.buffer as ArrayBuffer);
  const all = unpackMatrix({ data, dtype: stored, shape: [rows, BLOCK], rowStride: BLOCK }).subarray(0, values);
  return new Uint8Array(dtype === 'f32' ? all.slice().buffer : Uint16Array.from(all, toHalfBits).buffer);
}

function valuesIn({ bytes, dtype }: SavedRegion): Float32Array {
  const { buffer } = bytes.slice();
  return dtype === 'f32' ? new Float32Array(buffer) : Float32Array.from(new Uint16Array(buffer), fromHalfBits);
}
