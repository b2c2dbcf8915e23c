import { basename } from 'node:path';
import pc from 'picocolors';
import { loadModel } from '../node.ts';
import { createEngine } from '../openai/index.ts';
import { logLine, startServer } from '../serve/index.ts';
import type { WeightDtype } from '../surface.ts';
import { sourceOptions } from './source_flags.ts';
import type { SourceFlags } from './source_flags.ts';
import { progressReporter } from './terminal.ts';

export interface ServeFlags extends SourceFlags {
  readonly host: string;
  readonly port: number;
  /** `MAMBALAB_TOKEN` when absent: what stands in a command line, others on the machine can read. */
  readonly token?: string;
  readonly cors?: readonly string[];
  /** What requests call the model. */
  readonly name?: string;
  readonly maxRunning: number;
  readonly maxWaiting: number;
  /** Seconds that a request may take. */
  readonly timeout: number;
  /** Seconds that texts in progress may take when the server is told to end. */
  readonly grace: number;
  readonly contextLength?: number;
  readonly dtype: WeightDtype;
  readonly json?: boolean;
}

const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

/** How a server is told to end: at first with what is in progress, the second time at once. */
export interface Ending {
  readonly first: Promise<unknown>;
  readonly second: Promise<unknown>;
}

/** `mambalab serve SOURCE`: OpenAI's API over HTTP, until it is interrupted. */
export async function serve(source: string, flags: ServeFlags, ending?: Ending): Promise<void> {
  using interruptions = ending === undefined ? onInterrupts() : undefined;
  const end = ending ?? interruptions;
  const { json = false, token = process.env['MAMBALAB_TOKEN'] } = flags;
  const write = (event: object, text: string): void => {
    process.stdout.write(`${json ? JSON.stringify(event) : text}\n`);
  };
  await using model = await loadModel(source, {
    ...sourceOptions(flags),
    dtype: flags.dtype,
    ...(flags.contextLength !== undefined && { contextLength: flags.contextLength }),
    ...(!json && { onProgress: progressReporter() }),
  });
  const id = flags.name ?? nameOf(source);
  await using server = await startServer(createEngine(model, { id }), {
    host: flags.host,
    port: flags.port,
    ...(token !== undefined && token !== '' && { token }),
    ...(flags.cors !== undefined && { cors: flags.cors }),
    maxRunning: flags.maxRunning,
    maxWaiting: flags.maxWaiting,
    timeoutMs: flags.timeout * 1000,
    onRequest: (log) => write(log, logLine(log)),
  });
  write({ event: 'listening', url: server.url, model: id }, `${id} at ${pc.bold(`${server.url}/v1`)}`);
  if (flags.host !== '127.0.0.1' && flags.host !== 'localhost' && flags.host !== '::1' && !token) {
    process.stderr.write(`${pc.yellow('Whoever reaches this address may use it: set MAMBALAB_TOKEN.')}\n`);
  }
  await end?.first;
  write({ event: 'ending' }, 'ending; once more ends at once');
  const closed = server.close(flags.grace * 1000);
  void end?.second.then(() => server.close(0));
  await closed;
}

/** What a model is called: a hub's id as it is, otherwise the name of the folder or file. */
function nameOf(source: string): string {
  if (/^[\w.-]+\/[\w.-]+$/.test(source)) return source;
  return basename(source.replace(/[/\\]+$/, '')).replace(/\.gguf$/, '') || 'model';
}

/** Ctrl-C, and what ends services. */
function onInterrupts(): Ending & Disposable {
  const waiting: (() => void)[] = [];
  const next = (): Promise<void> => new Promise((resolve) => waiting.push(resolve));
  const listener = (): void => waiting.shift()?.();
  for (const name of SIGNALS) process.on(name, listener);
  return {
    first: next(),
    second: next(),
    [Symbol.dispose]: () => {
      for (const name of SIGNALS) process.off(name, listener);
    },
  };
}
