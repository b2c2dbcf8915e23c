import { ArgumentError } from '@mambalab/kernels';
import type { GeneratedPiece } from '../generation/generate.ts';
import type { LanguageModel, ModelSession, TextStream } from '../language_model.ts';
import type { LoadProgress } from '../load_model.ts';
import { errorRecord } from './errors.ts';
import type { HeldModel, Recoverable } from './model_shelf.ts';
import type {
  FromWorker,
  ModelInfo,
  Note,
  Notes,
  Operation,
  Operations,
  SentOptions,
  SessionState,
  ToWorker,
} from './protocol.ts';

/** Gives the model that a page asks for. */
export type TakeModel = (
  source: unknown,
  options: object,
  signal: AbortSignal,
  onProgress: (progress: LoadProgress) => void,
) => Promise<HeldModel>;

/** What a handler knows of its call. */
interface Call {
  readonly signal: AbortSignal;
  readonly onProgress: (progress: LoadProgress) => void;
  /** The session that the call may change. */
  session?: number | undefined;
}

type Handlers = {
  readonly [Key in Operation]: (
    call: Call,
    ...args: Parameters<Operations[Key]>
  ) => Promise<ReturnType<Operations[Key]>> | ReturnType<Operations[Key]>;
};

type NoteHandlers = { readonly [Key in Note]: Notes[Key] };

interface Text {
  readonly stream: TextStream;
  readonly session: number | undefined;
  readonly readers: Map<number, AsyncGenerator<GeneratedPiece, void>>;
}

/** The reason of aborts that a page asked for: it knows its own. */
const ABORTED = new Error('The page aborted this.');

/** The worker's end of a port: answers one page. */
export class ModelHost {
  readonly #port: MessagePort;
  readonly #take: TakeModel;
  readonly #aborts = new Map<number, AbortController>();
  readonly #texts = new Map<number, Text | { readonly problem: unknown }>();
  readonly #sessions = new Map<number, ModelSession | { readonly problem: unknown }>();
  /** Tokens of sessions that the page knows. */
  readonly #known = new Map<number, readonly number[]>();
  #held: HeldModel | undefined;
  #isEnded = false;

  constructor(port: MessagePort, take: TakeModel) {
    this.#port = port;
    this.#take = take;
    port.addEventListener('message', ({ data }: MessageEvent<ToWorker>) => {
      if ('note' in data) this.#heed(data.note, data.args);
      else void this.#answer(data.id, data.call, data.args);
    });
    port.addEventListener('close', () => this.end());
    port.start();
  }

  /** Frees what the page had: it left, or is done. */
  end(): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    for (const abort of this.#aborts.values()) abort.abort(ABORTED);
    for (const session of this.#sessions.values()) if (!('problem' in session)) session.dispose();
    for (const held of [this.#aborts, this.#texts, this.#sessions, this.#known]) held.clear();
    this.#held?.release();
    this.#held = undefined;
  }

  async #answer(id: number, operation: Operation, args: readonly unknown[]): Promise<void> {
    const abort = new AbortController();
    this.#aborts.set(id, abort);
    const call: Call = {
      signal: abort.signal,
      onProgress: (progress) => this.#post({ id, progress }),
    };
    let reply: FromWorker;
    try {
      const handler = this.#handlers[operation] as (call: Call, ...args: readonly unknown[]) => unknown;
      reply = { id, value: await handler(call, ...args) };
    } catch (error) {
      reply = error === ABORTED ? { id, aborted: true } : { id, error: errorRecord(error) };
    }
    this.#aborts.delete(id);
    const session = call.session === undefined ? undefined : this.#stateOf(call.session);
    this.#post({ ...reply, ...(session && { session }) });
    if (operation === 'dispose') this.end();
  }

  #heed(note: Note, args: readonly unknown[]): void {
    const handler = this.#noteHandlers[note] as (...args: readonly unknown[]) => void;
    handler(...args);
  }

  #post(message: FromWorker): void {
    const buffers = 'value' in message ? ownBuffers(message.value) : [];
    this.#port.postMessage(message, buffers);
  }

  get #model(): LanguageModel & Recoverable {
    if (this.#held === undefined) throw new ArgumentError('The model is disposed.', 'Load it again.');
    return this.#held.model;
  }

  readonly #handlers: Handlers = {
    load: async ({ signal, onProgress }, source, options, lock) => {
      const held = await this.#take(source, Object(options) as object, signal, onProgress);
      if (this.#isEnded) held.release();
      else this.#held = held;
      // The page holds this lock for as long as it lives.
      if (lock !== undefined) void globalThis.navigator.locks.request(lock, () => this.end());
      return infoOf(held.model);
    },
    recover: async ({ signal }) => {
      await this.#model.recover({ signal });
      return infoOf(this.#model);
    },
    memory: () => this.#model.memory(),
    logits: ({ signal }, tokens, positions) => this.#model.logits(tokens, { signal, ...(positions && { positions }) }),
    score: ({ signal }, context, continuation) => this.#model.score(context, continuation, { signal }),
    logprobs: ({ signal }, tokens) => this.#model.logprobs(tokens, { signal }),
    embed: ({ signal }, texts, options) => this.#model.embed(texts, { ...options, signal }),
    verify: (_call, golden, tolerance) => this.#model.verify(golden, tolerance),
    encode: (_call, text, options) => this.#model.tokenizer.encode(text, options),
    decode: (_call, ids, options) => this.#model.tokenizer.decode(ids, options),
    tokenToId: (_call, token) => this.#model.tokenizer.tokenToId(token),
    idToToken: (_call, id) => this.#model.tokenizer.idToToken(id),
    render: (_call, messages, options) => this.#model.chatTemplate.render(messages, options),
    next: async (call, id, reader) => {
      const text = this.#textOf(id, call);
      const pieces = text.readers.get(reader) ?? text.stream[Symbol.asyncIterator]();
      text.readers.set(reader, pieces);
      return await pieces.next();
    },
    leave: async (call, id, reader) => {
      await this.#textOf(id, call).readers.get(reader)?.return();
    },
    result: (call, id) => this.#textOf(id, call).stream.result,
    restore: async (call, id, bytes, options) => {
      this.#sessions.set(id, await this.#model.restore(bytes, options));
      call.session = id;
    },
    append: (call, id, part) => this.#sessionOf(id, call).append(part, { signal: call.signal }),
    sessionLogits: (call, id, tokens, positions) => this.#sessionOf(id, call).logits(tokens, positions, call.signal),
    save: (call, id, options) => this.#sessionOf(id, call).save(options),
    checkpoint: (call, id) => this.#sessionOf(id, call).checkpoint(),
    rewind: (call, id, toLength) => this.#sessionOf(id, call).rewind(toLength),
    reset: (call, id) => this.#sessionOf(id, call).reset(),
    // What the page has here is freed once it knows.
    dispose: () => undefined,
  };

  readonly #noteHandlers: NoteHandlers = {
    generate: (id, prompt, options, session) =>
      this.#begin(id, session, options, (settings) =>
        this.#model.generate(prompt, {
          ...settings,
          ...(session !== undefined && { session: this.#sessionOf(session) }),
        }),
      ),
    generateFrom: (id, session, part, options) =>
      this.#begin(id, session, options, (settings) => {
        const from = this.#sessionOf(session);
        return part === undefined ? from.generate(settings) : from.generate(part, settings);
      }),
    session: (id, options) => this.#keep(id, () => this.#model.session(options)),
    fork: (id, copy) => {
      this.#keep(copy, () => this.#sessionOf(id).fork());
      this.#known.set(copy, this.#known.get(id) ?? []);
    },
    disposeSession: (id) => {
      const session = this.#sessions.get(id);
      if (session !== undefined && !('problem' in session)) session.dispose();
      this.#sessions.delete(id);
      this.#known.delete(id);
    },
    drop: (id) => {
      this.#texts.delete(id);
      this.#aborts.delete(id);
    },
    abort: (id) => this.#aborts.get(id)?.abort(ABORTED),
  };

  #begin(
    id: number,
    session: number | undefined,
    options: SentOptions,
    make: (settings: SentOptions & { readonly signal: AbortSignal }) => TextStream,
  ): void {
    const abort = new AbortController();
    this.#aborts.set(id, abort);
    try {
      const stream = make({ ...options, signal: abort.signal });
      this.#texts.set(id, { stream, session, readers: new Map() });
    } catch (problem) {
      this.#texts.set(id, { problem });
    }
  }

  #textOf(id: number, call: Call): Text {
    const text = this.#texts.get(id);
    if (text === undefined) throw new ArgumentError('The text is gone.', 'Write it again.');
    if ('problem' in text) throw text.problem;
    call.session = text.session;
    return text;
  }

  #keep(id: number, make: () => ModelSession): void {
    try {
      this.#sessions.set(id, make());
    } catch (problem) {
      this.#sessions.set(id, { problem });
    }
  }

  #sessionOf(id: number, call?: { session?: number | undefined }): ModelSession {
    const session = this.#sessions.get(id);
    if (session === undefined) throw new ArgumentError('The session is disposed.', 'Make another one.');
    if ('problem' in session) throw session.problem;
    if (call !== undefined) call.session = id;
    return session;
  }

  #stateOf(id: number): SessionState | undefined {
    const session = this.#sessions.get(id);
    if (session === undefined || 'problem' in session) return undefined;
    const { tokens, prefilledTokens, bytes, checkpoints } = session;
    const known = this.#known.get(id) ?? [];
    this.#known.set(id, tokens);
    const difference = known.findIndex((token, at) => token !== tokens[at]);
    const kept = difference < 0 ? known.length : difference;
    return { id, kept, added: tokens.slice(kept), prefilledTokens, bytes, checkpoints };
  }
}

function infoOf(model: LanguageModel): ModelInfo {
  const { spec, config, capabilities, contextLength, chatTemplate } = model;
  const { exists, names } = chatTemplate;
  let tokenizer: ModelInfo['tokenizer'];
  try {
    const { vocabSize, specialIds } = model.tokenizer;
    tokenizer = { vocabSize, specialIds };
  } catch (error) {
    tokenizer = { problem: errorRecord(error) };
  }
  return { spec, config, capabilities, contextLength, tokenizer, chatTemplate: { exists, names } };
}

/** The buffers of arrays that are all of their buffers: nobody here needs them any more. */
function ownBuffers(value: unknown): ArrayBuffer[] {
  const arrays: readonly unknown[] = Array.isArray(value) ? value : [value];
  return arrays.flatMap((array) => {
    if (!(array instanceof Float32Array || array instanceof Uint8Array)) return [];
    const { buffer, byteLength } = array;
    return buffer instanceof ArrayBuffer && buffer.byteLength === byteLength ? [buffer] : [];
  });
}
