import type { LanguageModelV4CallOptions, SharedV4Warning } from '@ai-sdk/provider';
import { ArgumentError } from '@mambalab/kernels';
import type { ResponseFormat } from '../generation/constraint.ts';
import type { TextOptions } from '../language_model.ts';
import type { OfferedFunction } from '../openai/tools.ts';
import { callFormat } from '../openai/tools.ts';

/** A call of the AI SDK as options of the library. */
export interface CallSettings {
  readonly options: TextOptions;
  /** What the call asks for and does not get. */
  readonly warnings: SharedV4Warning[];
}

/** Options of the library that calls may give as `providerOptions.mambalab`. */
const OWN_OPTIONS: readonly (keyof TextOptions)[] = ['minP', 'repetitionPenalty', 'ignoreEos', 'logitBias'];

/** @throws ArgumentError for an option under `providerOptions.mambalab` that there is not, or a tool that is unknown */
export function callSettings(call: LanguageModelV4CallOptions, maxTokens: number): CallSettings {
  const warnings: SharedV4Warning[] = [];
  const { tools, responseFormat } = toolSettings(call, warnings);
  const { reasoning = 'provider-default' } = call;
  if (reasoning !== 'provider-default') {
    warnings.push({ type: 'unsupported', feature: 'reasoning', details: 'A model thinks as its template has it.' });
  }
  const given = {
    maxTokens: call.maxOutputTokens ?? maxTokens,
    temperature: call.temperature,
    topP: call.topP,
    topK: call.topK,
    presencePenalty: call.presencePenalty,
    frequencyPenalty: call.frequencyPenalty,
    stop: call.stopSequences,
    seed: call.seed,
    signal: call.abortSignal,
    responseFormat,
    tools,
    ...ownOptions(call),
  };
  return { options: Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)), warnings };
}

function ownOptions({ providerOptions }: LanguageModelV4CallOptions): TextOptions {
  const own = providerOptions?.['mambalab'] ?? {};
  const unknown = Object.keys(own).find((name) => !OWN_OPTIONS.some((known) => known === name));
  if (unknown === undefined) return own as TextOptions;
  throw new ArgumentError(`'providerOptions.mambalab' has '${unknown}'.`, `It may have: ${OWN_OPTIONS.join(', ')}.`);
}

function toolSettings(
  { tools = [], toolChoice, responseFormat: asked }: LanguageModelV4CallOptions,
  warnings: SharedV4Warning[],
): { readonly tools: TextOptions['tools']; readonly responseFormat: ResponseFormat | undefined } {
  const format: ResponseFormat | undefined =
    asked?.type !== 'json'
      ? undefined
      : asked.schema === undefined
        ? { type: 'json_object' }
        : { type: 'json_schema', schema: asked.schema };
  const functions = tools.flatMap((tool): OfferedFunction[] => {
    if (tool.type !== 'function') {
      warnings.push({ type: 'unsupported', feature: `the tool ${tool.id}` });
      return [];
    }
    const { name, description, inputSchema } = tool;
    const parameters = inputSchema as Readonly<Record<string, unknown>>;
    return [{ name, ...(description !== undefined && { description }), parameters }];
  });
  if (functions.length === 0 || toolChoice?.type === 'none') return { tools: undefined, responseFormat: format };
  const offered = functions.map((described) => ({ type: 'function', function: described }));
  if (toolChoice?.type === 'required') return { tools: offered, responseFormat: callFormat(functions) };
  if (toolChoice?.type !== 'tool') {
    // A call and an answer are both JSON then, and the model chooses.
    return { tools: offered, responseFormat: format && callFormat(functions, format) };
  }
  const named = functions.filter(({ name }) => name === toolChoice.toolName);
  if (named.length > 0) return { tools: offered, responseFormat: callFormat(named) };
  throw new ArgumentError(`'toolChoice' names '${toolChoice.toolName}'.`, 'Name one of the tools.');
}
