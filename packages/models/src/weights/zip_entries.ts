import { MambalabError, WeightFormatError } from '@mambalab/kernels';
import type { Reader } from '@zip.js/zip.js/lib/zip-core-reader.js';
import type { ByteFile } from './source.ts';

/** A file inside a zip container. */
export interface ZipEntry {
  readonly name: string;
  /** Bytes of its data. */
  readonly size: number;
  /** Whether its data stands in the container as it is, neither compressed nor encrypted. */
  readonly stored: boolean;
  /** Where its local header begins. */
  readonly headerOffset: number;
  /** Where the next entry or the central directory begins: its data must end before. */
  readonly limit: number;
  readonly nameBytes: Uint8Array;
}

/** A central directory above this is taken for a damaged or hostile file. */
const MAX_READ_BYTES = 100_000_000;
const MAX_ENTRIES = 2 ** 20;
const LOCAL_HEADER_BYTES = 30;
const LOCAL_HEADER_SIGNATURE = 0x04034b50;

/**
 * Lists a zip container, zip64 included: its central directory is read, and nothing else.
 *
 * @throws WeightFormatError if it is damaged, has two entries of one name or entries that overlap
 */
export async function listZip(file: ByteFile, signal?: AbortSignal): Promise<ReadonlyMap<string, ZipEntry>> {
  const size = await file.size(signal);
  const source: Pick<Reader<unknown>, 'size' | 'readUint8Array'> = {
    size,
    readUint8Array: async (start, length) => {
      const end = Math.min(start + length, size);
      if (end - start > MAX_READ_BYTES)
        throw damaged(file, `its list of entries is longer than ${MAX_READ_BYTES} bytes`);
      return start < end ? await file.read(start, end, signal) : new Uint8Array(0);
    },
  };
  // Loaded when the first such file is opened: most users never do.
  const { ZipReader } = await import('@zip.js/zip.js/lib/zip-core-reader.js');
  // Of a reader with a size, these two members are all that listing entries uses.
  const zip = new ZipReader(source as Reader<unknown>);
  const found: Omit<ZipEntry, 'limit'>[] = [];
  try {
    for await (const entry of zip.getEntriesGenerator()) {
      if (found.length >= MAX_ENTRIES) throw damaged(file, `it has more than ${MAX_ENTRIES} entries`);
      const { filename: name, offset: headerOffset, uncompressedSize, compressedSize, rawFilename: nameBytes } = entry;
      const stored = entry.compressionMethod === 0 && !entry.encrypted && compressedSize === uncompressedSize;
      found.push({ name, size: uncompressedSize, stored, headerOffset, nameBytes });
    }
  } catch (cause) {
    if (cause instanceof MambalabError) throw cause;
    signal?.throwIfAborted();
    throw damaged(file, `its list of entries cannot be read`, cause);
  }
  found.sort((a, b) => a.headerOffset - b.headerOffset);
  const entries = new Map<string, ZipEntry>();
  for (const [index, entry] of found.entries()) {
    if (entries.has(entry.name)) throw damaged(file, `it has two entries called ${JSON.stringify(entry.name)}`);
    const limit = found[index + 1]?.headerOffset ?? zip.directoryOffset ?? size;
    if (
      entry.headerOffset + LOCAL_HEADER_BYTES + entry.nameBytes.byteLength + (entry.stored ? entry.size : 0) >
      limit
    ) {
      throw damaged(file, `its entry ${JSON.stringify(entry.name)} reaches into what follows it`);
    }
    entries.set(entry.name, { ...entry, limit });
  }
  return entries;
}

/**
 * Offset of the first byte of an entry's data from the start of the container.
 *
 * @throws WeightFormatError if the entry is compressed, or its local header contradicts the central directory
 */
export async function dataOffset(file: ByteFile, entry: ZipEntry, signal?: AbortSignal): Promise<number> {
  const { name, nameBytes, headerOffset, size, limit } = entry;
  if (!entry.stored) {
    throw new WeightFormatError(
      `The entry ${JSON.stringify(name)} of ${file.name} is compressed or encrypted, so that no part of it can be read alone.`,
      'Save the file again with `torch.save`, which does not compress.',
    );
  }
  const header = await file.read(headerOffset, headerOffset + LOCAL_HEADER_BYTES + nameBytes.byteLength, signal);
  const view = new DataView(header.buffer, header.byteOffset, header.byteLength);
  const sameName =
    view.getUint16(26, true) === nameBytes.byteLength &&
    nameBytes.every((byte, index) => header[LOCAL_HEADER_BYTES + index] === byte);
  const start = headerOffset + header.byteLength + view.getUint16(28, true);
  const agrees = view.getUint32(0, true) === LOCAL_HEADER_SIGNATURE && view.getUint16(8, true) === 0 && sameName;
  if (!agrees || start + size > limit) {
    throw damaged(file, `the header of its entry ${JSON.stringify(name)} contradicts its list of entries`);
  }
  return start;
}

function damaged(file: ByteFile, problem: string, cause?: unknown): WeightFormatError {
  return new WeightFormatError(
    `${file.name} is no zip container of PyTorch, or a damaged one: ${problem}.`,
    'Download or export the file again.',
    cause === undefined ? undefined : { cause },
  );
}
