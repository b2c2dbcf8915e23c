import type { Device } from './device.ts';
import { BUFFER_USAGE } from './device.ts';
import { WebGPUUnavailableError } from './errors.ts';
import type { BoundPlan } from './plan.ts';
import type { SizeValues } from './size.ts';

/** GPU time of one dispatch of a plan. */
export interface DispatchTime {
  /** Label of the dispatch: the scopes that it was recorded in, and its shader. */
  readonly label: string;
  readonly shader: string;
  readonly microseconds: number;
}

/** When a compute pass began and ended, in nanoseconds of the GPU's clock. */
export interface PassTime {
  readonly begin: bigint;
  readonly end: bigint;
}

/** WebGPU's limit of queries in one set, two a pass. */
const PASSES_PER_SET = 2048;

/**
 * Runs each body in a compute pass of its own, all in one submit (one for every 2,048), and reads when each began and
 * ended. Where timestamps are quantized, as browsers do (Dawn: to 65.536 us), a pass should last many quanta.
 *
 * A pass may be reported to begin before the one before it ended: count it from that end ({@link passMicroseconds}).
 *
 * @throws WebGPUUnavailableError if the device has no `timestamp-query`.
 */
export async function timePasses(
  device: Device,
  bodies: readonly ((pass: GPUComputePassEncoder) => void)[],
): Promise<PassTime[]> {
  device.check();
  if (!device.capabilities.features.has('timestamp-query')) {
    throw new WebGPUUnavailableError(
      'This device has no timestamps: the feature timestamp-query is missing.',
      'Measure by wall clock around many runs instead.',
    );
  }
  const times: PassTime[] = [];
  for (let from = 0; from < bodies.length; from += PASSES_PER_SET) {
    times.push(...(await timeSet(device, bodies.slice(from, from + PASSES_PER_SET))));
  }
  return times;
}

async function timeSet(
  device: Device,
  bodies: readonly ((pass: GPUComputePassEncoder) => void)[],
): Promise<PassTime[]> {
  const { gpu } = device;
  const count = bodies.length * 2;
  const querySet = gpu.createQuerySet({ label: 'profile', type: 'timestamp', count });
  const usage = BUFFER_USAGE.QUERY_RESOLVE | BUFFER_USAGE.COPY_SRC;
  const resolved = device.createBuffer('profile/timestamps', count * 8, usage);
  try {
    const encoder = gpu.createCommandEncoder({ label: 'profile' });
    for (const [index, body] of bodies.entries()) {
      const timestampWrites = { querySet, beginningOfPassWriteIndex: index * 2, endOfPassWriteIndex: index * 2 + 1 };
      const pass = encoder.beginComputePass({ timestampWrites });
      body(pass);
      pass.end();
    }
    encoder.resolveQuerySet(querySet, 0, count, resolved, 0);
    gpu.queue.submit([encoder.finish()]);
    const stamps = new BigUint64Array(await device.readBuffer(resolved));
    return bodies.map((_, index) => ({ begin: stamps[index * 2] ?? 0n, end: stamps[index * 2 + 1] ?? 0n }));
  } finally {
    device.destroyBuffer(resolved);
    querySet.destroy();
  }
}

/** Microseconds of each pass, counted from the end of the one before where that is later than its own beginning. */
export function passMicroseconds(times: readonly PassTime[]): number[] {
  let previousEnd = 0n;
  return times.map(({ begin, end }) => {
    const start = begin > previousEnd ? begin : previousEnd;
    previousEnd = end;
    return Math.max(0, Number(end - start) / 1000);
  });
}

/**
 * Runs a plan once, each dispatch in a pass of its own, and says how long the GPU took for each. States that the plan
 * updates advance as in any run. The passes keep dispatches from overlapping, so the sum exceeds the time of a run.
 *
 * @param sizes values of the named sizes of the recording
 * @throws WebGPUUnavailableError if the device has no `timestamp-query`.
 */
export async function profilePlan(bound: BoundPlan, sizes: SizeValues = {}): Promise<DispatchTime[]> {
  const { plan } = bound;
  plan.setSizes(sizes);
  const { dispatches } = plan.recording;
  const bodies = dispatches.map((_, index) => (pass: GPUComputePassEncoder) => bound.encodeOne(pass, index));
  const microseconds = passMicroseconds(await timePasses(plan.owner.device, bodies));
  return dispatches.map(({ label, shader }, index) => ({
    label,
    shader: shader.name,
    microseconds: microseconds[index] ?? 0,
  }));
}
