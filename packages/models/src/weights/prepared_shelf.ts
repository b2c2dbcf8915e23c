import { ArgumentError, isQuantized } from '@mambalab/kernels';
import manifest from '../../package.json' with { type: 'json' };
import type { Cache } from './cache.ts';
import { ADDRESSES, CLEAR_HINT, hexHash, isQuotaError, parseStored } from './cached_file.ts';
import type { PlannedWeight, WeightDtype } from './plan.ts';
import { isFloat32, weightBytes } from './plan.ts';
import { PREPARED, PreparedWeights, removeIfPossible } from './prepared_weights.ts';
import { PreparedWriter } from './prepared_writer.ts';
import type { Quantization } from './quantization.ts';
import type { Folder, KeptIn, SourceDtype, TensorSource } from './source.ts';

/** To be raised when the same checkpoint comes to lie otherwise on the GPU, or in the cache. */
const FORMAT = 1;

/** What is to be kept. */
export interface ShelfOptions {
  /** As in LoadOptions. */
  readonly prepared?: boolean | undefined;
  readonly cache?: boolean | Cache | undefined;
  readonly dtype: WeightDtype;
  readonly quantization?: Quantization | undefined;
  readonly largestBinding?: number | undefined;
  /** The platform's cache. */
  openCache(): Promise<Cache>;
  /** Told what keeps weights from being kept. */
  onNote(note: string): void;
  readonly signal?: AbortSignal | undefined;
}

/**
 * The place in a cache of the weights of one load as they lie on the GPU.
 *
 * @param plan of the weights, before tables are split for a device
 * @returns undefined where they are not to be kept
 * @throws ArgumentError where they are asked for and there is no cache
 */
export async function openShelf(
  folder: Folder,
  source: TensorSource,
  plan: readonly PlannedWeight[],
  options: ShelfOptions,
): Promise<PreparedShelf | undefined> {
  const { prepared, dtype, quantization, largestBinding, onNote, signal } = options;
  const kept = prepared === true ? await keptIn(folder, options) : folder.kept;
  const isWanted = prepared ?? plan.some((weight) => isConverted(weight, source));
  if (kept === undefined || !isWanted) return undefined;
  const identity = await identityOf(folder, source, plan, signal);
  if (identity === undefined) {
    if (prepared === true) onNote(`${folder.label} does not tell its versions apart, so its weights are not kept.`);
    return undefined;
  }
  // Everything that decides how the weights lie on the GPU.
  const key = hexHash(JSON.stringify([FORMAT, manifest.version, dtype, quantization ?? {}, plan, identity]));
  const slot = hexHash(JSON.stringify(['prepared', folder.label, dtype, quantization ?? {}, largestBinding ?? 0]));
  const file = `weights as on the GPU (${dtype})`;
  return new PreparedShelf(kept, { key, slot, file }, onNote);
}

async function keptIn(folder: Folder, { cache, openCache }: ShelfOptions): Promise<KeptIn> {
  if (cache === false) {
    throw new ArgumentError(
      "'prepared' asks to keep weights, and 'cache' to keep nothing.",
      'Leave out one of the two, or give a cache.',
    );
  }
  return folder.kept ?? { cache: typeof cache === 'object' ? cache : await openCache(), source: folder.label };
}

/** What the contents of all files that weights are read from are called. */
async function identityOf(
  folder: Folder,
  source: TensorSource,
  plan: readonly PlannedWeight[],
  signal: AbortSignal | undefined,
): Promise<readonly string[] | undefined> {
  const names = plan.flatMap(({ spec }) => spec.sources.map(({ name }) => source.tensors.get(name)?.file ?? ''));
  const identities: string[] = [];
  for (const name of [...new Set(names)].sort()) {
    const identity = await (await folder.file(name, signal))?.identity?.(signal);
    if (identity === undefined) return undefined;
    identities.push(`${name} ${identity}`);
  }
  return identities;
}

const PLAIN: Readonly<Record<string, SourceDtype>> = { f32: 'F32', f16: 'F16', bf16: 'BF16' };

/** Whether a matrix has another type on the GPU than in its file: norms and the like are small. */
function isConverted({ spec, dtype }: PlannedWeight, source: TensorSource): boolean {
  if (isFloat32(spec)) return false;
  return spec.sources.some((part) => {
    const info = source.tensors.get(part.name);
    if (info === undefined) return false;
    if (isQuantized(dtype)) return info.blocks?.exact.includes(dtype) !== true;
    return info.blocks !== undefined || info.dtype !== PLAIN[dtype];
  });
}

/** Where the weights of one load are kept as they lie on the GPU. */
export class PreparedShelf {
  /** What lists and progress call them. */
  readonly file: string;
  readonly #kept: KeptIn;
  readonly #key: string;
  readonly #slot: string;
  readonly #onNote: (note: string) => void;

  constructor(
    kept: KeptIn,
    { key, slot, file }: { readonly key: string; readonly slot: string; readonly file: string },
    onNote: (note: string) => void,
  ) {
    this.file = file;
    this.#kept = kept;
    this.#key = key;
    this.#slot = `${ADDRESSES}${slot}`;
    this.#onNote = onNote;
  }

  /** What an earlier load kept, if it is there and whole. */
  async find(signal?: AbortSignal): Promise<PreparedWeights | undefined> {
    return await PreparedWeights.find(this.#kept.cache, this.#prefix, signal);
  }

  /**
   * Begins to keep the weights of a plan, where there is room for them.
   *
   * @param others bytes that the cache still has to take of the files themselves, which come first
   */
  async begin(plan: readonly PlannedWeight[], others: number): Promise<PreparedWriter | undefined> {
    const { cache, source } = this.#kept;
    const needed = plan.reduce((sum, { spec, dtype }) => sum + weightBytes(spec, dtype), 0);
    const room = await cache.room?.();
    if (room !== undefined && room < needed + others) {
      this.#refused(`the cache has room for ${Math.max(0, room - others)} more bytes, and they take ${needed}`);
      return undefined;
    }
    return new PreparedWriter(cache, this.#prefix, { source, file: this.file }, plan);
  }

  /** Completes what was begun, and removes what it takes the place of: weights of another version or content. */
  async complete(writer: PreparedWriter, signal?: AbortSignal): Promise<void> {
    const failure = await writer.complete(signal);
    if (failure !== undefined) {
      this.#refused(isQuotaError(failure.error) ? 'the cache is full' : String(failure.error));
      return;
    }
    const { cache, source } = this.#kept;
    try {
      const bytes = await cache.get(this.#slot);
      const before = bytes === undefined ? undefined : parseStored(bytes);
      const key = before !== undefined && 'prepared' in before ? before.prepared : undefined;
      if (key === this.#key) return;
      if (typeof key === 'string') await removeIfPossible(cache, `${PREPARED}${key}/`);
      await cache.put(this.#slot, new TextEncoder().encode(JSON.stringify({ source, prepared: this.#key })));
    } catch (error) {
      this.#onNote(`What was kept of ${source} before may still be in the cache (${String(error)}): ${CLEAR_HINT}.`);
    }
  }

  #refused(reason: string): void {
    this.#onNote(
      `The weights of ${this.#kept.source} are not kept as they lie on the GPU, so the next load takes as long: ${reason}. To mend it, ${CLEAR_HINT}; \`prepared: false\` keeps no such weights.`,
    );
  }

  get #prefix(): string {
    return `${PREPARED}${this.#key}/`;
  }
}
