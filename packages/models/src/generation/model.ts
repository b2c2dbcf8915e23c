// Longer than most files: everything that a model can be asked for is here, and what does it in files of their own.
import type { Capabilities, Device } from '@mambalab/kernels';
import { ArgumentError, IntegrityError } from '@mambalab/kernels';
import { cacheBytesPerToken, stateBytesOf } from '../graph/names.ts';
import type { ModelSpec } from '../spec/model_spec.ts';
import type { ChatTemplate } from '../text/chat_template.ts';
import type { Tokenizer } from '../text/tokenizer.ts';
import type { TokenConstraint } from './constraint.ts';
import { checkResponseFormat } from './constraint.ts';
import type { PromptPart } from './conversation.ts';
import { isMessages, sharedBeginning } from './conversation.ts';
import { Generation } from './generation.ts';
import type { GrammarEngineSource } from './grammar_constraint.ts';
import { GrammarConstraints } from './grammar_constraint.ts';
import type { GenerateOptions, GenerationPlan, SamplingOptions } from './options.ts';
import { planGeneration } from './options.ts';
import { PrefixCache } from './prefix_cache.ts';
import { checkTokens } from './prompt_pass.ts';
import type { TextParts } from './prompt_text.ts';
import { PromptText, requireSameVocabulary } from './prompt_text.ts';
import type { GenerationSetup, LentSequence } from './run_generation.ts';
import type { ModelRuntime } from './runtime.ts';
import { Scheduler } from './scheduler.ts';
import type { EmbedTextsOptions, Score } from './score.ts';
import { checkEmbedOptions, embedTokens, scoreTokens } from './score.ts';
import type { Sequence } from './sequence.ts';
import { SequencePool } from './sequence_pool.ts';
import type { SessionHost, SessionOptions } from './session.ts';
import { checkSessionOptions, Session } from './session.ts';
import { readSession } from './session_bytes.ts';
import { uploadState } from './session_state.ts';
import type { Drafter } from './speculative.ts';
import { ModelDrafter, promptLookup } from './speculative.ts';
import type { Golden, Verification } from './verify.ts';
import { verifyModel } from './verify.ts';

/** A text, token ids, or a conversation. */
export type Prompt = PromptPart;

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
  /** A text that the tokens continue, and that then has them; see {@link Session.logits}. */
  readonly session?: Session | undefined;
  readonly signal?: AbortSignal;
}

/** What a model is made of. */
export interface ModelParts extends TextParts {
  readonly runtime: ModelRuntime;
  readonly config: unknown;
  /** Bytes that the beginnings which sessions share may take; 64 MiB when absent. */
  readonly prefixCacheBytes?: number | undefined;
  /** How tokens of conversations are chosen, from the generation configuration. */
  readonly chatSampling: SamplingOptions;
  /** How to load what response formats are made with. */
  readonly grammarEngine: GrammarEngineSource;
  /** Loads the model once more, from its source and whatever cache it had; absent where there is no source. */
  readonly reload?: (options: RecoverOptions) => Promise<Model>;
  /** Frees what the model does not share with its caller. */
  readonly onDispose: () => void;
}

export interface RecoverOptions {
  /** The device to go on with; requested when absent, and then owned by the model. */
  readonly device?: GPUDevice | Device;
  readonly signal?: AbortSignal;
}

const PREFIX_CACHE_BYTES = 64 * 2 ** 20;

/** A language model on a GPU. */
export class Model {
  readonly spec: ModelSpec;
  readonly config: unknown;
  #parts: ModelParts;
  #scheduler: Scheduler;
  #sequences: SequencePool;
  readonly #text: PromptText;
  readonly #sessions = new Set<Session>();
  readonly #prefixes: PrefixCache;
  readonly #host: SessionHost;
  #constraints: GrammarConstraints | undefined;
  #disposed = false;

  constructor(parts: ModelParts) {
    this.#parts = parts;
    this.spec = parts.runtime.spec;
    this.config = parts.config;
    this.#scheduler = new Scheduler(parts.runtime);
    this.#sequences = new SequencePool(parts.runtime);
    this.#text = new PromptText(parts);
    this.#prefixes = new PrefixCache(parts.prefixCacheBytes ?? PREFIX_CACHE_BYTES);
    this.#host = this.#createHost();
  }

  /** Weights on the GPU and the plans that run them; another after {@link recover}. */
  get runtime(): ModelRuntime {
    return this.#parts.runtime;
  }

  get capabilities(): Capabilities {
    return this.runtime.device.capabilities;
  }

  /** Decodes together what is generated at the same time. */
  get scheduler(): Scheduler {
    return this.#scheduler;
  }

  /** @throws UnsupportedModelError if the checkpoint holds no tokenizer; or what it says is wrong with the one it has */
  get tokenizer(): Tokenizer {
    return this.#text.tokenizer;
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
    const { stateBytes, kvBytes } = this.#sequences.any?.bytes() ?? { stateBytes: stateBytesOf(this.spec), kvBytes: 0 };
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
    const { signal, positions = 'last', session } = options;
    signal?.throwIfAborted();
    if (session !== undefined) return await this.#own(session).logits(tokens, positions, signal);
    return await this.withSequence(tokens.length, async (sequence) => {
      if (positions === 'all') return await sequence.prefillLogits(tokens, signal);
      await sequence.prefill(tokens, signal);
      return await sequence.lastLogits();
    });
  }

  /** Writes a text after a prompt; see {@link Generation} for how to read it. Bad input shows when it is read. */
  generate(prompt: Prompt, options: GenerateOptions = {}): Generation {
    const { session, ...others } = options;
    if (session !== undefined) return this.#own(session).generate(prompt, others);
    return new Generation({
      ...this.#setupFor(options),
      plan: () => this.#planFor(this.#text.prompt(prompt, options.tools), options, isMessages(prompt)),
      acquire: async (plan) => {
        const shared = isMessages(prompt) ? sharedBeginning(this.#text, prompt, plan.prompt, options.tools) : 0;
        return this.#schedule(await this.#begin(plan, shared), false);
      },
    });
  }

  /** An empty text that the model remembers; see {@link Session}. Nothing is allocated before it is used. */
  session(options: SessionOptions = {}): Session {
    this.#refuseDisposed();
    return new Session(this.#host, options);
  }

  /**
   * A session from what `session.save()` returned. It goes on with the same tokens where it was saved exactly.
   *
   * @throws IntegrityError for bytes that are damaged, of another version of the format, or of another model, or of this
   *   one with weights or caches stored otherwise
   */
  async restore(bytes: Uint8Array, options: SessionOptions = {}): Promise<Session> {
    this.#refuseDisposed();
    checkSessionOptions(options);
    const saved = readSession(bytes);
    if (saved.fingerprint !== (await this.runtime.fingerprint())) {
      throw new IntegrityError(
        'The session was saved by another model, or with weights or caches stored in another way.',
        'Load the model that saved it, with the same dtype and cacheDtype.',
      );
    }
    const { tokens, conversation } = saved;
    const state = saved.regions.length === 0 ? undefined : await uploadState(this.runtime, saved);
    return new Session(this.#host, options, {
      tokens,
      conversations: conversation === undefined ? [] : [conversation],
      state: state === undefined ? undefined : Promise.resolve(state),
    });
  }

  /** The beginnings that sessions share. */
  get prefixes(): PrefixCache {
    return this.#prefixes;
  }

  /**
   * How probable `continuation` is after `context`. Of two strings, spaces at the end of the context count to the
   * continuation, and both are encoded as one text, so that their border never cuts what the tokenizer joins. An empty
   * context is the token that begins, or else ends, sequences.
   *
   * @throws ArgumentError for an empty continuation, or an id outside the vocabulary; ContextLengthError if there are too
   *   many tokens
   */
  async score(
    context: string | readonly number[],
    continuation: string | readonly number[],
    options: { readonly signal?: AbortSignal } = {},
  ): Promise<Score> {
    options.signal?.throwIfAborted();
    const [first, second] = this.#text.pair(context, continuation);
    checkTokens(second, this.spec.vocabSize);
    return await this.withSequence(first.length + second.length, (sequence) =>
      scoreTokens(sequence, first, second, options.signal),
    );
  }

  /**
   * Natural logarithms of the probability of every token but the first, given all before it: (L - 1). The exponential
   * of their negative mean is the perplexity. Memory does not grow with the length, but for KV caches.
   *
   * @throws ArgumentError for fewer than two tokens, or an id outside the vocabulary; ContextLengthError if there are too
   *   many
   */
  async logprobs(tokens: readonly number[], options: { readonly signal?: AbortSignal } = {}): Promise<Float32Array> {
    const { tokenLogprobs } = await this.score(tokens.slice(0, 1), tokens.slice(1), options);
    return Float32Array.from(tokenLogprobs);
  }

  /**
   * A vector (D) for each text: its hidden states after the last norm, pooled.
   *
   * @param texts strings, or token ids
   * @throws ArgumentError for a text without tokens; ContextLengthError for one that is too long
   */
  async embed(
    texts: readonly (string | readonly number[])[],
    options: EmbedTextsOptions = {},
  ): Promise<Float32Array[]> {
    checkEmbedOptions(options);
    const vectors: Float32Array[] = [];
    for (const text of texts) {
      options.signal?.throwIfAborted();
      const tokens = typeof text === 'string' ? this.tokenizer.encode(text) : text;
      vectors.push(await this.withSequence(tokens.length, (sequence) => embedTokens(sequence, tokens, options)));
    }
    return vectors;
  }

  /** Compares this device's results with stored ones; see {@link verifyModel}. */
  verify(golden: Golden, tolerance?: number): Promise<Verification> {
    return verifyModel(this, golden, tolerance);
  }

  /** Runs `body` with an empty sequence, for those who drive decoding themselves. */
  async withSequence<T>(length: number, body: (sequence: Sequence) => Promise<T>): Promise<T> {
    const { sequence, release } = await this.#sequences.acquire(length);
    try {
      return await body(sequence);
    } finally {
      release();
    }
  }

  /**
   * Goes on after the GPU device was lost: loads the weights again, from the cache where there is one, on another device.
   * Sessions keep their texts, whose states are computed anew with the next call. Calls that were in progress have
   * failed with a DeviceLostError.
   *
   * @throws ArgumentError for a model without a source, such as one of random weights; whatever loading throws, and then
   *   the model can be recovered again
   */
  async recover(options: RecoverOptions = {}): Promise<void> {
    this.#refuseDisposed();
    const { reload } = this.#parts;
    if (reload === undefined) {
      throw new ArgumentError('The model has no source to load it from again.', 'Make it anew.');
    }
    const fresh = await reload(options);
    if (this.#disposed) fresh.dispose();
    this.#refuseDisposed();
    const lost = this.#parts;
    this.#scheduler.dispose();
    for (const session of this.#sessions) session.detach();
    this.#prefixes.clear();
    this.#sequences.dispose();
    this.#constraints?.dispose();
    this.#constraints = undefined;
    lost.runtime.dispose();
    lost.onDispose();
    this.#parts = fresh.#parts;
    this.#scheduler = fresh.#scheduler;
    this.#sequences = fresh.#sequences;
  }

  /** Frees every GPU buffer of the model. Texts in the making fail. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.scheduler.dispose();
    this.#sequences.dispose();
    this.#constraints?.dispose();
    for (const session of this.#sessions) session.dispose();
    this.#prefixes.clear();
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

  /**
   * A sequence for a text that nothing is remembered of, but for the beginning that it shares with others. Where that
   * ends does not depend on what is kept: so a text does not, either.
   */
  async #begin({ prompt, history, signal }: GenerationPlan, shared: number): Promise<LentSequence> {
    const lent = await this.#sequences.acquire(prompt.length);
    if (shared === 0 || shared >= prompt.length || this.#prefixes.maximumBytes === 0) return lent;
    try {
      const { sequence } = lent;
      const beginning = prompt.slice(0, shared);
      const cachedTokens = await this.#prefixes.adopt(beginning, sequence);
      if (cachedTokens < shared) {
        if (cachedTokens > 0) sequence.reset();
        await sequence.advance(beginning, signal);
        await this.#prefixes.keep(beginning, sequence, this.runtime.device);
      }
      return {
        ...lent,
        prompt: prompt.slice(shared),
        history: [...history, ...beginning],
        cachedTokens: cachedTokens < shared ? 0 : shared,
      };
    } catch (error) {
      lent.release();
      throw error;
    }
  }

  /** Lets the steps of a sequence run together with those of others, until it is released. */
  #schedule(lent: LentSequence, isKept: boolean): LentSequence {
    const { sequence } = lent;
    const scheduler = this.scheduler;
    sequence.scheduler = scheduler;
    return {
      ...lent,
      release: () => {
        sequence.scheduler = undefined;
        try {
          if (!this.#disposed) scheduler.leave(sequence, isKept);
        } finally {
          lent.release();
        }
      },
    };
  }

  #refuseDisposed(): void {
    if (this.#disposed) throw new ArgumentError('The model is disposed.', 'Load it again.');
  }

  #createHost(): SessionHost {
    const current = (): ModelRuntime => this.runtime;
    return {
      get runtime(): ModelRuntime {
        return current();
      },
      setupFor: (options) => this.#setupFor(options),
      prefixes: this.#prefixes,
      encode: (text, addSpecialTokens) => this.#text.encode(text, addSpecialTokens),
      render: (messages, addGenerationPrompt, tools) => this.#text.render(messages, addGenerationPrompt, tools),
      planFor: (tokens, options, isChat, history) => this.#planFor(tokens, options, isChat, history),
      schedule: (lent) => this.#schedule(lent, true),
      add: (session) => this.#sessions.add(session),
      delete: (session) => this.#sessions.delete(session),
    };
  }

  /** @throws ArgumentError for a session that is not one of this model */
  #own(session: Session): Session {
    if (this.#sessions.has(session)) return session;
    throw new ArgumentError(
      'The session is disposed, or of another model.',
      'Make a session of this model with model.session().',
    );
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
    requireSameVocabulary(this.#vocabulary, source.#vocabulary);
    const { sequence, release } = await source.#sequences.acquire(plan.prompt.length);
    return new ModelDrafter(sequence, plan, source.contextLength, release);
  }

  get #vocabulary(): { readonly size: number; readonly tokenizer: Tokenizer | undefined } {
    return { size: this.spec.vocabSize, tokenizer: this.#parts.tokenizer };
  }

  /** What all generations with these options need of the model. */
  #setupFor(options: GenerateOptions): Omit<GenerationSetup, 'plan' | 'acquire'> {
    return {
      // What needs a text says so where there is none.
      tokenizer: needsText(options) ? this.tokenizer : this.#parts.tokenizer,
      hasTools: (options.tools?.length ?? 0) > 0,
      constrain: (plan) => this.#constrain(plan),
      draft: (plan) => this.#draft(plan),
    };
  }

  #planFor(
    tokens: readonly number[],
    options: GenerateOptions,
    isChat: boolean,
    history: readonly number[] = [],
  ): GenerationPlan {
    if (options.responseFormat !== undefined) checkResponseFormat(options.responseFormat);
    return planGeneration(tokens, options, {
      eosTokens: this.#parts.eosTokens,
      contextLength: this.contextLength,
      vocabSize: this.spec.vocabSize,
      sampling: isChat ? this.#parts.chatSampling : {},
      history,
    });
  }
}

/** Whether options speak of text, not of tokens alone. */
function needsText({ stop = [], tools = [], responseFormat }: GenerateOptions): boolean {
  return stop.length > 0 || tools.length > 0 || responseFormat !== undefined;
}
