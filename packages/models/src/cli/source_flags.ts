import type { SourceOptions } from '../surface.ts';

/** Flags of commands that take a source. */
export interface SourceFlags {
  readonly revision?: string;
  /** False with `--no-cache`. */
  readonly cache?: boolean;
}

export function sourceOptions({ revision, cache }: SourceFlags): SourceOptions {
  return { ...(revision !== undefined && { revision }), ...(cache === false && { cache }) };
}
