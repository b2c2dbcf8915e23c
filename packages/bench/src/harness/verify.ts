import type { Device, ForcedChoices, HostTensor, Recording, TensorRef } from '@mambalab/kernels';
import { fromBfloatBits, fromHalfBits, run } from '@mambalab/kernels';
import type { Verification } from '../results.ts';
import { hostInput } from './inputs.ts';
import type { KernelBench, KernelCheck } from './kernel_bench.ts';
import { Random } from './random.ts';

export interface VerifyOptions {
  readonly seed: number;
  readonly force?: ForcedChoices;
}

/**
 * Compares every value with `atol + rtol * |expected|`. A value that is not a number and a missing one never pass.
 */
export function compareValues(
  actual: ArrayLike<number>,
  expected: ArrayLike<number>,
  { rtol, atol }: { readonly rtol: number; readonly atol: number },
): Verification {
  if (actual.length !== expected.length || expected.length === 0) {
    return { passed: false, reason: `${actual.length} values where ${expected.length} are expected` };
  }
  let worst = 0;
  let worstError = -1;
  for (let i = 0; i < expected.length; i++) {
    const a = actual[i] ?? NaN;
    const e = expected[i] ?? NaN;
    // Equal infinities differ by NaN.
    const error = a === e ? 0 : Math.abs(a - e) / (atol + rtol * Math.abs(e));
    if (Number.isNaN(error)) {
      return { passed: false, reason: `value ${i} of ${expected.length} is ${a}; ${e} is expected` };
    }
    if (error > worstError) {
      worst = i;
      worstError = error;
    }
  }
  if (worstError <= 1) return { passed: true, values: expected.length, worst: worstError };
  const times = worstError.toPrecision(3);
  return {
    passed: false,
    reason: `value ${worst} of ${expected.length} is ${actual[worst]}; ${expected[worst]} is expected (${times} times the tolerance)`,
  };
}

/**
 * Runs every check of a kernel on fresh random inputs with poisoned outputs, and compares it with its reference. Errors
 * that the kernel raises count as a failed verification.
 *
 * @returns the first failure, or how many values passed and the worst of them
 */
export async function verifyKernel(device: Device, bench: KernelBench, options: VerifyOptions): Promise<Verification> {
  const random = new Random(options.seed);
  let passed = { passed: true as const, values: 0, worst: 0 };
  for (const check of [bench.verify, ...(bench.verifyAlso ?? [])]) {
    const verification = await verifyOnce(device, check, random, options);
    if (!verification.passed) return verification;
    const { values, worst } = verification;
    passed = { passed: true, values: passed.values + values, worst: Math.max(passed.worst, worst) };
  }
  return passed;
}

async function verifyOnce(
  device: Device,
  check: KernelCheck,
  random: Random,
  options: VerifyOptions,
): Promise<Verification> {
  const made = Object.entries(check.inputs).map(([name, spec]) => [name, hostInput(random, spec)] as const);
  const hosts = Object.fromEntries(made.map(([name, { host }]) => [name, host]));
  const values = Object.fromEntries(made.map(([name, input]) => [name, input.values.slice()]));
  const kernel = (recording: Recording, inputs: Readonly<Record<string, TensorRef>>): TensorRef =>
    check.record(recording, inputs);
  const force = options.force === undefined ? {} : { force: options.force };
  try {
    const result = await run(device, kernel, hosts, undefined, { poison: true, ...force });
    return compareValues(unpack(result), check.expected(values), check);
  } catch (error) {
    return { passed: false, reason: error instanceof Error ? error.message : String(error) };
  }
}

/** The values of a result that was read back, without padding. */
function unpack({ data, dtype, shape, rowStride }: HostTensor): ArrayLike<number> {
  if (dtype !== 'f16' && dtype !== 'bf16') return data;
  const width = shape[shape.length - 1] ?? 0;
  const rows = shape.slice(0, -1).reduce((all, size) => all * size, 1);
  const halves = new Uint16Array(data.buffer, data.byteOffset, data.length * 2);
  const widen = dtype === 'f16' ? fromHalfBits : fromBfloatBits;
  const stride = rowStride ?? Math.ceil(width / 2) * 2;
  return Float32Array.from({ length: rows * width }, (_, i) =>
    widen(halves[Math.floor(i / width) * stride + (i % width)] ?? NaN),
  );
}
