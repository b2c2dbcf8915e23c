import type { BoundPlan, Tensor } from '@mambalab/kernels';
import { ArgumentError, Executor, fillNormal, ReadbackRing, Recording } from '@mambalab/kernels';
import { PLAIN_SAMPLING } from '../graph/sampling.ts';
import type { StateTensor } from '../graph/names.ts';
import { stateTensors } from '../graph/names.ts';
import type { ModelRuntime } from './runtime.ts';
import { SamplingControl } from './sampling_control.ts';
import { TOKENS_IN_FLIGHT } from './token_choice.ts';

export interface FilledContextOptions {
  /** Tokens that every sequence seems to have. */
  readonly length: number;
  /** Tokens that may follow them. */
  readonly steps: number;
  /** Sequences that are decoded together; 1 when absent. */
  readonly batch?: number;
  /** Of the random values; 0 when absent. */
  readonly seed?: number;
}

/** States of trained models are small beside the activations that they sum up. */
const STATE_SCALE = 0.1;

/**
 * Sequences whose states and caches hold random numbers as if prompts had been processed, for measuring how fast and in
 * how much memory the tokens after a long context are decoded, without the minutes that its prefill takes: the cost of a
 * step depends on lengths, not on values. Its texts mean nothing.
 */
export class FilledContext {
  readonly batch: number;
  readonly length: number;
  readonly steps: number;
  readonly #runtime: ModelRuntime;
  readonly #tensors: ReadonlyMap<string, Tensor>;
  readonly #sampling: SamplingControl;
  readonly #ring: ReadbackRing;
  readonly #bound: BoundPlan;
  readonly #states: readonly StateTensor[];
  #taken = 0;

  private constructor(
    runtime: ModelRuntime,
    options: Required<FilledContextOptions>,
    states: readonly StateTensor[],
    tensors: ReadonlyMap<string, Tensor>,
    bind: (sampling: SamplingControl) => BoundPlan,
  ) {
    this.batch = options.batch;
    this.length = options.length;
    this.steps = options.steps;
    this.#runtime = runtime;
    this.#states = states;
    this.#tensors = tensors;
    this.#sampling = new SamplingControl(runtime.device, options.batch, runtime.spec.vocabSize);
    for (let row = 0; row < options.batch; row++) this.#sampling.setRow(row, { temperature: 0, seed: [0, 0] }, []);
    this.#ring = new ReadbackRing(runtime.device, this.#tensor('token'), TOKENS_IN_FLIGHT);
    this.#bound = bind(this.#sampling);
  }

  /** Bytes of the states and of the caches that {@link create} will allocate, all sequences together. */
  static bytesFor(runtime: ModelRuntime, options: FilledContextOptions): { stateBytes: number; kvBytes: number } {
    const { batch, length, steps } = checked(options);
    return sumBytes(stateTensors(runtime.spec, batch, runtime.capacityFor(length + steps), runtime.cacheDtype));
  }

  /**
   * Allocates the sequences, with the capacity that a session of this length has, and fills them on the GPU.
   *
   * @throws ArgumentError for a length, batch or count of steps that is not a whole number above 0, or beyond the model's
   *   context; OutOfMemoryError if the device has too little memory, or binds less than one cache needs
   */
  static async create(runtime: ModelRuntime, given: FilledContextOptions): Promise<FilledContext> {
    const options = checked(given);
    const { batch, length, steps } = options;
    if (length + steps > runtime.contextLength) {
      throw new ArgumentError(
        `'length' and 'steps' are ${length + steps} tokens together; the context is ${runtime.contextLength}.`,
        "Load the model with a larger 'contextLength'.",
      );
    }
    const { device, spec } = runtime;
    const capacity = runtime.capacityFor(length + steps);
    const states = stateTensors(spec, batch, capacity, runtime.cacheDtype);
    const plan = await runtime.decodePlan(capacity, batch, PLAIN_SAMPLING);
    const tensors = new Map<string, Tensor>();
    let context: FilledContext | undefined;
    try {
      const made = await device.guard('Allocating a filled context', () => {
        for (const { name, dtype, shape } of [
          ...states,
          { name: 'token', dtype: 'u32' as const, shape: [batch] },
          { name: 'position', dtype: 'u32' as const, shape: [batch] },
          { name: 'logits', dtype: 'f32' as const, shape: [batch, spec.vocabSize] },
        ]) {
          tensors.set(name, device.createTensor(`filled/${name}`, dtype, shape));
        }
        const pages = runtime.pageTables(capacity, batch);
        context = new FilledContext(runtime, options, states, tensors, (sampling) =>
          plan.bind(new Map([...runtime.constants, ...pages, ...tensors, ...sampling.tensors])),
        );
        return context;
      });
      await made.#fill(options.seed);
      return made;
    } catch (error) {
      context?.dispose();
      for (const tensor of tensors.values()) tensor.dispose();
      throw error;
    }
  }

  /** Bytes of the states and of the caches, all sequences together. */
  bytes(): { readonly stateBytes: number; readonly kvBytes: number } {
    return sumBytes(this.#states);
  }

  /** How many further steps may be submitted before a result is awaited. */
  get freeSlots(): number {
    return this.#ring.free;
  }

  /** Back to where so many steps are left, all when absent. What steps wrote from there on is written again. */
  rewind(left: number = this.steps): void {
    if (!Number.isInteger(left) || left < 0 || left > this.steps) {
      throw new ArgumentError(`'left' is ${left}.`, `Give a whole number from 0 to ${this.steps}.`);
    }
    const { device } = this.#runtime;
    const position = this.length + this.steps - left;
    device.write(this.#tensor('position'), new Uint32Array(this.batch).fill(position));
    device.write(
      this.#tensor('token'),
      Uint32Array.from({ length: this.batch }, (_, row) => (row * 7919 + 13) % this.#runtime.spec.vocabSize),
    );
    this.#taken = this.steps - left;
  }

  /** Decodes one token of every sequence and reads them back. Submits at once; several steps may be on their way. */
  async step(): Promise<Uint32Array> {
    if (this.#taken >= this.steps) throw new ArgumentError('There is no room for a further step.', 'Call rewind.');
    this.#taken += 1;
    // Tensors may be longer than their values.
    return (await this.#ring.submit(this.#bound)).subarray(0, this.batch);
  }

  dispose(): void {
    this.#ring.dispose();
    this.#sampling.dispose();
    for (const tensor of this.#tensors.values()) tensor.dispose();
  }

  async #fill(seed: number): Promise<void> {
    const { device } = this.#runtime;
    using executor = new Executor(device);
    let first = 0;
    const recording = new Recording(device.capabilities);
    for (const { name, kind, dtype, shape } of this.#states) {
      const out = recording.external(name, dtype, shape);
      fillNormal(recording, { out }, { seed, first, scale: kind === 'state' ? STATE_SCALE : 1 });
      first += shape.reduce((product, size) => product * size, 1);
    }
    if (first > 0) {
      const filled = await executor.compile(recording);
      filled.bind(this.#tensors).submit();
    }
    this.rewind();
    await device.idle();
  }

  #tensor(name: string): Tensor {
    const tensor = this.#tensors.get(name);
    if (tensor === undefined) throw new RangeError(`A filled context has no tensor '${name}'.`);
    return tensor;
  }
}

function checked({ length, steps, batch = 1, seed = 0 }: FilledContextOptions): Required<FilledContextOptions> {
  for (const [name, value] of Object.entries({ length, steps, batch })) {
    if (!Number.isInteger(value) || value < 1) {
      throw new ArgumentError(`'${name}' is ${value}.`, 'Give a whole number above 0.');
    }
  }
  return { length, steps, batch, seed };
}

function sumBytes(states: readonly StateTensor[]): { stateBytes: number; kvBytes: number } {
  const bytes = { stateBytes: 0, kvBytes: 0 };
  for (const { kind, dtype, shape } of states) {
    const size = (dtype === 'f16' ? 2 : 4) * shape.reduce((product, width) => product * width, 1);
    bytes[kind === 'cache' ? 'kvBytes' : 'stateBytes'] += size;
  }
  return bytes;
}
