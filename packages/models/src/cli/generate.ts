import { readFile } from 'node:fs/promises';
import pc from 'picocolors';
import type { GenerateOptions, GenerationResult, Model, ModelMemory, ResponseFormat } from '../node.ts';
import { ArgumentError, loadModel } from '../node.ts';
import type { SamplingOptions, WeightDtype } from '../surface.ts';
import { sourceOptions } from './source_flags.ts';
import type { SourceFlags } from './source_flags.ts';
import { formatBytes, onInterrupt, progressReporter } from './terminal.ts';

export interface GenerateFlags extends SourceFlags, Omit<SamplingOptions, 'penaltyWindow'> {
  readonly maxTokens: number;
  readonly temperature: number;
  readonly seed?: number;
  readonly stop?: readonly string[];
  readonly jsonSchema?: string;
  readonly regex?: string;
  readonly logprobs?: number;
  readonly promptLookup?: boolean;
  readonly contextLength?: number;
  readonly ignoreEos?: boolean;
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly dtype: WeightDtype;
}

/** `mambalab generate SOURCE "prompt"` */
export async function generate(source: string, prompt: string, flags: GenerateFlags): Promise<void> {
  const silent = flags.json === true || flags.quiet === true;
  using interruption = onInterrupt();
  const { signal } = interruption;
  const started = performance.now();
  await using model = await loadModel(source, {
    ...sourceOptions(flags),
    dtype: flags.dtype,
    signal,
    ...(flags.contextLength !== undefined && { contextLength: flags.contextLength }),
    ...(!silent && { onProgress: progressReporter() }),
  });
  const loadMs = performance.now() - started;
  if (!silent) process.stderr.write(`${pc.dim(describe(model, source, loadMs))}\n\n${pc.bold(prompt)}`);

  const text = model.generate(prompt, { ...(await generateOptions(flags)), signal });
  if (flags.json !== true) for await (const piece of text) process.stdout.write(piece.text);
  const result = await text.result;
  if (flags.json === true) {
    process.stdout.write(`${JSON.stringify({ ...result, loadMs, memory: model.memory() })}\n`);
  } else {
    process.stdout.write('\n');
    if (!silent)
      process.stderr.write(
        `\n${pc.dim(statistics(result, model.memory(), result.usage.promptTokens + result.usage.completionTokens))}\n`,
      );
  }
}

/** The options of the library that flags stand for. */
export async function generateOptions(flags: GenerateFlags): Promise<GenerateOptions> {
  const { maxTokens, temperature, topK, topP, minP, seed, stop, logprobs } = flags;
  const { repetitionPenalty, presencePenalty, frequencyPenalty } = flags;
  const given = { topK, topP, minP, repetitionPenalty, presencePenalty, frequencyPenalty, seed, stop, logprobs };
  const responseFormat = await responseFormatOf(flags);
  return {
    maxTokens,
    temperature,
    ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)),
    ...(flags.ignoreEos === true && { ignoreEos: true }),
    ...(flags.promptLookup === true && { draft: 'prompt-lookup' }),
    ...(responseFormat && { responseFormat }),
  };
}

async function responseFormatOf({ jsonSchema, regex }: GenerateFlags): Promise<ResponseFormat | undefined> {
  if (jsonSchema !== undefined && regex !== undefined) {
    throw new ArgumentError('Both --json-schema and --regex are given.', 'Give one of them.');
  }
  if (regex !== undefined) return { type: 'regex', pattern: regex };
  if (jsonSchema === undefined) return undefined;
  try {
    return { type: 'json_schema', schema: JSON.parse(await readFile(jsonSchema, 'utf8')) };
  } catch (cause) {
    throw new ArgumentError(`No JSON schema can be read from ${jsonSchema}.`, 'Give the path of a JSON file.', {
      cause,
    });
  }
}

function describe(model: Model, source: string, loadMs: number): string {
  const { capabilities, spec } = model;
  const device = `${capabilities.description || capabilities.vendor}${capabilities.software ? ' (software)' : ''}`;
  return `${source}: ${spec.family}, ${spec.layers.length} layers of ${spec.hiddenSize}, loaded in ${(loadMs / 1000).toFixed(1)} s on ${device}`;
}

function statistics({ timings, usage, finishReason }: GenerationResult, memory: ModelMemory, tokens: number): string {
  return [
    `prompt   ${usage.promptTokens} tokens, first token after ${timings.timeToFirstTokenMs.toFixed(0)} ms (${timings.prefillTokensPerSecond.toFixed(0)} tokens/s)`,
    `written  ${usage.completionTokens} tokens at ${timings.decodeTokensPerSecond.toFixed(1)} tokens/s (${finishReason})`,
    `memory   weights ${formatBytes(memory.weightsBytes)}, state ${formatBytes(memory.stateBytes)} (constant), ` +
      `KV cache ${formatBytes(memory.kvBytesPerToken)} a token = ${formatBytes(memory.kvBytesPerToken * tokens)} now (${formatBytes(memory.kvBytes)} allocated), ` +
      `scratch ${formatBytes(memory.scratchBytes)}`,
  ].join('\n');
}
