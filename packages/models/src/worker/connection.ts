import { ArgumentError } from '@mambalab/kernels';
import type { LoadProgress } from '../load_model.ts';
import { errorOf } from './errors.ts';
import type { FromWorker, Note, Notes, Operation, Operations, SessionState, ToWorker } from './protocol.ts';

/** How a call is waited for. */
export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  /** Whose signal counts where the worker says that it was aborted, if not this call's. */
  readonly abortedBy?: AbortSignal | undefined;
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
}

interface Pending extends CallOptions {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: unknown) => void;
  readonly release: () => void;
}

/** The page's end of a port. */
export class Connection {
  readonly #port: MessagePort;
  readonly #pending = new Map<number, Pending>();
  readonly #sessions = new Map<number, WeakRef<{ update(state: SessionState): void }>>();
  #ids = 0;
  #ended: Error | undefined;

  constructor(port: MessagePort) {
    this.#port = port;
    port.addEventListener('message', ({ data }: MessageEvent<FromWorker>) => this.#receive(data));
    port.addEventListener('messageerror', () => this.end(new TypeError('A message of the worker cannot be read.')));
    // Where the platform tells: the worker is gone.
    port.addEventListener('close', () =>
      this.end(new ArgumentError('The worker has ended.', 'Make another one, and load the model again.')),
    );
    port.start();
  }

  newId(): number {
    return (this.#ids += 1);
  }

  /** Says something without waiting. Nothing is sent to a worker that is gone: whatever comes of it fails. */
  note<K extends Note>(note: K, ...args: Parameters<Notes[K]>): void {
    if (this.#ended === undefined) this.#post({ note, args });
  }

  async call<K extends Operation>(
    call: K,
    args: Parameters<Operations[K]>,
    options: CallOptions = {},
  ): Promise<ReturnType<Operations[K]>> {
    const { signal } = options;
    signal?.throwIfAborted();
    if (this.#ended !== undefined) throw this.#ended;
    const id = this.newId();
    return await new Promise((resolve, reject) => {
      const abort = (): void => this.note('abort', id);
      this.#pending.set(id, {
        ...options,
        resolve: (value) => resolve(value as ReturnType<Operations[K]>),
        reject,
        release: () => signal?.removeEventListener('abort', abort),
      });
      signal?.addEventListener('abort', abort, { once: true });
      try {
        this.#post({ id, call, args });
      } catch (cause) {
        this.#take(id);
        reject(new ArgumentError(`What '${call}' is given cannot be sent to a worker.`, 'Give plain data.', { cause }));
      }
    });
  }

  /** Keeps a session up to date as long as somebody has it. */
  watch(id: number, session: { update(state: SessionState): void }): void {
    this.#sessions.set(id, new WeakRef(session));
  }

  unwatch(id: number): void {
    this.#sessions.delete(id);
  }

  /** Fails whatever waits, and whatever is asked from now on. */
  end(error: Error): void {
    if (this.#ended !== undefined) return;
    this.#ended = error;
    this.#port.close();
    for (const { reject, release } of this.#pending.values()) {
      release();
      reject(error);
    }
    this.#pending.clear();
  }

  #post(message: ToWorker): void {
    this.#port.postMessage(message);
  }

  #receive(message: FromWorker): void {
    if ('progress' in message) {
      this.#pending.get(message.id)?.onProgress?.(message.progress);
      return;
    }
    // First, so that whoever waited finds the session as it is now.
    if (message.session !== undefined) this.#sessions.get(message.session.id)?.deref()?.update(message.session);
    const pending = this.#take(message.id);
    if (pending === undefined) return;
    if ('value' in message) pending.resolve(message.value);
    else if ('error' in message) pending.reject(errorOf(message.error));
    else pending.reject(pending.signal?.aborted === true ? pending.signal.reason : pending.abortedBy?.reason);
  }

  #take(id: number): Pending | undefined {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    pending?.release();
    return pending;
  }
}
