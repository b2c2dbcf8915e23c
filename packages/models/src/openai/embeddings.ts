import type { EmbedTextsOptions } from '../generation/score.ts';
import { apiErrorOf } from './api_error.ts';
import type { ModelRegistry, RequestOptions, ServedModel } from './registry.ts';
import { RequestReader } from './request_reader.ts';
import { isTokens } from './sampling_fields.ts';
import type { Base64EmbeddingResponse, EmbeddingRequest, EmbeddingResponse } from './types.ts';

const MOST_TEXTS = 2048;

/** `embeddings`: a vector of length 1 for each text. */
export class Embeddings {
  readonly #registry: ModelRegistry;
  readonly #pooling: EmbedTextsOptions['pooling'];

  constructor(registry: ModelRegistry, pooling: EmbedTextsOptions['pooling']) {
    this.#registry = registry;
    this.#pooling = pooling;
  }

  /** @throws APIError for a request that cannot be served; `signal.reason` when aborted */
  create(
    request: EmbeddingRequest & { readonly encoding_format: 'base64' },
    options?: RequestOptions,
  ): Promise<Base64EmbeddingResponse>;
  create(
    request: EmbeddingRequest & { readonly encoding_format?: 'float' },
    options?: RequestOptions,
  ): Promise<EmbeddingResponse>;
  create(request: EmbeddingRequest, options?: RequestOptions): Promise<EmbeddingResponse | Base64EmbeddingResponse>;
  async create(
    request: EmbeddingRequest,
    options: RequestOptions = {},
  ): Promise<EmbeddingResponse | Base64EmbeddingResponse> {
    try {
      const reader = new RequestReader(request);
      const served = this.#registry.of(reader);
      const texts = readTexts(reader);
      const format = reader.choice('encoding_format', ['float', 'base64']) ?? 'float';
      const { hiddenSize } = served.model.spec;
      if ((reader.integer('dimensions', 1) ?? hiddenSize) !== hiddenSize) {
        reader.refuse('dimensions', `must be ${hiddenSize}: vectors are not shortened`, 'unsupported_value');
      }
      reader.ignore('user');
      reader.refuseOthers();
      return await this.#embed(served, texts, format, options);
    } catch (error) {
      throw apiErrorOf(error, options.signal);
    }
  }

  async #embed(
    { id: model, model: source }: ServedModel,
    texts: readonly (string | readonly number[])[],
    format: 'float' | 'base64',
    { signal, onUsage }: RequestOptions,
  ): Promise<EmbeddingResponse | Base64EmbeddingResponse> {
    signal?.throwIfAborted();
    const tokens = await Promise.all(
      texts.map((text) => (typeof text === 'string' ? source.tokenizer.encode(text) : text)),
    );
    const vectors = await source.embed(tokens, {
      normalize: true,
      ...(this.#pooling && { pooling: this.#pooling }),
      ...(signal && { signal }),
    });
    const count = tokens.reduce((sum, { length }) => sum + length, 0);
    const usage = { prompt_tokens: count, total_tokens: count };
    onUsage?.({ ...usage, completion_tokens: 0 }, model);
    const head = { object: 'list' as const, model, usage };
    if (format === 'base64') {
      const data = vectors.map((vector, index) => ({
        object: 'embedding' as const,
        index,
        embedding: base64Of(vector),
      }));
      return { ...head, data };
    }
    const data = vectors.map((vector, index) => ({ object: 'embedding' as const, index, embedding: [...vector] }));
    return { ...head, data };
  }
}

function readTexts(reader: RequestReader): readonly (string | readonly number[])[] {
  const input: unknown = reader.value('input');
  if (input === undefined) return reader.refuse('input', 'is missing', 'missing_required_parameter');
  if (typeof input === 'string' && input !== '') return [input];
  if (!Array.isArray(input) || input.length === 0) {
    return reader.refuse('input', 'must be a text, token ids, or an array of either, and not empty', 'invalid_type');
  }
  const items: readonly unknown[] = input;
  if (isTokens(items)) return [items];
  if (items.length > MOST_TEXTS) reader.refuse('input', `has more than ${MOST_TEXTS} texts`);
  return items.map((text, index) => {
    const isText = typeof text === 'string' || isTokens(text);
    return isText && text.length > 0 ? text : reader.refuse('input', `has no text at ${index}`, 'invalid_type');
  });
}

/** Little-endian float32 values in base64. */
function base64Of(vector: Float32Array): string {
  const view = new DataView(new ArrayBuffer(4 * vector.length));
  for (const [at, value] of vector.entries()) view.setFloat32(4 * at, value, true);
  return btoa(Array.from(new Uint8Array(view.buffer), (byte) => String.fromCharCode(byte)).join(''));
}
