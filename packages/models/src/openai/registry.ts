import { ArgumentError } from '@mambalab/kernels';
import type { LanguageModel } from '../language_model.ts';
import { APIError } from './api_error.ts';
import type { RequestReader } from './request_reader.ts';
import { TokenNames } from './token_names.ts';
import type { CompletionUsage, ModelDescription } from './types.ts';

/** A model under the name that requests call it by. */
export class ServedModel {
  readonly id: string;
  readonly model: LanguageModel;
  #names: TokenNames | undefined;

  constructor(id: string, model: LanguageModel) {
    this.id = id;
    this.model = model;
  }

  /** @throws UnsupportedModelError without a tokenizer */
  get names(): TokenNames {
    this.#names ??= new TokenNames(this.model.tokenizer);
    return this.#names;
  }
}

/** The models that requests may name. */
export class ModelRegistry {
  readonly #created = Math.floor(Date.now() / 1000);
  readonly #served: ReadonlyMap<string, ServedModel>;

  /** @throws ArgumentError without any model */
  constructor(models: Readonly<Record<string, LanguageModel>>) {
    const entries = Object.entries(models).map(([id, model]) => [id, new ServedModel(id, model)] as const);
    if (entries.length === 0) throw new ArgumentError('There is no model.', 'Give one model at least.');
    this.#served = new Map(entries);
  }

  list(): ModelDescription[] {
    return [...this.#served.keys()].map((id) => this.describe(id));
  }

  /** @throws APIError (404) for a name that no model has */
  describe(id: string): ModelDescription {
    this.get(id);
    return { id, object: 'model', created: this.#created, owned_by: 'mambalab' };
  }

  get(id: string): ServedModel {
    const found = this.#served.get(id);
    if (found !== undefined) return found;
    throw new APIError(
      404,
      'invalid_request_error',
      `There is no model '${id}' here. There is: ${[...this.#served.keys()].join(', ')}.`,
      { param: 'model', code: 'model_not_found' },
    );
  }

  /** The model that a request names, or, where it names none, the only one. */
  of(request: RequestReader): ServedModel {
    const [only, ...others] = this.#served.values();
    const id = request.string('model') ?? (others.length === 0 ? only?.id : undefined);
    return id === undefined ? request.refuse('model', 'is missing', 'missing_required_parameter') : this.get(id);
  }
}

export interface RequestOptions {
  readonly signal?: AbortSignal;
  /** Is told once what a request took, also where it was ended early: as far as that is known then. */
  readonly onUsage?: (usage: CompletionUsage, model: string) => void;
}

/** Counts what a request takes, of which every prompt counts once however many texts follow it. */
export class Tally {
  readonly #prompts = new Map<number, number>();
  readonly #written = new Map<number, number>();
  readonly #reasoning = new Map<number, number>();

  prompt(index: number, tokens: number): void {
    this.#prompts.set(index, tokens);
  }

  written(choice: number, tokens: number): void {
    this.#written.set(choice, tokens);
  }

  reasoning(choice: number, tokens: number): void {
    this.#reasoning.set(choice, tokens);
  }

  usage(): CompletionUsage {
    const sum = (counts: ReadonlyMap<number, number>): number => [...counts.values()].reduce((a, b) => a + b, 0);
    const [prompt, written, reasoning] = [sum(this.#prompts), sum(this.#written), sum(this.#reasoning)];
    return {
      prompt_tokens: prompt,
      completion_tokens: written,
      total_tokens: prompt + written,
      ...(reasoning > 0 && { completion_tokens_details: { reasoning_tokens: reasoning } }),
    };
  }
}

/** `prefix` and 24 random letters and digits. */
export function randomId(prefix: string, length = 24): string {
  const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789';
  const random = crypto.getRandomValues(new Uint32Array(length));
  return prefix + Array.from(random, (value) => letters[value % letters.length]).join('');
}
