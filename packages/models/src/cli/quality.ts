import { readFile } from 'node:fs/promises';
import { requestDevice } from '@mambalab/kernels/node';
import { loadModel } from '../node.ts';
import type { WeightDtype } from '../surface.ts';
import { ArgumentError, measureQuality, textChunks } from '../surface.ts';
import { quantizationOf } from './quantization_flags.ts';
import type { QuantizationFlags } from './quantization_flags.ts';
import { onInterrupt } from './terminal.ts';

export interface QualityFlags extends QuantizationFlags {
  readonly reference: string;
  readonly text: string;
  readonly dtype: WeightDtype;
  readonly referenceDtype: WeightDtype;
  /** Tokens of the parts that the text is cut into. */
  readonly chunk: number;
  /** Tokens of the text that are used at most. */
  readonly maxTokens?: number;
  readonly json?: boolean;
}

/** `mambalab quality SOURCE`: how far a model's predictions are from those of a reference, over a text. */
export async function quality(source: string, flags: QualityFlags): Promise<void> {
  using interruption = onInterrupt();
  const { signal } = interruption;
  const text = await readFile(flags.text, { encoding: 'utf8', signal }).catch((cause: unknown) => {
    signal.throwIfAborted();
    throw new ArgumentError(`${flags.text} cannot be read.`, 'Give the path of a text file.', { cause });
  });
  using device = await requestDevice();
  // Exact caches, so that what is compared is the weights.
  const shared = { device, signal, warmUp: false, cacheDtype: 'f32' } as const;
  using reference = await loadModel(flags.reference, { ...shared, dtype: flags.referenceDtype });
  using model = await loadModel(source, { ...shared, dtype: flags.dtype, ...quantizationOf(flags) });
  const { tokenizer } = reference;
  const tokens = tokenizer.encode(text, { addSpecialTokens: false }).slice(0, flags.maxTokens);
  const chunk = Math.min(flags.chunk, reference.contextLength, model.contextLength);
  const result = await measureQuality(model, reference, textChunks(tokens, chunk, tokenizer.encode('')), { signal });
  if (flags.json === true) {
    process.stdout.write(`${JSON.stringify({ source, ...flags, ...result })}\n`);
    return;
  }
  const lines = [
    `predictions     ${result.tokens}`,
    `KL divergence   ${result.meanKl.toPrecision(3)} nats a token`,
    `same best token ${(100 * result.topOneAgreement).toFixed(1)} %`,
    `perplexity      ${result.perplexity.toFixed(3)} (reference ${result.referencePerplexity.toFixed(3)})`,
  ];
  process.stdout.write(`${lines.join('\n')}\n`);
}
