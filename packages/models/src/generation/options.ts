import { ArgumentError, sampleSettings } from '@mambalab/kernels';
import { BIAS_ENTRIES, MAXIMUM_TOPS } from '../graph/sampling.ts';
import type { ResponseFormat } from './constraint.ts';
import type { Model } from './model.ts';
import type { SamplingSettings } from './sampling_control.ts';
import type { Session } from './session.ts';

/**
 * Changes the logits that a token is chosen from: (V) f32 of all tokens, and the tokens so far, the prompt's included.
 * May change them in place, or return others. What the other options say is applied afterwards.
 */
export type LogitsProcessor = (logits: Float32Array, tokens: readonly number[]) => Float32Array | undefined | void;

/** How tokens are chosen; in conversations, what is absent is as the model's generation_config.json says. */
export interface SamplingOptions {
  /** 0 is greedy, the default for raw text. */
  readonly temperature?: number;
  /** Keep the k most probable tokens; 0 keeps all. */
  readonly topK?: number;
  /** Keep the most probable tokens until their mass is at least this, from 0 to 1. */
  readonly topP?: number;
  /** Keep the tokens at least this times as probable as the most probable one, from 0 to 1. */
  readonly minP?: number;
  /** Divides positive and multiplies negative logits of recent tokens; 1 is none. */
  readonly repetitionPenalty?: number;
  /** Is subtracted from the logits of recent tokens; 0 is none. */
  readonly presencePenalty?: number;
  /** Is subtracted from the logits of recent tokens, as often as each occurs; 0 is none. */
  readonly frequencyPenalty?: number;
  /** How many tokens, those of the prompt included, penalties look back at; 4096 when absent, and at most. */
  readonly penaltyWindow?: number;
}

export interface GenerateOptions extends SamplingOptions {
  /** Most tokens to write; 256 when absent. */
  readonly maxTokens?: number;
  /** What is added to the logits of tokens, by id, for up to 1024 of them; -Infinity bans a token. */
  readonly logitBias?: Readonly<Record<number, number>> | ReadonlyMap<number, number>;
  /** Fixes what is drawn at a temperature above 0; random when absent. */
  readonly seed?: number;
  /** Texts that end the text, and are no part of it. */
  readonly stop?: string | readonly string[];
  /** Token ids that end the text, beside the model's own. */
  readonly stopTokens?: readonly number[];
  /** Go on after the model's end-of-sequence tokens. */
  readonly ignoreEos?: boolean;
  /**
   * Give the log-probability of each token, and of this many of the most probable ones, up to 20. They are those of the
   * model, before temperature, penalties and filters.
   */
  readonly logprobs?: number;
  /** Slower than the other options: every token waits for JavaScript, and its logits are copied to and fro. */
  readonly logitsProcessor?: LogitsProcessor;
  /** What the text must be; the text ends where it is complete. Every token waits for the grammar. */
  readonly responseFormat?: ResponseFormat;
  /** Functions that the model may call, as its chat template takes them (JSON schemas); for conversations. */
  readonly tools?: readonly unknown[];
  /**
   * Guess tokens and check several in one pass: by a smaller model of the same vocabulary, or by what followed the last
   * tokens earlier in the text. The text is the one that it would be without.
   */
  readonly draft?: Model | 'prompt-lookup';
  /** Tokens to guess at a time, from 1 to 7; 4 when absent. */
  readonly draftTokens?: number;
  readonly signal?: AbortSignal;
  /** The text that the prompt continues, and that then has both; see {@link Session.generate}. */
  readonly session?: Session | undefined;
}

/** Everything that a run of the generator needs, with defaults filled in. */
export interface GenerationPlan {
  readonly prompt: readonly number[];
  /** Tokens that the sequence holds before the prompt. */
  readonly history: readonly number[];
  readonly maxTokens: number;
  readonly sampling: SamplingSettings;
  readonly stops: ReadonlySet<number>;
  /** Texts that end the text. */
  readonly stopTexts: readonly string[];
  readonly logitsProcessor: LogitsProcessor | undefined;
  readonly responseFormat: ResponseFormat | undefined;
  readonly draft: { readonly source: Model | 'prompt-lookup'; readonly tokens: number } | undefined;
  /** Tokens that the sequence may hold. */
  readonly contextLength: number;
  readonly signal: AbortSignal | undefined;
}

export interface PlanDefaults {
  readonly eosTokens: readonly number[];
  readonly contextLength: number;
  readonly vocabSize: number;
  /** What the model says about how tokens are chosen; greedy when empty. */
  readonly sampling: SamplingOptions;
  readonly history?: readonly number[];
}

const LONGEST_DRAFT = 7;

/** @throws ArgumentError for options outside what they may be */
export function planGeneration(
  prompt: readonly number[],
  options: GenerateOptions,
  defaults: PlanDefaults,
): GenerationPlan {
  const { maxTokens = 256, seed, logprobs, draft, draftTokens = 4, responseFormat, logitsProcessor } = options;
  const { vocabSize, history = [] } = defaults;
  require(Number.isInteger(maxTokens) && maxTokens >= 1, 'maxTokens', maxTokens, 'Give a whole number of at least 1.');
  require(seed === undefined || Number.isSafeInteger(seed), 'seed', seed, 'Give a whole number.');
  require(logprobs === undefined ||
    (Number.isInteger(logprobs) &&
      logprobs >= 0 &&
      logprobs <=
        MAXIMUM_TOPS), 'logprobs', logprobs, `Give how many alternatives each token shall have, from 0 to ${MAXIMUM_TOPS}.`);
  require(Number.isInteger(draftTokens) &&
    draftTokens >= 1 &&
    draftTokens <= LONGEST_DRAFT, 'draftTokens', draftTokens, `Give a whole number from 1 to ${LONGEST_DRAFT}.`);
  const stopTexts = typeof options.stop === 'string' ? [options.stop] : (options.stop ?? []);
  require(!stopTexts.includes(''), 'stop', "''", 'Give texts of at least one character.');
  for (const token of options.stopTokens ?? []) requireToken('stopTokens', token, vocabSize);
  const other = responseFormat === undefined ? logitsProcessor && 'logitsProcessor' : 'responseFormat';
  if (draft !== undefined && other !== undefined) {
    throw new ArgumentError(`'draft' is set together with '${other}'.`, 'Leave out one of them.');
  }
  return {
    prompt,
    history,
    maxTokens,
    sampling: { ...planSampling(options, defaults), masked: responseFormat !== undefined },
    stops: new Set([...(options.stopTokens ?? []), ...(options.ignoreEos === true ? [] : defaults.eosTokens)]),
    stopTexts,
    logitsProcessor,
    responseFormat,
    draft: draft === undefined ? undefined : { source: draft, tokens: draftTokens },
    contextLength: defaults.contextLength,
    signal: options.signal,
  };
}

const SAMPLING_NAMES = [
  'temperature',
  'topK',
  'topP',
  'minP',
  'repetitionPenalty',
  'presencePenalty',
  'frequencyPenalty',
  'penaltyWindow',
] as const;

function planSampling(options: GenerateOptions, { sampling: own, vocabSize }: PlanDefaults): SamplingSettings {
  const chosen: SamplingOptions = Object.fromEntries(
    SAMPLING_NAMES.flatMap((name) => {
      const value = options[name] ?? own[name];
      return value === undefined ? [] : [[name, value]];
    }),
  );
  const seed = options.seed ?? Math.floor(Math.random() * 2 ** 48);
  const settings: SamplingSettings = {
    ...chosen,
    temperature: chosen.temperature ?? 0,
    seed: [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0],
    logitBias: planBias(options.logitBias, vocabSize),
    logprobs: options.logprobs,
  };
  // The words for the GPU are made later; what cannot be made shows now.
  sampleSettings(settings);
  return settings;
}

function planBias(bias: GenerateOptions['logitBias'], vocabSize: number): ReadonlyMap<number, number> {
  if (bias === undefined) return new Map();
  const given =
    bias instanceof Map ? bias : new Map(Object.entries(bias).map(([token, value]) => [Number(token), value]));
  const entries = [...(given as ReadonlyMap<number, unknown>)].map(([token, value]) => {
    requireToken('logitBias', token, vocabSize);
    if (typeof value !== 'number' || Number.isNaN(value)) {
      throw new ArgumentError(`'logitBias' of token ${token} is ${String(value)}.`, 'Give a number, or -Infinity.');
    }
    return [token, value] as const;
  });
  require(entries.length <=
    BIAS_ENTRIES, 'logitBias', `for ${entries.length} tokens`, `Give at most ${BIAS_ENTRIES}, or use a logitsProcessor.`);
  return new Map(entries);
}

function requireToken(name: string, token: number, vocabSize: number): void {
  const isToken = Number.isInteger(token) && token >= 0 && token < vocabSize;
  if (!isToken) {
    const hint = `Ids of this model run from 0 to ${vocabSize - 1}.`;
    throw new ArgumentError(`'${name}' has the token ${String(token)}.`, hint);
  }
}

function require(condition: boolean, name: string, value: unknown, hint: string): void {
  if (!condition) throw new ArgumentError(`'${name}' is ${String(value)}.`, hint);
}
