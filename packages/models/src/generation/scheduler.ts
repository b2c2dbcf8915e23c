import type { BoundPlan, Plan, Tensor } from '@mambalab/kernels';
import { ArgumentError, ReadbackRing } from '@mambalab/kernels';
import { stateTensors } from '../graph/names.ts';
import type { SamplingFeatures } from '../graph/sampling.ts';
import { joinFeatures } from '../graph/sampling.ts';
import { createTensors } from './allocate.ts';
import type { ModelRuntime } from './runtime.ts';
import type { SampledToken } from './sampling_control.ts';
import { SamplingControl } from './sampling_control.ts';
import type { Sequence } from './sequence.ts';

/** Sequences that one batch has room for. Fewer sizes are fewer recordings to compile. */
const SIZES: readonly number[] = [2, 4, 8, 16, 32, 64];

/** Steps of a batch that may be on their way, as many as those of a sequence alone. */
const STEPS_IN_FLIGHT = 3;

/** Steps after which the positions of idle slots go back to 0, so that their attention stays short. */
const IDLE_STEPS = 128;

interface Ask {
  readonly resolve: (token: SampledToken) => void;
  readonly reject: (error: unknown) => void;
}

interface Member {
  readonly sequence: Sequence;
  /** Its place in the batch; undefined while it is decoded alone. */
  slot: number | undefined;
  /** Steps that were asked for and not submitted. */
  readonly asks: Ask[];
  /** Fell behind its batch: it stays alone until it ends. */
  isSlow: boolean;
}

/**
 * Decodes sequences together. A sequence alone is stepped as if there were no scheduler. Where several want tokens, each
 * is copied into a slot of a batch, on the GPU and between two tokens, and copied back when it leaves: another ended and
 * it is the last, or its reader did not keep up, so that it would make the others wait.
 */
export class Scheduler {
  readonly #runtime: ModelRuntime;
  readonly #members = new Map<Sequence, Member>();
  #batch: Batch | undefined;
  #isForming = false;
  /** Sizes that the device had no memory for. */
  #most = Infinity;
  #isPumping = false;
  #isDisposed = false;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(runtime: ModelRuntime) {
    this.#runtime = runtime;
  }

  /** Sequences that are decoded in a batch now. */
  get batched(): number {
    return this.#batch === undefined ? 0 : this.#inBatch().length;
  }

  /** The next token of a sequence: submitted at once where it is alone, with those of others otherwise. */
  next(sequence: Sequence): Promise<SampledToken> {
    const member = this.#members.get(sequence) ?? this.#join(sequence);
    if (member.slot === undefined) return sequence.nextAlone();
    return new Promise((resolve, reject) => {
      member.asks.push({ resolve, reject });
      this.#pump();
    });
  }

  /** A sequence ends. Its results must have arrived. @param isKept whether somebody goes on with its state */
  leave(sequence: Sequence, isKept: boolean): void {
    const member = this.#members.get(sequence);
    if (member === undefined) return;
    this.#members.delete(sequence);
    this.#takeOut(member, isKept);
    if (this.#inBatch().length < 2 && !this.#isForming) this.#dissolve();
    else this.#pump();
  }

  dispose(): void {
    clearTimeout(this.#timer);
    this.#isDisposed = true;
    const error = new ArgumentError('The model is disposed.', 'Load it again.');
    for (const { sequence, asks } of this.#members.values()) {
      sequence.abandonSlot();
      for (const { reject } of asks) reject(error);
    }
    this.#members.clear();
    this.#batch?.dispose();
    this.#batch = undefined;
  }

  #join(sequence: Sequence): Member {
    const member: Member = { sequence, slot: undefined, asks: [], isSlow: false };
    this.#members.set(sequence, member);
    if (!this.#isForming && this.#candidates().length > 1) void this.#form();
    return member;
  }

  #candidates(): Member[] {
    return [...this.#members.values()].filter(({ isSlow }) => !isSlow).slice(0, SIZES.at(-1));
  }

  #inBatch(): Member[] {
    return [...this.#members.values()].filter(({ slot }) => slot !== undefined);
  }

  /** Puts all sequences into one batch, as soon as its recording is compiled. Until then they go on as they are. */
  async #form(): Promise<void> {
    this.#isForming = true;
    try {
      for (let isSettled = false; !isSettled;) {
        const wanted = this.#wanted();
        if (wanted === undefined) break;
        const plan = await this.#runtime.decodePlan(wanted.capacity, wanted.size, wanted.features);
        const now = this.#wanted();
        if (now === undefined || now.key !== wanted.key) continue;
        isSettled = true;
        await this.#fill(now, plan);
        // Whoever came while the batch was made.
        if (this.#candidates().some(({ slot }) => slot === undefined)) isSettled = this.#batch === undefined;
      }
    } catch {
      // Together was an offer: each goes on alone, and meets what is wrong with the device by itself.
      this.#dissolve();
    } finally {
      this.#isForming = false;
      if (this.#inBatch().length < 2) this.#dissolve();
      this.#pump();
    }
  }

  #wanted(): Wanted | undefined {
    const members = this.#candidates();
    const size = SIZES.find((candidate) => candidate >= members.length);
    if (members.length < 2 || size === undefined || size > this.#most) return undefined;
    const capacity = Math.max(...members.map(({ sequence }) => sequence.capacity));
    const features = joinFeatures(members.map(({ sequence }) => sequence.features));
    return { members, size, capacity, features, key: JSON.stringify([size, capacity, features]) };
  }

  async #fill({ members, size, capacity, features }: Wanted, plan: Plan): Promise<void> {
    const previous = this.#batch;
    for (const member of this.#inBatch()) this.#takeOut(member, true);
    this.#batch = undefined;
    previous?.retire();
    let batch: Batch | undefined;
    try {
      await this.#runtime.device.guard('Making a batch', () => {
        batch = new Batch(this.#runtime, { size, capacity, features }, plan);
        for (const [slot, member] of members.entries()) {
          batch.enter(member.sequence, slot);
          member.slot = slot;
        }
      });
      if (this.#isDisposed) batch?.dispose();
      else this.#batch = batch;
    } catch {
      // What the sequences were copied from is as it was.
      this.#most = size - 1;
      for (const member of members) {
        member.sequence.abandonSlot();
        member.slot = undefined;
        this.#serveAlone(member);
      }
      batch?.dispose();
    }
  }

  #takeOut(member: Member, isKept: boolean): void {
    if (member.slot === undefined) return;
    member.slot = undefined;
    if (isKept) member.sequence.leaveSlot();
    else member.sequence.abandonSlot();
    this.#serveAlone(member);
  }

  /** Steps that were asked for in a batch. */
  #serveAlone({ sequence, asks }: Member): void {
    for (const { resolve, reject } of asks.splice(0)) sequence.nextAlone().then(resolve, reject);
  }

  #dissolve(): void {
    for (const member of this.#inBatch()) this.#takeOut(member, true);
    this.#batch?.retire();
    this.#batch = undefined;
  }

  /** Submits steps as long as every sequence of the batch wants one. */
  #pump(): void {
    const batch = this.#batch;
    if (batch === undefined || this.#isPumping) return;
    this.#isPumping = true;
    const members = this.#inBatch();
    while (batch.free > 0 && members.length > 0 && members.every(({ asks }) => asks.length > 0)) {
      this.#step(batch, members);
    }
    this.#isPumping = false;
    const isStalled = batch.free > 0 && members.some(({ asks }) => asks.length > 0);
    if (isStalled) this.#timer ??= setTimeout(() => this.#dropSlow(), 0);
  }

  #step(batch: Batch, members: readonly Member[]): void {
    const asks = members.flatMap((member) => {
      const ask = member.asks.shift();
      return ask === undefined || member.slot === undefined ? [] : [{ ...ask, member, slot: member.slot }];
    });
    const results = batch.submit(asks.map(({ slot }) => slot));
    for (const { member } of asks) member.sequence.countStep();
    void this.#deliver(results, asks);
  }

  async #deliver(results: ReturnType<Batch['submit']>, asks: readonly Ask[]): Promise<void> {
    try {
      const sampled = await results;
      for (const [index, { resolve, reject }] of asks.entries()) {
        const token = sampled[index];
        if (token === undefined) reject(new RangeError('A step of a batch has a token for each slot.'));
        else resolve(token);
      }
    } catch (error) {
      for (const { reject } of asks) reject(error);
    }
    this.#pump();
  }

  /** The readers of some do not ask, after all that could be had was delivered: they leave, the others go on. */
  #dropSlow(): void {
    this.#timer = undefined;
    const members = this.#inBatch();
    if (this.#batch === undefined || this.#batch.free < STEPS_IN_FLIGHT) return;
    if (members.every(({ asks }) => asks.length > 0) || members.every(({ asks }) => asks.length === 0)) return;
    // Results of steps alone, before the batch, may be on their way.
    if (members.some(({ asks, sequence }) => asks.length === 0 && sequence.isAwaited)) {
      this.#timer = setTimeout(() => this.#dropSlow(), 1);
      return;
    }
    for (const member of members) {
      if (member.asks.length > 0) continue;
      member.isSlow = true;
      this.#takeOut(member, true);
    }
    if (this.#inBatch().length < 2) this.#dissolve();
    else this.#pump();
  }
}

interface Wanted extends BatchShape {
  readonly members: readonly Member[];
  readonly key: string;
}

interface BatchShape {
  readonly size: number;
  readonly capacity: number;
  readonly features: SamplingFeatures;
}

/** States, caches and controls of several sequences, and the recording that is bound to them. */
class Batch {
  readonly #runtime: ModelRuntime;
  readonly #shape: BatchShape;
  readonly #own: ReadonlyMap<string, Tensor>;
  readonly #sampling: SamplingControl;
  readonly #ring: ReadbackRing;
  readonly #bound: BoundPlan;
  /** How many log-probabilities the tokens of a slot have. */
  readonly #logprobs = new Map<number, number | undefined>();
  #steps = 0;
  #isRetired = false;

  constructor(runtime: ModelRuntime, shape: BatchShape, plan: Plan) {
    this.#runtime = runtime;
    this.#shape = shape;
    const { size, capacity, features } = shape;
    const { device, spec } = runtime;
    const states = stateTensors(spec, size, capacity, runtime.cacheDtype);
    this.#own = createTensors(device, 'batch', [
      ...states,
      { name: 'token', dtype: 'u32', shape: [size] },
      { name: 'position', dtype: 'u32', shape: [size] },
      { name: 'logits', dtype: 'f32', shape: [size, spec.vocabSize] },
    ]);
    this.#sampling = new SamplingControl(device, size, spec.vocabSize, features);
    const token = this.#own.get('token');
    if (token === undefined) throw new RangeError('A batch has tokens.');
    const sources = features.tops === undefined ? [token] : [token, ...this.#sampling.readback];
    this.#ring = new ReadbackRing(device, sources, STEPS_IN_FLIGHT);
    this.#bound = plan.bind(
      new Map([...runtime.constants, ...runtime.pageTables(capacity, size), ...this.#own, ...this.#sampling.tensors]),
    );
  }

  get free(): number {
    return this.#ring.free;
  }

  enter(sequence: Sequence, index: number): void {
    this.#sampling.setRow(index, sequence.settings, []);
    this.#logprobs.set(index, sequence.logprobs);
    const tensors = new Map([...this.#own, ...this.#sampling.tensors]);
    sequence.enterSlot({ tensors, index, batch: this.#shape.size, capacity: this.#shape.capacity });
  }

  /** One step of every slot; resolves with the token of each of those in use. */
  async submit(used: readonly number[]): Promise<SampledToken[]> {
    this.#steps += 1;
    if (this.#steps % IDLE_STEPS === 0) this.#restIdle(used);
    try {
      const words = await this.#ring.submit(this.#bound);
      return used.map((slot) => this.#sampling.sampled(slot, words, this.#logprobs.get(slot)));
    } finally {
      this.#retireQuiet();
    }
  }

  /** Frees everything as soon as the results on their way have arrived: nobody is in a slot any more. */
  retire(): void {
    this.#isRetired = true;
    // Freed behind what was submitted, but for what results are read through.
    for (const tensor of this.#own.values()) tensor.dispose();
    this.#retireQuiet();
  }

  /** Frees everything at once: results on their way are lost. */
  dispose(): void {
    this.#ring.dispose();
    this.#sampling.dispose();
    for (const tensor of this.#own.values()) tensor.dispose();
  }

  #retireQuiet(): void {
    if (this.#isRetired && this.#ring.free === STEPS_IN_FLIGHT) this.dispose();
  }

  #restIdle(used: readonly number[]): void {
    const position = this.#own.get('position');
    for (let slot = 0; slot < this.#shape.size; slot++) {
      if (position !== undefined && !used.includes(slot)) {
        this.#runtime.device.write(position, Uint32Array.of(0), slot);
      }
    }
  }
}
