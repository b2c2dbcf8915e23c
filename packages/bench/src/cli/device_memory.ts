import { execFileSync } from 'node:child_process';
import { freemem } from 'node:os';
import type { Capabilities } from '@mambalab/kernels';
import { formatBytes } from '../format.ts';

/** Bytes that a run may take on the device, and how they are known. */
export interface DeviceMemory {
  readonly bytes: number;
  readonly source: string;
}

/** What drivers and other programs need. */
const RESERVE = 0.94;
const UNKNOWN = 8 * 2 ** 30;

/** WebGPU does not tell how much memory a device has: what its driver says, or what the user said. */
export function deviceMemory({ vendor, software }: Capabilities, asked: number | undefined): DeviceMemory {
  if (asked !== undefined) return { bytes: asked, source: 'as asked for' };
  if (software) return { bytes: freemem() / 4, source: 'a quarter of the free memory, as the adapter is software' };
  const free = vendor === 'nvidia' ? nvidiaFreeBytes() : undefined;
  if (free !== undefined) return { bytes: RESERVE * free, source: `of ${formatBytes(free)} free by nvidia-smi` };
  return { bytes: UNKNOWN, source: 'assumed, as nothing tells it; say it with --memory' };
}

/** Free memory of the first GPU, if the driver's tool is there. */
function nvidiaFreeBytes(): number | undefined {
  try {
    const text = execFileSync('nvidia-smi', ['--query-gpu=memory.free', '--format=csv,noheader,nounits'], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: 5000,
    });
    const mebibytes = Number(text.split('\n')[0]);
    return mebibytes > 0 ? mebibytes * 2 ** 20 : undefined;
  } catch {
    return undefined;
  }
}
