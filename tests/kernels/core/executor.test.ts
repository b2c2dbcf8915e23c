import type { Size, Tensor, TensorRef } from '@mambalab/kernels';
import {
  ArgumentError,
  Executor,
  multiplySize,
  namedSize,
  ceilDivSize,
  Recording,
  ShaderError,
  ShapeError,
} from '@mambalab/kernels';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { openTestDevice } from '../../support/gpu.ts';
import { affineShader } from '../../unit/core/probe_shaders.ts';

const device = await openTestDevice();
const COUNT = 100;
const BASELINE = { force: { simd: 'baseline' } } as const;

/** Appends y = factor * x + shift + bias. */
function affine(
  recording: Recording,
  x: TensorRef,
  { factor = 1, shift = 0, bias = 0, count = COUNT }: { factor?: number; shift?: Size; bias?: number; count?: Size },
): TensorRef {
  const y = recording.scratch('y', 'f32', [COUNT]);
  recording.dispatch(affineShader, {
    bindings: { x, y },
    params: { count, factor, shift },
    overrides: { BIAS: bias },
    workgroups: [ceilDivSize(count, 64)],
  });
  return y;
}

const upload = (value: number): Tensor =>
  device.upload('x', { data: new Float32Array(COUNT).fill(value), shape: [COUNT], dtype: 'f32' });

async function readOut(tensor: Tensor): Promise<number[]> {
  return Array.from((await device.read(tensor)).data.subarray(0, COUNT));
}

const all = (value: number): number[] => Array.from({ length: COUNT }, () => value);

/** Counts the calls that a replay must not make. */
function watch() {
  const { gpu } = device;
  return {
    writes: vi.spyOn(gpu.queue, 'writeBuffer'),
    groups: vi.spyOn(gpu, 'createBindGroup'),
    buffers: vi.spyOn(gpu, 'createBuffer'),
    pipelines: vi.spyOn(gpu, 'createComputePipelineAsync'),
  };
}

const callsOf = (watched: ReturnType<typeof watch>): number[] =>
  [watched.writes, watched.groups, watched.buffers, watched.pipelines].map((spy) => spy.mock.calls.length);

afterEach(() => {
  vi.restoreAllMocks();
});

describe('replay', () => {
  it('runs a recording many times and makes nothing new', async () => {
    using executor = new Executor(device, { poison: true });
    const recording = new Recording(device.capabilities, BASELINE);
    const x = recording.external('x', 'f32', [COUNT]);
    recording.keep('y', affine(recording, affine(recording, x, { factor: 2 }), { shift: 3, bias: 0.5 }));
    const plan = await executor.compile(recording);
    const tensor = upload(5);
    const bound = plan.bind({ x: tensor });
    const watched = watch();
    for (let i = 0; i < 20; i++) bound.submit();
    expect(callsOf(watched)).toEqual([0, 0, 0, 0]);
    vi.restoreAllMocks();
    expect(await readOut(plan.output('y'))).toEqual(all(13.5));
    device.gpu.queue.writeBuffer(tensor.buffer, 0, new Float32Array(COUNT).fill(-1));
    bound.submit();
    expect(await readOut(plan.output('y'))).toEqual(all(1.5));
    tensor.dispose();
  });

  it('writes the parameters once for each change of a named size', async () => {
    using executor = new Executor(device, { poison: true });
    const recording = new Recording(device.capabilities, BASELINE);
    const length = namedSize('length', COUNT);
    const x = recording.external('x', 'f32', [COUNT]);
    const first = affine(recording, x, { shift: length, count: length });
    recording.keep('first', first);
    recording.keep('y', affine(recording, first, { factor: 2, shift: multiplySize(length, 10), count: length }));
    const plan = await executor.compile(recording);
    const tensor = upload(1);
    const bound = plan.bind({ x: tensor });
    const watched = watch();
    bound.submit({ length: 70 });
    expect(callsOf(watched)).toEqual([1, 0, 0, 0]);
    for (let i = 0; i < 5; i++) bound.submit({ length: 70 });
    expect(callsOf(watched)).toEqual([1, 0, 0, 0]);
    bound.submit({ length: 3 });
    bound.submit({ length: 3 });
    expect(callsOf(watched)).toEqual([2, 0, 0, 0]);
    expect([...plan.grid]).toEqual([1, 1, 1, 1, 1, 1]);
    bound.submit({ length: 65 });
    expect([...plan.grid]).toEqual([2, 1, 1, 2, 1, 1]);
    vi.restoreAllMocks();
    const y = await readOut(plan.output('y'));
    // Rows below 3, below 65 and below 70 were written last by the run of that length or a longer one after it.
    expect(y[0]).toBe(2 * (1 + 65) + 650);
    expect(y[64]).toBe(2 * (1 + 65) + 650);
    expect(y[69]).toBe(2 * (1 + 70) + 700);
    expect(y[70]).toBeNaN();
    tensor.dispose();
  });

  it('a size that is refused leaves the next runs right', async () => {
    using executor = new Executor(device);
    const recording = new Recording(device.capabilities, BASELINE);
    const x = recording.external('x', 'f32', [COUNT]);
    const first = affine(recording, x, { count: namedSize('a', COUNT) });
    recording.keep('y', affine(recording, first, { count: namedSize('b', COUNT) }));
    const plan = await executor.compile(recording);
    const tensor = upload(1);
    const bound = plan.bind({ x: tensor });
    bound.submit({ a: 100, b: 100 });
    expect(() => bound.submit({ a: 1, b: 1000 })).toThrow(ArgumentError);
    expect(() => bound.submit({ a: 1 })).toThrow(/'b' must be an integer from 1 to 100/);
    bound.submit({ a: 100, b: 100 });
    expect([...plan.grid]).toEqual([2, 1, 1, 2, 1, 1]);
    tensor.dispose();
  });
});

describe('bind', () => {
  it('two bindings of a plan are independent', async () => {
    using executor = new Executor(device, { poison: true });
    const recording = new Recording(device.capabilities, BASELINE);
    const state = recording.external('state', 'f32', [COUNT]);
    // A state that is updated in place belongs to the binding, not to the plan.
    const next = affine(recording, state, { factor: 2 });
    recording.dispatch(affineShader, {
      bindings: { x: next, y: state },
      params: { count: COUNT, factor: 1, shift: 1 },
      workgroups: [2],
    });
    const plan = await executor.compile(recording);
    const tensors = [upload(1), upload(10)] as const;
    const [one, other] = [plan.bind({ state: tensors[0] }), plan.bind(new Map([['state', tensors[1]]]))];
    one.submit();
    other.submit();
    one.submit();
    expect(await readOut(tensors[0])).toEqual(all(7));
    expect(await readOut(tensors[1])).toEqual(all(21));
    for (const tensor of tensors) tensor.dispose();
  });

  it('refuses a tensor that is missing or another one', async () => {
    using executor = new Executor(device);
    const recording = new Recording(device.capabilities, BASELINE);
    recording.keep('y', affine(recording, recording.external('x', 'f32', [10, 10], 12), { factor: 2 }));
    const plan = await executor.compile(recording);
    const tensors = {
      right: device.createTensor('right', 'f32', [10, 10], 12),
      larger: device.createTensor('larger', 'f32', [20, 10], 12),
      dtype: device.createTensor('dtype', 'i32', [10, 10], 12),
      stride: device.createTensor('stride', 'f32', [12, 10], 10),
      small: device.createTensor('small', 'f32', [9, 10], 12),
    };
    expect(() => plan.bind({})).toThrow(ArgumentError);
    expect(() => plan.bind({ y: tensors.right })).toThrow(/No tensor is bound for 'x'/);
    for (const wrong of [tensors.dtype, tensors.stride, tensors.small]) {
      expect(() => plan.bind({ x: wrong })).toThrow(ShapeError);
    }
    plan.bind({ x: tensors.right });
    plan.bind({ x: tensors.larger });
    expect(() => plan.output('z')).toThrow(/It has: y/);
    for (const tensor of Object.values(tensors)) tensor.dispose();
    await device.guard('binding', () => undefined);
  });
});

describe('pipelines', () => {
  it('are shared by equal dispatches, also of other recordings and executors', async () => {
    using executor = new Executor(device);
    using other = new Executor(device);
    device.pipelines.clear();
    const recording = new Recording(device.capabilities, BASELINE);
    const x = recording.external('x', 'f32', [COUNT]);
    for (let i = 0; i < 4; i++) affine(recording, x, { factor: i });
    const watched = watch();
    await executor.compile(recording);
    await executor.compile(recording);
    await other.compile(recording);
    expect(device.pipelines.size).toBe(1);
    expect(watched.pipelines).toHaveBeenCalledTimes(1);
    affine(recording, x, { bias: 1 });
    await executor.compile(recording);
    expect(device.pipelines.size).toBe(2);
    recording.dispatch(affineShader, {
      bindings: { x, y: recording.scratch('y', 'f32', [COUNT]) },
      params: { count: COUNT, factor: 1, shift: 0 },
      overrides: { BIAS: 1 },
      constants: { TILE: 32 },
      workgroups: [4],
    });
    await executor.compile(recording);
    expect(device.pipelines.size).toBe(3);
  });

  it('that do not compile are a ShaderError with the place, and nothing stays behind', async () => {
    using executor = new Executor(device);
    const broken = {
      ...affineShader,
      name: 'probe/broken',
      variants: affineShader.variants.map((variant) => ({
        ...variant,
        code: variant.code.replace('x[id.x]', 'z[id.x]'),
      })),
    };
    const recording = new Recording(device.capabilities, BASELINE);
    const x = recording.external('x', 'f32', [COUNT]);
    const record = (shader: typeof affineShader): void =>
      recording.dispatch(shader, {
        bindings: { x, y: recording.scratch('y', 'f32', [COUNT]) },
        params: { count: COUNT, factor: 1, shift: 0 },
        workgroups: [2],
      });
    record(broken);
    const before = device.pipelines.size;
    const failure = await executor.compile(recording).catch((error: unknown) => error);
    expect(failure).toBeInstanceOf(ShaderError);
    expect(String(failure)).toMatch(/probe\/broken .*"baseline".*\d+:\d+ .*unresolved value 'z'/s);
    expect(device.pipelines.size).toBe(before);
    await device.idle();
    device.check();
  });

  it('whose pipeline fails are a ShaderError, too', async () => {
    using executor = new Executor(device);
    const recording = new Recording(device.capabilities, BASELINE);
    recording.dispatch(affineShader, {
      bindings: { x: recording.external('x', 'f32', [COUNT]), y: recording.scratch('y', 'f32', [COUNT]) },
      params: { count: COUNT, factor: 1, shift: 0 },
      constants: { TILE: 1_000_000 },
      workgroups: [2],
    });
    await expect(executor.compile(recording)).rejects.toThrow(ShaderError);
    await device.idle();
    device.check();
  });
});

it('scratch is shared by plans, outputs are not, and everything is freed', async () => {
  const before = device.allocatedBytes;
  const executor = new Executor(device);
  const chain = (): Recording => {
    const recording = new Recording(device.capabilities, BASELINE);
    let x = recording.external('x', 'f32', [COUNT]);
    for (let i = 0; i < 6; i++) x = affine(recording, x, { factor: 2 });
    recording.keep('y', x);
    return recording;
  };
  const plans = [await executor.compile(chain()), await executor.compile(chain())] as const;
  expect(executor.scratchBytes).toBe(2 * 400);
  expect(plans[0].output('y').buffer).not.toBe(plans[1].output('y').buffer);
  const tensors = [upload(1), upload(3)] as const;
  plans[0].bind({ x: tensors[0] }).submit();
  plans[1].bind({ x: tensors[1] }).submit();
  expect(await readOut(plans[0].output('y'))).toEqual(all(64));
  expect(await readOut(plans[1].output('y'))).toEqual(all(192));
  plans[0].dispose();
  for (const tensor of tensors) tensor.dispose();
  executor.dispose();
  expect(device.allocatedBytes).toBe(before);
});
