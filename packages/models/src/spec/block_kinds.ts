import type { BlockSpec, ModelSpec } from './model_spec.ts';

/** Words and letters for kinds of blocks; the letters of Megatron where it has one. */
export const BLOCK_KINDS: Readonly<Record<BlockSpec['kind'], { readonly word: string; readonly letter: string }>> = {
  mamba: { word: 'Mamba', letter: 'm' },
  mamba2: { word: 'Mamba-2', letter: 'M' },
  attention: { word: 'attention', letter: '*' },
  mlp: { word: 'feed-forward', letter: '-' },
  moe: { word: 'experts', letter: 'E' },
  gatedDelta: { word: 'gated delta net', letter: 'G' },
  shortConv: { word: 'short convolution', letter: 'C' },
};

/** The layers of a model as letters; blocks that stand side by side in brackets, such as `(M*)-`. */
export function layerPattern(spec: ModelSpec): string {
  return spec.layers
    .map(({ blocks, sharedBlock }) => {
      const letters = blocks.map(({ kind }) => BLOCK_KINDS[kind].letter).join('');
      // A shared Transformer block in front is attention and a feed-forward layer of its own.
      const block = blocks.length === 1 ? letters : `(${letters})`;
      return sharedBlock === undefined ? block : `[*-]${block}`;
    })
    .join('');
}

/** How many blocks of each kind a model has, by their words, in the order of their first appearance. */
export function blockCounts(spec: ModelSpec): ReadonlyMap<string, number> {
  const counts = new Map<string, number>();
  for (const { kind } of spec.layers.flatMap(({ blocks }) => blocks)) {
    const { word } = BLOCK_KINDS[kind];
    counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  return counts;
}
