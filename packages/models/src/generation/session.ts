// Longer than most files, because everything that changes the text of a session is here.
import { ArgumentError } from '@mambalab/kernels';
import type { ChatMessage } from '../text/chat_template.ts';
import type { Conversation, Edit, PromptPart, PromptWriter } from './conversation.ts';
import { editFor } from './conversation.ts';
import { Generation } from './generation.ts';
import type { GenerateOptions, GenerationPlan } from './options.ts';
import type { GenerationSetup, LentSequence } from './run_generation.ts';
import type { Sequence } from './sequence.ts';
import type { SaveDtype, SavedSession } from './session_bytes.ts';
import { writeSession } from './session_bytes.ts';
import type { StateHost } from './session_state.ts';
import { SessionState } from './session_state.ts';
import type { Snapshot } from './snapshot.ts';
import { guardedSnapshot } from './snapshot.ts';

export interface SessionOptions {
  /** Bytes of checkpoints on the GPU, three of which are always allowed; as many as eight take when absent. */
  readonly checkpointBytes?: number;
  /** Begin with what other sessions of the model processed, where the first tokens are the same; true when absent. */
  readonly prefixCache?: boolean;
}

export interface SaveOptions {
  /** `f32`, the default, is exact; `f16` and `q8` are smaller, and what follows may differ. */
  readonly dtype?: SaveDtype;
}

/** What a session needs of its model. */
export interface SessionHost extends PromptWriter, StateHost {
  setupFor(options: GenerateOptions): Omit<GenerationSetup, 'plan' | 'acquire'>;
  /** @throws ArgumentError for bad options */
  planFor(
    tokens: readonly number[],
    options: GenerateOptions,
    isChat: boolean,
    history: readonly number[],
  ): GenerationPlan;
  /** Lets a sequence take part in batches until it is released. */
  schedule(lent: LentSequence): LentSequence;
  add(session: Session): void;
  delete(session: Session): void;
}

/** What a session begins with. */
export interface SessionStart {
  readonly tokens: readonly number[];
  readonly conversations: readonly Conversation[];
  /** The state after some of the tokens; the session frees it. */
  readonly state: Promise<Snapshot> | undefined;
}

const EMPTY: SessionStart = { tokens: [], conversations: [], state: undefined };

/**
 * A text that a model remembers: it can grow, be copied, saved, and go back. The state on the GPU lags behind the text
 * by one token at least, which is processed with what follows: so a text that was just written or restored needs no
 * logits to be kept. After a rewind, or a text that ended before what the GPU had begun, it lags by what must be
 * processed again.
 *
 * A session does one thing at a time: a call while another is in progress, a generation that is being read included, is
 * refused with an ArgumentError. A call that fails or is aborted before its first token leaves the text as it was.
 */
export class Session {
  readonly #host: SessionHost;
  readonly #options: SessionOptions;
  #tokens: number[];
  /** What the text was as a conversation, at the ends of its turns. */
  #conversations: Conversation[];
  readonly #state: SessionState;
  #busy = false;
  #disposed = false;

  constructor(host: SessionHost, options: SessionOptions = {}, start: SessionStart = EMPTY) {
    checkSessionOptions(options);
    this.#host = host;
    this.#options = options;
    this.#tokens = [...start.tokens];
    this.#conversations = [...start.conversations];
    this.#state = new SessionState(host, options, start.state);
    host.add(this);
  }

  /** Tokens of the text: all that were appended, and all that were written and handed out (no stop token is). */
  get length(): number {
    return this.#tokens.length;
  }

  /** Ids of the text's tokens. */
  get tokens(): readonly number[] {
    return [...this.#tokens];
  }

  /** Tokens that prompts, appended parts and their repetition after a rewind took so far: what was processed. */
  get prefilledTokens(): number {
    return this.#state.prefilled;
  }

  /** Bytes on the GPU: states, caches and checkpoints, as allocated. */
  get bytes(): number {
    return this.#state.bytes;
  }

  /** Lengths that {@link rewind} goes back to without processing more than one token again. */
  get checkpoints(): readonly number[] {
    return this.#state.checkpoints.map((length) => length + 1);
  }

  /**
   * Adds to the text without writing anything after it.
   *
   * @param part a string, token ids, or messages, which join the conversation so far
   * @throws ContextLengthError, OutOfMemoryError, or ArgumentError for a bad token; `signal.reason` when aborted
   */
  async append(part: PromptPart, options: { readonly signal?: AbortSignal } = {}): Promise<void> {
    const edit = this.#editFor(part, false);
    const wasEmpty = this.#tokens.length === 0;
    await this.#change(edit, options.signal, async () => {
      await this.#state.advance(this.#tokens, this.#tokens.length - 1, options.signal);
      // What is there before any question is what others may share.
      if (wasEmpty) await this.#state.keepPrefix(this.#tokens);
    });
    this.#noteConversation(edit, '', '');
  }

  /**
   * Writes on, after a further part of the prompt where one is given. See {@link Generation} for how to read it; bad
   * input shows when it is read. What was handed out belongs to the text, also when a reader leaves or a signal aborts.
   */
  generate(options?: GenerateOptions): Generation;
  generate(part: PromptPart, options?: GenerateOptions): Generation;
  generate(first: PromptPart | GenerateOptions = {}, second: GenerateOptions = {}): Generation {
    const isPart = typeof first === 'string' || Array.isArray(first);
    const part = isPart ? (first as PromptPart) : undefined;
    const options = isPart ? second : (first as GenerateOptions);
    const setup = this.#host.setupFor(options);
    const edited = (): Edit => this.#editFor(part, true, options.tools);
    return new Generation({
      ...setup,
      plan: () => {
        const { tokens, keep, conversation } = edited();
        return this.#host.planFor(tokens, options, conversation !== undefined, this.#tokens.slice(0, keep));
      },
      acquire: ({ signal }) => this.#begin(edited(), signal, setup.tokenizer),
    });
  }

  /**
   * Adds tokens to the text and returns their logits: (V) f32 after the last one, or (L, V) row-major after each.
   * Without any, those after the last token of the text.
   */
  async logits(tokens: readonly number[], positions: 'all' | 'last', signal?: AbortSignal): Promise<Float32Array> {
    const edit = { keep: this.#tokens.length, tokens, shared: 0 };
    return await this.#change(edit, signal, async (sequence) => {
      const { vocabSize } = this.#host.runtime.spec;
      const last = this.#tokens.length - 1;
      const count = positions === 'all' ? Math.max(tokens.length, 1) : 1;
      const rows = new Float32Array(count * vocabSize);
      const from = last + 1 - count;
      await this.#state.advance(this.#tokens, from, signal);
      const read = async (end: number): Promise<void> => {
        const first = sequence.length;
        const part = this.#tokens.slice(first, end);
        if (part.length === 0) return;
        this.#state.count(part.length);
        await sequence.prefillRows(part, 'all', { signal }, (row, index) =>
          rows.set(row, (first + index - from) * vocabSize),
        );
      };
      await read(last);
      // The state stays one token behind the text.
      await this.#state.prepare();
      this.#state.take('step');
      await read(last + 1);
      this.#state.rollBack(last);
      return rows;
    });
  }

  /** A session with the same text and state, copied on the GPU. Neither influences the other afterwards. */
  fork(): Session {
    this.#refuseBusy();
    const { tokens, conversations } = { tokens: this.#tokens, conversations: this.#conversations };
    return new Session(this.#host, this.#options, { tokens, conversations, state: this.#state.copy() });
  }

  /**
   * The session as bytes, for `model.restore`: the same model with the same storage, on any device.
   *
   * @throws ArgumentError for states that the dtype cannot hold, or while a call is in progress
   */
  async save({ dtype = 'f32' }: SaveOptions = {}): Promise<Uint8Array> {
    if (dtype !== 'f32' && dtype !== 'f16' && dtype !== 'q8') {
      throw new ArgumentError(`'dtype' is '${String(dtype)}'.`, "Give 'f32', 'f16' or 'q8'.");
    }
    return await this.#exclusively(async () => {
      const { runtime } = this.#host;
      const sequence = await this.#open();
      const snapshot = await guardedSnapshot(runtime.device, 'Saving a session', sequence);
      try {
        const { store } = snapshot;
        const bytes = store === undefined ? new ArrayBuffer() : await runtime.device.readBuffer(store.buffer);
        const saved: SavedSession = {
          fingerprint: await runtime.fingerprint(),
          tokens: this.#tokens,
          conversation: this.#conversations.at(-1),
          length: snapshot.length,
          furthest: snapshot.furthest,
          capacity: snapshot.capacity,
          regions: snapshot.regions.map(({ name, byteOffset, byteLength }) => ({
            name,
            dtype: sequence.dtypeOf(name),
            bytes: new Uint8Array(bytes, byteOffset, byteLength),
          })),
        };
        return writeSession(saved, dtype);
      } finally {
        snapshot.store?.dispose();
      }
    });
  }

  /** Keeps a checkpoint here, so that {@link rewind} to this length costs one token. Returns the length. */
  async checkpoint(): Promise<number> {
    if (this.#tokens.length === 0) return 0;
    await this.#exclusively(async () => {
      await this.#open();
      await this.#state.checkpointAt(this.#tokens, this.#tokens.length - 1, 'asked', undefined);
    });
    return this.#tokens.length;
  }

  /**
   * Forgets all tokens but the first `toLength`. What follows the nearest checkpoint before is processed again with the
   * next call; KV caches are shortened in place, and where there is nothing else, nothing is processed again.
   *
   * @throws ArgumentError if the text is shorter
   */
  async rewind(toLength: number): Promise<void> {
    if (!Number.isInteger(toLength) || toLength < 0 || toLength > this.#tokens.length) {
      throw new ArgumentError(
        `The session cannot be rewound to ${toLength}: it has ${this.#tokens.length} tokens.`,
        'Give a whole number from 0 to its length.',
      );
    }
    await this.#exclusively(async () => {
      await this.#open();
      this.#cut(toLength);
    });
  }

  /** Forgets the whole text. Memory stays allocated. */
  reset(): void {
    this.#refuseBusy();
    this.#tokens = [];
    this.#conversations = [];
    this.#state.reset();
  }

  /** Frees what the session has on the GPU. A text in the making fails. */
  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#state.free();
    this.#host.delete(this);
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.dispose();
    return Promise.resolve();
  }

  /** Forgets what was on a device that is lost: the text is processed again on the next one. */
  detach(): void {
    this.#state.free();
  }

  async #open(): Promise<Sequence> {
    return await this.#state.open(this.length, () => this.#refuseDisposed());
  }

  #editFor(part: PromptPart | undefined, isAnswered: boolean, tools?: readonly unknown[]): Edit {
    return editFor(this.#host, this.#tokens, this.#conversations.at(-1), part, isAnswered, tools);
  }

  /** Adds the tokens of an edit and does something with them; undone where it fails. */
  async #change<T>(edit: Edit, signal: AbortSignal | undefined, body: (sequence: Sequence) => Promise<T>): Promise<T> {
    return await this.#exclusively(async () => {
      const undo = this.#undo(edit);
      try {
        return await body((await this.#turn(edit, signal)).sequence);
      } catch (error) {
        undo();
        throw error;
      }
    });
  }

  /** Puts back the text as it is now. */
  #undo({ keep }: Edit): () => void {
    const [tokens, conversations] = [this.#tokens, this.#conversations];
    return () => {
      this.#tokens = tokens;
      this.#conversations = conversations;
      this.#state.forgetAfter(keep);
      this.#state.rollBack(Math.min(keep, Math.max(0, tokens.length - 1)));
    };
  }

  /**
   * Begins a turn: a checkpoint where the text ended, and then the tokens of the edit. Returns how many of them need not
   * be processed, too.
   */
  async #turn(
    edit: Edit,
    signal: AbortSignal | undefined,
  ): Promise<{ readonly sequence: Sequence; readonly cachedTokens: number }> {
    signal?.throwIfAborted();
    const sequence = await this.#open();
    sequence.checkTokens(edit.tokens);
    this.#tokens = [...this.#tokens];
    this.#conversations = [...this.#conversations];
    if (edit.keep < this.#tokens.length) this.#cut(edit.keep);
    const border = this.#tokens.length - 1;
    const isEmpty = sequence.length === 0;
    const cachedTokens = isEmpty ? await this.#state.adoptPrefix([...this.#tokens, ...edit.tokens]) : 0;
    if (border > 0 && (edit.tokens.length > 0 || sequence.length === border)) {
      await this.#state.checkpointAt(this.#tokens, border, 'turn', signal);
    }
    this.#tokens.push(...edit.tokens);
    if (this.#tokens.length === 0) {
      throw new ArgumentError(
        'There is no token to process.',
        'Give a prompt, or start with the beginning-of-sequence token.',
      );
    }
    await this.#state.prepare();
    if (edit.shared > sequence.length && edit.shared < this.#tokens.length) {
      await this.#state.advance(this.#tokens, edit.shared, signal);
      await this.#state.keepPrefix(this.#tokens);
    }
    return { sequence, cachedTokens: Math.min(cachedTokens, edit.tokens.length) };
  }

  async #begin(
    edit: Edit,
    signal: AbortSignal | undefined,
    tokenizer: GenerationSetup['tokenizer'],
  ): Promise<LentSequence> {
    this.#enter();
    const undo = this.#undo(edit);
    const written: number[] = [];
    let isWriting = false;
    const release = (): void => {
      this.#busy = false;
      if (this.#disposed || !this.#state.isOpen) return;
      if (!isWriting) {
        undo();
        return;
      }
      this.#tokens.push(...written);
      const text = (skipSpecialTokens: boolean): string => tokenizer?.decode(written, { skipSpecialTokens }) ?? '';
      this.#noteConversation(edit, text(false), text(true));
      this.#state.rollBack(this.#tokens.length - 1);
    };
    try {
      const { sequence, cachedTokens } = await this.#turn(edit, signal);
      const prompt = this.#tokens.slice(sequence.length);
      this.#state.count(prompt.length);
      return this.#host.schedule({
        sequence,
        prompt,
        cachedTokens,
        history: this.#tokens.slice(0, sequence.length),
        onPrompt: () => {
          isWriting = true;
          this.#state.take('step');
        },
        onToken: (token) => written.push(token),
        release,
      });
    } catch (error) {
      release();
      throw error;
    }
  }

  #noteConversation(edit: Edit, text: string, reply: string): void {
    if (edit.conversation === undefined) return;
    const answer: readonly ChatMessage[] = text === '' ? [] : [{ role: 'assistant', content: reply }];
    this.#conversations.push({
      messages: [...edit.conversation.messages, ...answer],
      text: edit.conversation.text + text,
      length: this.#tokens.length,
    });
  }

  /** Shortens the text, and the state at least as far as one token before its end. */
  #cut(length: number): void {
    this.#tokens.length = length;
    this.#conversations = this.#conversations.filter((conversation) => conversation.length <= length);
    this.#state.rollBack(Math.max(0, length - 1));
    this.#state.forgetAfter(Math.max(0, length - 1));
  }

  async #exclusively<T>(body: () => Promise<T>): Promise<T> {
    this.#enter();
    try {
      return await body();
    } finally {
      this.#busy = false;
    }
  }

  #enter(): void {
    this.#refuseBusy();
    this.#busy = true;
  }

  #refuseBusy(): void {
    this.#refuseDisposed();
    if (this.#busy) {
      throw new ArgumentError(
        'The session is busy with another call.',
        'Await it, read the text in the making to its end, or fork the session.',
      );
    }
  }

  #refuseDisposed(): void {
    if (this.#disposed) throw new ArgumentError('The session, or its model, is disposed.', 'Make another one.');
  }
}

/** @throws ArgumentError for an option that is none */
export function checkSessionOptions({ checkpointBytes = 0 }: SessionOptions): void {
  if (checkpointBytes >= 0) return;
  throw new ArgumentError(`'checkpointBytes' is ${checkpointBytes}.`, 'Give a number of bytes, or leave it out.');
}
