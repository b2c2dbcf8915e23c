import type { Device } from '@mambalab/kernels';
import type { GenerateOptions, Model, Session } from '@mambalab/models';
import { createRandomModel } from '@mambalab/models';
import type { LiveBuffers } from './watched_gpu.ts';
import { watchBuffers } from './watched_gpu.ts';

export interface LeakOptions {
  /** Short texts, among them batches, drafts, and such that are aborted, left or fail. */
  readonly generations: number;
  /** Sessions that are used in every way, and disposed of. */
  readonly sessions: number;
  readonly onProgress?: (done: number, all: number) => void;
}

/** What there is at a quiet point. */
export interface LeakCounts {
  readonly buffers: number;
  readonly bytes: number;
  /** As the library counts them. */
  readonly allocatedBytes: number;
}

export interface LeakResult {
  readonly generations: number;
  readonly sessions: number;
  /** Calls that failed or were aborted, as they should. */
  readonly refused: number;
  /** Before there was a model. */
  readonly empty: LeakCounts;
  /** When everything had been done once. */
  readonly before: LeakCounts;
  readonly after: LeakCounts;
  /** When the model was disposed of. */
  readonly end: LeakCounts;
  /** Labels of buffers with how many more there are in `after` than in `before`. */
  readonly more: Readonly<Record<string, number>>;
  /** Whether `after` is `before`, and `end` is `empty`. */
  readonly passed: boolean;
}

/** One layer of each kind that remembers something: Mamba-2 and attention. */
const CONFIG = {
  model_type: 'nemotron_h',
  vocab_size: 64,
  hidden_size: 32,
  hybrid_override_pattern: 'M*',
  intermediate_size: 32,
  mlp_hidden_act: 'relu2',
  num_attention_heads: 2,
  num_key_value_heads: 1,
  head_dim: 16,
  n_groups: 1,
  ssm_state_size: 16,
  mamba_num_heads: 4,
  mamba_head_dim: 16,
  conv_kernel: 4,
  layer_norm_epsilon: 1e-5,
  max_position_embeddings: 128,
};
const GUESSING = { ...CONFIG, hybrid_override_pattern: 'M' };

const GREEDY: GenerateOptions = { maxTokens: 6, ignoreEos: true, temperature: 0 };
/** What makes every tensor that sampling has. */
const RICH: GenerateOptions = {
  ...GREEDY,
  temperature: 1,
  topK: 8,
  seed: 3,
  frequencyPenalty: 0.5,
  logitBias: { 3: 1 },
  logprobs: 2,
};

/**
 * Uses a tiny model in every way, over and over, and compares what it holds on the GPU before and after, by the buffers
 * of the GPU device and by the library's own count.
 */
export async function checkLeaks(device: Device, options: LeakOptions): Promise<LeakResult> {
  const watch = watchBuffers(device.gpu);
  const count = async (): Promise<LeakCounts & LiveBuffers> => {
    await device.idle();
    return { ...watch.now(), allocatedBytes: device.allocatedBytes };
  };
  try {
    const empty = await count();
    const model = await createRandomModel(CONFIG, { device, dtype: 'f32', contextLength: 96 });
    const draft = await createRandomModel(GUESSING, { device, dtype: 'f32', contextLength: 96 });
    const use = new ModelUse(model, draft);
    // Everything once, so that all recordings are compiled.
    await use.everything();
    await use.settle();
    const before = await count();
    const { generations, sessions } = options;
    const used = { generations: use.generations, refused: use.refused };
    const all = generations + sessions;
    let done = 0;
    const tell = (): void => {
      done += 1;
      if (done % 100 === 0) options.onProgress?.(done, all);
    };
    for (let turn = 0; use.generations - used.generations < generations; turn++) {
      const earlier = use.generations;
      await use.generate(turn);
      for (let i = earlier; i < use.generations; i++) tell();
    }
    const written = use.generations - used.generations;
    for (let turn = 0; turn < sessions; turn++) {
      await use.session(turn);
      tell();
    }
    await use.settle();
    const after = await count();
    model.dispose();
    draft.dispose();
    const end = await count();
    const passed = isSame(before, after) && isSame(empty, end);
    return {
      generations: written,
      sessions,
      refused: use.refused - used.refused,
      empty: plain(empty),
      before: plain(before),
      after: plain(after),
      end: plain(end),
      more: difference(before.labels, after.labels),
      passed,
    };
  } finally {
    watch.stop();
  }
}

const plain = ({ buffers, bytes, allocatedBytes }: LeakCounts): LeakCounts => ({ buffers, bytes, allocatedBytes });

function difference(before: LiveBuffers['labels'], after: LiveBuffers['labels']): Record<string, number> {
  const changes = [...new Set([...before.keys(), ...after.keys()])].map(
    (label) => [label, (after.get(label) ?? 0) - (before.get(label) ?? 0)] as const,
  );
  return Object.fromEntries(changes.filter(([, change]) => change !== 0));
}

const isSame = (a: LeakCounts, b: LeakCounts): boolean =>
  a.buffers === b.buffers && a.bytes === b.bytes && a.allocatedBytes === b.allocatedBytes;

/** The ways to use a model. */
class ModelUse {
  readonly #model: Model;
  readonly #draft: Model;
  generations = 0;
  refused = 0;

  constructor(model: Model, draft: Model) {
    this.#model = model;
    this.#draft = draft;
  }

  async everything(): Promise<void> {
    // Whether texts meet depends on the time that they take.
    const capacity = this.#model.runtime.capacityFor(1);
    for (const size of [2, 4]) await this.#model.runtime.decodePlan(capacity, size);
    for (let turn = 0; turn < this.#generations.length; turn++) await this.generate(turn);
    // Each with the beginnings that others share, and without.
    for (let turn = 0; turn < 2 * this.#sessions.length; turn++) await this.session(turn);
  }

  /** Leaves what is kept for the next call as it always is: a sequence that has everything a text may need. */
  async settle(): Promise<void> {
    this.#model.prefixes.clear();
    await this.#write([1, 2], RICH);
    await this.#write([1, 2], { ...RICH, draft: this.#draft });
  }

  async generate(turn: number): Promise<void> {
    await this.#generations[turn % this.#generations.length]?.(turn);
  }

  async session(turn: number): Promise<void> {
    using session = this.#model.session({ prefixCache: turn % 2 === 0 });
    await this.#sessions[turn % this.#sessions.length]?.(session, turn);
  }

  readonly #generations: readonly ((turn: number) => Promise<unknown>)[] = [
    (turn) => this.#write([turn % 64, 2, 3], GREEDY),
    (turn) => this.#write([turn % 64], { ...RICH, seed: turn }),
    // Batches of two and of three, which join and leave at different times.
    (turn) => Promise.all([3, 6].map((maxTokens) => this.#write([turn % 64, 5], { ...GREEDY, maxTokens }))),
    (turn) => Promise.all([9, 4, 7].map((maxTokens) => this.#write([turn % 64], { ...GREEDY, maxTokens }))),
    () => this.#write([1, 2, 1, 2, 1], { ...GREEDY, draft: 'prompt-lookup' }),
    (turn) => this.#write([turn % 64, 2], { ...GREEDY, draft: this.#draft }),
    // Aborted before, and in the making; left by its reader.
    () => this.#fail(this.#write([1, 2], { ...GREEDY, signal: AbortSignal.abort(new Error('enough')) })),
    () => this.#fail(this.#readAborted(GREEDY)),
    () => this.#fail(this.#readAborted({ ...GREEDY, draft: this.#draft })),
    () => this.#leave(),
    // Failing at once, in a batch with one that does not, and in the making.
    () => Promise.all([this.#fail(this.#write([64], GREEDY)), this.#write([4], GREEDY)]),
    () =>
      this.#fail(
        this.#write(
          [...Array<number>(97).keys()].map((token) => token % 64),
          GREEDY,
        ),
      ),
    () => this.#fail(this.#write([1], { ...GREEDY, draft: this.#draft, stopTokens: [64] })),
    () => this.#fail(this.#write([1], { ...GREEDY, logitsProcessor: (logits) => logits.subarray(1) })),
    () => this.#model.score([1, 2], [3]),
    () => this.#fail(this.#model.logits([64])),
  ];

  readonly #sessions: readonly ((session: Session, turn: number) => Promise<void>)[] = [
    async (session, turn) => {
      await session.append([turn % 64, 1, 2]);
      await session.generate([3], GREEDY).result;
      await session.checkpoint();
      using fork = session.fork();
      await Promise.all([session.generate(GREEDY).result, fork.generate([5], GREEDY).result]);
      await session.rewind(4);
      await session.generate(GREEDY).result;
      // Copied before it has a sequence of its own.
      using second = fork.fork();
      using third = second.fork();
      await third.append([1]);
    },
    async (session) => {
      await session.append([1, 2, 3]);
      using restored = await this.#model.restore(await session.save({ dtype: 'q8' }));
      using unused = await this.#model.restore(await session.save());
      await restored.generate(GREEDY).result;
      session.reset();
      await session.append([unused.length]);
    },
    async (session) => {
      await session.append([1, 2, 3]);
      await this.#fail(session.append([64]));
      await this.#fail(session.append([...Array<number>(97).fill(1)]));
      await this.#fail(session.generate([1], { signal: AbortSignal.abort(new Error('enough')) }).result);
      await session.generate([4], { ...GREEDY, draft: 'prompt-lookup' }).result;
      await session.generate([4], { ...GREEDY, draft: this.#draft }).result;
      await this.#model.logits([5], { session });
    },
    // Disposed of while it writes.
    async (session) => {
      const text = session.generate([1, 2], { ...GREEDY, maxTokens: 20 });
      const reading = (async (): Promise<void> => {
        for await (const _ of text) session.dispose();
      })();
      await this.#fail(reading);
    },
    () => Promise.resolve(),
  ];

  async #write(prompt: readonly number[], options: GenerateOptions): Promise<void> {
    this.generations += 1;
    await this.#model.generate(prompt, options).result;
  }

  async #readAborted(options: GenerateOptions): Promise<void> {
    this.generations += 1;
    const abort = new AbortController();
    const text = this.#model.generate([1, 2], { ...options, maxTokens: 20, signal: abort.signal });
    for await (const _ of text) abort.abort(new Error('enough'));
  }

  async #leave(): Promise<void> {
    this.generations += 1;
    for await (const _ of this.#model.generate([1, 2], GREEDY)) break;
  }

  /** Waits for what must fail. @throws Error if it does not */
  async #fail(call: Promise<unknown>): Promise<void> {
    const failed = await call.then(
      () => false,
      () => true,
    );
    if (!failed) throw new Error('A call that must fail did not.');
    this.refused += 1;
  }
}
