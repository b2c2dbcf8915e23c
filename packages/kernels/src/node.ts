import { create } from 'webgpu';
import type { Device, RequestDeviceOptions } from './core/device.ts';
import { requestDevice as requestAnyDevice } from './core/device.ts';
import { WebGPUUnavailableError } from './core/errors.ts';

export interface NodeDeviceOptions extends RequestDeviceOptions {
  /**
   * `default` behaves as a browser does. `native` switches off what protects a browser from hostile shaders
   * (bounds checks, zeroed workgroup memory) and makes experimental features available; for own programs on own
   * machines, where it is a little faster and gives the matrix units.
   */
  readonly toggles?: 'default' | 'native';
}

const NATIVE_TOGGLES: readonly string[] = [
  'enable-dawn-features=allow_unsafe_apis,vulkan_enable_f16_on_nvidia,disable_robustness,disable_workgroup_init,disable_polyfills_on_integer_div_and_mod',
  // Not lazy_clear_resource_on_first_use: fresh tensors are zero by contract (states, padding of rows).
  'disable-dawn-features=timestamp_quantization',
];

/** Requests a device through Dawn (npm `webgpu`). Drop or dispose the device to let the process end. */
export async function requestDevice(options: NodeDeviceOptions = {}): Promise<Device> {
  const flags = options.toggles === 'native' ? NATIVE_TOGGLES : [];
  let gpu: GPU;
  try {
    gpu = create([...flags]);
  } catch (cause) {
    throw new WebGPUUnavailableError(
      'Dawn (npm webgpu) could not be started.',
      'Install the package webgpu for this platform, and a Vulkan loader on Linux.',
      { cause },
    );
  }
  return requestAnyDevice({ ...options, gpu: options.gpu ?? gpu });
}
