import type { Capabilities, MambalabError } from '@mambalab/kernels';
import { ArgumentError, UnsupportedModelError } from '@mambalab/kernels';
import { cacheBytesPerToken, stateBytesOf } from '../graph/names.ts';
import type { ModelSpec } from '../spec/model_spec.ts';
import type { ChatMessage, ChatTemplate } from '../text/chat_template.ts';
import type { Tokenizer } from '../text/tokenizer.ts';
import type { TokenConstraint } from './constraint.ts';
import { checkResponseFormat } from './constraint.ts';
import { Generation } from './generation.ts';
import type { GrammarEngineSource } from './grammar_constraint.ts';
import { GrammarConstraints } from './grammar_constraint.ts';
import type { GenerateOptions, GenerationPlan, SamplingOptions } from './options.ts';
import { planGeneration } from './options.ts';
import type { LentSequence } from './run_generation.ts';
import type { ModelRuntime } from './runtime.ts';
import { Sequence } from './sequence.ts';
import type { Drafter } from './speculative.ts';
import { ModelDrafter, promptLookup } from './speculative.ts';
import type { Golden, Verification } from './verify.ts';
import { verifyModel } from './verify.ts';

/** A text, token ids, or a conversation. */
export type Prompt = string | readonly number[] | readonly ChatMessage[];

/** Bytes on the GPU, for one sequence, as allocated (its states also before there is one). */
export interface ModelMemory {
  readonly weightsBytes: number;
  /** Recurrent states: constant, however long the sequence. */
  readonly stateBytes: number;
  /** What each token adds to the KV caches. */
  readonly kvBytesPerToken: number;
  /** KV caches as allocated now. */
  readonly kvBytes: number;
  /** Activations, shared by all sequences. */
  readonly scratchBytes: number;
}

export interface LogitsOptions {
  /** Logits of every token, (L, V), or of the last one, (V); `last` when absent. */
  readonly positions?: 'all' | 'last';
  readonly signal?: AbortSignal;
}

/** What a model is made of. */
export interface ModelParts {
  readonly runtime: ModelRuntime;
  readonly config: unknown;
  readonly tokenizer: Tokenizer | undefined;
  /** Why there is none, where the checkpoint has one that cannot be used. */
  readonly tokenizerProblem?: MambalabError | undefined;
  readonly chatTemplate: ChatTemplate;
  readonly eosTokens: readonly number[];
  /** How tokens of conversations are chosen, from the generation configuration. */
  readonly chatSampling: SamplingOptions;
  /** How to load what response formats are made with. */
  readonly grammarEngine: GrammarEngineSource;
  /** Frees what the model does not share with its caller. */
  readonly onDispose: () => void;
}

/** A language model on a GPU. */
export class Model {
  readonly spec: ModelSpec;
  readonly config: unknown;
  readonly capabilities: Capabilities;
  readonly runtime: ModelRuntime;
  readonly #parts: ModelParts;
  readonly #lent = new Set<Sequence>();
  /** A sequence that was used before: its buffers and bind groups serve the next call. */
  #idle: Sequence | undefined;
  #constraints: GrammarConstraints | undefined;
  #disposed = false;

  constructor(parts: ModelParts) {
    this.#parts = parts;
    this.runtime = parts.runtime;
    this.spec = parts.runtime.spec;
    this.config = parts.config;
    this.capabilities = parts.runtime.device.capabilities;
  }

  /** @throws UnsupportedModelError if the checkpoint holds no tokenizer; or what it says is wrong with the one it has */
  get tokenizer(): Tokenizer {
    const { tokenizer, tokenizerProblem } = this.#parts;
    if (tokenizer !== undefined) return tokenizer;
    if (tokenizerProblem !== undefined) throw tokenizerProblem;
    throw new UnsupportedModelError(
      'The checkpoint holds no tokenizer.json.',
      'Give prompts as token ids, or put the tokenizer of the model beside its weights.',
    );
  }

  /** How the model writes conversations; for tools, documents and variables that its template knows. */
  get chatTemplate(): ChatTemplate {
    return this.#parts.chatTemplate;
  }

  /** Tokens that one sequence may hold; Infinity for models that nothing bounds. */
  get contextLength(): number {
    return this.runtime.contextLength;
  }

  memory(): ModelMemory {
    const sequence = this.#idle ?? [...this.#lent][0];
    const { stateBytes, kvBytes } = sequence?.bytes() ?? { stateBytes: stateBytesOf(this.spec), kvBytes: 0 };
    return {
      weightsBytes: this.runtime.weightsBytes,
      stateBytes,
      kvBytesPerToken: cacheBytesPerToken(this.spec, this.runtime.cacheDtype),
      kvBytes,
      scratchBytes: this.runtime.executor.scratchBytes,
    };
  }

  /**
   * Logits of a full pass over tokens: (V) f32 after the last, or (L, V) row-major after each.
   *
   * @throws ArgumentError for an id outside the vocabulary; ContextLengthError if there are too many
   */
  async logits(tokens: readonly number[], options: LogitsOptions = {}): Promise<Float32Array> {
    const { signal, positions = 'last' } = options;
    signal?.throwIfAborted();
    return await this.withSequence(tokens.length, async (sequence) => {
      if (positions === 'all') return await sequence.prefillLogits(tokens, signal);
      await sequence.prefill(tokens, signal);
      return await sequence.lastLogits();
    });
  }

  /** Writes a text after a prompt; see {@link Generation} for how to read it. Bad input shows when it is read. */
  generate(prompt: Prompt, options: GenerateOptions = {}): Generation {
    return new Generation({
      // What needs a text says so where there is none.
      tokenizer: needsText(options) ? this.tokenizer : this.#parts.tokenizer,
      hasTools: (options.tools?.length ?? 0) > 0,
      plan: () => {
        if (options.responseFormat !== undefined) checkResponseFormat(options.responseFormat);
        return planGeneration(this.#encode(prompt, options.tools), options, {
          eosTokens: this.#parts.eosTokens,
          contextLength: this.contextLength,
          vocabSize: this.spec.vocabSize,
          sampling: isConversation(prompt) ? this.#parts.chatSampling : {},
        });
      },
      constrain: (plan) => this.#constrain(plan),
      draft: (plan) => this.#draft(plan),
      acquire: (plan) => this.#acquire(plan.prompt.length),
    });
  }

  /** Compares this device's results with stored ones; see {@link verifyModel}. */
  verify(golden: Golden, tolerance?: number): Promise<Verification> {
    return verifyModel(this, golden, tolerance);
  }

  /** Runs `body` with an empty sequence, for those who drive decoding themselves. */
  async withSequence<T>(length: number, body: (sequence: Sequence) => Promise<T>): Promise<T> {
    const { sequence, release } = await this.#acquire(length);
    try {
      return await body(sequence);
    } finally {
      release();
    }
  }

  /** Frees every GPU buffer of the model. Texts in the making fail. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#idle?.dispose();
    this.#constraints?.dispose();
    for (const sequence of this.#lent) sequence.dispose();
    this.runtime.dispose();
    this.#parts.onDispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.dispose();
    return Promise.resolve();
  }

  async #acquire(length: number): Promise<LentSequence> {
    this.#refuseDisposed();
    const reused = this.#idle;
    this.#idle = undefined;
    reused?.reset();
    const sequence = reused ?? (await Sequence.create(this.runtime, Math.min(length, this.contextLength)));
    if (this.#disposed) sequence.dispose();
    this.#refuseDisposed();
    this.#lent.add(sequence);
    return {
      sequence,
      release: (): void => {
        if (!this.#lent.delete(sequence) || this.#disposed) return;
        if (this.#idle === undefined) this.#idle = sequence;
        else sequence.dispose();
      },
    };
  }

  #refuseDisposed(): void {
    if (this.#disposed) throw new ArgumentError('The model is disposed.', 'Load it again.');
  }

  async #constrain({ responseFormat, stops }: GenerationPlan): Promise<TokenConstraint | undefined> {
    if (responseFormat === undefined) return undefined;
    this.#constraints ??= new GrammarConstraints(this.#parts.grammarEngine, this.tokenizer, this.spec.vocabSize);
    return await this.#constraints.constraint(responseFormat, stops);
  }

  async #draft(plan: GenerationPlan): Promise<Drafter | undefined> {
    const source = plan.draft?.source;
    if (source === undefined) return undefined;
    if (source === 'prompt-lookup') return promptLookup;
    if (source.spec.vocabSize !== this.spec.vocabSize) {
      throw new ArgumentError(
        `'draft' has ${source.spec.vocabSize} tokens; this model has ${this.spec.vocabSize}.`,
        'Use a smaller model of the same family, with the same vocabulary.',
      );
    }
    const difference = firstDifference(this.#parts.tokenizer, source.#parts.tokenizer);
    if (difference !== undefined) {
      throw new ArgumentError(
        `'draft' has another vocabulary: token ${difference} differs.`,
        'Use a smaller model of the same family, with the same vocabulary.',
      );
    }
    const { sequence, release } = await source.#acquire(plan.prompt.length);
    return new ModelDrafter(sequence, plan, source.contextLength, release);
  }

  #encode(prompt: Prompt, tools: readonly unknown[] | undefined): readonly number[] {
    if (typeof prompt === 'string') return this.tokenizer.encode(prompt);
    if (!isConversation(prompt)) return prompt;
    const text = this.chatTemplate.render(prompt, tools === undefined || tools.length === 0 ? {} : { tools });
    return this.tokenizer.encode(text, { addSpecialTokens: false });
  }
}

function isConversation(prompt: Prompt): prompt is readonly ChatMessage[] {
  return Array.isArray(prompt) && prompt.length > 0 && typeof prompt[0] === 'object';
}

/** Whether options speak of text, not of tokens alone. */
function needsText({ stop = [], tools = [], responseFormat }: GenerateOptions): boolean {
  return stop.length > 0 || tools.length > 0 || responseFormat !== undefined;
}

/** The first token that two vocabularies spell differently; undefined where one has no spelling at all. */
function firstDifference(one: Tokenizer | undefined, other: Tokenizer | undefined): number | undefined {
  if (one === undefined || other === undefined || one === other) return undefined;
  for (let token = 0; token < Math.max(one.vocabSize, other.vocabSize); token++) {
    if (one.idToToken(token) !== other.idToToken(token)) return token;
  }
  return undefined;
}
