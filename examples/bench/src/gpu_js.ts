import type { HostInput, Summary, TimingOptions, Verification } from '@mambalab/bench';
import { compareValues, hostInput, Random, samplePasses, summarize } from '@mambalab/bench';
import type { IKernelRunShortcut } from 'gpu.js';
import { GPU, Texture } from 'gpu.js';
import type { Operation, Pass } from './operations.ts';

// Passes are long, since each holds one wait for the GPU, which takes up to a millisecond.
const FULL: TimingOptions = { samples: 9, passMilliseconds: 100, warmUpMilliseconds: 100, budgetMilliseconds: 1500 };
const QUICK: TimingOptions = { samples: 5, passMilliseconds: 20, warmUpMilliseconds: 5, budgetMilliseconds: 150 };

/** Launches that one pass may hold. */
const MAX_LAUNCHES = 4096;

/** What gpu.js did with an operation. Wrong results have no time. */
export interface GpuJsResult {
  readonly verification: Verification;
  readonly microseconds?: Summary;
}

/** Whether this browser has WebGL2 with textures of floats. */
export function webgl2Supported(): boolean {
  return GPU.isWebGL2Supported && GPU.isSinglePrecisionSupported;
}

/**
 * Runs operations by gpu.js on WebGL2, in f32. Inputs and results stay in textures; what is timed is the launches of
 * the operation's passes.
 */
export class GpuJs {
  readonly #gpu = new GPU({ mode: 'webgl2' });

  async dispose(): Promise<void> {
    await this.#gpu.destroy();
  }

  /**
   * Compares the operation's result on random inputs with the float64 reference, then times it.
   *
   * @throws Error if gpu.js leaves the GPU for the CPU
   */
  async run(
    operation: Operation,
    { quick, seed }: { readonly quick: boolean; readonly seed: number },
  ): Promise<GpuJsResult> {
    const { check, passes } = operation;
    const random = new Random(seed);
    const made: IKernelRunShortcut[] = [];
    const create = (source: string, output: readonly number[], constants: Pass['constants']): IKernelRunShortcut => {
      const settings = { precision: 'single', tactic: 'precision', pipeline: true } as const;
      const kernel = this.#gpu.createKernel(source, { ...settings, output: [...output], constants });
      made.push(kernel);
      return kernel;
    };
    try {
      const inputs = new Map<string, Texture>();
      const host: Record<string, HostInput['values']> = {};
      for (const [name, spec] of Object.entries(check.inputs)) {
        const { values } = hostInput(random, spec);
        host[name] = values;
        const { source, output, rows } = uploadOf(Float32Array.from(values), spec.shape);
        inputs.set(name, texture(create(source, output, {})(rows)));
      }
      // Two sets of kernels in turn: a GPU that draws tile by tile may drop a result that the next launch overwrites.
      const turns = [0, 1].map(() =>
        passes.map((pass) => ({ pass, kernel: create(pass.source, pass.output, pass.constants) })),
      );
      const launch = (turn: number): Texture => {
        const results = new Map(inputs);
        let last: Texture | undefined;
        for (const { pass, kernel } of turns[turn % turns.length] ?? []) {
          last = texture(kernel(...pass.reads.map((name) => textureOf(results, name))));
          results.set(pass.name, last);
        }
        if (last === undefined) throw new Error(`The operation ${operation.name} has no passes.`);
        return last;
      };

      const results = turns.map((_, turn) => launch(turn));
      const expected = check.expected(host);
      for (const result of results) {
        const verification = compareValues(flatten(result.toArray()), expected, check);
        if (!verification.passed) return { verification };
      }
      const verification = compareValues(flatten(results[0]?.toArray()), expected, check);

      // Reads one value of each result back, which waits for all launches before it.
      const at = (passes.at(-1)?.output.length ?? 1) > 1 ? '[0][0]' : '[0]';
      const corner = create(`function corner(a, b) { return a${at} + b${at}; }`, [1], {}).setPipeline(false);
      const wait = (): unknown => corner(...results);
      wait();
      const measure = async (
        repetitions: number,
        count: number,
      ): Promise<{ microseconds: number[]; quantum: number }> => {
        const microseconds: number[] = [];
        for (let i = 0; i < count; i++) {
          // The page stays alive between passes.
          await new Promise((resolve) => setTimeout(resolve));
          const started = performance.now();
          for (let k = 0; k < repetitions; k++) launch(k);
          wait();
          microseconds.push((performance.now() - started) * 1000);
        }
        return { microseconds, quantum: 0 };
      };
      const samples = await samplePasses(measure, MAX_LAUNCHES, quick ? QUICK : FULL);
      return { verification, microseconds: summarize(samples.microseconds) };
    } finally {
      for (const kernel of made) kernel.destroy();
    }
  }
}

/** The kernel that copies a tensor into a texture: leading dimensions become rows. */
function uploadOf(
  values: Float32Array,
  shape: readonly number[],
): { readonly source: string; readonly output: readonly number[]; readonly rows: Float32Array | Float32Array[] } {
  const width = shape[shape.length - 1] ?? 1;
  if (shape.length === 1) {
    return { source: 'function upload(x) { return x[this.thread.x]; }', output: [width], rows: values };
  }
  const height = values.length / width;
  const rows = Array.from({ length: height }, (_, row) => values.subarray(row * width, (row + 1) * width));
  return { source: 'function upload(x) { return x[this.thread.y][this.thread.x]; }', output: [width, height], rows };
}

function textureOf(textures: ReadonlyMap<string, Texture>, name: string): Texture {
  const found = textures.get(name);
  if (found === undefined) throw new Error(`No input and no earlier pass is called '${name}'.`);
  return found;
}

/** Kernels that keep their results on the GPU return textures; those that fell back to the CPU return arrays. */
function texture(result: unknown): Texture {
  if (result instanceof Texture) return result;
  throw new Error('gpu.js did not run on WebGL2.');
}

/** The values of a vector or of a matrix by rows. */
function flatten(value: unknown): number[] {
  if (value instanceof Float32Array) return Array.from(value);
  if (Array.isArray(value)) return value.flatMap(flatten);
  throw new TypeError('gpu.js returned something that is no array of floats.');
}
