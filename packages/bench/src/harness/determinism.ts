import type { Device, ForcedChoices, TensorRef } from '@mambalab/kernels';
import { Executor, Recording } from '@mambalab/kernels';
import type { Determinism } from '../results.ts';
import { hostInput } from './inputs.ts';
import type { KernelBench, KernelCheck } from './kernel_bench.ts';
import { Random } from './random.ts';

export interface RepeatOptions {
  readonly seed: number;
  readonly repeats: number;
  readonly force?: ForcedChoices;
}

/**
 * Runs every check of a kernel again and again on the same inputs and compares the bits of the results: a race between
 * invocations, or a sum whose order varies, shows sooner or later. What a kernel updates in place is set back each time.
 */
export async function repeatKernel(device: Device, bench: KernelBench, options: RepeatOptions): Promise<Determinism> {
  const { repeats } = options;
  const random = new Random(options.seed);
  using executor = new Executor(device, { poison: true });
  for (const check of [bench.verify, ...(bench.verifyAlso ?? [])]) {
    const different = await firstDifference(executor, check, random, options);
    if (different !== undefined) return { repeats, equal: false, ...different };
  }
  return { repeats, equal: true };
}

async function firstDifference(
  executor: Executor,
  check: KernelCheck,
  random: Random,
  options: RepeatOptions,
): Promise<{ readonly repeat: number; readonly value: number } | undefined> {
  const { device } = executor;
  const hosts = new Map(Object.entries(check.inputs).map(([name, spec]) => [name, hostInput(random, spec).host]));
  const recording = new Recording(device.capabilities, options.force === undefined ? {} : { force: options.force });
  const refs = Object.fromEntries(
    [...hosts].map(([name, { dtype, shape, rowStride }]) => [name, recording.external(name, dtype, shape, rowStride)]),
  );
  const { storage } = recordResult(recording, check, refs);
  const tensors = new Map([...hosts].map(([name, host]) => [name, device.upload(name, host)]));
  const plan = await executor.compile(recording);
  try {
    const bound = plan.bind(tensors);
    const result = storage.role === 'external' ? tensors.get(storage.name) : plan.output('result');
    if (result === undefined) throw new Error('The kernel has no result.');
    const updated = [...tensors].filter(([name]) => isWritten(recording, name));
    const compared = [...new Set([result, ...updated.map(([, tensor]) => tensor)])];
    let first: readonly Uint32Array[] | undefined;
    for (let repeat = 0; repeat < options.repeats; repeat++) {
      for (const [name, tensor] of updated) device.write(tensor, hosts.get(name)?.data ?? new Float32Array());
      bound.submit();
      const all = await Promise.all(
        compared.map(async ({ buffer }) => new Uint32Array(await device.readBuffer(buffer))),
      );
      first ??= all;
      for (const [at, words] of all.entries()) {
        const value = words.findIndex((word, i) => word !== first?.[at]?.[i]);
        if (value >= 0) return { repeat, value };
      }
    }
    return undefined;
  } finally {
    plan.dispose();
    for (const tensor of tensors.values()) tensor.dispose();
  }
}

/** Records a check; a result that is no input is kept under the name `result`. */
function recordResult(recording: Recording, check: KernelCheck, refs: Readonly<Record<string, TensorRef>>): TensorRef {
  const result = check.record(recording, refs);
  if (result.storage.role !== 'external') recording.keep('result', result);
  return result;
}

/** Whether a dispatch writes to the input of that name. */
const isWritten = (recording: Recording, name: string): boolean =>
  recording.dispatches.some(({ shader, bindings }) =>
    bindings.some(({ storage }, at) => storage.name === name && shader.bindings[at]?.access === 'read_write'),
  );
