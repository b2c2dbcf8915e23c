import type { BoundPlan, Device } from '@mambalab/kernels';
import { ceilingFma, Executor, passMicroseconds, Recording, timePasses } from '@mambalab/kernels';

/** How long one encoding keeps the GPU busy, and how long it is kept so before a case. */
const HEAT_MICROSECONDS = 2000;
const BURST_MILLISECONDS = 150;
const VALUES = 2 ** 17;

/**
 * Keeps a GPU busy between measurements. Drivers lower the clocks of a GPU that mostly waits, as it does while cases are
 * prepared: the cores of an H200 fell from 1,980 to 915 MHz within ten seconds of short cases.
 */
export class Heater {
  readonly #device: Device;
  readonly #executor: Executor;
  readonly #bound: BoundPlan;
  readonly #input: { dispose(): void };
  #repetitions = 1;

  private constructor(device: Device, executor: Executor, bound: BoundPlan, input: { dispose(): void }) {
    this.#device = device;
    this.#executor = executor;
    this.#bound = bound;
    this.#input = input;
  }

  /** One for devices whose clocks can be seen: none for software, nor without timestamps. */
  static async create(device: Device): Promise<Heater | undefined> {
    const { software, features } = device.capabilities;
    if (software || !features.has('timestamp-query')) return undefined;
    const recording = new Recording(device.capabilities);
    const x = recording.external('x', 'f32', [VALUES]);
    recording.keep('y', ceilingFma(recording, { x }, { iterations: 256, scale: 0.5, shift: 0.5 }));
    const executor = new Executor(device);
    const input = device.upload('heater', { data: new Float32Array(VALUES), dtype: 'f32', shape: [VALUES] });
    const heater = new Heater(device, executor, (await executor.compile(recording)).bind({ x: input }), input);
    const encode = (pass: GPUComputePassEncoder): void => heater.encode(pass);
    const microseconds = Math.min(...passMicroseconds(await timePasses(device, [encode, encode, encode])));
    heater.#repetitions = Math.max(1, Math.ceil(HEAT_MICROSECONDS / Math.max(1, microseconds)));
    return heater;
  }

  /** Encodes about two milliseconds of work. */
  encode(pass: GPUComputePassEncoder): void {
    for (let i = 0; i < this.#repetitions; i++) this.#bound.encode(pass);
  }

  /** Keeps the GPU busy until its clocks are up. */
  async burst(milliseconds: number = BURST_MILLISECONDS): Promise<void> {
    const passes = Array.from({ length: 10 }, () => (pass: GPUComputePassEncoder) => this.encode(pass));
    for (const started = performance.now(); performance.now() - started < milliseconds;) {
      await timePasses(this.#device, passes);
    }
  }

  dispose(): void {
    this.#executor.dispose();
    this.#input.dispose();
  }
}
