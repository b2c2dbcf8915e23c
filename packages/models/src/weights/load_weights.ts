import type { Tensor } from '@mambalab/kernels';
import type { PlannedWeight } from './plan.ts';
import type { PreparedShelf } from './prepared_shelf.ts';
import type { PreparedWeights } from './prepared_weights.ts';
import { PreparedDamage } from './prepared_weights.ts';
import type { Folder, TensorSource } from './source.ts';
import type { UploadDevice, UploadOptions } from './upload.ts';
import { uploadWeights } from './upload.ts';
import { transformedPieces } from './weight_pieces.ts';

/** What the weights of a load are made from. */
export interface WeightOrigin {
  readonly folder: Folder;
  readonly source: TensorSource;
  /** Where they are kept as they lie on the GPU. */
  readonly shelf: PreparedShelf | undefined;
}

/** The weights of one load: those that are kept, where there are any, and otherwise made from the checkpoint and kept. */
export class WeightLoad {
  readonly #origin: WeightOrigin;
  readonly #prepared: PreparedWeights | undefined;
  /** Bytes that the cache has yet to take of the files; undefined while these need not be read. */
  #missing: number | undefined;

  private constructor(origin: WeightOrigin, prepared: PreparedWeights | undefined) {
    this.#origin = origin;
    this.#prepared = prepared;
  }

  /**
   * Finds out which it will be, which takes no device.
   *
   * @throws StorageQuotaError if files are to be kept, and there is no room
   */
  static async begin(origin: WeightOrigin, signal?: AbortSignal): Promise<WeightLoad> {
    const load = new WeightLoad(origin, await origin.shelf?.find(signal));
    if (load.#prepared === undefined) await load.#stream(signal);
    return load;
  }

  /**
   * Puts the weights on the GPU. On any failure everything is freed, and what was not kept whole is removed.
   *
   * @param plan with tables split as the device needs it
   */
  async upload(
    device: UploadDevice,
    plan: readonly PlannedWeight[],
    options: UploadOptions,
  ): Promise<ReadonlyMap<string, Tensor>> {
    const { shelf } = this.#origin;
    const prepared = this.#prepared;
    if (prepared?.fits(plan) === true) {
      try {
        return await uploadWeights(device, plan, prepared.pieces(plan, shelf?.file ?? ''), options);
      } catch (error) {
        if (!(error instanceof PreparedDamage)) throw error;
      }
    }
    // Damaged, or of a device that binds more or less: made anew.
    await prepared?.remove();
    return await this.#make(device, plan, options);
  }

  async #make(
    device: UploadDevice,
    plan: readonly PlannedWeight[],
    options: UploadOptions,
  ): Promise<ReadonlyMap<string, Tensor>> {
    const { folder, source, shelf } = this.#origin;
    const { signal } = options;
    const missing = this.#missing ?? (await this.#stream(signal));
    const writer = await shelf?.begin(plan, missing);
    let tensors: ReadonlyMap<string, Tensor> | undefined;
    try {
      const pieces = transformedPieces(plan, source);
      tensors = await uploadWeights(device, plan, writer?.keep(pieces) ?? pieces, options);
      await folder.endStreaming?.(signal);
      if (writer !== undefined) await shelf?.complete(writer, signal);
      return tensors;
    } catch (error) {
      for (const tensor of tensors?.values() ?? []) tensor.dispose();
      await writer?.discard();
      throw error;
    }
  }

  async #stream(signal: AbortSignal | undefined): Promise<number> {
    this.#missing = (await this.#origin.folder.beginStreaming?.(signal)) ?? 0;
    return this.#missing;
  }
}
