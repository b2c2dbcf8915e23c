import type { GenerateOptions } from '../generation/options.ts';
import type { PromptPart } from '../generation/conversation.ts';
import type { SaveOptions } from '../generation/session.ts';
import type { ModelSession } from '../language_model.ts';
import type { Connection } from './connection.ts';
import type { SessionState } from './protocol.ts';
import { RemoteText } from './remote_text.ts';
import { sentOptions } from './sent_options.ts';

type Options = Omit<GenerateOptions, 'session'>;

/**
 * A session in a worker. What it is (`length`, `tokens`, ...) is as the last call that ended left it. Where making it
 * fails (a fork of a busy session, say), its first call does.
 */
export class RemoteSession implements ModelSession {
  readonly id: number;
  readonly #connection: Connection;
  #tokens: readonly number[] = [];
  #state: Omit<SessionState, 'id' | 'kept' | 'added'> = { prefilledTokens: 0, bytes: 0, checkpoints: [] };

  constructor(connection: Connection, id: number, tokens: readonly number[] = []) {
    this.#connection = connection;
    this.#tokens = tokens;
    this.id = id;
    connection.watch(id, this);
  }

  get length(): number {
    return this.#tokens.length;
  }

  get tokens(): readonly number[] {
    return this.#tokens;
  }

  get prefilledTokens(): number {
    return this.#state.prefilledTokens;
  }

  get bytes(): number {
    return this.#state.bytes;
  }

  get checkpoints(): readonly number[] {
    return this.#state.checkpoints;
  }

  isOf(connection: Connection): boolean {
    return this.#connection === connection;
  }

  /** Takes note of what a call in the worker changed. */
  update({ kept, added, ...state }: SessionState): void {
    if (added.length > 0 || kept < this.#tokens.length) this.#tokens = [...this.#tokens.slice(0, kept), ...added];
    this.#state = state;
  }

  async append(part: PromptPart, { signal }: { readonly signal?: AbortSignal } = {}): Promise<void> {
    await this.#connection.call('append', [this.id, part], { signal });
  }

  generate(options?: Options): RemoteText;
  generate(part: PromptPart, options?: Options): RemoteText;
  generate(first: PromptPart | Options = {}, second: Options = {}): RemoteText {
    const isPart = typeof first === 'string' || Array.isArray(first);
    const part = isPart ? (first as PromptPart) : undefined;
    const options = isPart ? second : (first as Options);
    return remoteText(this.#connection, options, (text, sent) =>
      this.#connection.note('generateFrom', text, this.id, part, sent),
    );
  }

  async logits(tokens: readonly number[], positions: 'all' | 'last', signal?: AbortSignal): Promise<Float32Array> {
    return await this.#connection.call('sessionLogits', [this.id, tokens, positions], { signal });
  }

  fork(): RemoteSession {
    const copy = this.#connection.newId();
    this.#connection.note('fork', this.id, copy);
    return new RemoteSession(this.#connection, copy, this.#tokens);
  }

  async save(options?: SaveOptions): Promise<Uint8Array> {
    return await this.#connection.call('save', [this.id, options]);
  }

  async checkpoint(): Promise<number> {
    return await this.#connection.call('checkpoint', [this.id]);
  }

  async rewind(toLength: number): Promise<void> {
    await this.#connection.call('rewind', [this.id, toLength]);
  }

  async reset(): Promise<void> {
    await this.#connection.call('reset', [this.id]);
  }

  dispose(): void {
    this.#connection.unwatch(this.id);
    this.#connection.note('disposeSession', this.id);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.dispose();
    return Promise.resolve();
  }
}

/** A text in the worker; options that cannot be sent there show when it is read. */
export function remoteText(
  connection: Connection,
  options: GenerateOptions | Options,
  start: (text: number, sent: ReturnType<typeof sentOptions>) => void,
): RemoteText {
  try {
    const sent = sentOptions(options);
    return new RemoteText(connection, options.signal, (text) => start(text, sent));
  } catch (error) {
    if (error instanceof Error) return new RemoteText(connection, options.signal, () => undefined, error);
    throw error;
  }
}
