/** Buffers of a GPU device that live. */
export interface LiveBuffers {
  readonly buffers: number;
  readonly bytes: number;
  /** How many there are of each label. */
  readonly labels: ReadonlyMap<string, number>;
}

/** Counts the buffers of a GPU device from now on, whoever makes and destroys them. */
export function watchBuffers(gpu: GPUDevice): { now(): LiveBuffers; stop(): void } {
  const own = Object.getOwnPropertyDescriptor(gpu, 'createBuffer');
  const create = gpu.createBuffer.bind(gpu);
  const live = new Set<GPUBuffer>();
  gpu.createBuffer = (descriptor): GPUBuffer => {
    const buffer = create(descriptor);
    const destroy = buffer.destroy.bind(buffer);
    buffer.destroy = (): undefined => {
      live.delete(buffer);
      destroy();
      return undefined;
    };
    live.add(buffer);
    return buffer;
  };
  return {
    now: () => {
      const labels = new Map<string, number>();
      for (const { label } of live) labels.set(label, (labels.get(label) ?? 0) + 1);
      return { buffers: live.size, bytes: [...live].reduce((sum, { size }) => sum + size, 0), labels };
    },
    stop: () => {
      if (own === undefined) Reflect.deleteProperty(gpu, 'createBuffer');
      else Object.defineProperty(gpu, 'createBuffer', own);
    },
  };
}
