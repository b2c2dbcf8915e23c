import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex } from '@noble/hashes/utils.js';

/** A SHA-256 in the making. */
export interface Hash {
  update(bytes: Uint8Array): void;
  /** 64 hexadecimal digits. */
  digest(): string;
}

/** SHA-256 in JavaScript, for places that have none that takes a file in parts. */
export function createHash(): Hash {
  const hash = sha256.create();
  return { update: (bytes) => void hash.update(bytes), digest: () => bytesToHex(hash.digest()) };
}

/** Segments that arrive too early wait here; beyond this many, the later ones are to be brought again. */
const MAX_EARLY = 4;

/** The hash of a file whose segments arrive nearly in their order. */
export class SegmentHash {
  readonly #hash: Hash;
  readonly #early = new Map<number, Uint8Array>();
  #next = 0;

  constructor(hash: Hash) {
    this.#hash = hash;
  }

  /** The first segment that is missing. */
  get next(): number {
    return this.#next;
  }

  add(index: number, bytes: Uint8Array): void {
    if (index < this.#next || this.#early.size >= MAX_EARLY + (index === this.#next ? 1 : 0)) return;
    this.#early.set(index, bytes);
    for (let found = this.#early.get(this.#next); found !== undefined; found = this.#early.get(this.#next)) {
      this.#hash.update(found);
      this.#early.delete(this.#next);
      this.#next += 1;
    }
  }

  digest(): string {
    return this.#hash.digest();
  }
}
