import { openFolder } from '../node.ts';
import { cacheBytesPerToken, parameterCount, parseConfig, stateBytesOf } from '../surface.ts';
import { BLOCK_KINDS, layerPattern } from '../spec/block_kinds.ts';
import { openCheckpoint } from '../weights/folder.ts';
import { storedBits } from '../weights/source.ts';
import type { TensorSource } from '../weights/source.ts';
import { sourceOptions } from './source_flags.ts';
import type { SourceFlags } from './source_flags.ts';
import { formatBytes } from './terminal.ts';

export interface InspectFlags extends SourceFlags {
  readonly json?: boolean;
}

/** `mambalab inspect SOURCE`: what a model is made of. */
export async function inspect(path: string, flags: InspectFlags): Promise<void> {
  const checkpoint = await openCheckpoint(await openFolder(path, sourceOptions(flags)));
  try {
    const parsed = parseConfig(checkpoint.config);
    const { spec } = parsed;
    const facts = {
      family: spec.family,
      layers: layerPattern(spec),
      hiddenSize: spec.hiddenSize,
      vocabSize: spec.vocabSize,
      parameters: parameterCount(parsed),
      contextLength: spec.contextLength ?? null,
      stateBytes: stateBytesOf(spec),
      kvBytesPerToken: cacheBytesPerToken(spec, 'f16'),
      ...storage(checkpoint.source),
    };
    if (flags.json === true) {
      process.stdout.write(`${JSON.stringify(facts)}\n`);
      return;
    }
    const lines = [
      `family          ${facts.family}`,
      `layers          ${facts.layers} (${legend(facts.layers)})`,
      `width           ${facts.hiddenSize}`,
      `vocabulary      ${facts.vocabSize}`,
      `parameters      ${facts.parameters.toLocaleString('en')}`,
      `context         ${facts.contextLength ?? 'unbounded'}`,
      `state           ${formatBytes(facts.stateBytes)}`,
      `KV cache        ${formatBytes(facts.kvBytesPerToken)} a token (f16)`,
      `stored as       ${facts.storedAs.map((kind) => `${kind} (${formatBytes(facts.storedBytes[kind] ?? 0)})`).join(', ')}`,
    ];
    process.stdout.write(`${lines.join('\n')}\n`);
  } finally {
    await checkpoint.source.dispose();
  }
}

/** How the tensors are stored, and the bytes of each kind. */
function storage({ tensors }: TensorSource): {
  readonly storedAs: readonly string[];
  readonly storedBytes: Readonly<Record<string, number>>;
} {
  const storedBytes: Record<string, number> = {};
  for (const info of tensors.values()) {
    const kind = info.blocks?.kind ?? info.dtype;
    const values = info.shape.reduce((product, size) => product * size, 1);
    storedBytes[kind] = (storedBytes[kind] ?? 0) + Math.round((values * storedBits(info)) / 8);
  }
  return { storedAs: Object.keys(storedBytes), storedBytes };
}

/** What the letters of a pattern mean. */
function legend(pattern: string): string {
  return Object.values(BLOCK_KINDS)
    .filter(({ letter }) => pattern.includes(letter))
    .map(({ letter, word }) => `${letter} ${word}`)
    .join(', ');
}
