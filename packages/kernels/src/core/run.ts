import type { Device } from './device.ts';
import { Executor } from './executor.ts';
import type { TensorRef } from './recording.ts';
import { Recording } from './recording.ts';
import type { ForcedChoices } from './shader.ts';
import { maximumSize } from './size.ts';
import type { HostTensor, Tensor } from './tensor.ts';

/** What a kernel takes: named tensors, the optional ones undefined. */
export type KernelInputs = Readonly<Record<string, TensorRef | undefined>>;

/** A kernel: it checks its inputs, appends dispatches to a recording, and returns the tensors that they write. */
export type Kernel<I, O, R> = (recording: Recording, inputs: I, options: O) => R;

/** The same shape of inputs or results with host values in place of recorded tensors. */
export type HostValues<T> = T extends TensorRef
  ? HostTensor
  : { [K in keyof T]: T[K] extends TensorRef | undefined ? HostTensor | Extract<T[K], undefined> : T[K] };

export interface RunOptions {
  readonly force?: ForcedChoices;
  /** Fill scratch and outputs with NaN bits first. */
  readonly poison?: boolean;
  /** Reuse the compiled pipelines of an executor. */
  readonly executor?: Executor;
}

/**
 * Runs one kernel once: uploads host values, records, compiles, dispatches and reads the results back.
 * For one answer or a test; programs that run more than once keep a `Recording` and an `Executor`.
 *
 * A tensor that the kernel updates in place (a state) comes back with its new values.
 */
export async function run<I, O, R>(
  device: Device,
  kernel: Kernel<I, O, R>,
  inputs: HostValues<I>,
  options: O,
  settings: RunOptions = {},
): Promise<HostValues<R>> {
  const recording = new Recording(device.capabilities, settings.force === undefined ? {} : { force: settings.force });
  const refs: Record<string, TensorRef> = {};
  const hosts: Record<string, HostTensor> = {};
  for (const [name, host] of Object.entries(inputs as Record<string, HostTensor | undefined>)) {
    if (host === undefined) continue;
    refs[name] = recording.external(name, host.dtype, host.shape, host.rowStride);
    hosts[name] = host;
  }
  const result = kernel(recording, refs as I, options);
  const named: [string, TensorRef][] = isTensorRef(result)
    ? [['result', result]]
    : Object.entries(result as Record<string, TensorRef | undefined>).filter(
        (entry): entry is [string, TensorRef] => entry[1] !== undefined,
      );
  for (const [name, ref] of named) if (ref.storage.role !== 'external') recording.keep(name, ref);

  const executor = settings.executor ?? new Executor(device, { poison: settings.poison ?? false });
  const tensors: Tensor[] = [];
  try {
    const plan = await executor.compile(recording);
    try {
      const uploaded = await device.guard('Uploading inputs', () =>
        Object.fromEntries(
          Object.entries(hosts).map(([name, host]) => {
            const tensor = device.upload(name, host);
            tensors.push(tensor);
            return [name, tensor] as const;
          }),
        ),
      );
      await device.guard('Running a kernel', () => plan.bind(uploaded).submit());
      const read: Record<string, HostTensor> = {};
      for (const [name, ref] of named) {
        const tensor = ref.storage.role === 'external' ? uploaded[ref.storage.name] : plan.output(name);
        if (tensor !== undefined) read[name] = compact(await device.read(tensor), ref);
      }
      return (isTensorRef(result) ? read['result'] : read) as HostValues<R>;
    } finally {
      plan.dispose();
    }
  } finally {
    for (const tensor of tensors) tensor.dispose();
    if (settings.executor === undefined) executor.dispose();
  }
}

function isTensorRef(value: unknown): value is TensorRef {
  return typeof value === 'object' && value !== null && 'storage' in value;
}

/** The values of a view without the gaps between its rows. Packed dtypes come back as they are stored. */
function compact(host: HostTensor, ref: TensorRef): HostTensor {
  const shape = ref.shape.map(maximumSize);
  if (ref.dtype !== 'f32' && ref.dtype !== 'u32' && ref.dtype !== 'i32') return { ...host, shape };
  const count = shape.reduce((product, size) => product * size, 1);
  const rows = count / ref.rowWidth;
  const data =
    host.data instanceof Float32Array
      ? new Float32Array(count)
      : host.data instanceof Int32Array
        ? new Int32Array(count)
        : new Uint32Array(count);
  for (let row = 0; row < rows; row++) {
    const from = maximumSize(ref.offset) + row * ref.rowStride;
    data.set(host.data.subarray(from, from + ref.rowWidth), row * ref.rowWidth);
  }
  return { data, shape, dtype: ref.dtype };
}
