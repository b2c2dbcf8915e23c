import { BLOCK_KINDS } from '../src/spec/block_kinds.ts';
import type { AttentionSpec, BlockSpec, ModelSpec, NormSpec } from '../src/spec/model_spec.ts';
import { blocksOf } from '../src/spec/model_spec.ts';
import { FAMILY_CATALOGUE } from './family_catalogue.ts';

/** Largest difference of any logit from the float32 result, over the largest |logit|, by storage of the matrices. */
export interface StorageErrors {
  readonly f16: number;
  readonly bf16: number;
  readonly q8: number;
  readonly q4: number;
}

/** A family with the spec of one of its models, and what storing that one in less changed. */
export interface TableRow {
  readonly family: string;
  readonly spec: ModelSpec;
  readonly errors: StorageErrors | undefined;
}

/** docs/models/families.md: what each family is made of, from the specs that its parser gives. */
export function familyTable(rows: readonly TableRow[]): string {
  const families = rows.map(({ family, spec }) => {
    const { checkpoints, particular } = FAMILY_CATALOGUE[family] ?? { checkpoints: [], particular: '' };
    const cells = [`\`${family}\``, mixers(spec), feedForward(spec), positions(spec), norms(spec), particular];
    return `| ${[...cells, checkpoints.join(', ')].join(' | ')} |`;
  });
  const errors = rows.flatMap(({ family, errors: found }) =>
    found === undefined
      ? []
      : [`| \`${family}\` | ${[found.f16, found.bf16, found.q8, found.q4].map(percent).join(' | ')} |`],
  );
  return `# Families

Written by \`tests/unit/models/family_table.test.ts\` from the parsers (\`npx vitest run --project unit tests/unit/models/family_table.test.ts -u\`). Every family computes what Hugging Face transformers 5.18 computes for a tiny model with random weights: logits within 2e-4 of the largest one in float32, and the same greedy tokens. [Adding a family](adding-a-family.md) says how.

| \`model_type\` | mixers | feed-forward | positions | norms | particular | small public checkpoints |
| --- | --- | --- | --- | --- | --- | --- |
${families.join('\n')}

## What storing the matrices in less changes

Largest difference of any logit from the float32 logits of transformers, in per cent of the largest |logit|, for the tiny models with random weights (width 32, three to six layers); tests hold twice as much. Random weights have no structure that rounding could spare: trained models lose less.

| \`model_type\` | f16 | bf16 | q8 | q4 |
| --- | --- | --- | --- | --- |
${errors.join('\n')}
`;
}

const percent = (value: number): string => `${(100 * value).toPrecision(2)} %`;

const kindsOf = (spec: ModelSpec): BlockSpec[] => [...blocksOf(spec)].map(({ block }) => block);
const unique = (words: readonly string[]): string => [...new Set(words)].join(', ');
const isFeedForward = ({ kind }: BlockSpec): boolean => kind === 'mlp' || kind === 'moe';

function mixers(spec: ModelSpec): string {
  const words = kindsOf(spec)
    .filter((block) => !isFeedForward(block))
    .map(({ kind }) => BLOCK_KINDS[kind].word);
  const parallel = spec.layers.some(({ blocks }) => blocks.length > 1 && !blocks.some(isFeedForward));
  return unique(words) + (parallel ? ', side by side' : '');
}

function feedForward(spec: ModelSpec): string {
  const shared = spec.sharedBlocks?.map(({ mlp }): BlockSpec => mlp) ?? [];
  const words = [...kindsOf(spec), ...shared].flatMap((block) => {
    if (block.kind !== 'mlp' && block.kind !== 'moe') return [];
    const form = `${block.activation}${block.gated ? ', gated' : ''}`;
    return [block.kind === 'mlp' ? form : `experts (${form})`];
  });
  return words.length === 0 ? 'none' : unique(words);
}

function positions(spec: ModelSpec): string {
  const attention = kindsOf(spec).filter((block): block is AttentionSpec => block.kind === 'attention');
  const words = attention.map(({ rotary, headDim }) => {
    if (rotary === undefined) return 'none';
    return rotary.dim === headDim ? 'RoPE' : `RoPE on ${rotary.dim} of ${headDim}`;
  });
  if (spec.learnedPositions !== undefined) return 'learned';
  return words.length === 0 ? 'none' : unique(words);
}

function norms(spec: ModelSpec): string {
  const word = ({ kind, weightOffset }: NormSpec): string =>
    `${kind === 'rms' ? 'RMS' : 'layer'}${weightOffset === 1 ? ' (1 + w)' : ''}`;
  const all = spec.layers.flatMap((layer) => [
    ...layer.norms.map((norm) => word(norm)),
    ...(layer.postNorm === undefined ? [] : [`${word(layer.postNorm)} behind`]),
  ]);
  const heads = kindsOf(spec).some((block) => block.kind === 'attention' && block.qkNorm !== undefined);
  return unique([...all, ...(heads ? ['of q and k'] : [])]);
}
