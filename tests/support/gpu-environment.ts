// Global set-up of the gpu-node tests: runs before vitest forks its workers, which inherit this environment.
// Without an adapter it throws, and the whole run fails: GPU tests are never skipped.
import { gpuEnvironment } from '../../scripts/software-gpu.mjs';

export async function setup(): Promise<void> {
  const { kind, adapter, env } = await gpuEnvironment();
  Object.assign(process.env, env);
  console.log(`WebGPU in Node: ${adapter.description || adapter.vendor} (${kind})`);
}
