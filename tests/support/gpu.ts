import type { ForcedChoices } from '@mambalab/kernels';
import { Device, hasRequirement } from '@mambalab/kernels';
import { requestDevice } from '@mambalab/kernels/node';
import { afterAll, expect } from 'vitest';
import { matmulMatrixShader } from '../../packages/kernels/src/generated/linear/matmul_matrix.ts';
import { withMatrixUnits } from './matrix_emulation.ts';

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

/** A device with matrix units for a test file: a real one where there is one, otherwise one that emulates them. */
export async function openMatrixDevice(workgroupMemory = 49_152): Promise<Device> {
  const device = await openTestDevice();
  return hasMatrixUnits(device) ? device : withMatrixUnits(device, workgroupMemory);
}

/** Whether a device has workgroup memory for the largest tiles of matrix units; a software GPU has not. */
export const hasLargeTiles = (device: Device): boolean => device.gpu.limits.maxComputeWorkgroupStorageSize >= 36_864;

/** The same device under a name that does not tell that a CPU does the work: kernels take the workgroups of a GPU. */
export function asHardware(device: Device): Device {
  const info = { vendor: 'test', architecture: '', device: '', description: '' } as GPUAdapterInfo;
  const hardware = new Device(device.gpu, info);
  expect(hardware.capabilities.software).toBe(false);
  return hardware;
}
