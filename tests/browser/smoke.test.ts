import { expect, test } from 'vitest';

async function requestAdapter(): Promise<GPUAdapter> {
  const adapter = await navigator.gpu.requestAdapter();
  if (!adapter) throw new Error('navigator.gpu has no adapter: the browser runs without its software GPU');
  return adapter;
}

test('the browser computes on a WebGPU device', async () => {
  const device = await (await requestAdapter()).requestDevice();
  const module = device.createShaderModule({
    code: `
      @group(0) @binding(0) var<storage, read_write> values: array<u32>;
      @compute @workgroup_size(64) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
        values[id.x] = id.x * id.x;
      }`,
  });
  const pipeline = await device.createComputePipelineAsync({ layout: 'auto', compute: { module } });
  const size = 64 * Uint32Array.BYTES_PER_ELEMENT;
  const values = device.createBuffer({ size, usage: GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC });
  const readback = device.createBuffer({ size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });

  const encoder = device.createCommandEncoder();
  const pass = encoder.beginComputePass();
  pass.setPipeline(pipeline);
  pass.setBindGroup(
    0,
    device.createBindGroup({
      layout: pipeline.getBindGroupLayout(0),
      entries: [{ binding: 0, resource: { buffer: values } }],
    }),
  );
  pass.dispatchWorkgroups(1);
  pass.end();
  encoder.copyBufferToBuffer(values, 0, readback, 0, size);
  device.queue.submit([encoder.finish()]);
  await readback.mapAsync(GPUMapMode.READ);

  expect([...new Uint32Array(readback.getMappedRange())]).toEqual(Array.from({ length: 64 }, (_, i) => i * i));
  device.destroy();
});

test('the test server gives files of the repository, whole and in ranges', async () => {
  const whole = await (await fetch('/LICENSE')).text();
  expect(whole).toMatch(/^MIT License/);

  const part = await fetch('/LICENSE', { headers: { Range: 'bytes=4-10' } });
  expect(part.status).toBe(206);
  expect(await part.text()).toBe(whole.slice(4, 11));
});
