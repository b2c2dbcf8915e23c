import type { Capabilities, ForcedChoices, Size, TensorRef } from '@mambalab/kernels';
import { advance, embed, linear, namedSize, Recording, rowsOf, sample, subtractSize } from '@mambalab/kernels';
import { addBlock } from './blocks.ts';
import type { GraphOptions } from './context.ts';
import { GraphContext, NormalizedInput } from './context.ts';

/** Name of the size that each prefill run sets: tokens of this chunk. */
export const LENGTH = 'length';

/** What a prefill pass computes beyond the state: nothing, the logits of the last token, or those of every token. */
export type PrefillHead = 'none' | 'last' | 'all';

export interface BuildOptions extends GraphOptions {
  readonly capabilities: Capabilities;
  readonly force?: ForcedChoices;
}

const recordingFor = ({ capabilities, force }: BuildOptions): Recording =>
  new Recording(capabilities, force === undefined ? {} : { force });

/**
 * One chunk of a prompt, of 1 to `maximumLength` tokens: reads `tokens` (L), updates every state tensor, adds L to
 * `position`, and leaves logits as `head` says: external `logits` (B, V) for the last token, output `allLogits` (L, V).
 * Prompts are processed one at a time (batch 1).
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
  advance(recording, { position: context.position() }, { by: length });
  return recording;
}

/**
 * One token of every sequence: embeds `token`, updates the states, computes `logits` (B, V), samples the next `token`
 * as `settings` (B, 4) say and adds 1 to `position`. Replayed without a change, it writes a text.
 */
export function buildDecode(options: BuildOptions): Recording {
  const recording = recordingFor(options);
  const context = new GraphContext(recording, options, 1);
  const token = recording.external('token', 'u32', [options.batch]);
  const hidden = addLayers(context, token);
  const logits = logitsOf(context);
  addHead(context, hidden, logits);
  addSampling(context, logits, true);
  return recording;
}

/** Chooses a `token` from `logits` (B, V), after a prefill. */
export function buildSample(options: BuildOptions): Recording {
  const recording = recordingFor(options);
  const context = new GraphContext(recording, options, 1);
  addSampling(context, logitsOf(context), false);
  return recording;
}

const lastRow = (length: Size): Size => subtractSize(length, 1);

function addLayers(context: GraphContext, tokens: TensorRef): TensorRef {
  const { recording } = context;
  const { spec } = context.options;
  const hidden = embed(recording, { table: context.weight('embedding'), tokens }, {});
  for (const [index, layer] of spec.layers.entries()) {
    recording.scope(`layers.${index}`, () => {
      const weight = context.weight(`layers.${index}.norm`);
      const input = new NormalizedInput(context, hidden, layer.norm, weight, layer.blocks.length);
      for (const [at, block] of layer.blocks.entries())
        addBlock(context, `layers.${index}.${at}`, block, input, hidden);
    });
  }
  return hidden;
}

function addHead(context: GraphContext, hidden: TensorRef, out: TensorRef | undefined): TensorRef {
  const { spec } = context.options;
  return context.recording.scope('head', () => {
    const input = new NormalizedInput(context, hidden, spec.finalNorm, context.weight('finalNorm'));
    const weight = context.weight(spec.tiedEmbeddings ? 'embedding' : 'head');
    const { inputs, options } = input.forProjection();
    return linear(context.recording, { ...inputs, weight, ...(out && { out }) }, options);
  });
}

function logitsOf(context: GraphContext): TensorRef {
  return context.recording.external('logits', 'f32', [context.options.batch, context.options.spec.vocabSize]);
}

function addSampling(context: GraphContext, logits: TensorRef, advancing: boolean): void {
  const { recording } = context;
  const { batch } = context.options;
  sample(
    recording,
    {
      logits,
      token: recording.external('token', 'u32', [batch]),
      position: context.position(),
      settings: recording.external('settings', 'u32', [batch, 4]),
    },
    { advance: advancing },
  );
}
