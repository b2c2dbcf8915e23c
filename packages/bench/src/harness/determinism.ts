import type { BoundPlan, Device, ForcedChoices, HostTensor, Tensor, TensorRef } from '@mambalab/kernels';
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
    const pristine = updated.map(([name, tensor]) => ({ tensor, copy: device.upload(name, hostOf(hosts, name)) }));
    try {
      return await compareRuns(device, bound, { pristine, compared, repeats: options.repeats });
    } finally {
      for (const { copy } of pristine) copy.dispose();
    }
  } finally {
    plan.dispose();
    for (const tensor of tensors.values()) tensor.dispose();
  }
}

interface Runs {
  /** Tensors that a run updates, and what they hold before it. */
  readonly pristine: readonly { readonly tensor: Tensor; readonly copy: Tensor }[];
  readonly compared: readonly Tensor[];
  readonly repeats: number;
}

/** Results of so many bytes are read back together: waiting for each run would take most of the time. */
const BATCH_BYTES = 32 * 2 ** 20;

async function compareRuns(
  device: Device,
  bound: BoundPlan,
  { pristine, compared, repeats }: Runs,
): Promise<{ readonly repeat: number; readonly value: number } | undefined> {
  const bytes = compared.reduce((sum, { byteLength }) => sum + byteLength, 0);
  const batch = Math.max(1, Math.min(repeats, Math.floor(BATCH_BYTES / bytes)));
  const results = device.createBuffer('determinism/results', batch * bytes);
  let first: Uint32Array | undefined;
  try {
    for (let done = 0; done < repeats; done += batch) {
      const encoder = device.gpu.createCommandEncoder();
      for (let run = 0; run < batch; run++) {
        for (const { tensor, copy } of pristine) {
          encoder.copyBufferToBuffer(copy.buffer, copy.byteOffset, tensor.buffer, tensor.byteOffset, copy.byteLength);
        }
        const pass = encoder.beginComputePass();
        bound.encode(pass);
        pass.end();
        let at = run * bytes;
        for (const { buffer, byteOffset, byteLength } of compared) {
          encoder.copyBufferToBuffer(buffer, byteOffset, results, at, byteLength);
          at += byteLength;
        }
      }
      device.gpu.queue.submit([encoder.finish()]);
      const words = new Uint32Array(await device.readBuffer(results));
      first ??= words.slice(0, bytes / 4);
      for (let run = 0; run < batch; run++) {
        const base = (run * bytes) / 4;
        const value = first.findIndex((word, at) => word !== words[base + at]);
        if (value >= 0) return { repeat: done + run, value };
      }
    }
    return undefined;
  } finally {
    device.destroyBuffer(results);
  }
}

function hostOf(hosts: ReadonlyMap<string, HostTensor>, name: string): HostTensor {
  const host = hosts.get(name);
  if (host === undefined) throw new Error(`The check has no input '${name}'.`);
  return host;
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
