import type { Device } from '@mambalab/kernels';
import type { Model } from '@mambalab/models';
import { createRandomModel, layerPattern, parameterCount, parseConfig, Sequence } from '@mambalab/models';
import { FilledContext } from '@mambalab/models/testing';
import { anyTokens, timeSteps, weightsReadBytes } from '../harness/decoding.ts';
import type { DecodeRun } from '../harness/model_bench.ts';
import type { Storage } from '../storages.ts';
import type {
  ContextBytes,
  ContextModel,
  ContextShape,
  DecodableContext,
  OpenContextModel,
  PromptSequence,
} from './model.ts';

export interface ContextModelOptions {
  readonly dtype: Storage;
  /** The longest context. */
  readonly contextLength: number;
  readonly seed: number;
}

/** Opens shapes on a device; what they allocate is freed before the next is opened. */
export function contextModels(device: Device, options: ContextModelOptions): OpenContextModel {
  return async (config) => {
    const { dtype, contextLength, seed } = options;
    const model = await createRandomModel(config, { device, dtype, contextLength, seed });
    try {
      return await RandomContextModel.start(device, model, seed);
    } catch (error) {
      model.dispose();
      throw error;
    }
  };
}

class RandomContextModel implements ContextModel {
  readonly parameters: number;
  readonly pattern: string;
  readonly dispatchesPerStep: number;
  readonly #device: Device;
  readonly #model: Model;
  readonly #seed: number;

  private constructor(device: Device, model: Model, seed: number, dispatches: number) {
    this.#device = device;
    this.#model = model;
    this.#seed = seed;
    this.parameters = parameterCount(parseConfig(model.config));
    this.pattern = layerPattern(model.spec);
    this.dispatchesPerStep = dispatches;
  }

  static async start(device: Device, model: Model, seed: number): Promise<RandomContextModel> {
    const plan = await model.runtime.decodePlan(model.runtime.capacityFor(1));
    return new RandomContextModel(device, model, seed, plan.recording.dispatches.length);
  }

  get weightsBytes(): number {
    return this.#model.memory().weightsBytes;
  }

  get weightsReadBytes(): number {
    return weightsReadBytes(this.#model);
  }

  get stateBytes(): number {
    return this.#model.memory().stateBytes;
  }

  get kvBytesPerToken(): number {
    return this.#model.memory().kvBytesPerToken;
  }

  bytesFor({ context, batch, steps }: ContextShape): ContextBytes {
    const shape = { length: context - steps, steps, batch };
    const { stateBytes, kvBytes } = FilledContext.bytesFor(this.#model.runtime, shape);
    return { state: stateBytes, cache: kvBytes };
  }

  async fillContext({ context, batch, steps }: ContextShape): Promise<DecodableContext> {
    const shape = { length: context - steps, steps, batch, seed: this.#seed };
    return new RandomContext(this.#device, await FilledContext.create(this.#model.runtime, shape));
  }

  async sequence(capacity: number): Promise<PromptSequence> {
    const sequence = await Sequence.create(this.#model.runtime, capacity);
    return new RealSequence(this.#device, sequence, this.#model.spec.vocabSize);
  }

  async dispose(): Promise<void> {
    this.#model.dispose();
    await freed(this.#device);
  }
}

class RandomContext implements DecodableContext {
  readonly #device: Device;
  readonly #context: FilledContext;

  constructor(device: Device, context: FilledContext) {
    this.#device = device;
    this.#context = context;
  }

  get bytes(): ContextBytes {
    const { stateBytes, kvBytes } = this.#context.bytes();
    return { state: stateBytes, cache: kvBytes };
  }

  async decode(steps: number): Promise<DecodeRun> {
    this.#context.rewind(steps);
    return await timeSteps(this.#context, steps);
  }

  async dispose(): Promise<void> {
    this.#context.dispose();
    await freed(this.#device);
  }
}

class RealSequence implements PromptSequence {
  readonly #device: Device;
  readonly #sequence: Sequence;
  readonly #vocabSize: number;

  constructor(device: Device, sequence: Sequence, vocabSize: number) {
    this.#device = device;
    this.#sequence = sequence;
    this.#vocabSize = vocabSize;
  }

  get bytes(): ContextBytes {
    const { stateBytes, kvBytes } = this.#sequence.bytes();
    return { state: stateBytes, cache: kvBytes };
  }

  async prefill(tokens: number): Promise<number> {
    this.#sequence.reset();
    this.#sequence.setSampling({ temperature: 0, seed: [0, 0] });
    const prompt = anyTokens(this.#vocabSize, tokens);
    const started = performance.now();
    await this.#sequence.prefill(prompt);
    await this.#sequence.sampleFirst();
    return performance.now() - started;
  }

  async decode(steps: number): Promise<DecodeRun> {
    await this.#sequence.prepareSteps(steps);
    return await timeSteps(this.#sequence, steps);
  }

  async dispose(): Promise<void> {
    this.#sequence.dispose();
    await freed(this.#device);
  }
}

/** Destroyed buffers are given back when the queue is empty, which the next allocation may need. */
async function freed(device: Device): Promise<void> {
  await device.idle();
  await device.idle();
}
