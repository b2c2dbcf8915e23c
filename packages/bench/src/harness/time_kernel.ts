import type { BoundPlan, Device, ForcedChoices, StorageRef, Tensor, TensorRef } from '@mambalab/kernels';
import { Executor, maximumSize, OutOfMemoryError, planScratch, Recording, storageBytes } from '@mambalab/kernels';
import type { Ceilings, DispatchedShader, MeasuredCase } from '../results.ts';
import { arena, arenaStep, inputBytes, inputRowStride, RandomBlocks } from './inputs.ts';
import type { Heater } from './heater.ts';
import type { KernelCase } from './kernel_bench.ts';
import { Random } from './random.ts';
import { rotationCount } from './rotation.ts';
import { summarize } from './statistics.ts';
import type { TimingOptions } from './timing.ts';
import { sampleRepetitions } from './timing.ts';

export interface TimeOptions {
  readonly timing: TimingOptions;
  /** Bytes that all tensors of a case may take together. */
  readonly memory: number;
  readonly seed: number;
  readonly force?: ForcedChoices;
  /** Keeps the clocks of the GPU up between cases and samples. */
  readonly heater?: Heater | undefined;
  /** Copies of the tensors; as many as exceed every cache when absent. */
  readonly copies?: number;
}

/** A case's time, before it is set against the ceilings. */
export type CaseTime = Omit<
  MeasuredCase,
  'status' | 'gigabytesPerSecond' | 'teraflops' | 'bandwidthPercent' | 'fmaPercent'
> & {
  /** Bytes of the tensors that the case writes, as a part of all that it must touch. */
  readonly writtenFraction: number;
};

/**
 * Times one case: records it once, binds it to as many copies of its tensors as exceed every cache, and repeats it over
 * them in turn. Each repetition waits for the one before, as in a model.
 *
 * @throws OutOfMemoryError if the case needs more memory than it may take
 */
export async function timeKernel(device: Device, kernelCase: KernelCase, options: TimeOptions): Promise<CaseTime> {
  const recording = new Recording(device.capabilities, options.force === undefined ? {} : { force: options.force });
  const refs: Record<string, TensorRef> = {};
  for (const [name, spec] of Object.entries(kernelCase.inputs)) {
    refs[name] = recording.external(name, spec.dtype, spec.shape, inputRowStride(spec));
  }
  exposeResults(recording, kernelCase.record(recording, refs));

  const layouts = [...recording.externals].map(([name, ref]) => {
    const spec = kernelCase.inputs[name];
    const byteLength = spec === undefined ? storageSize(ref.storage) : inputBytes(spec);
    const shape = ref.shape.map(maximumSize);
    return { name, spec, layout: { dtype: ref.dtype, shape, rowStride: ref.rowStride, byteLength } };
  });
  const bytes = layouts.reduce((sum, { layout }) => sum + arenaStep(layout.byteLength), 0);
  const scratch = planScratch(recording).slots.reduce((sum, size) => sum + size, 0);
  if (bytes + scratch > options.memory) {
    throw new OutOfMemoryError(
      `The case needs ${bytes + scratch} bytes; it may take ${options.memory}.`,
      'Allow it more memory, or use a device that has it.',
    );
  }
  const { limits, software } = device.capabilities;
  const rotation = {
    bytes,
    largest: Math.max(...layouts.map(({ layout }) => arenaStep(layout.byteLength))),
    memory: options.memory - scratch,
    maxBuffer: Math.min(limits.maxBufferSize, limits.maxStorageBufferBindingSize),
    software,
  };
  const copies = options.copies ?? rotationCount(rotation);

  const blocks = new RandomBlocks(device, new Random(options.seed));
  const executor = new Executor(device);
  const made: Tensor[] = [];
  try {
    const plan = await executor.compile(recording);
    const bound = await device.guard('Preparing a case', () => {
      const arenas = layouts.map(({ name, spec, layout }) => {
        const { buffer, tensors } = arena(device, name, layout, copies);
        made.push(...tensors.slice(0, 1));
        if (spec !== undefined) blocks.fill(buffer, spec);
        return { name, tensors };
      });
      return Array.from({ length: copies }, (_, copy): BoundPlan => {
        const named = arenas.map(({ name, tensors }) => [name, tensors[copy]] as const);
        return plan.bind(new Map(named.flatMap(([name, tensor]) => (tensor === undefined ? [] : [[name, tensor]]))));
      });
    });
    const encode = (pass: GPUComputePassEncoder, index: number): void => bound[index % copies]?.encode(pass);
    const { heater, timing } = options;
    const heat = heater === undefined ? undefined : (pass: GPUComputePassEncoder): void => heater.encode(pass);
    const samples = await device.guard('Timing a case', async () => {
      await heater?.burst();
      return await sampleRepetitions(device, encode, recording.dispatches.length, timing, heat);
    });
    return {
      label: kernelCase.label,
      microseconds: summarize(samples.microseconds),
      method: samples.method,
      repetitions: samples.repetitions,
      copies,
      dispatches: dispatchedShaders(recording),
      flops: kernelCase.flops,
      bytes: kernelCase.bytes,
      writtenFraction: Math.min(1, writtenBytes(recording) / kernelCase.bytes),
    };
  } finally {
    executor.dispose();
    for (const tensor of made) tensor.dispose();
    blocks.dispose();
  }
}

/** Sets a time against what the device can do at best. */
export function rateCase({ writtenFraction, ...time }: CaseTime, ceilings: Ceilings): MeasuredCase {
  const { median } = time.microseconds;
  const gigabytesPerSecond = median > 0 ? time.bytes / median / 1e3 : 0;
  const teraflops = median > 0 ? time.flops / median / 1e6 : 0;
  return {
    status: 'measured',
    ...time,
    gigabytesPerSecond,
    teraflops,
    bandwidthPercent: (100 * gigabytesPerSecond) / bandwidthCeiling(ceilings, writtenFraction),
    fmaPercent: (100 * teraflops) / ceilings.fmaTeraflops,
  };
}

/** GB/s that a device reaches when this fraction of all bytes is written: the time of a byte lies between read and copy. */
export function bandwidthCeiling(ceilings: Ceilings, writtenFraction: number): number {
  const copied = Math.min(1, 2 * writtenFraction);
  return 1 / ((1 - copied) / ceilings.readGigabytesPerSecond + copied / ceilings.copyGigabytesPerSecond);
}

function storageSize({ dtype, rows, rowStride }: StorageRef): number {
  return Math.max(16, Math.ceil(storageBytes(dtype, maximumSize(rows), rowStride) / 16) * 16);
}

/**
 * Makes the results of a kernel tensors that are bound from outside, so that each copy of the inputs has results of its
 * own and writes, too, go to memory instead of the cache.
 */
function exposeResults(recording: Recording, result: unknown): void {
  for (const { storage } of tensorRefs(result)) {
    if (storage.role !== 'scratch') continue;
    // The storage object is shared by every view, so its role changes for all of them.
    (storage as { role: StorageRef['role'] }).role = 'external';
    recording.externals.set(`result/${storage.id}`, {
      storage,
      dtype: storage.dtype,
      shape: [storage.rows, storage.rowStride],
      offset: 0,
      rowWidth: storage.rowStride,
      rowStride: storage.rowStride,
    });
  }
}

function tensorRefs(result: unknown): TensorRef[] {
  if (typeof result !== 'object' || result === null) return [];
  return 'storage' in result ? [result as TensorRef] : Object.values(result).flatMap(tensorRefs);
}

function writtenBytes(recording: Recording): number {
  const written = new Set<StorageRef>();
  for (const { shader, bindings } of recording.dispatches) {
    for (const [at, { storage }] of bindings.entries()) {
      if (shader.bindings[at]?.access === 'read_write' && storage.role === 'external') written.add(storage);
    }
  }
  return [...written].reduce((sum, storage) => sum + storageSize(storage), 0);
}

function dispatchedShaders(recording: Recording): DispatchedShader[] {
  return recording.dispatches.map(({ shader, variant }) => ({
    shader: shader.name,
    choices: shader.variants[variant]?.choices ?? {},
  }));
}
