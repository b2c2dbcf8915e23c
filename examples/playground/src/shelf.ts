import { hybrid, mamba, mamba2, transformer } from '@mambalab/checkpoints';
import type { LoadProgress, Model, ModelSource } from '@mambalab/models';
import { loadModel } from '@mambalab/models';
import { formatBytes, formatTime } from './format.ts';
import { Observable } from './observable.ts';
import { describeModel } from './rows.ts';

/** A model that can be chosen. */
export interface ModelChoice {
  readonly key: string;
  readonly label: string;
  readonly source: ModelSource;
}

export interface LoadStatus {
  readonly text: string;
  /** From 0 to 1; `unknown` while nobody can tell; absent when nothing is loading. */
  readonly progress?: number | 'unknown';
}

export const SHIPPED: readonly ModelChoice[] = [
  { key: 'hybrid', label: 'Mamba-2-Hybrid, shipped', source: hybrid },
  { key: 'mamba2', label: 'Mamba-2, shipped', source: mamba2 },
  { key: 'mamba', label: 'Mamba, shipped', source: mamba },
  { key: 'transformer', label: 'Transformer, shipped', source: transformer },
];

/** The models that are loaded. The shipped ones stay; of a user's own, the last one does. */
export class Shelf {
  readonly choices: Observable<readonly ModelChoice[]> = new Observable(SHIPPED);
  readonly status: Observable<LoadStatus> = new Observable<LoadStatus>({ text: 'No model is loaded.' });
  /** Called when a device is lost, or a model makes room for another. */
  onGone: (model: Model) => void = () => undefined;
  readonly #models = new Map<string, Model>();

  /** The model of a choice, loaded where it is not yet. @throws what `loadModel` throws */
  async open(choice: ModelChoice, signal: AbortSignal): Promise<Model> {
    const { key, label } = choice;
    const known = this.#models.get(key);
    if (known !== undefined) {
      this.status.value = { text: `${label} (${describeModel(known)}).` };
      return known;
    }
    this.status.value = { text: `Loading ${label} …`, progress: 'unknown' };
    try {
      const started = performance.now();
      const model = await loadModel(choice.source, { signal, onProgress: this.#showProgress(label) });
      this.#models.set(key, model);
      this.#keepOne(choice);
      this.status.value = {
        text: `${label} (${describeModel(model)}), loaded in ${formatTime(performance.now() - started)}.`,
      };
      void this.#watch(key, model);
      return model;
    } catch (error) {
      this.status.value = { text: `${label} is not loaded.` };
      throw error;
    }
  }

  /** A user's own model replaces the one before. */
  #keepOne(choice: ModelChoice): void {
    if (this.choices.value.some(({ key }) => key === choice.key)) return;
    for (const { key } of this.choices.value.slice(SHIPPED.length)) this.#remove(key);
    this.choices.value = [...SHIPPED, choice];
  }

  #remove(key: string): void {
    const model = this.#models.get(key);
    this.#models.delete(key);
    if (model === undefined) return;
    this.onGone(model);
    model.dispose();
  }

  async #watch(key: string, model: Model): Promise<void> {
    await model.runtime.device.lost;
    if (this.#models.get(key) !== model) return;
    this.#remove(key);
    this.status.value = { text: 'The GPU device was lost. Load the model again.' };
  }

  /** How far loading is: of what is downloaded while something is, then of what is on the GPU. */
  #showProgress(label: string): (progress: LoadProgress) => void {
    let isDownloading = false;
    return ({ phase, loadedBytes, totalBytes }) => {
      if (phase === 'compile') {
        this.status.value = { text: `Compiling the shaders of ${label} …`, progress: 'unknown' };
        return;
      }
      if (phase === 'download') isDownloading = loadedBytes < totalBytes;
      if (phase === 'upload' && isDownloading) return;
      const text = `Loading ${label}: ${formatBytes(loadedBytes)} of ${formatBytes(totalBytes)}`;
      this.status.value = { text, progress: loadedBytes / totalBytes };
    };
  }
}
