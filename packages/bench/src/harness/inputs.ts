import type { Device, HostTensor, Tensor } from '@mambalab/kernels';
import {
  fromBfloatBits,
  fromHalfBits,
  isQuantized,
  matrixRowStride,
  packMatrix,
  tensorBytes,
  toBfloatBits,
  toHalfBits,
  unpackMatrix,
} from '@mambalab/kernels';
import type { RandomInput } from './kernel_bench.ts';
import type { Random } from './random.ts';

/** An input on the host: as the GPU stores it, and as a reference reads it. */
export interface HostInput {
  readonly host: HostTensor;
  /** Without padding, as kernels read them. */
  readonly values: Float32Array | Uint32Array;
}

const product = (sizes: readonly number[]): number => sizes.reduce((all, size) => all * size, 1);

/** Distance between rows of an input in values; undefined where they follow each other. */
export function inputRowStride({ shape, dtype, matrix }: RandomInput): number | undefined {
  return matrix === true || isQuantized(dtype) ? matrixRowStride(dtype, shape[shape.length - 1] ?? 0) : undefined;
}

/** Bytes of an input as the GPU stores it. */
export function inputBytes(spec: RandomInput): number {
  const perWord = spec.dtype === 'f16' || spec.dtype === 'bf16' ? 2 : 1;
  const width = spec.shape[spec.shape.length - 1] ?? 0;
  return tensorBytes(spec.dtype, spec.shape, inputRowStride(spec) ?? Math.ceil(width / perWord) * perWord);
}

/** Random values of one input, for a case small enough that the host computes it too. */
export function hostInput(random: Random, spec: RandomInput): HostInput {
  const { shape, dtype, scale = 1, shift = 0, below = 2, words } = spec;
  const count = product(shape);
  if (dtype === 'u32') {
    const data =
      words === undefined
        ? random.integers(count, below)
        : Uint32Array.from({ length: count }, (_, at) => words[at % words.length] ?? NaN);
    return { host: { data, shape, dtype }, values: data };
  }
  if (dtype === 'i32') {
    const data = random.integers(count, below);
    return { host: { data: new Int32Array(data.buffer), shape, dtype }, values: data };
  }
  const values = random.normals(count, scale, shift);
  const width = shape[shape.length - 1] ?? 0;
  if (spec.matrix === true || isQuantized(dtype)) {
    const packed = packMatrix(values, [count / width, width], dtype);
    return { host: { ...packed, shape }, values: unpackMatrix(packed) };
  }
  if (dtype === 'f16') for (let i = 0; i < count; i++) values[i] = fromHalfBits(toHalfBits(values[i] ?? NaN));
  if (dtype === 'bf16') for (let i = 0; i < count; i++) values[i] = fromBfloatBits(toBfloatBits(values[i] ?? NaN));
  if (dtype === 'f32') return { host: { data: values, shape, dtype }, values };
  // Tightly packed, but every row begins with a word.
  const rowStride = Math.ceil(width / 2) * 2;
  const halves = new Uint16Array((count / width) * rowStride);
  const convert = dtype === 'f16' ? toHalfBits : toBfloatBits;
  for (let i = 0; i < count; i++) halves[Math.floor(i / width) * rowStride + (i % width)] = convert(values[i] ?? NaN);
  return { host: { data: new Uint32Array(halves.buffer), shape, dtype, rowStride }, values };
}

/** Values of the random block that large inputs are tiled with. */
const BLOCK_VALUES = 2 ** 18;

/**
 * Fills large buffers with random values on the device: a block is made on the host once for each distribution, then
 * copied as often as it takes. Padding gets values too, which no time depends on.
 */
export class RandomBlocks {
  readonly #device: Device;
  readonly #random: Random;
  readonly #blocks = new Map<string, GPUBuffer>();

  constructor(device: Device, random: Random) {
    this.#device = device;
    this.#random = random;
  }

  /** Fills a whole buffer with values of the distribution of `spec`. */
  fill(buffer: GPUBuffer, spec: RandomInput): void {
    const block = this.#block(spec);
    const encoder = this.#device.gpu.createCommandEncoder({ label: 'bench/fill' });
    for (let offset = 0; offset < buffer.size; offset += block.size) {
      encoder.copyBufferToBuffer(block, 0, buffer, offset, Math.min(block.size, buffer.size - offset));
    }
    this.#device.gpu.queue.submit([encoder.finish()]);
  }

  dispose(): void {
    for (const block of this.#blocks.values()) this.#device.destroyBuffer(block);
    this.#blocks.clear();
  }

  #block({ dtype: stored, scale, shift, below, words }: RandomInput): GPUBuffer {
    // Any bits are quants, but scales must be numbers.
    const dtype = isQuantized(stored) ? 'f16' : stored;
    const key = JSON.stringify([dtype, scale, shift, below, words]);
    const made = this.#blocks.get(key);
    if (made !== undefined) return made;
    const distribution = {
      ...(scale === undefined ? {} : { scale }),
      ...(shift === undefined ? {} : { shift }),
      ...(below === undefined ? {} : { below }),
      ...(words === undefined ? {} : { words }),
    };
    const { host } = hostInput(this.#random, { shape: [BLOCK_VALUES], dtype, ...distribution });
    const { buffer } = this.#device.upload('bench/block', host);
    this.#blocks.set(key, buffer);
    return buffer;
  }
}

/** Where one copy of a tensor may begin in a buffer: every device binds at multiples of this many bytes. */
const BINDING_ALIGNMENT = 256;

/** Bytes that each copy of a tensor takes in an {@link arena}. */
export function arenaStep(byteLength: number): number {
  return Math.ceil(byteLength / BINDING_ALIGNMENT) * BINDING_ALIGNMENT;
}

/**
 * Copies of one tensor in one buffer. WebGPU orders dispatches by the buffers that they write: sharing one makes runs on
 * different copies wait for each other, as layers of a model do.
 */
export function arena(
  device: Device,
  label: string,
  layout: Pick<Tensor, 'dtype' | 'shape' | 'rowStride' | 'byteLength'>,
  copies: number,
): { readonly buffer: GPUBuffer; readonly tensors: readonly Tensor[] } {
  const step = arenaStep(layout.byteLength);
  const buffer = device.createBuffer(`bench/${label}`, step * copies);
  const dispose = (): void => device.destroyBuffer(buffer);
  const tensors = Array.from({ length: copies }, (_, copy) => {
    const { dtype, shape, rowStride, byteLength } = layout;
    return {
      label,
      buffer,
      byteOffset: copy * step,
      byteLength,
      dtype,
      shape,
      rowStride,
      dispose,
      [Symbol.dispose]: dispose,
    };
  });
  return { buffer, tensors };
}
