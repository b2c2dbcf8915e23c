import { expect, test } from 'vitest';
import { create } from 'webgpu';

test('Node has a WebGPU adapter and device', async () => {
  const adapter = await create([]).requestAdapter();
  const device = await adapter?.requestDevice();
  expect(device?.limits.maxStorageBuffersPerShaderStage).toBeGreaterThanOrEqual(8);
  device?.destroy();
});
