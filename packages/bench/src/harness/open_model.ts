import type { Device } from '@mambalab/kernels';
import { ArgumentError } from '@mambalab/kernels';
import type { Model } from '@mambalab/models';
import { createRandomModel, Sequence } from '@mambalab/models';
import { loadModel } from '@mambalab/models/node';
import { unknownName } from '../near.ts';
import type { ModelMemory } from '../results.ts';
import type { DecodeRun, MeasurableModel, ModelChoice, OpenModelOptions } from './model_bench.ts';
import { PRESETS } from './presets.ts';

type Storage = 'f32' | 'f16' | 'bf16' | 'q8' | 'q4';
const STORAGES: readonly Storage[] = ['f32', 'f16', 'bf16', 'q8', 'q4'];

/** Opens a model, or a shape with random weights, for measuring. */
export async function openModel(
  device: Device,
  choice: ModelChoice,
  options: OpenModelOptions,
): Promise<MeasurableModel> {
  const { capacity } = options;
  const storage = STORAGES.find((candidate) => candidate === options.dtype);
  if (options.dtype !== undefined && storage === undefined) {
    throw new RangeError(`There is no storage type '${options.dtype}'; use one of: ${STORAGES.join(', ')}.`);
  }
  if ('source' in choice) {
    const dtype = storage ?? 'auto';
    const model = await loadModel(choice.source, { device, dtype, contextLength: capacity });
    return await MeasuredModel.start(choice.source, model, capacity);
  }
  const config = PRESETS[choice.preset];
  if (config === undefined) {
    throw new ArgumentError(unknownName('preset', choice.preset, Object.keys(PRESETS)), 'Name one of them.');
  }
  const dtype = storage ?? 'f16';
  const model = await createRandomModel(config, { device, dtype, contextLength: capacity });
  return await MeasuredModel.start(`${choice.preset} ${dtype}`, model, capacity);
}

class MeasuredModel implements MeasurableModel {
  readonly name: string;
  readonly dispatchesPerToken: number;
  readonly #model: Model;
  readonly #sequence: Sequence;

  private constructor(name: string, model: Model, sequence: Sequence, dispatches: number) {
    this.name = name;
    this.#model = model;
    this.#sequence = sequence;
    this.dispatchesPerToken = dispatches;
  }

  static async start(name: string, model: Model, capacity: number): Promise<MeasuredModel> {
    const sequence = await Sequence.create(model.runtime, capacity);
    const plan = await model.runtime.decodePlan(model.runtime.capacityFor(capacity));
    return new MeasuredModel(name, model, sequence, plan.recording.dispatches.length);
  }

  get bytesPerToken(): number {
    const { kvBytesPerToken } = this.#model.memory();
    const { stateBytes } = this.#sequence.bytes();
    const { spec, runtime } = this.#model;
    // A large one may be several tensors.
    const embedding = [...runtime.constants]
      .filter(([name]) => name === 'embedding' || name.startsWith('embedding.'))
      .reduce((sum, [, { byteLength }]) => sum + byteLength, 0);
    // An embedding of its own gives one row; as the head it is read whole. States are read and written.
    const weights = runtime.weightsBytes - (spec.tiedEmbeddings ? 0 : embedding);
    return weights + 2 * stateBytes + kvBytesPerToken * this.#sequence.length;
  }

  async prefill(tokens: number): Promise<void> {
    const { vocabSize } = this.#model.spec;
    this.#sequence.reset();
    await this.#sequence.prefill(Array.from({ length: tokens }, (_, index) => (index * 7919 + 13) % vocabSize));
    this.#sequence.setSampling({ temperature: 0, seed: [0, 0] });
    await this.#sequence.sampleFirst();
  }

  async decode(steps: number): Promise<DecodeRun> {
    const sequence = this.#sequence;
    await sequence.prepareSteps(steps);
    let cpuMilliseconds = 0;
    const pending: Promise<number>[] = [];
    const started = performance.now();
    for (let submitted = 0; submitted < steps;) {
      while (submitted < steps && sequence.freeSlots > 0) {
        const before = performance.now();
        pending.push(sequence.step());
        cpuMilliseconds += performance.now() - before;
        submitted += 1;
      }
      await pending.shift();
    }
    await Promise.all(pending);
    return { milliseconds: performance.now() - started, cpuMilliseconds };
  }

  memory(): ModelMemory {
    const { weightsBytes, scratchBytes } = this.#model.memory();
    const { stateBytes, kvBytes } = this.#sequence.bytes();
    return { weights: weightsBytes, state: stateBytes, cache: kvBytes, scratch: scratchBytes };
  }

  dispose(): void {
    this.#sequence.dispose();
    this.#model.dispose();
  }
}
