import { Worker } from 'node:worker_threads';
import { MambalabError } from '@mambalab/kernels';
import { Random } from '../numbers.ts';
import { withBoundedArrays } from './guard.ts';

/** A reader and what it is given. */
export interface FuzzTarget {
  readonly name: string;
  /** Share of changed inputs that are refused at least: others change nothing that a reader can see. */
  readonly refused: number;
  /** A changed input. */
  mutate(random: Random): FuzzInput;
  /** An input without a change: it must load. */
  readonly original: FuzzInput;
}

export interface FuzzInput {
  /** Bytes that the reader is given in all. */
  readonly size: number;
  /** Reads all that there is to read. A wrong result that was not refused is an error of another kind. */
  load(): Promise<void>;
}

export interface FuzzReport {
  readonly name: string;
  readonly inputs: number;
  readonly refused: number;
  readonly slowestMs: number;
  /** Bytes of the largest array that any input made a reader ask for, and of that input. */
  readonly largestArray: number;
}

/** A case that takes longer has found work that grows faster than the file. */
const SLOW_MS = 2000;
/** A case that takes longer never ends. */
const HANGS_MS = 60_000;
const LONGEST_MESSAGE = 4000;

/**
 * Gives a reader `inputs` changed files. Each is refused with an error of this library, or read correctly, in bounded
 * time and memory.
 *
 * @throws Error naming target, seed and number of the input that showed something else
 */
export async function fuzz(target: FuzzTarget, inputs: number, seed: number): Promise<FuzzReport> {
  await target.original.load();
  const watch = startWatch(target.name, seed);
  let [refused, slowestMs, largestArray] = [0, 0, 0];
  try {
    for (let index = 0; index < inputs; index++) {
      watch.begin(index);
      const input = target.mutate(randomOf(seed, index));
      const began = performance.now();
      let error: unknown;
      try {
        largestArray = Math.max(largestArray, await withBoundedArrays(input.size, () => input.load()));
      } catch (caught) {
        error = caught;
      }
      const tookMs = performance.now() - began;
      slowestMs = Math.max(slowestMs, tookMs);
      const problem = tookMs > SLOW_MS ? `took ${tookMs.toFixed(0)} ms` : problemOf(error);
      if (problem !== undefined) {
        throw new Error(`${target.name}, seed ${seed}, input ${index}: ${problem}`, { cause: error });
      }
      if (error !== undefined) refused++;
    }
  } finally {
    await watch.end();
  }
  if (refused < inputs * target.refused) {
    throw new Error(`${target.name}, seed ${seed}: only ${refused} of ${inputs} changed inputs were refused`);
  }
  return { name: target.name, inputs, refused, slowestMs, largestArray };
}

/** The numbers of one input: any can be made again without those before it. */
export const randomOf = (seed: number, index: number): Random => new Random(seed * 1_000_003 + index);

function problemOf(error: unknown): string | undefined {
  if (error === undefined) return undefined;
  if (!(error instanceof MambalabError)) return `${String(error)}`;
  if (error.hint === '') return `an error without a hint: ${error.message}`;
  return error.message.length > LONGEST_MESSAGE ? `a message of ${error.message.length} characters` : undefined;
}

/** What never ends cannot be told from inside: another thread says where it happened, and ends the process. */
const WATCH = `
  const { workerData: { state, name, seed, hangs } } = require('node:worker_threads');
  let last = -1, since = Date.now();
  setInterval(() => {
    const now = Atomics.load(state, 0);
    if (now !== last) { last = now; since = Date.now(); return; }
    if (Date.now() - since < hangs) return;
    require('node:fs').writeSync(2, name + ', seed ' + seed + ', input ' + now + ': does not end\\n');
    process.kill(process.pid, 'SIGKILL');
  }, 1000);
`;

function startWatch(name: string, seed: number): { begin: (index: number) => void; end: () => Promise<number> } {
  const state = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(WATCH, { eval: true, workerData: { state, name, seed, hangs: HANGS_MS } });
  return { begin: (index) => Atomics.store(state, 0, index), end: () => worker.terminate() };
}
