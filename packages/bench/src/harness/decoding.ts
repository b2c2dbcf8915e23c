import type { Model } from '@mambalab/models';
import type { DecodeRun } from './model_bench.ts';

/** What decodes tokens one after another: a sequence, or several that are filled with random values. */
export interface StepSource {
  readonly freeSlots: number;
  step(): Promise<unknown>;
}

/** Submits steps as far ahead as their results can be read, as real use does. */
export async function timeSteps(source: StepSource, steps: number): Promise<DecodeRun> {
  let cpuMilliseconds = 0;
  const pending: Promise<unknown>[] = [];
  const started = performance.now();
  for (let submitted = 0; submitted < steps;) {
    while (submitted < steps && source.freeSlots > 0) {
      const before = performance.now();
      pending.push(source.step());
      cpuMilliseconds += performance.now() - before;
      submitted += 1;
    }
    await pending.shift();
  }
  await Promise.all(pending);
  return { milliseconds: performance.now() - started, cpuMilliseconds };
}

/** Bytes of weights that a token reads: of an embedding of its own one row, of one that is the head as well everything. */
export function weightsReadBytes({ runtime, spec }: Model): number {
  if (spec.tiedEmbeddings) return runtime.weightsBytes;
  // A large one may be several tensors.
  const embedding = [...runtime.constants]
    .filter(([name]) => name === 'embedding' || name.startsWith('embedding.'))
    .reduce((sum, [, { byteLength }]) => sum + byteLength, 0);
  return runtime.weightsBytes - embedding;
}

/** Tokens without a meaning, of which neighbours differ: those from number `start` on. */
export function anyTokens(vocabSize: number, length: number, start = 0): number[] {
  return Array.from({ length }, (_, index) => ((index + start) * 7919 + 13) % vocabSize);
}
