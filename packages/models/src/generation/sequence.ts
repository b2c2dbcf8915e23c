// Longer than most files, because all that touches the buffers of one sequence is here.
import type { BoundPlan, Plan, Tensor } from '@mambalab/kernels';
import { ArgumentError, ContextLengthError, ReadbackRing } from '@mambalab/kernels';
import { LENGTH } from '../graph/build.ts';
import type { PrefillHead } from '../graph/build.ts';
import type { StateTensor } from '../graph/names.ts';
import { MAXIMUM_CHUNK, stateTensors } from '../graph/names.ts';
import type { ModelRuntime } from './runtime.ts';

/** How the next tokens are chosen. */
export interface SamplingSettings {
  /** 0 is greedy. */
  readonly temperature: number;
  /** 64 bits as two words; the same seed gives the same text on the same kind of device. */
  readonly seed: readonly [number, number];
}

/**
 * Tokens that may be on their way from the GPU: it starts the next while JavaScript looks at the last ones. After a
 * stop, at most this many steps were run for nothing.
 */
export const TOKENS_IN_FLIGHT = 3;

/** What {@link Sequence.prefillRows} hands out: the logits of each token, or its hidden state. */
export type RowHead = 'all' | 'hidden';

export interface RowOptions {
  readonly signal?: AbortSignal | undefined;
  /** Hand out the row of the last token alone. */
  readonly lastOnly?: boolean;
}

const HEAD_OUTPUTS: Readonly<Record<RowHead, string>> = { all: 'allLogits', hidden: 'hidden' };

/** Bytes of rows that are read back at a time. */
const ROWS_BYTES = 64 * 2 ** 20;

/** Tokens of a chunk whose rows of `width` values take no more than {@link ROWS_BYTES}. */
function chunkLimitFor(width: number): number {
  return Math.min(MAXIMUM_CHUNK, Math.max(8, Math.floor(ROWS_BYTES / (4 * width))));
}

/** One sequence on the GPU: its states, caches, position and the plans bound to them. */
export class Sequence {
  readonly #runtime: ModelRuntime;
  readonly #control: ReadonlyMap<string, Tensor>;
  readonly #ring: ReadbackRing;
  #states = new Map<string, Tensor>();
  #bound = new WeakMap<Plan, BoundPlan>();
  #capacity = 0;
  #length = 0;
  #disposed = false;

  private constructor(runtime: ModelRuntime) {
    this.#runtime = runtime;
    const { device, spec } = runtime;
    const make = (name: string, dtype: 'f32' | 'u32', shape: readonly number[]): [string, Tensor] => [
      name,
      device.createTensor(`sequence/${name}`, dtype, shape),
    ];
    this.#control = new Map([
      make('tokens', 'u32', [MAXIMUM_CHUNK]),
      make('token', 'u32', [1]),
      make('position', 'u32', [1]),
      make('settings', 'u32', [1, 4]),
      make('logits', 'f32', [1, spec.vocabSize]),
    ]);
    this.#ring = new ReadbackRing(device, this.#tensor('token'), TOKENS_IN_FLIGHT);
  }

  /** An empty sequence with room for `length` tokens; it grows when it needs more. */
  static async create(runtime: ModelRuntime, length = 1): Promise<Sequence> {
    const sequence = await runtime.device.guard('Making a sequence', () => new Sequence(runtime));
    try {
      await sequence.#reserve(length);
      return sequence;
    } catch (error) {
      sequence.dispose();
      throw error;
    }
  }

  /** Tokens that were submitted to the GPU, those on their way included. */
  get length(): number {
    return this.#length;
  }

  /** How many further steps may be submitted before a result is awaited. */
  get freeSlots(): number {
    return this.#ring.free;
  }

  /** Bytes of the recurrent states and of the KV caches, as allocated. */
  bytes(): { readonly stateBytes: number; readonly kvBytes: number } {
    let stateBytes = 0;
    let kvBytes = 0;
    for (const { name, kind } of this.#stateTensors(this.#capacity)) {
      const bytes = this.#states.get(name)?.byteLength ?? 0;
      if (kind === 'cache') kvBytes += bytes;
      else stateBytes += bytes;
    }
    return { stateBytes, kvBytes };
  }

  /** Forgets everything: zero states, position 0. Memory stays allocated. */
  reset(): void {
    this.#runtime.device.clear([...this.#states.values(), this.#tensor('position')]);
    this.#length = 0;
  }

  /**
   * Processes prompt tokens in chunks and leaves the logits of the last one on the GPU.
   *
   * @throws ContextLengthError if the sequence would outgrow the model's context; ArgumentError for a token id outside
   *   the vocabulary, or no token at all
   */
  async prefill(tokens: readonly number[], signal?: AbortSignal): Promise<void> {
    await this.#chunks(
      tokens,
      { signal },
      (last) => (last ? 'last' : 'none'),
      () => Promise.resolve(),
    );
  }

  /** As {@link prefill}, without logits: for what is followed by more. */
  async advance(tokens: readonly number[], signal?: AbortSignal): Promise<void> {
    await this.#chunks(
      tokens,
      { signal },
      () => 'none',
      () => Promise.resolve(),
    );
  }

  /** As {@link prefill}, and returns the logits of every token: (L, V) f32. */
  async prefillLogits(tokens: readonly number[], signal?: AbortSignal): Promise<Float32Array> {
    const { vocabSize } = this.#runtime.spec;
    const logits = new Float32Array(tokens.length * vocabSize);
    await this.prefillRows(tokens, 'all', { signal }, (row, index) => logits.set(row, index * vocabSize));
    return logits;
  }

  /**
   * As {@link prefill}, and hands out a row for every token, in their order: its logits (V), or its hidden state after
   * the last norm (D). A row is valid during the call alone; memory does not grow with the number of tokens.
   */
  async prefillRows(
    tokens: readonly number[],
    head: RowHead,
    { signal, lastOnly = false }: RowOptions,
    visit: (row: Float32Array, index: number) => void,
  ): Promise<void> {
    const { vocabSize, hiddenSize } = this.#runtime.spec;
    const width = head === 'all' ? vocabSize : hiddenSize;
    const limit = chunkLimitFor(width);
    const last = tokens.length - 1;
    await this.#chunks(
      tokens,
      { signal, limit },
      (isLast) => (lastOnly && !isLast ? 'none' : head),
      async (plan, first, count) => {
        const skipped = lastOnly ? last - first : 0;
        if (skipped >= count) return;
        const { buffer, rowStride } = plan.output(HEAD_OUTPUTS[head]);
        const bytes = (count - skipped) * rowStride * 4;
        const read = await this.#runtime.device.readBuffer(buffer, skipped * rowStride * 4, bytes);
        const values = new Float32Array(read);
        for (let row = 0; row < count - skipped; row++) {
          visit(values.subarray(row * rowStride, row * rowStride + width), first + skipped + row);
        }
      },
    );
  }

  /** The logits that the last pass left on the GPU: (V) f32. */
  async lastLogits(): Promise<Float32Array> {
    const { data } = await this.#runtime.device.read(this.#tensor('logits'));
    return new Float32Array(data.buffer, 0, this.#runtime.spec.vocabSize);
  }

  /** Sets how {@link sampleFirst} and {@link step} choose tokens. */
  setSampling({ temperature, seed }: SamplingSettings): void {
    const words = new Uint32Array(4);
    new Float32Array(words.buffer)[0] = temperature;
    words[1] = seed[0];
    words[2] = seed[1];
    this.#runtime.device.write(this.#tensor('settings'), words);
  }

  /** Chooses a token from the logits of a prefill. */
  async sampleFirst(): Promise<number> {
    return await this.#read(this.#bind(await this.#runtime.samplePlan()));
  }

  /** Gets everything ready that {@link step} needs for `count` further tokens, so that it can submit at once. */
  async prepareSteps(count: number): Promise<void> {
    await this.#reserve(this.#length + count);
    this.#step = this.#bind(await this.#runtime.decodePlan(this.#capacity));
  }
  #step: BoundPlan | undefined;

  /**
   * Consumes the token that was chosen last and chooses the next. Submits at once; several steps may be on their way.
   * Call {@link prepareSteps} first.
   */
  step(): Promise<number> {
    if (this.#step === undefined || (this.#capacity > 1 && this.#length >= this.#capacity)) {
      return Promise.reject(new ArgumentError('No room was prepared for this step.', 'Call prepareSteps first.'));
    }
    // A step that the ring refuses is none.
    if (this.#ring.free > 0) this.#length += 1;
    return this.#read(this.#step);
  }

  /** Sets the token that the next {@link step} consumes, as if it had been sampled. */
  setToken(token: number): void {
    this.#checkTokens([token]);
    this.#runtime.device.write(this.#tensor('token'), Uint32Array.of(token));
  }

  dispose(): void {
    this.#ring.dispose();
    for (const tensor of [...this.#states.values(), ...this.#control.values()]) tensor.dispose();
    this.#states.clear();
    this.#disposed = true;
  }

  /** Work on freed buffers would fail on the GPU, where whoever uses the device next would be told of it. */
  #refuseDisposed(): void {
    if (this.#disposed) throw new ArgumentError('The sequence, or its model, is disposed.', 'Load the model again.');
  }

  async #read(plan: BoundPlan): Promise<number> {
    this.#refuseDisposed();
    try {
      const [token = 0] = await this.#ring.submit(plan);
      return token;
    } catch (error) {
      // Disposing cancels what is on its way.
      this.#refuseDisposed();
      throw error;
    }
  }

  async #chunks(
    tokens: readonly number[],
    { signal, limit = MAXIMUM_CHUNK }: { readonly signal: AbortSignal | undefined; readonly limit?: number },
    headOf: (last: boolean) => PrefillHead,
    after: (plan: Plan, first: number, count: number) => Promise<void>,
  ): Promise<void> {
    this.#checkTokens(tokens);
    if (tokens.length === 0) {
      throw new ArgumentError(
        'There is no token to process.',
        'Give a prompt, or start with the beginning-of-sequence token.',
      );
    }
    await this.#reserve(this.#length + tokens.length);
    let previous: Promise<void> | undefined;
    for (let first = 0; first < tokens.length; first += limit) {
      signal?.throwIfAborted();
      const chunk = Uint32Array.from(tokens.slice(first, first + limit));
      const head = headOf(first + chunk.length === tokens.length);
      this.#refuseDisposed();
      const plan = await this.#runtime.prefillPlan(chunk.length, head, this.#capacity);
      this.#runtime.device.write(this.#tensor('tokens'), chunk);
      this.#bind(plan).submit({ [LENGTH]: chunk.length });
      this.#length += chunk.length;
      await after(plan, first, chunk.length);
      // Two chunks are on their way at most: an abort takes effect before the next, and others get their turn.
      const submitted = first + limit < tokens.length ? this.#runtime.device.idle() : undefined;
      submitted?.catch(() => undefined);
      await previous;
      previous = submitted;
    }
  }

  #checkTokens(tokens: readonly number[]): void {
    const { vocabSize } = this.#runtime.spec;
    const wrong = tokens.findIndex((token) => !Number.isInteger(token) || token < 0 || token >= vocabSize);
    if (wrong < 0) return;
    throw new ArgumentError(
      `Token ${wrong} is ${String(tokens[wrong])}; ids of this model run from 0 to ${vocabSize - 1}.`,
      'Encode the text with the tokenizer of this model.',
    );
  }

  /** Makes room for `length` tokens: caches grow by doubling and keep what they hold. */
  async #reserve(length: number): Promise<void> {
    this.#refuseDisposed();
    const { contextLength, device } = this.#runtime;
    if (length > contextLength) {
      throw new ContextLengthError(
        `The sequence would have ${length} tokens; the context is ${contextLength}.`,
        "Shorten the prompt, or load the model with a larger 'contextLength' if it was trained for one.",
      );
    }
    const capacity = this.#runtime.capacityFor(length);
    if (capacity <= this.#capacity) return;
    const previous = this.#states;
    const needed = this.#stateTensors(capacity);
    const grown = new Map<string, Tensor>();
    try {
      await device.guard('Allocating the state of a sequence', () => {
        for (const { name, kind, dtype, shape } of needed) {
          const old = previous.get(name);
          // A ring of pages is as long for every capacity.
          const kept = kind === 'state' || sameShape(old?.shape, shape) ? old : undefined;
          grown.set(name, kept ?? device.createTensor(`sequence/${name}`, dtype, shape));
        }
      });
      this.#refuseDisposed();
    } catch (error) {
      for (const [name, tensor] of grown) if (tensor !== previous.get(name)) tensor.dispose();
      throw error;
    }
    for (const [name, tensor] of grown) {
      const old = previous.get(name);
      if (old === undefined || old === tensor) continue;
      // Tokens are the outermost dimension of a cache, and a ring begins with its first page: what there is comes first.
      device.copy(old, tensor);
      old.dispose();
    }
    this.#states = grown;
    this.#capacity = capacity;
    this.#bound = new WeakMap();
    this.#step = undefined;
  }

  #stateTensors(capacity: number): StateTensor[] {
    return stateTensors(this.#runtime.spec, 1, capacity, this.#runtime.cacheDtype);
  }

  #bind(plan: Plan): BoundPlan {
    this.#refuseDisposed();
    const cached = this.#bound.get(plan);
    if (cached !== undefined) return cached;
    const { constants } = this.#runtime;
    const pages = this.#runtime.pageTables(this.#capacity);
    const bound = plan.bind(new Map([...constants, ...pages, ...this.#states, ...this.#control]));
    this.#bound.set(plan, bound);
    return bound;
  }

  #tensor(name: string): Tensor {
    this.#refuseDisposed();
    const tensor = this.#control.get(name);
    if (tensor === undefined) throw new RangeError(`A sequence has no tensor '${name}'.`);
    return tensor;
  }
}

const sameShape = (a: readonly number[] | undefined, b: readonly number[]): boolean =>
  a !== undefined && a.length === b.length && a.every((size, axis) => size === b[axis]);
