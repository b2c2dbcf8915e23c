import type { LanguageModel } from '../language_model.ts';
import type { LoadOptions, LoadProgress } from '../load_model.ts';
import { unlessAborted } from '../weights/traffic.ts';

/** Loads a model from a source, as `loadModel` does. */
export type ModelLoader = (source: never, options: LoadOptions) => Promise<LanguageModel & Recoverable>;

/** What a model of this realm can do beside. */
export interface Recoverable {
  recover(options?: { readonly signal?: AbortSignal }): Promise<void>;
}

/** A model, for as long as somebody holds it. */
export interface HeldModel {
  readonly model: LanguageModel & Recoverable;
  release(): void;
}

interface Shelved {
  readonly loading: Promise<LanguageModel & Recoverable>;
  readonly abort: AbortController;
  readonly listeners: Set<(progress: LoadProgress) => void>;
  holders: number;
}

/** Loads each model once however many pages ask for it, and disposes of it when the last of them leaves. */
export class ModelShelf {
  readonly #load: ModelLoader;
  readonly #shelved = new Map<unknown, Shelved>();

  constructor(load: ModelLoader) {
    this.#load = load;
  }

  async take(
    source: unknown,
    options: object,
    signal: AbortSignal,
    onProgress: (progress: LoadProgress) => void,
  ): Promise<HeldModel> {
    const key = keyOf(source, options);
    const shelved = this.#shelved.get(key) ?? this.#begin(key, source, options);
    shelved.listeners.add(onProgress);
    shelved.holders += 1;
    let isHeld = true;
    const release = (): void => {
      if (!isHeld) return;
      isHeld = false;
      shelved.holders -= 1;
      if (shelved.holders > 0) return;
      if (this.#shelved.get(key) === shelved) this.#shelved.delete(key);
      shelved.abort.abort(new Error('Nobody waits for the model.'));
      void shelved.loading.then(
        (model) => model.dispose(),
        () => undefined,
      );
    };
    try {
      signal.throwIfAborted();
      return { model: await unlessAborted(shelved.loading, signal), release };
    } catch (error) {
      release();
      throw error;
    } finally {
      shelved.listeners.delete(onProgress);
    }
  }

  #begin(key: unknown, source: unknown, options: object): Shelved {
    const abort = new AbortController();
    const listeners = new Set<(progress: LoadProgress) => void>();
    const onProgress = (progress: LoadProgress): void => {
      for (const listener of listeners) listener(progress);
    };
    const loading = this.#load(source as never, { ...options, signal: abort.signal, onProgress });
    const shelved = { loading, abort, listeners, holders: 0 };
    this.#shelved.set(key, shelved);
    // What failed can be tried again.
    loading.catch(() => {
      if (this.#shelved.get(key) === shelved) this.#shelved.delete(key);
    });
    return shelved;
  }
}

/** What is the same for the same model: files that a user chose are nobody else's. */
function keyOf(source: unknown, options: object): unknown {
  const isNamed = typeof source === 'string' || (typeof source === 'object' && source !== null && 'url' in source);
  return isNamed ? JSON.stringify([source, options]) : Symbol('files');
}
