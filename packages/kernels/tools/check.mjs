// Compiles linked shaders with Dawn's own compiler and no driver (its null backend), so that a mistake shows at build
// time on any machine. The device has WebGPU's default limits: a variant that needs more must declare it.
import { create } from 'webgpu';
import { isFeature } from './shader-source.mjs';

export async function openChecker() {
  const gpu = create(['backend=null', 'enable-dawn-features=allow_unsafe_apis']);
  const devices = new Map();
  const deviceFor = async (features) => {
    const key = [...features].sort().join(',');
    if (!devices.has(key)) {
      // An adapter gives one device and is then used up.
      const adapter = await gpu.requestAdapter();
      if (adapter === null) throw new Error('Dawn gives no null adapter: shaders cannot be checked.');
      devices.set(key, await adapter.requestDevice({ requiredFeatures: features }));
    }
    return devices.get(key);
  };
  return {
    // Dawn's objects do not keep their instance alive: collecting it under a living device ends the process.
    instance: gpu,
    /** Throws with the compiler's messages if the text is wrong or needs more than the variant declares. */
    async check(label, code, requires) {
      const features = requires.filter(isFeature);
      const device = await deviceFor(features);
      device.pushErrorScope('validation');
      const module = device.createShaderModule({ label, code });
      const info = await module.getCompilationInfo();
      await device.popErrorScope();
      const errors = info.messages.filter((message) => message.type === 'error');
      if (errors.length > 0) {
        const lines = code.split('\n');
        const report = errors.map((e) => `  ${e.lineNum}:${e.linePos} ${e.message}\n    ${lines[e.lineNum - 1] ?? ''}`);
        throw new Error(`${label} does not compile:\n${report.join('\n')}`);
      }
      // Above the default limits only a real device can judge the pipeline.
      if (requires.some((need) => need.includes('>='))) return;
      try {
        await device.createComputePipelineAsync({ label, layout: 'auto', compute: { module, entryPoint: 'main' } });
      } catch (error) {
        throw new Error(`${label} makes no pipeline with default limits: ${error.message}`, { cause: error });
      }
    },
    close() {
      for (const device of devices.values()) device.destroy();
    },
  };
}
