import type { Capabilities } from '@mambalab/kernels';
import { ArgumentError } from '@mambalab/kernels';
import type { LogitsOptions, ModelMemory, Prompt } from '../generation/model.ts';
import type { EmbedTextsOptions, Score } from '../generation/score.ts';
import type { SessionOptions } from '../generation/session.ts';
import type { Golden, Verification } from '../generation/verify.ts';
import type { LanguageModel, ModelChatTemplate, ModelSession, ModelTokenizer, TextOptions } from '../language_model.ts';
import type { ModelSpec } from '../spec/model_spec.ts';
import type { Connection } from './connection.ts';
import { errorOf } from './errors.ts';
import type { ModelInfo } from './protocol.ts';
import { RemoteSession, remoteText } from './remote_session.ts';
import type { RemoteText } from './remote_text.ts';

type Signal = { readonly signal?: AbortSignal };

/**
 * A model in a worker, with the members of a `Model`. What it is made of is here; what it computes, its tokenizer and its
 * template are there, and answer later.
 */
export class WorkerModel implements LanguageModel {
  readonly #connection: Connection;
  readonly #release: () => void;
  readonly chatTemplate: ModelChatTemplate;
  readonly #tokenizer: ModelTokenizer | Error;
  #info: ModelInfo;

  /** @param release called when the model is disposed */
  constructor(connection: Connection, info: ModelInfo, release: () => void) {
    this.#connection = connection;
    this.#release = release;
    this.#info = info;
    const { tokenizer } = info;
    this.#tokenizer =
      'problem' in tokenizer
        ? errorOf(tokenizer.problem)
        : {
            ...tokenizer,
            encode: (text, options) => connection.call('encode', [text, options]),
            decode: (ids, options) => connection.call('decode', [[...ids], options]),
            tokenToId: (token) => connection.call('tokenToId', [token]),
            idToToken: (id) => connection.call('idToToken', [id]),
          };
    this.chatTemplate = {
      ...info.chatTemplate,
      render: (messages, options) => connection.call('render', [messages, options]),
    };
  }

  get spec(): ModelSpec {
    return this.#info.spec;
  }

  get config(): unknown {
    return this.#info.config;
  }

  get capabilities(): Capabilities {
    return this.#info.capabilities;
  }

  get contextLength(): number {
    return this.#info.contextLength;
  }

  /** @throws UnsupportedModelError if the checkpoint holds no tokenizer; or what is wrong with the one it has */
  get tokenizer(): ModelTokenizer {
    if (this.#tokenizer instanceof Error) throw this.#tokenizer;
    return this.#tokenizer;
  }

  async memory(): Promise<ModelMemory> {
    return await this.#connection.call('memory', []);
  }

  generate(prompt: Prompt, options: TextOptions = {}): RemoteText {
    const session = options.session === undefined ? undefined : this.#own(options.session).id;
    return remoteText(this.#connection, withoutSession(options), (text, sent) =>
      this.#connection.note('generate', text, prompt, sent, session),
    );
  }

  async logits(
    tokens: readonly number[],
    options: Omit<LogitsOptions, 'session'> & { readonly session?: ModelSession | undefined } = {},
  ): Promise<Float32Array> {
    const { positions, session, signal } = options;
    if (session !== undefined) return await this.#own(session).logits(tokens, positions ?? 'last', signal);
    return await this.#connection.call('logits', [tokens, positions], { signal });
  }

  async score(
    context: string | readonly number[],
    continuation: string | readonly number[],
    { signal }: Signal = {},
  ): Promise<Score> {
    return await this.#connection.call('score', [context, continuation], { signal });
  }

  async logprobs(tokens: readonly number[], { signal }: Signal = {}): Promise<Float32Array> {
    return await this.#connection.call('logprobs', [tokens], { signal });
  }

  async embed(
    texts: readonly (string | readonly number[])[],
    { signal, ...options }: EmbedTextsOptions = {},
  ): Promise<Float32Array[]> {
    return await this.#connection.call('embed', [texts, options], { signal });
  }

  session(options: SessionOptions = {}): RemoteSession {
    const id = this.#connection.newId();
    this.#connection.note('session', id, options);
    return new RemoteSession(this.#connection, id);
  }

  async restore(bytes: Uint8Array, options: SessionOptions = {}): Promise<RemoteSession> {
    const id = this.#connection.newId();
    const session = new RemoteSession(this.#connection, id);
    await this.#connection.call('restore', [id, bytes, options]);
    return session;
  }

  async verify(golden: Golden, tolerance?: number): Promise<Verification> {
    return await this.#connection.call('verify', [golden, tolerance]);
  }

  /** Goes on after the worker's GPU device was lost; see `Model.recover`. */
  async recover({ signal }: Signal = {}): Promise<void> {
    this.#info = await this.#connection.call('recover', [], { signal });
  }

  /** Frees what this model has in the worker: everything, where no other page uses it. Texts in the making fail. */
  async dispose(): Promise<void> {
    const ended = new ArgumentError('The model is disposed.', 'Load it again.');
    const disposed = this.#connection.call('dispose', []).catch(() => undefined);
    await disposed;
    this.#connection.end(ended);
    this.#release();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  /** @throws ArgumentError for a session that is not one of this model */
  #own(session: ModelSession): RemoteSession {
    if (session instanceof RemoteSession && session.isOf(this.#connection)) return session;
    throw new ArgumentError('The session is of another model.', 'Make a session of this model with model.session().');
  }
}

function withoutSession({ session: _session, ...options }: TextOptions): TextOptions {
  return options;
}
