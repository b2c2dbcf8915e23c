import type { Device, ForcedChoices, Kernel } from '@mambalab/kernels';
import { hasRequirement } from '@mambalab/kernels';
import { requestDevice } from '@mambalab/kernels/node';
import { afterAll } from 'vitest';
import { matmulMatrixShader } from '../../packages/kernels/src/generated/linear/matmul_matrix.ts';

/** One device for a test file. A missing adapter is a failure, never a skip. */
export async function openTestDevice(): Promise<Device> {
  const device = await requestDevice(process.env['MAMBALAB_TOGGLES'] === 'native' ? { toggles: 'native' } : {});
  afterAll(() => device.dispose());
  return device;
}

/** Whether the device can run the products that use matrix units. */
export const hasMatrixUnits = (device: Device): boolean =>
  matmulMatrixShader.requires.every((need) => hasRequirement(device.capabilities, need));

/** The choices on the axis `simd` that this device can run: every kernel is tested with each of them forced. */
export function simdChoices(device: Device): readonly ForcedChoices[] {
  const choices: ForcedChoices[] = [{ simd: 'baseline' }];
  if (device.capabilities.features.has('subgroups')) choices.push({ simd: 'subgroups' });
  return choices;
}

/** A kernel as it is recorded for a GPU, on whatever device runs the tests. */
export function asOnGpu<I, O, R>(kernel: Kernel<I, O, R>): Kernel<I, O, R> {
  return (recording, inputs, options) => {
    Object.assign(recording, { capabilities: { ...recording.capabilities, software: false } });
    return kernel(recording, inputs, options);
  };
}
