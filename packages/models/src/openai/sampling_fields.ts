import type { TextOptions } from '../language_model.ts';
import type { ResponseFormat } from '../generation/constraint.ts';
import type { RequestReader } from './request_reader.ts';
import { isObject } from './request_reader.ts';

/** What both kinds of texts are asked for with. */
export interface TextOrder {
  /** Texts for each prompt. */
  readonly n: number;
  readonly stream: boolean;
  readonly includeUsage: boolean;
  readonly seed: number | undefined;
  readonly options: TextOptions;
}

/** More would be a batch that nobody means. */
const MOST_TEXTS = 128;
const MOST_STOPS = 32;

/** The fields that chats and completions share, as options of the library. */
export function readTextOrder(request: RequestReader): TextOrder {
  request.ignore('model', 'user', 'metadata', 'store', 'service_tier', 'safety_identifier');
  const stream = request.boolean('stream') ?? false;
  if (!stream && request.has('stream_options')) request.refuse('stream_options', "is for requests with 'stream'");
  const streaming = request.object('stream_options');
  const includeUsage = streaming?.boolean('include_usage') ?? false;
  streaming?.ignore('include_obfuscation');
  streaming?.refuseOthers();
  const given = {
    temperature: request.number('temperature', 0, 2),
    topP: request.number('top_p', 0, 1),
    topK: request.integer('top_k', 0),
    minP: request.number('min_p', 0, 1),
    presencePenalty: request.number('presence_penalty', -2, 2),
    frequencyPenalty: request.number('frequency_penalty', -2, 2),
    repetitionPenalty: request.number('repetition_penalty', Number.MIN_VALUE, 1e6),
    logitBias: readLogitBias(request),
    stop: request.strings('stop', MOST_STOPS),
    stopTokens: readTokens(request, 'stop_token_ids'),
    ignoreEos: request.boolean('ignore_eos'),
  };
  return {
    n: request.integer('n', 1, MOST_TEXTS) ?? 1,
    stream,
    includeUsage,
    seed: request.integer('seed', Number.MIN_SAFE_INTEGER),
    options: Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)),
  };
}

/** The options of the text number `index`: with a seed, texts of one prompt have seeds that follow each other. */
export function optionsOf({ options, seed }: TextOrder, index: number, signal: AbortSignal | undefined): TextOptions {
  return { ...options, ...(seed !== undefined && { seed: seed + index }), ...(signal && { signal }) };
}

function readLogitBias(request: RequestReader): ReadonlyMap<number, number> | undefined {
  const value = request.value('logit_bias');
  if (value === undefined) return undefined;
  if (!isObject(value)) return request.refuse('logit_bias', 'must be an object of token ids and numbers');
  return new Map(
    Object.entries(value).map(([key, bias]) => {
      if (!/^\d+$/.test(key)) request.refuse('logit_bias', `has the key '${key}', which is no token id`);
      if (typeof bias !== 'number' || !(Math.abs(bias) <= 100)) {
        request.refuse('logit_bias', `of token ${key} must be a number from -100 to 100`);
      }
      return [Number(key), Number(bias)] as const;
    }),
  );
}

function readTokens(request: RequestReader, name: string): readonly number[] | undefined {
  const value = request.array(name);
  return value === undefined || isTokens(value) ? value : request.refuse(name, 'must be an array of token ids');
}

export function isTokens(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.every((item) => Number.isInteger(item) && item >= 0);
}

/** What a text must be; undefined for any text. */
export function readResponseFormat(request: RequestReader): ResponseFormat | undefined {
  const format = request.object('response_format');
  if (format === undefined) return undefined;
  const type = format.choice('type', ['text', 'json_object', 'json_schema', 'regex', 'grammar']);
  const text = (name: string): string => format.string(name) ?? format.refuse(name, 'is missing');
  switch (type) {
    case undefined:
      return format.refuse('type', 'is missing', 'missing_required_parameter');
    case 'text':
      return undefined;
    case 'json_object':
      return { type };
    case 'regex':
      return { type, pattern: text('pattern') };
    case 'grammar':
      return { type, grammar: text('grammar') };
    case 'json_schema': {
      const described = format.object('json_schema') ?? format.refuse('json_schema', 'is missing');
      const schema = described.object('schema') === undefined ? undefined : described.value('schema');
      // The name and how strict to be are for services that cannot hold a text to every schema.
      described.ignore('name', 'description', 'strict');
      described.refuseOthers();
      return schema === undefined ? { type: 'json_object' } : { type, schema };
    }
  }
}
