import { ArgumentError } from '@mambalab/kernels';
import type { LoadOptions } from '../load_model.ts';
import { Connection } from './connection.ts';
import { CONNECT } from './protocol.ts';
import { WorkerModel } from './remote_model.ts';
import { sentLoadOptions, sentSource } from './sent_options.ts';

/** Where a model is served: a worker of any kind, or a port that `servePort` answers. */
export type WorkerTarget = Worker | SharedWorker | ServiceWorker | MessagePort;

/** Options of a model in a worker: those of loading it, but for a device and a cache of the page. */
export type WorkerModelOptions = LoadOptions;

/**
 * A model that a worker runs, with the members of a `Model`: nothing that it does keeps the page from drawing. The
 * worker's own file calls `serveModel`, or is `@mambalab/models/worker/entry`.
 *
 * @param source as for `loadModel`; absent where the worker has a model already
 * @throws what loading the model throws, with classes, codes and hints as they are; ArgumentError for options that
 *   cannot be sent, or a worker that does not start; `signal.reason` when aborted
 */
export async function createWorkerModel(
  worker: WorkerTarget,
  source?: unknown,
  options: WorkerModelOptions = {},
): Promise<WorkerModel> {
  const { signal, onProgress } = options;
  const sent = sentLoadOptions(options);
  signal?.throwIfAborted();
  const lock = await holdLock();
  const connection = new Connection(connect(worker));
  const fail = (event: Event): void => {
    const message = 'message' in event && event.message !== '' ? `: ${String(event.message)}` : '';
    connection.end(new ArgumentError(`The worker does not start${message}.`, 'Look at its address and its console.'));
  };
  // Later errors of a worker are not all about this model.
  if (!(worker instanceof MessagePort)) worker.addEventListener('error', fail);
  try {
    const info = await connection.call('load', [sentSource(source), sent, lock?.name], { signal, onProgress });
    return new WorkerModel(connection, info, () => lock?.release());
  } catch (error) {
    void connection.call('dispose', []).catch(() => undefined);
    connection.end(new ArgumentError('The model was not loaded.', 'See the error of loading it.'));
    lock?.release();
    throw error;
  } finally {
    if (!(worker instanceof MessagePort)) worker.removeEventListener('error', fail);
  }
}

function connect(worker: WorkerTarget): MessagePort {
  if (worker instanceof MessagePort) return worker;
  const { port1, port2 } = new MessageChannel();
  if ('port' in worker) {
    worker.port.start();
    worker.port.postMessage(CONNECT, [port2]);
  } else {
    worker.postMessage(CONNECT, [port2]);
  }
  return port1;
}

/** A lock that this page has until it lets go or is gone: the worker waits for it, to free what the page had. */
async function holdLock(): Promise<{ readonly name: string; release(): void } | undefined> {
  const locks = globalThis.navigator?.locks as LockManager | undefined;
  if (locks === undefined) return undefined;
  const name = `mambalab-page-${crypto.randomUUID()}`;
  return await new Promise((resolve, reject) => {
    const held = locks.request(name, () => new Promise<void>((release) => resolve({ name, release })));
    held.catch(reject);
  });
}
