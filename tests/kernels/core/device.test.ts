import {
  BASELINE_CAPABILITIES,
  Device,
  DeviceLostError,
  Executor,
  OutOfMemoryError,
  Recording,
  requestDevice,
  rmsNorm,
  run,
  ShaderError,
  ShapeError,
  WebGPUUnavailableError,
  wrapDevice,
} from '@mambalab/kernels';
import { requestDevice as requestNodeDevice } from '@mambalab/kernels/node';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { openTestDevice } from '../../support/gpu.ts';

const device = await openTestDevice();
const x = { data: Float32Array.of(3, 4), shape: [1, 2], dtype: 'f32' } as const;

afterEach(() => {
  vi.unstubAllGlobals();
});

describe('requestDevice', () => {
  it('says what is missing', async () => {
    const none = { requestAdapter: () => Promise.resolve(null) } as unknown as GPU;
    const failure = await requestDevice({ gpu: none }).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(WebGPUUnavailableError);
    expect(failure).toMatchObject({ code: 'webgpu-unavailable', hint: expect.stringMatching(/driver/) });
    for (const navigator of [undefined, {}]) {
      vi.stubGlobal('navigator', navigator);
      const missing = await requestDevice().catch((error: unknown) => error);
      expect(missing).toBeInstanceOf(WebGPUUnavailableError);
      expect(missing).toMatchObject({ hint: expect.stringMatching(/@mambalab\/kernels\/node/) });
    }
  });

  it('leaves out features that are not wanted', async () => {
    const { features } = device.capabilities;
    const lesser = await requestNodeDevice({ withoutFeatures: [...features] });
    expect(features.size).toBeGreaterThan(lesser.capabilities.features.size);
    for (const feature of ['subgroups', 'shader-f16']) expect(lesser.capabilities.features.has(feature)).toBe(false);
    expect(lesser.capabilities.subgroupSize).toBeUndefined();
    const y = await run(lesser, rmsNorm, { x }, { eps: 0 }, { poison: true });
    expect(y.data[0]).toBeCloseTo(3 / Math.sqrt(12.5), 5);
    lesser.dispose();
  });

  it('asks for all that the adapter offers', () => {
    const { limits, software, description } = device.capabilities;
    expect(limits.maxStorageBuffersPerShaderStage).toBeGreaterThanOrEqual(
      BASELINE_CAPABILITIES.limits.maxStorageBuffersPerShaderStage,
    );
    expect(software).toBe(/swiftshader|llvmpipe|lavapipe/i.test(description));
  });
});

describe('a wrapped device', () => {
  it('works, and lives on when it is disposed of', async () => {
    const wrapped = wrapDevice(device.gpu);
    const y = await run(wrapped, rmsNorm, { x }, { eps: 0 }, { poison: true });
    expect(y.data[1]).toBeCloseTo(4 / Math.sqrt(12.5), 5);
    wrapped.createTensor('t', 'f32', [4]);
    expect(wrapped.allocatedBytes).toBe(16);
    wrapped.dispose();
    expect(wrapped.allocatedBytes).toBe(0);
    expect(() => wrapped.createTensor('t', 'f32', [4])).toThrow(DeviceLostError);
    await expect(wrapped.lost).resolves.toMatchObject({ reason: 'destroyed' });
    const again = await run(device, rmsNorm, { x }, { eps: 0 });
    expect([...again.data]).toEqual([...y.data]);
  });
});

describe('errors', () => {
  it('a disposed device refuses everything', async () => {
    const other = await requestNodeDevice();
    const tensor = other.upload('x', x);
    const executor = new Executor(other);
    const recording = new Recording(other.capabilities);
    recording.keep('y', rmsNorm(recording, { x: recording.external('x', 'f32', [1, 2]) }));
    const plan = await executor.compile(recording);
    const bound = plan.bind({ x: tensor });
    const reading = other.read(tensor).catch((error: unknown) => error);
    other.dispose();
    expect(await reading).toBeInstanceOf(DeviceLostError);
    expect(() => other.check()).toThrow(DeviceLostError);
    expect(() => other.createTensor('t', 'f32', [4])).toThrow(DeviceLostError);
    expect(() => bound.submit()).toThrow(DeviceLostError);
    await expect(other.read(tensor)).rejects.toThrow(DeviceLostError);
    await expect(run(other, rmsNorm, { x }, {})).rejects.toThrow(DeviceLostError);
    await expect(other.lost).resolves.toMatchObject({ reason: 'destroyed' });
    executor.dispose();
    other.dispose();
  });

  it('a buffer beyond the limits is an OutOfMemoryError', async () => {
    const { maxBufferSize, maxStorageBufferBindingSize } = device.capabilities.limits;
    const before = device.allocatedBytes;
    expect(() => device.createBuffer('huge', maxBufferSize + 4)).toThrow(OutOfMemoryError);
    const floats = Math.ceil(Math.min(maxBufferSize, maxStorageBufferBindingSize) / 4) + 4;
    expect(() => device.createTensor('huge', 'f32', [floats])).toThrow(/'huge' needs a buffer of \d+ bytes/);
    using executor = new Executor(device);
    const recording = new Recording(device.capabilities);
    recording.output('huge', 'f32', [floats]);
    await expect(executor.compile(recording)).rejects.toThrow(OutOfMemoryError);
    executor.dispose();
    expect(device.allocatedBytes).toBe(before);
  });

  it('a tensor needs a shape, and data that fit in it', () => {
    expect(() => device.createTensor('t', 'f32', [0])).toThrow(ShapeError);
    expect(() => device.createTensor('t', 'f32', [2, 8], 4)).toThrow(ShapeError);
    const data = new Float32Array(9);
    expect(() => device.upload('t', { data, shape: [2, 4], dtype: 'f32' })).toThrow(ShapeError);
  });

  it('what nobody waits for shows at the next check, once', async () => {
    const wrapped = new Device(device.gpu, device.gpu.adapterInfo);
    wrapped.gpu.createBuffer({ size: 16, usage: 0 });
    await expect(wrapped.idle()).rejects.toThrow(ShaderError);
    wrapped.check();
    // The other wrapper of the GPU device hears of it, too.
    expect(() => device.check()).toThrow(ShaderError);
    device.check();
  });

  it('guard turns GPU errors into typed ones', async () => {
    const failing = device.guard('Making a buffer', () => device.gpu.createBuffer({ size: 16, usage: 0 }));
    await expect(failing).rejects.toThrow(ShaderError);
    await expect(device.guard('Nothing', () => 7)).resolves.toBe(7);
    const thrown = device.guard('Throwing', () => {
      throw new RangeError('inside');
    });
    await expect(thrown).rejects.toThrow(RangeError);
  });

  it('blames an error on the call that made it, also among others at the same time', async () => {
    const failing = device.guard('Making a buffer', () => device.gpu.createBuffer({ size: 16, usage: 0 }));
    const fine = device.guard('Nothing', () => 7);
    await expect(failing).rejects.toThrow(/^Making a buffer/);
    await expect(fine).resolves.toBe(7);
  });
});

describe('values', () => {
  it.each([
    ['f32', Float32Array.of(1.5, -2, 0, 4, 5)],
    ['i32', Int32Array.of(1, -2, 3, 4, -5)],
    ['u32', Uint32Array.of(1, 2, 3, 4, 0xffffffff)],
  ] as const)('of %s come back as they went', async (dtype, data) => {
    using tensor = device.upload('t', { data, shape: [5], dtype });
    const back = await device.read(tensor);
    expect(back.data.subarray(0, 5)).toEqual(data);
    expect(back).toMatchObject({ shape: [5], dtype, rowStride: 5 });
    expect(tensor.byteLength).toBe(32);
  });
});
