import type { Device } from '@mambalab/kernels';
import { ArgumentError } from '@mambalab/kernels';
import type { GenerateOptions, Model } from '@mambalab/models';
import { createRandomModel, Sequence, stateTensors, UnsupportedModelError } from '@mambalab/models';
import { loadModel } from '@mambalab/models/node';
import { unknownName } from '../near.ts';
import type { ModelMemory } from '../results.ts';
import type { BatchRun, DecodeRun, DraftRun, MeasurableModel, ModelChoice, OpenModelOptions } from './model_bench.ts';
import { longestTogether } from './model_bench.ts';
import { BatchMeter } from './batch_meter.ts';
import { PRESETS } from './presets.ts';

type Storage = 'f32' | 'f16' | 'bf16' | 'q8' | 'q4';
const STORAGES: readonly Storage[] = ['f32', 'f16', 'bf16', 'q8', 'q4'];

/** Opens a model, or a shape with random weights, for measuring. */
export async function openModel(
  device: Device,
  choice: ModelChoice,
  options: OpenModelOptions,
): Promise<MeasurableModel> {
  const { capacity, draft } = options;
  const storage = STORAGES.find((candidate) => candidate === options.dtype);
  if (options.dtype !== undefined && storage === undefined) {
    throw new RangeError(`There is no storage type '${options.dtype}'; use one of: ${STORAGES.join(', ')}.`);
  }
  const opened: Model[] = [];
  try {
    const { name, model } = await open(device, choice, storage, capacity);
    opened.push(model);
    let guesses: GenerateOptions['draft'] = 'prompt-lookup';
    if (draft !== undefined && draft !== 'lookup') {
      const drafting = await open(device, draft in PRESETS ? { preset: draft } : { source: draft }, storage, capacity);
      opened.push(drafting.model);
      guesses = drafting.model;
    }
    return await MeasuredModel.start(name, model, guesses, capacity);
  } catch (error) {
    for (const model of opened) model.dispose();
    throw error;
  }
}

async function open(
  device: Device,
  choice: ModelChoice,
  storage: Storage | undefined,
  contextLength: number,
): Promise<{ readonly name: string; readonly model: Model }> {
  if ('source' in choice) {
    const dtype = storage ?? 'auto';
    return { name: choice.source, model: await loadModel(choice.source, { device, dtype, contextLength }) };
  }
  const config = PRESETS[choice.preset];
  if (config === undefined) {
    throw new ArgumentError(unknownName('preset', choice.preset, Object.keys(PRESETS)), 'Name one of them.');
  }
  const dtype = storage ?? 'f16';
  const model = await createRandomModel(config, { device, dtype, contextLength });
  return { name: `${choice.preset} ${dtype}`, model };
}

/** What a model with a tokenizer is asked to continue: guesses mean something after a text alone. */
const TEXT =
  'A model that reads a text one token after another keeps what it has seen in a state of constant size. A model with ' +
  'attention looks at everything again. The first is as fast after a million tokens as after one; the second has a ' +
  'better memory for what stood where. Layers of both kinds, one after the other, have most of what either has. ';

class MeasuredModel implements MeasurableModel {
  readonly name: string;
  readonly dispatchesPerToken: number;
  readonly #model: Model;
  readonly #draft: GenerateOptions['draft'];
  readonly #sequence: Sequence;

  private constructor(
    name: string,
    model: Model,
    draft: GenerateOptions['draft'],
    sequence: Sequence,
    dispatches: number,
  ) {
    this.name = name;
    this.#model = model;
    this.#draft = draft;
    this.#sequence = sequence;
    this.dispatchesPerToken = dispatches;
  }

  static async start(
    name: string,
    model: Model,
    draft: GenerateOptions['draft'],
    capacity: number,
  ): Promise<MeasuredModel> {
    const sequence = await Sequence.create(model.runtime, capacity);
    const plan = await model.runtime.decodePlan(model.runtime.capacityFor(capacity));
    return new MeasuredModel(name, model, draft, sequence, plan.recording.dispatches.length);
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
    this.#sequence.reset();
    await this.#sequence.prefill(this.#tokens(tokens, 0));
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

  async decodeTogether(batch: number, prompt: number, steps: number): Promise<BatchRun> {
    const { spec, runtime, scheduler } = this.#model;
    const maxTokens = longestTogether(batch, steps);
    const meter = new BatchMeter(batch, steps, () => scheduler.batched);
    const texts = Array.from({ length: batch }, async (_, index) => {
      const options = { maxTokens, ignoreEos: true, temperature: 0 } as const;
      // A reader that leaves ends its text.
      for await (const _ of this.#model.generate(this.#tokens(prompt, index), options)) {
        if (meter.count(index)) break;
      }
      meter.end();
    });
    await Promise.all(texts);
    const capacity = runtime.capacityFor(prompt + maxTokens);
    let [stateBytes, cacheBytes] = [0, 0];
    for (const { kind, dtype, shape } of stateTensors(spec, batch, capacity, runtime.cacheDtype)) {
      const bytes = shape.reduce((product, size) => product * size, dtype === 'f16' ? 2 : 4);
      if (kind === 'cache') cacheBytes += bytes;
      else stateBytes += bytes;
    }
    return { ...meter.result(), stateBytes, cacheBytes };
  }

  async write(prompt: number, steps: number, isDrafted: boolean): Promise<DraftRun> {
    const text = this.#model.generate(this.#prose(prompt), {
      maxTokens: steps,
      ignoreEos: true,
      temperature: 0,
      ...(isDrafted && this.#draft !== undefined && { draft: this.#draft }),
    });
    const { timings } = await text.result;
    const { draftedTokens: drafted = 0, acceptedTokens: accepted = 0 } = timings;
    return { millisecondsPerToken: timings.decodeMs / Math.max(1, steps - 1), drafted, accepted };
  }

  #tokens(length: number, start: number): number[] {
    const { vocabSize } = this.#model.spec;
    return Array.from({ length }, (_, index) => ((index + start) * 7919 + 13) % vocabSize);
  }

  /** A text of so many tokens, or any tokens where the model knows no text. */
  #prose(length: number): readonly number[] {
    let tokens: readonly number[] = [];
    try {
      const { tokenizer } = this.#model;
      for (let text = TEXT; tokens.length < length; text += TEXT) tokens = tokenizer.encode(text);
    } catch (error) {
      if (!(error instanceof UnsupportedModelError)) throw error;
      return this.#tokens(length, 0);
    }
    return tokens.slice(0, length);
  }

  memory(): ModelMemory {
    const { weightsBytes, scratchBytes } = this.#model.memory();
    const { stateBytes, kvBytes } = this.#sequence.bytes();
    return { weights: weightsBytes, state: stateBytes, cache: kvBytes, scratch: scratchBytes };
  }

  dispose(): void {
    this.#sequence.dispose();
    this.#model.dispose();
    if (typeof this.#draft === 'object') this.#draft.dispose();
  }
}
