import type { Device, ForcedChoices, HostTensor, Recording, TensorRef } from '@mambalab/kernels';
import { Executor, run } from '@mambalab/kernels';
import type { Determinism } from '../results.ts';
import { hostInput } from './inputs.ts';
import type { KernelBench } from './kernel_bench.ts';
import { Random } from './random.ts';

export interface RepeatOptions {
  readonly seed: number;
  readonly repeats: number;
  readonly force?: ForcedChoices;
}

/**
 * Runs every check of a kernel again and again on the same inputs, from fresh buffers each time, and compares the bits of
 * the results: a race between invocations, or a sum whose order varies, shows sooner or later.
 */
export async function repeatKernel(device: Device, bench: KernelBench, options: RepeatOptions): Promise<Determinism> {
  const random = new Random(options.seed);
  const executor = new Executor(device, { poison: true });
  const settings = { executor, ...(options.force === undefined ? {} : { force: options.force }) };
  try {
    for (const check of [bench.verify, ...(bench.verifyAlso ?? [])]) {
      const hosts = Object.fromEntries(
        Object.entries(check.inputs).map(([name, spec]) => [name, hostInput(random, spec).host]),
      );
      const kernel = (recording: Recording, inputs: Readonly<Record<string, TensorRef>>): TensorRef =>
        check.record(recording, inputs);
      let first: Uint32Array | undefined;
      for (let repeat = 0; repeat < options.repeats; repeat++) {
        const words = wordsOf(await run(device, kernel, hosts, undefined, settings));
        first ??= words;
        const different = words.findIndex((word, at) => word !== first?.[at]);
        if (different >= 0) return { repeats: options.repeats, equal: false, repeat, value: different };
      }
    }
    return { repeats: options.repeats, equal: true };
  } finally {
    executor.dispose();
  }
}

const wordsOf = ({ data }: HostTensor): Uint32Array => new Uint32Array(data.buffer, data.byteOffset, data.length);
