import { writeSafetensors } from '../../../packages/models/src/weights/safetensors.ts';
import type { TensorData } from '../../../packages/models/src/weights/safetensors.ts';
import type { ByteFile, Folder } from '../../../packages/models/src/weights/source.ts';

/** A file in memory that remembers what was read of it. */
export function memoryFile(name: string, bytes: Uint8Array): ByteFile & { reads: [number, number][] } {
  const reads: [number, number][] = [];
  return {
    name,
    reads,
    size: () => Promise.resolve(bytes.byteLength),
    read: (start, end) => {
      reads.push([start, end]);
      return Promise.resolve(bytes.slice(start, end));
    },
  };
}

export type MemoryFolder = Folder & { disposed: boolean };

export function memoryFolder(files: Readonly<Record<string, string | Uint8Array>>): MemoryFolder {
  const bytesOf = (name: string): Uint8Array | undefined => {
    const content = Object.hasOwn(files, name) ? files[name] : undefined;
    return typeof content === 'string' ? new TextEncoder().encode(content) : content;
  };
  return {
    label: 'the test folder',
    disposed: false,
    list: () => Promise.resolve(Object.keys(files)),
    file: (name) => {
      const bytes = bytesOf(name);
      return Promise.resolve(bytes && memoryFile(name, bytes));
    },
    readText: (name) => {
      const bytes = bytesOf(name);
      return Promise.resolve(bytes && new TextDecoder().decode(bytes));
    },
    dispose() {
      this.disposed = true;
      return Promise.resolve();
    },
  };
}

export function tensor(
  name: string,
  values: readonly number[],
  shape: readonly number[] = [values.length],
): TensorData {
  return { name, dtype: 'F32', shape, bytes: new Uint8Array(new Float32Array(values).buffer) };
}

/** A safetensors file of one float32 tensor for each entry. */
export function weightFile(tensors: Readonly<Record<string, readonly number[]>>): Uint8Array {
  return writeSafetensors(Object.entries(tensors).map(([name, values]) => tensor(name, values)));
}

/** A file of the safetensors layout with any text as its header. */
export function fileWithHeader(header: string | Uint8Array, dataLength: number): Uint8Array {
  const json = typeof header === 'string' ? new TextEncoder().encode(header) : header;
  const bytes = new Uint8Array(8 + json.byteLength + dataLength);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(json.byteLength), true);
  bytes.set(json, 8);
  return bytes;
}
