/** As GPUs call it; not every platform has the class. */
class GPUOutOfMemoryError extends Error {}

/**
 * Gives a GPU device so many bytes for buffers, counted from now on: one that goes beyond is made invalid and reported to
 * the error scope for memory, as a GPU does. Whatever uses it then fails validation.
 */
export function limitMemory(gpu: GPUDevice): { limit(bytes: number): void; used(): number; restore(): void } {
  let [used, limit] = [0, Infinity];
  const scopes: { readonly filter: GPUErrorFilter; error?: GPUError }[] = [];
  const [create, push, pop] = [gpu.createBuffer, gpu.pushErrorScope, gpu.popErrorScope].map((method) =>
    (method as (...args: unknown[]) => unknown).bind(gpu),
  ) as [GPUDevice['createBuffer'], GPUDevice['pushErrorScope'], GPUDevice['popErrorScope']];

  gpu.createBuffer = (descriptor): GPUBuffer => {
    if (used + descriptor.size > limit) {
      const scope = scopes.findLast(({ filter }) => filter === 'out-of-memory');
      if (scope === undefined) throw new Error(`'${descriptor.label ?? ''}' is made where nobody looks for errors.`);
      scope.error ??= new GPUOutOfMemoryError(`no memory for '${descriptor.label ?? ''}'`);
      // Its own error is no one's: a usage of reading and binding at once is not valid.
      push('validation');
      const invalid = create({ ...descriptor, usage: 0x0001 | 0x0080 });
      void pop();
      return invalid;
    }
    const buffer = create(descriptor);
    const destroy = buffer.destroy.bind(buffer);
    let isLive = true;
    used += buffer.size;
    buffer.destroy = (): undefined => {
      if (isLive) used -= buffer.size;
      isLive = false;
      destroy();
      return undefined;
    };
    return buffer;
  };
  gpu.pushErrorScope = (filter): undefined => {
    scopes.push({ filter });
    push(filter);
    return undefined;
  };
  gpu.popErrorScope = async (): Promise<GPUError | null> => {
    const scope = scopes.pop();
    const error = await pop();
    return scope?.error ?? error;
  };
  return {
    limit: (bytes) => {
      limit = bytes;
    },
    used: () => used,
    restore: () => {
      limit = Infinity;
      for (const name of ['createBuffer', 'pushErrorScope', 'popErrorScope']) Reflect.deleteProperty(gpu, name);
    },
  };
}
