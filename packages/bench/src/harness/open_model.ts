import type { Device } from '@mambalab/kernels';
import type { GenerateOptions, Model } from '@mambalab/models';
import { createRandomModel, Sequence, UnsupportedModelError } from '@mambalab/models';
import { loadModel } from '@mambalab/models/node';
import { FilledContext } from '@mambalab/models/testing';
import type { ModelMemory } from '../results.ts';
import type { BatchRun, DecodeRun, DraftRun, MeasurableModel, ModelChoice, OpenModelOptions } from './model_bench.ts';
import { longestTogether } from './model_bench.ts';
import type { Storage } from '../storages.ts';
import { STORAGES } from '../storages.ts';
import { BatchMeter } from './batch_meter.ts';
import { anyTokens, timeSteps, weightsReadBytes } from './decoding.ts';
import { presetNamed, PRESETS } from './presets.ts';

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
  const config = presetNamed(choice.preset);
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
    // States are read and written.
    return weightsReadBytes(this.#model) + 2 * stateBytes + kvBytesPerToken * this.#sequence.length;
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
    return await timeSteps(sequence, steps);
  }

  async decodeTogether(batch: number, prompt: number, steps: number): Promise<BatchRun> {
    const { runtime, scheduler } = this.#model;
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
    const { stateBytes, kvBytes } = FilledContext.bytesFor(runtime, { length: prompt, steps: maxTokens, batch });
    return { ...meter.result(), stateBytes, cacheBytes: kvBytes };
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
    return anyTokens(this.#model.spec.vocabSize, length, start);
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
