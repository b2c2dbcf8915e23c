import type { KernelCase, KernelCheck } from '@mambalab/bench';
import { input, values } from '@mambalab/bench';
import { causalConv1d, matmul, matvec, rmsNorm } from '@mambalab/kernels';
import * as reference from '@mambalab/kernels/reference';

/** One kernel of gpu.js. Its source is text: minifiers would rewrite a function that gpu.js must read. */
export interface Pass {
  /** Later passes read its result by this name. */
  readonly name: string;
  readonly source: string;
  /** Inputs and earlier passes, in the order of the source's arguments. */
  readonly reads: readonly string[];
  /** Width, then height; a vector has no height. */
  readonly output: readonly number[];
  readonly constants: Readonly<Record<string, number>>;
}

/** One operation of both libraries. `check` and `timed` have the same inputs. */
export interface Operation {
  readonly name: string;
  readonly shape: string;
  readonly check: KernelCheck;
  readonly timed: KernelCase;
  /** The last one's result is the operation's. */
  readonly passes: readonly Pass[];
}

/** `quick`: sizes that a software GPU does in milliseconds. */
export function operations(quick: boolean): readonly Operation[] {
  return quick
    ? [matrixProduct(128, 128, 128), matrixVector(256, 256), norm(64, 256), convolution(64, 256)]
    : [matrixProduct(512, 512, 512), matrixVector(2048, 2048), norm(512, 1024), convolution(512, 1024)];
}

function operation(
  name: string,
  shape: string,
  check: KernelCheck,
  cost: Pick<KernelCase, 'flops' | 'bytes'>,
  passes: readonly Pass[],
): Operation {
  const { inputs, record } = check;
  return { name, shape, check, timed: { label: name, inputs, record, ...cost }, passes };
}

function matrixProduct(rows: number, outputs: number, inner: number): Operation {
  const check: KernelCheck = {
    inputs: {
      x: { shape: [rows, inner], dtype: 'f32' },
      weight: { shape: [outputs, inner], dtype: 'f32', matrix: true },
    },
    record: (recording, inputs) => matmul(recording, { x: input(inputs, 'x'), weight: input(inputs, 'weight') }),
    expected: (inputs) =>
      reference.matmul({ x: values(inputs, 'x'), weight: values(inputs, 'weight') }, { rows, inner, outputs }),
    // Sums of `inner` rounded products of normal values, in any order.
    rtol: 1e-5,
    atol: 1e-3,
  };
  const source = `function product(x, weight) {
    let sum = 0;
    for (let i = 0; i < this.constants.inner; i++) {
      sum += x[this.thread.y][i] * weight[this.thread.x][i];
    }
    return sum;
  }`;
  const cost = { flops: 2 * rows * outputs * inner, bytes: 4 * (rows * inner + outputs * inner + rows * outputs) };
  return operation('matrix product', `${rows} x ${outputs} x ${inner}`, check, cost, [
    { name: 'y', source, reads: ['x', 'weight'], output: [outputs, rows], constants: { inner } },
  ]);
}

function matrixVector(outputs: number, inner: number): Operation {
  const check: KernelCheck = {
    inputs: {
      x: { shape: [1, inner], dtype: 'f32' },
      weight: { shape: [outputs, inner], dtype: 'f32', matrix: true },
    },
    record: (recording, inputs) => matvec(recording, { x: input(inputs, 'x'), weight: input(inputs, 'weight') }),
    expected: (inputs) =>
      reference.matvec({ x: values(inputs, 'x'), weight: values(inputs, 'weight') }, { inner, outputs }),
    rtol: 1e-5,
    atol: 1e-3,
  };
  const source = `function product(x, weight) {
    let sum = 0;
    for (let i = 0; i < this.constants.inner; i++) {
      sum += x[0][i] * weight[this.thread.x][i];
    }
    return sum;
  }`;
  const cost = { flops: 2 * outputs * inner, bytes: 4 * (outputs * inner + inner + outputs) };
  return operation('matrix times vector', `${outputs} x ${inner}`, check, cost, [
    { name: 'y', source, reads: ['x', 'weight'], output: [outputs], constants: { inner } },
  ]);
}

const EPS = 1e-5;

function norm(rows: number, width: number): Operation {
  const check: KernelCheck = {
    inputs: { x: { shape: [rows, width], dtype: 'f32' }, weight: { shape: [width], dtype: 'f32' } },
    record: (recording, inputs) =>
      rmsNorm(recording, { x: input(inputs, 'x'), weight: input(inputs, 'weight') }, { eps: EPS }),
    expected: (inputs) =>
      reference.rmsNorm({ x: values(inputs, 'x'), weight: values(inputs, 'weight') }, { rows, width, eps: EPS }),
    rtol: 1e-5,
    atol: 1e-5,
  };
  // Two passes: in one, each value would sum its whole row again.
  const inverse = `function inverse(x) {
    let squares = 0;
    for (let i = 0; i < this.constants.width; i++) {
      squares += x[this.thread.x][i] * x[this.thread.x][i];
    }
    return 1 / Math.sqrt(squares / this.constants.width + this.constants.eps);
  }`;
  const scale = `function scale(x, weight, inverse) {
    return x[this.thread.y][this.thread.x] * inverse[this.thread.y] * weight[this.thread.x];
  }`;
  const cost = { flops: 4 * rows * width, bytes: 4 * (2 * rows * width + width) };
  return operation('RMS norm', `${rows} rows of ${width}`, check, cost, [
    { name: 'inverse', source: inverse, reads: ['x'], output: [rows], constants: { width, eps: EPS } },
    { name: 'y', source: scale, reads: ['x', 'weight', 'inverse'], output: [width, rows], constants: {} },
  ]);
}

const TAPS = 4;

function convolution(length: number, channels: number): Operation {
  const check: KernelCheck = {
    inputs: {
      x: { shape: [1, length, channels], dtype: 'f32' },
      weight: { shape: [channels, TAPS], dtype: 'f32' },
      bias: { shape: [channels], dtype: 'f32' },
    },
    record: (recording, inputs) =>
      causalConv1d(
        recording,
        { x: input(inputs, 'x'), weight: input(inputs, 'weight'), bias: input(inputs, 'bias') },
        { activation: 'silu' },
      ).y,
    expected: (inputs) =>
      reference.causalConv1d(
        { x: values(inputs, 'x'), weight: values(inputs, 'weight'), bias: values(inputs, 'bias') },
        { batch: 1, length, channels, width: TAPS, activation: 'silu' },
      ).y,
    rtol: 1e-5,
    atol: 1e-5,
  };
  const source = `function convolve(x, weight, bias) {
    let sum = bias[this.thread.x];
    for (let k = 0; k < this.constants.taps; k++) {
      const token = this.thread.y - this.constants.taps + 1 + k;
      if (token >= 0) {
        sum += weight[this.thread.x][k] * x[token][this.thread.x];
      }
    }
    return sum / (1 + Math.exp(-sum));
  }`;
  // The activation counts as four.
  const cost = { flops: (2 * TAPS + 4) * length * channels, bytes: 4 * channels * (2 * length + TAPS + 1) };
  const shape = `${length} tokens x ${channels} channels, width ${TAPS}`;
  return operation('causal conv1d', shape, check, cost, [
    { name: 'y', source, reads: ['x', 'weight', 'bias'], output: [channels, length], constants: { taps: TAPS } },
  ]);
}
