import type { Capabilities, ForcedChoices, Size, TensorRef } from '@mambalab/kernels';
import {
  advance,
  applyGate,
  columns,
  embed,
  linear,
  namedSize,
  Recording,
  rowsOf,
  subtractSize,
} from '@mambalab/kernels';
import type { LayerSpec } from '../spec/model_spec.ts';
import { normName } from '../spec/weight_spec.ts';
import { addBlock } from './blocks/index.ts';
import { addSharedBlock } from './blocks/shared_block.ts';
import type { GraphOptions } from './context.ts';
import { GraphContext, NormalizedInput } from './context.ts';
import type { SamplingFeatures } from './sampling.ts';
import { addSampling, PLAIN_SAMPLING } from './sampling.ts';

/** Name of the size that each prefill run sets: tokens of this chunk. */
export const LENGTH = 'length';

/**
 * What a prefill pass computes beyond the state: nothing, the logits of the last token, those of every token, or the
 * hidden states of every token after the last norm.
 */
export type PrefillHead = 'none' | 'last' | 'all' | 'hidden';

export interface BuildOptions extends GraphOptions {
  readonly capabilities: Capabilities;
  readonly force?: ForcedChoices;
}

const recordingFor = ({ capabilities, force }: BuildOptions): Recording =>
  new Recording(capabilities, force === undefined ? {} : { force });

/**
 * One chunk of a prompt, of 1 to `maximumLength` tokens: reads `tokens` (L), updates every state tensor, adds L to
 * `position`, and leaves logits as `head` says: external `logits` (B, V) for the last token, output `allLogits` (L, V),
 * or output `hidden` (L, D). Prompts are processed one at a time (batch 1).
 */
export function buildPrefill(options: BuildOptions, maximumLength: number, head: PrefillHead): Recording {
  const recording = recordingFor(options);
  // A pass of one token keeps its parallel form: its length is a named size, not the number 1.
  const length = namedSize(LENGTH, maximumLength);
  const context = new GraphContext(recording, options, length);
  const tokens = recording.external('tokens', 'u32', [maximumLength]);
  const hidden = addLayers(context, { ...tokens, shape: [length] });
  if (head === 'last') addHead(context, rowsOf(hidden, lastRow(length), 1), logitsOf(context));
  if (head === 'all') recording.keep('allLogits', addHead(context, hidden, undefined));
  if (head === 'hidden') {
    recording.keep('hidden', context.normalize(hidden, options.spec.finalNorm, 'finalNorm'));
  }
  advance(recording, { position: context.position() }, { by: length });
  return recording;
}

/**
 * One token of every sequence: embeds `token`, updates the states, computes `logits` (B, V), adds 1 to `position` and
 * chooses the next `token` as the tensors of its sampling say. Replayed without a change, it writes a text.
 *
 * @param sampling what the chosen tokens may depend on; with 'none' the logits are left as they are
 */
export function buildDecode(options: BuildOptions, sampling: SamplingFeatures | 'none' = PLAIN_SAMPLING): Recording {
  const recording = recordingFor(options);
  const context = new GraphContext(recording, options, 1);
  const token = recording.external('token', 'u32', [options.batch]);
  const hidden = addLayers(context, token);
  const logits = logitsOf(context);
  addHead(context, hidden, logits);
  if (sampling === 'none') advance(recording, { position: context.position() }, { by: 1 });
  else addSampling(context, logits, sampling, true);
  return recording;
}

/** Chooses a `token` from `logits` (B, V), after a prefill. */
export function buildSample(options: BuildOptions, sampling: SamplingFeatures = PLAIN_SAMPLING): Recording {
  const recording = recordingFor(options);
  const context = new GraphContext(recording, options, 1);
  addSampling(context, logitsOf(context), sampling, false);
  return recording;
}

const lastRow = (length: Size): Size => subtractSize(length, 1);

function addLayers(context: GraphContext, tokens: TensorRef): TensorRef {
  const { spec } = context.options;
  const hidden = addEmbedding(context, tokens);
  const wide = spec.sharedBlocks === undefined ? undefined : new WideInput(context, hidden);
  for (const [index, layer] of spec.layers.entries()) {
    context.recording.scope(`layers.${index}`, () => addLayer(context, index, layer, hidden, wide));
  }
  return hidden;
}

function addLayer(
  context: GraphContext,
  index: number,
  layer: LayerSpec,
  hidden: TensorRef,
  wide: WideInput | undefined,
): void {
  const { norms, blocks, postNorm, sharedBlock } = layer;
  const shared = sharedBlock === undefined ? undefined : context.options.spec.sharedBlocks?.[sharedBlock];
  const x =
    shared === undefined || sharedBlock === undefined || wide === undefined
      ? hidden
      : addSharedBlock(context, sharedBlock, `layers.${index}.shared`, shared, wide.around(hidden));
  // Blocks side by side read the stream before any of them adds to it.
  const inputs = (norms.length === 0 ? [undefined] : norms).map((norm, at) => {
    const named = norm === undefined ? undefined : { spec: norm, name: normName(index, norms.length, at) };
    return new NormalizedInput(context, x, named, blocks.length > 1);
  });
  for (const [at, spec] of blocks.entries()) {
    const input = inputs[Math.min(at, inputs.length - 1)];
    if (input === undefined) throw new RangeError(`Layer ${index} has no input.`);
    const name = `layers.${index}.${at}`;
    const output = addBlock({ context, name, spec, input, residual: postNorm === undefined ? hidden : undefined });
    if (postNorm !== undefined) context.normalize(output, postNorm, `layers.${index}.postNorm`, hidden);
  }
}

/** The residual stream beside the embeddings of the tokens, (rows, 2 D): what shared blocks read. */
class WideInput {
  readonly #context: GraphContext;
  readonly #tensor: TensorRef;
  readonly #width: number;

  constructor(context: GraphContext, embedded: TensorRef) {
    this.#context = context;
    this.#width = context.options.spec.hiddenSize;
    this.#tensor = context.recording.scratch('wide', 'f32', [embedded.shape[0] ?? 0, 2 * this.#width]);
    this.#copy(embedded, this.#width);
  }

  /** The first half is a copy of the stream as it is now, which may be added to. */
  around(hidden: TensorRef): TensorRef {
    this.#copy(hidden, 0);
    return this.#tensor;
  }

  #copy(x: TensorRef, first: number): void {
    applyGate(this.#context.recording, { x, out: columns(this.#tensor, first, first + this.#width) });
  }
}

/** Embeddings of the tokens (rows, D), each from the part of the table that holds it. */
function addEmbedding(context: GraphContext, tokens: TensorRef): TensorRef {
  const { recording } = context;
  const { embeddingScale, learnedPositions } = context.options.spec;
  const positions = learnedPositions === undefined ? {} : learnedPositionsOf(context);
  let y: TensorRef | undefined;
  for (const { table, first } of context.table('embedding')) {
    y = embed(
      recording,
      { table, tokens, ...positions, ...(y && { out: y }) },
      { ...(embeddingScale !== undefined && { scale: embeddingScale }), firstToken: first },
    );
  }
  if (y === undefined) throw new RangeError('The model has no embedding.');
  return y;
}

/** What adds the learned embeddings of positions to those of tokens. */
function learnedPositionsOf(context: GraphContext): { readonly positions: TensorRef; readonly position: TensorRef } {
  return { positions: context.weight('positions'), position: context.position() };
}

function addHead(context: GraphContext, hidden: TensorRef, out: TensorRef | undefined): TensorRef {
  const { spec } = context.options;
  const { recording } = context;
  return recording.scope('head', () => {
    const parts = context.table(spec.tiedEmbeddings ? 'embedding' : 'head');
    const input = new NormalizedInput(context, hidden, { spec: spec.finalNorm, name: 'finalNorm' }, parts.length > 1);
    const { inputs, options } = input.forProjection();
    const scaled = { ...options, ...(spec.logitScale !== undefined && { scale: spec.logitScale }) };
    const [whole, ...others] = parts;
    if (whole === undefined) throw new RangeError('The model has no head.');
    if (others.length === 0) return linear(recording, { ...inputs, weight: whole.table, ...(out && { out }) }, scaled);
    const logits = out ?? recording.scratch('logits', 'f32', [hidden.shape[0] ?? 0, spec.vocabSize]);
    for (const { table, first, count } of parts) {
      linear(recording, { ...inputs, weight: table, out: columns(logits, first, first + count) }, scaled);
    }
    return logits;
  });
}

function logitsOf(context: GraphContext): TensorRef {
  return context.recording.external('logits', 'f32', [context.options.batch, context.options.spec.vocabSize]);
}
