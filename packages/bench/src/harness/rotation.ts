/** Bytes that all copies together should exceed, so that no cache holds what the next repetition reads. */
export const ROTATION_BYTES: number = 256 * 2 ** 20;

/** Copies beyond this many would only make tiny cases slower to prepare: those wait for the dispatch, not for memory. */
export const MAX_COPIES = 128;

export interface RotationLimits {
  /** Bytes of one copy of everything that a case touches. */
  readonly bytes: number;
  /** Bytes that the largest tensor takes in its buffer. */
  readonly largest: number;
  /** Bytes that all copies may take. */
  readonly memory: number;
  /** Bytes of the largest buffer that the device binds. */
  readonly maxBuffer: number;
  /** On software adapters copies only cost memory. */
  readonly software: boolean;
}

/** How many copies of its tensors a case runs over in turn. */
export function rotationCount({ bytes, largest, memory, maxBuffer, software }: RotationLimits): number {
  if (software || bytes >= ROTATION_BYTES) return 1;
  const wanted = Math.floor(ROTATION_BYTES / bytes) + 1;
  return Math.max(1, Math.min(wanted, MAX_COPIES, Math.floor(memory / bytes), Math.floor(maxBuffer / largest)));
}
