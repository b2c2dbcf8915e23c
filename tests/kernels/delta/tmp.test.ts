import { gatedDeltaRule, gatedDeltaStep, ssdChunkScan, Recording, type TensorRef } from '@mambalab/kernels';
import { specialize } from '../../../packages/kernels/src/core/shader.ts';
import { it } from 'vitest';
import { openTestDevice } from '../../support/gpu.ts';
const device = await openTestDevice();
it('times', { timeout: 300000 }, async () => {
  const r = new Recording(device.capabilities);
  const f = (n: string, ...s: number[]): TensorRef => r.external(n, 'f32', s);
  gatedDeltaRule(r, { q: f('q', 1, 70, 1, 16), k: f('k', 1, 70, 1, 16), v: f('v', 1, 70, 2, 8), g: f('g', 1, 70, 2), beta: f('beta', 1, 70, 2) });
  const qk = f('qk', 1, 2, 16);
  gatedDeltaStep(r, { q: {...qk, shape:[1,1,16], rowWidth:16}, k: {...qk, shape:[1,1,16],rowWidth:16}, v: f('v1', 1, 2, 8), g: f('g1', 1, 2), beta: f('beta1', 1, 2), state: f('s', 1, 2, 16, 8) });
  ssdChunkScan(r, { x: f('x', 1, 70, 1, 16), dt: f('dt', 1, 70, 1), A: f('A', 1), B: f('B', 1, 70, 1, 16), C: f('C', 1, 70, 1, 16) });
  for (const d of r.dispatches) {
    const code = specialize(d.shader, d.variant, d.constants);
    const t = performance.now();
    const c0 = process.cpuUsage();
    await device.gpu.createComputePipelineAsync({ layout: 'auto', compute: { module: device.gpu.createShaderModule({ code }), entryPoint: 'main', constants: d.overrides } });
    const c1 = process.cpuUsage(c0);
    console.log(d.shader.name, (performance.now() - t).toFixed(0), 'ms', (c1.user / 1000).toFixed(0), 'cpu');
  }
});
