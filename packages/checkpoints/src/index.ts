/** A shipped model: hand it to `loadModel` of `@mambalab/models`. */
export interface Checkpoint {
  readonly name: string;
  /** URL of the folder that holds config.json, with a slash at the end. */
  readonly url: string;
}

/**
 * A Mamba-2-Hybrid of 5.6 M parameters (6 Mamba-2, 1 attention and 7 feed-forward layers), trained on public-domain
 * books: the smallest relative of arXiv 2406.07887's. See MODEL_CARD.md beside its weights.
 */
export const hybrid: Checkpoint = {
  name: 'hybrid',
  url: new URL('../models/hybrid/', import.meta.url).href,
};
