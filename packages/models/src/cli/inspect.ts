import { openFolder } from '../node.ts';
import { cacheBytesPerToken, parseConfig, stateBytesOf, weightsOf } from '../surface.ts';
import type { ModelSpec } from '../surface.ts';
import { openCheckpoint } from '../weights/folder.ts';
import { formatBytes } from './terminal.ts';

/** `mambalab inspect SOURCE`: what a model is made of. */
export async function inspect(path: string, flags: { readonly json?: boolean }): Promise<void> {
  const checkpoint = await openCheckpoint(await openFolder(path));
  try {
    const parsed = parseConfig(checkpoint.config);
    const { spec } = parsed;
    const count = (shape: readonly number[]): number => shape.reduce((product, size) => product * size, 1);
    const parameters = weightsOf(parsed).reduce((sum, { shape }) => sum + count(shape), 0);
    const facts = {
      family: spec.family,
      layers: layerPattern(spec),
      hiddenSize: spec.hiddenSize,
      vocabSize: spec.vocabSize,
      parameters,
      contextLength: spec.contextLength ?? null,
      stateBytes: stateBytesOf(spec),
      kvBytesPerToken: cacheBytesPerToken(spec, 'f16'),
      storedAs: [...new Set([...checkpoint.source.tensors.values()].map(({ dtype }) => dtype))],
    };
    if (flags.json === true) {
      process.stdout.write(`${JSON.stringify(facts)}\n`);
      return;
    }
    const lines = [
      `family          ${facts.family}`,
      `layers          ${facts.layers} (M Mamba-2, * attention, - feed-forward)`,
      `width           ${facts.hiddenSize}`,
      `vocabulary      ${facts.vocabSize}`,
      `parameters      ${facts.parameters.toLocaleString('en')}`,
      `context         ${facts.contextLength ?? 'unbounded'}`,
      `state           ${formatBytes(facts.stateBytes)}`,
      `KV cache        ${formatBytes(facts.kvBytesPerToken)} a token (f16)`,
      `stored as       ${facts.storedAs.join(', ')}`,
    ];
    process.stdout.write(`${lines.join('\n')}\n`);
  } finally {
    await checkpoint.source.dispose();
  }
}

const LETTERS = { mamba2: 'M', attention: '*', mlp: '-' } as const;

function layerPattern(spec: ModelSpec): string {
  return spec.layers.map(({ blocks }) => blocks.map(({ kind }) => LETTERS[kind]).join('')).join('');
}
