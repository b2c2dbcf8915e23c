import type { Recording, TensorRef } from '@mambalab/kernels';

/** A random input, made on the device or the host by the harness. */
export interface RandomInput {
  readonly shape: readonly number[];
  readonly dtype: 'f32' | 'f16' | 'bf16' | 'q8' | 'q4' | 'u32' | 'i32';
  /** Weights are matrices: their rows are padded as kernels read them. Quantized inputs always are. */
  readonly matrix?: boolean;
  /** Normal with this standard deviation (1 when absent), plus `shift`; for u32 and i32: integers below `below`. */
  readonly scale?: number;
  readonly shift?: number;
  readonly below?: number;
  /** u32 that are repeated instead of random ones, as rows of settings are; their number divides 64. */
  readonly words?: readonly number[];
}

/** Dtypes of weights that cases are measured with. */
export type MeasuredDtype = 'f16' | 'q8' | 'q4';

/** Bytes of one weight, its part of a scale included. */
export const WEIGHT_BYTES: Readonly<Record<MeasuredDtype, number>> = { f16: 2, q8: 34 / 32, q4: 18 / 32 };

/** What tells a case with this dtype from that with f16. */
export const dtypeLabel = (dtype: MeasuredDtype): string => (dtype === 'f16' ? '' : `, ${dtype}`);

export interface KernelCase {
  /** Model and shape, such as `2.7B prefill 512`. */
  readonly label: string;
  readonly inputs: Readonly<Record<string, RandomInput>>;
  /** Records the kernel on inputs of those names. */
  readonly record: (recording: Recording, inputs: Readonly<Record<string, TensorRef>>) => unknown;
  /** Arithmetic of one call. */
  readonly flops: number;
  /** Bytes that one call must read and write at least. */
  readonly bytes: number;
}

/** A small case whose result is compared with the float64 reference. */
export interface KernelCheck {
  readonly inputs: Readonly<Record<string, RandomInput>>;
  readonly record: (recording: Recording, inputs: Readonly<Record<string, TensorRef>>) => TensorRef;
  /** Expected values, from host copies of the inputs, as kernels read them (f16, bf16, q8 and q4 already widened to f32). */
  readonly expected: (inputs: Readonly<Record<string, Float32Array | Uint32Array>>) => ArrayLike<number>;
  readonly rtol: number;
  readonly atol: number;
}

/** The benchmark of one kernel: checks against the reference before anything is timed, then the cases to time. */
export interface KernelBench {
  /** Family and stem, such as `norm/rms_norm`. */
  readonly name: string;
  readonly verify: KernelCheck;
  /** Further checks, of forms that `verify` does not reach. */
  readonly verifyAlso?: readonly KernelCheck[];
  readonly cases: readonly KernelCase[];
}

/** The tensor of that name. @throws Error if the case does not declare it */
export function input(inputs: Readonly<Record<string, TensorRef>>, name: string): TensorRef {
  const tensor = inputs[name];
  if (tensor === undefined) throw new Error(`The case declares no input '${name}'.`);
  return tensor;
}

/** The host values of that name, as floats. @throws Error if the case does not declare it */
export function values(
  inputs: Readonly<Record<string, Float32Array | Uint32Array>>,
  name: string,
): Float32Array | Uint32Array {
  const found = inputs[name];
  if (found === undefined) throw new Error(`The case declares no input '${name}'.`);
  return found;
}
