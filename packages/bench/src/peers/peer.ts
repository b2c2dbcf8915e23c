/** What every engine is asked to do. */
export interface PeerRequest {
  /** In the form that this engine reads: an id, an address or a path. */
  readonly model: string;
  readonly prompt: string;
  readonly newTokens: number;
  /** What it should run on, in the engine's words. */
  readonly device: string;
  /** Imports a package where the user installed it. Rejects where it is not. */
  readonly importPackage: ImportPackage;
}

export interface ImportedPackage {
  readonly module: Readonly<Record<string, unknown>>;
  readonly version: string;
}

export type ImportPackage = (name: string) => Promise<ImportedPackage>;

/** One text. */
export interface PeerRun {
  readonly promptTokens: number;
  /** When each new token was there, in milliseconds since the call. */
  readonly times: readonly number[];
}

export interface OpenPeer {
  readonly version: string;
  readonly model: string;
  readonly device: string;
  /** Writes exactly `newTokens` tokens, greedily, from an empty context. */
  run(): Promise<PeerRun>;
  dispose(): Promise<void>;
}

/** An engine that this project can be measured beside. */
export interface Peer {
  readonly name: string;
  /** @throws PeerUnavailableError where it is not installed or cannot run here */
  open(request: PeerRequest): Promise<OpenPeer>;
}

/** An engine is left out, and this is why. */
export class PeerUnavailableError extends Error {}

/** A member of a package that is a function. @throws PeerUnavailableError if this version has no such member */
export function functionOf(
  { module, version }: ImportedPackage,
  name: string,
): (...values: readonly unknown[]) => unknown {
  const member = module[name] ?? (module['default'] as Readonly<Record<string, unknown>> | undefined)?.[name];
  if (typeof member === 'function') return member as (...values: readonly unknown[]) => unknown;
  throw new PeerUnavailableError(`version ${version} has no ${name}`);
}

/** Imports what a peer is, or tells that it is not there. */
export async function importPeer({ importPackage }: PeerRequest, name: string): Promise<ImportedPackage> {
  try {
    return await importPackage(name);
  } catch (error) {
    const reason = error instanceof Error ? error.message.split('\n')[0] : String(error);
    throw new PeerUnavailableError(`${name} is not installed (${reason ?? ''})`, { cause: error });
  }
}
