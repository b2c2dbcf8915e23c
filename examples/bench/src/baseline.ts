import { formatNumber, timeKernel, timeOptions, verifyKernel } from '@mambalab/bench';
import type { Device } from '@mambalab/kernels';
import type { GpuJs } from './gpu_js.ts';
import type { Operation } from './operations.ts';
import { operations } from './operations.ts';
import { Rows } from './page.ts';

const rows = new Rows('baseline');

/** How a comparison is asked for. */
export interface BaselineRequest {
  readonly quick: boolean;
  readonly signal: AbortSignal;
  readonly onStatus: (text: string) => void;
}

/** Checks and times each operation in both libraries, and fills the table as they end. */
export async function compareWithGpuJs(device: Device, request: BaselineRequest): Promise<void> {
  const { quick, signal, onStatus } = request;
  rows.clear();
  onStatus('Loading gpu.js …');
  // Large, and of no use to the kernels: fetched on demand.
  const { GpuJs, webgl2Supported } = await import('./gpu_js.ts');
  if (!webgl2Supported()) {
    onStatus('WebGL2 is missing here, or its textures of floats: there is nothing to compare with.');
    return;
  }
  const gpuJs = new GpuJs();
  try {
    for (const operation of operations(quick)) {
      if (signal.aborted) break;
      onStatus(`Checking and timing: ${operation.name} …`);
      await compare(device, gpuJs, operation, quick);
    }
  } finally {
    await gpuJs.dispose();
  }
  onStatus(signal.aborted ? 'Stopped.' : 'All operations are compared.');
}

async function compare(device: Device, gpuJs: GpuJs, operation: Operation, quick: boolean): Promise<void> {
  const options = timeOptions(device.capabilities, { quick });
  const { seed } = options;
  const theirs = await outcome(async () => {
    const { verification, microseconds } = await gpuJs.run(operation, { quick, seed });
    return microseconds?.median ?? (verification.passed ? 'not timed' : `wrong: ${verification.reason}`);
  });
  const ours = await outcome(async () => {
    const bench = { name: operation.name, verify: operation.check, cases: [] };
    const verification = await verifyKernel(device, bench, { seed });
    if (!verification.passed) return `wrong: ${verification.reason}`;
    // One set of tensors, warm in the caches, as gpu.js has it.
    return (await timeKernel(device, operation.timed, { ...options, copies: 1 })).microseconds.median;
  });
  const cell = (time: Outcome): { text: string; tone?: 'warning' } =>
    typeof time === 'number' ? { text: formatNumber(time) } : { text: time, tone: 'warning' };
  const ratio = typeof theirs === 'number' && typeof ours === 'number' ? `${formatNumber(theirs / ours)} ×` : '–';
  rows.add([{ text: operation.name }, { text: operation.shape }, cell(theirs), cell(ours), { text: ratio }]);
}

/** Microseconds, or what went wrong. */
type Outcome = number | string;

async function outcome(body: () => Promise<Outcome>): Promise<Outcome> {
  try {
    return await body();
  } catch (error) {
    return `failed: ${error instanceof Error ? error.message : String(error)}`;
  }
}
