/** A shipped model: hand it to `loadModel` of `@mambalab/models`. */
export interface Checkpoint {
  readonly name: string;
  /** URL of the folder that holds config.json, with a slash at the end. */
  readonly url: string;
}

// Four models of 5.6 M parameters that were trained alike: the comparison of arXiv 2406.07887 in miniature. Matrices are
// in blocks of 4 and 8 bits; README.md beside the weights of each says what it is and what that costs. The addresses are
// written out, since bundlers look for them.

/** A Mamba-2-Hybrid: 6 Mamba-2, 1 attention and 7 feed-forward layers. */
export const hybrid: Checkpoint = {
  name: 'hybrid',
  url: new URL('../models/hybrid/', import.meta.url).href,
};

/** A Mamba of 8 layers. */
export const mamba: Checkpoint = {
  name: 'mamba',
  url: new URL('../models/mamba/', import.meta.url).href,
};

/** A Mamba-2 of 8 layers. */
export const mamba2: Checkpoint = {
  name: 'mamba2',
  url: new URL('../models/mamba2/', import.meta.url).href,
};

/** A Transformer of 6 layers, made as Llama is. */
export const transformer: Checkpoint = {
  name: 'transformer',
  url: new URL('../models/transformer/', import.meta.url).href,
};
