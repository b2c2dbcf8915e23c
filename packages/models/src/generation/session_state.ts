import type { Tensor } from '@mambalab/kernels';
import { DeviceLostError } from '@mambalab/kernels';
import type { CheckpointKind } from './checkpoints.ts';
import { Checkpoints } from './checkpoints.ts';
import type { PrefixCache } from './prefix_cache.ts';
import type { ModelRuntime } from './runtime.ts';
import { Sequence } from './sequence.ts';
import type { SavedSession } from './session_bytes.ts';
import type { Snapshot } from './snapshot.ts';
import { guardedSnapshot, hasStates, snapshotStore, stateSnapshotBytes } from './snapshot.ts';

const EIGHT = 8;

/** What the state of a session needs of its model. */
export interface StateHost {
  /** That of now: after a recovery it is another. */
  readonly runtime: ModelRuntime;
  readonly prefixes: PrefixCache;
}

/**
 * What a session has on the GPU: a sequence with its checkpoints, made when they are first needed, and until then the
 * state that it begins with, if any. It lags behind the text, and goes back to any length of it.
 */
export class SessionState {
  readonly #host: StateHost;
  readonly #checkpointBytes: number | undefined;
  readonly #sharesPrefixes: boolean;
  #start: Promise<Snapshot> | undefined;
  #startBytes = 0;
  #sequence: Sequence | undefined;
  #checkpoints: Checkpoints | undefined;
  #prefilled = 0;

  /** @param start freed by this object */
  constructor(
    host: StateHost,
    options: { readonly checkpointBytes?: number | undefined; readonly prefixCache?: boolean },
    start: Promise<Snapshot> | undefined,
  ) {
    this.#host = host;
    this.#checkpointBytes = options.checkpointBytes;
    this.#sharesPrefixes = options.prefixCache !== false;
    this.#setStart(start);
  }

  /** Whether there is a sequence. */
  get isOpen(): boolean {
    return this.#sequence !== undefined;
  }

  /** Tokens that were processed so far, repetitions included. */
  get prefilled(): number {
    return this.#prefilled;
  }

  /** Bytes on the GPU: states, caches and checkpoints, as allocated. */
  get bytes(): number {
    const { stateBytes = 0, kvBytes = 0 } = this.#sequence?.bytes() ?? {};
    return stateBytes + kvBytes + (this.#checkpoints?.bytes ?? 0) + this.#startBytes;
  }

  /** Lengths of the checkpoints. */
  get checkpoints(): readonly number[] {
    return this.#checkpoints?.lengths ?? [];
  }

  /** The sequence, for a text of `length` tokens. @param refuse throws if the session was disposed meanwhile */
  async open(length: number, refuse: () => void): Promise<Sequence> {
    if (this.#sequence !== undefined) return this.#sequence;
    const { runtime } = this.#host;
    const start = await this.#start;
    const room = Math.max(1, Math.min(length, runtime.contextLength), start?.capacity ?? 0, start?.length ?? 0);
    const sequence = await Sequence.create(runtime, room);
    try {
      // Whoever disposes of the session frees what it would begin with.
      refuse();
      if (start !== undefined) sequence.restore(start);
    } catch (error) {
      sequence.dispose();
      throw error;
    }
    this.#dropStart();
    const bytes = stateSnapshotBytes(runtime, Math.min(runtime.contextLength, 2 ** 31));
    const checkpoints = new Checkpoints(runtime.device, bytes, this.#checkpointBytes ?? EIGHT * bytes);
    sequence.onAdvance = (): void => checkpoints.consider(sequence);
    this.#checkpoints = checkpoints;
    this.#sequence = sequence;
    return sequence;
  }

  /** A copy of everything, for another session; undefined where nothing was processed. */
  copy(): Promise<Snapshot> | undefined {
    const { device } = this.#host.runtime;
    if (this.#sequence !== undefined) return guardedSnapshot(device, 'Forking a session', this.#sequence);
    return this.#start === undefined ? undefined : this.#copyOf(this.#start);
  }

  /** Counts tokens that somebody else processes. */
  count(tokens: number): void {
    this.#prefilled += tokens;
  }

  /** Makes room for the checkpoints that come next. @throws OutOfMemoryError */
  async prepare(): Promise<void> {
    await this.#checkpoints?.prepare();
  }

  /** Keeps a checkpoint here. */
  take(kind: CheckpointKind): void {
    if (this.#sequence !== undefined) this.#checkpoints?.take(this.#sequence, kind);
  }

  /** Processes `tokens` of a text from where the state is, up to `target` of them. */
  async advance(tokens: readonly number[], target: number, signal: AbortSignal | undefined): Promise<void> {
    const sequence = this.#sequence;
    const part = tokens.slice(sequence?.length ?? 0, target);
    if (sequence === undefined || part.length === 0) return;
    await this.prepare();
    this.#prefilled += part.length;
    await sequence.advance(part, signal);
  }

  /** Processes `tokens` of a text up to `length`, and keeps a checkpoint there. */
  async checkpointAt(
    tokens: readonly number[],
    length: number,
    kind: CheckpointKind,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    await this.advance(tokens, length, signal);
    await this.prepare();
    if (this.#sequence?.length === length) this.take(kind);
  }

  /** Begins with what others processed, where a text begins in the same way. Returns of how many tokens. */
  async adoptPrefix(tokens: readonly number[]): Promise<number> {
    if (!this.#sharesPrefixes || this.#sequence === undefined) return 0;
    return await this.#host.prefixes.adopt(tokens.slice(0, -1), this.#sequence);
  }

  /** Keeps the state of now for others, whose texts begin as this one. */
  async keepPrefix(tokens: readonly number[]): Promise<void> {
    const sequence = this.#sequence;
    if (!this.#sharesPrefixes || sequence === undefined) return;
    const { prefixes, runtime } = this.#host;
    await prefixes.keep(tokens.slice(0, sequence.length), sequence, runtime.device);
  }

  /** Goes back to at most `length` tokens, which it then lacks what follows of. */
  rollBack(length: number): void {
    const sequence = this.#sequence;
    if (sequence === undefined || sequence.length <= length) return;
    try {
      const snapshot = this.#checkpoints?.before(sequence, length);
      if (length > 0 && !hasStates(this.#host.runtime) && sequence.holdsCaches(length)) sequence.truncate(length);
      else if (snapshot !== undefined) sequence.restore(snapshot);
      else sequence.reset();
      this.#checkpoints?.forgetAfter(length);
    } catch (error) {
      // On a lost device there is nothing to take back; whoever calls next is told.
      if (!(error instanceof DeviceLostError)) throw error;
    }
  }

  /** Forgets the checkpoints of more than `length` tokens. */
  forgetAfter(length: number): void {
    this.#checkpoints?.forgetAfter(length);
  }

  /** Forgets everything. Memory stays allocated. */
  reset(): void {
    this.#dropStart();
    this.#sequence?.reset();
    this.#checkpoints?.forgetAfter(0);
  }

  /** Frees everything. It can be opened again, and then begins with nothing. */
  free(): void {
    this.#dropStart();
    this.#checkpoints?.dispose();
    this.#sequence?.dispose();
    this.#checkpoints = undefined;
    this.#sequence = undefined;
  }

  #setStart(start: Promise<Snapshot> | undefined): void {
    this.#start = start;
    this.#startBytes = 0;
    // A failure is told to every call that needs the state.
    void this.#measure(start).catch(() => undefined);
  }

  async #measure(start: Promise<Snapshot> | undefined): Promise<void> {
    const bytes = (await start)?.store?.byteLength ?? 0;
    if (this.#start === start) this.#startBytes = bytes;
  }

  #dropStart(): void {
    const start = this.#start;
    this.#setStart(undefined);
    const dispose = async (): Promise<void> => (await start)?.store?.dispose();
    void dispose().catch(() => undefined);
  }

  /** A copy of what a session without a sequence waits with. */
  async #copyOf(start: Promise<Snapshot>): Promise<Snapshot> {
    const snapshot = await start;
    const { runtime } = this.#host;
    const sequence = await Sequence.create(runtime);
    try {
      await sequence.adopt(snapshot);
      return await guardedSnapshot(runtime.device, 'Forking a session', sequence);
    } finally {
      sequence.dispose();
    }
  }
}

/** The state of a saved session, on the GPU. */
export async function uploadState(runtime: ModelRuntime, saved: SavedSession): Promise<Snapshot> {
  const { length, furthest, capacity } = saved;
  let end = 0;
  const regions = saved.regions.map(({ name, bytes: { byteLength } }) => {
    const byteOffset = end;
    end += byteLength;
    return { name, byteOffset, byteLength };
  });
  return await runtime.device.guard('Restoring a session', () => {
    const store: Tensor | undefined = snapshotStore(runtime.device, end);
    for (const [index, { bytes }] of saved.regions.entries()) {
      const at = (regions[index]?.byteOffset ?? 0) / 4;
      if (store !== undefined) runtime.device.write(store, new Uint32Array(bytes.slice().buffer), at);
    }
    return { length, furthest, capacity, regions, store };
  });
}
