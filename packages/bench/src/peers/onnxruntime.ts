import type { ImportedPackage, OpenPeer, Peer, PeerRequest, PeerRun } from './peer.ts';
import { importPeer, PeerUnavailableError } from './peer.ts';

interface OnnxTensor {
  readonly type: string;
  readonly dims: readonly number[];
  readonly data: ArrayLike<number>;
}

interface ValueMetadata {
  readonly name: string;
  readonly type?: string;
  /** Numbers, or names of dimensions. */
  readonly shape?: readonly (number | string)[];
}

interface Session {
  readonly inputNames: readonly string[];
  readonly inputMetadata?: readonly ValueMetadata[];
  run(feeds: Readonly<Record<string, OnnxTensor>>): Promise<Readonly<Record<string, OnnxTensor>>>;
  release(): Promise<void>;
}

interface Runtime {
  readonly InferenceSession: { create(file: string, options: unknown): Promise<Session> };
  readonly Tensor: new (type: string, data: unknown, dims: readonly number[]) => OnnxTensor;
}

/** Prompts of this many tokens: a graph has no tokenizer, and its speed does not depend on which they are. */
const PROMPT_TOKENS = 128;

/**
 * onnxruntime with a decoder as optimum and transformers.js export it: `input_ids`, `attention_mask`, perhaps
 * `position_ids`, `past_key_values.*` in, `logits` and `present.*` out. The most probable token is found in JavaScript.
 */
export const onnxruntime: Peer = {
  name: 'onnxruntime',
  open: async (request: PeerRequest): Promise<OpenPeer> => {
    const { module, version } = await importPeer(request, 'onnxruntime-node');
    const runtime = runtimeOf({ module, version });
    const { model, device, newTokens } = request;
    const session = await runtime.InferenceSession.create(model, { executionProviders: [device] });
    const decoder = new Decoder(runtime, session);
    return {
      version,
      model,
      device,
      run: () => decoder.write(PROMPT_TOKENS, newTokens),
      dispose: () => session.release(),
    };
  },
};

function runtimeOf({ module, version }: ImportedPackage): Runtime {
  const found = 'InferenceSession' in module ? module : module['default'];
  if (typeof found === 'object' && found !== null && 'InferenceSession' in found && 'Tensor' in found) {
    return found as unknown as Runtime;
  }
  throw new PeerUnavailableError(`version ${version} has no InferenceSession`);
}

class Decoder {
  readonly #runtime: Runtime;
  readonly #session: Session;

  constructor(runtime: Runtime, session: Session) {
    this.#runtime = runtime;
    this.#session = session;
    for (const name of ['input_ids', 'attention_mask']) {
      if (!session.inputNames.includes(name)) throw new PeerUnavailableError(`the graph has no input ${name}`);
    }
  }

  async write(promptTokens: number, newTokens: number): Promise<PeerRun> {
    let past = this.#emptyCaches();
    let tokens = Array.from({ length: promptTokens }, (_, index) => (index * 13 + 1) % 64);
    let length = 0;
    const times: number[] = [];
    const started = performance.now();
    while (times.length < newTokens) {
      const outputs = await this.#session.run({ ...this.#inputs(tokens, length), ...past });
      length += tokens.length;
      tokens = [mostProbable(outputs['logits'])];
      times.push(performance.now() - started);
      past = Object.fromEntries(
        Object.entries(outputs)
          .filter(([name]) => name.startsWith('present'))
          .map(([name, tensor]) => [name.replace(/^present/, 'past_key_values'), tensor]),
      );
    }
    return { promptTokens, times };
  }

  #inputs(tokens: readonly number[], length: number): Record<string, OnnxTensor> {
    const integers = (count: number, value: (index: number) => number): OnnxTensor => {
      const data = BigInt64Array.from({ length: count }, (_, index) => BigInt(value(index)));
      return new this.#runtime.Tensor('int64', data, [1, count]);
    };
    return {
      input_ids: integers(tokens.length, (index) => tokens[index] ?? 0),
      attention_mask: integers(length + tokens.length, () => 1),
      ...(this.#session.inputNames.includes('position_ids') && {
        position_ids: integers(tokens.length, (index) => length + index),
      }),
    };
  }

  /** Caches without tokens: named dimensions but the batch are empty. */
  #emptyCaches(): Record<string, OnnxTensor> {
    const caches = (this.#session.inputMetadata ?? []).filter(({ name }) => name.startsWith('past_key_values'));
    return Object.fromEntries(
      caches.map(({ name, type = 'float32', shape = [] }) => {
        const dims = shape.map((size, axis) => (typeof size === 'number' ? size : axis === 0 ? 1 : 0));
        const data = type === 'float16' ? new Uint16Array(0) : new Float32Array(0);
        return [name, new this.#runtime.Tensor(type, data, dims)];
      }),
    );
  }
}

/** The token with the largest logit at the last place. */
function mostProbable(logits: OnnxTensor | undefined): number {
  if (logits === undefined) throw new PeerUnavailableError('the graph has no output logits');
  const vocabulary = logits.dims[logits.dims.length - 1] ?? 0;
  const first = logits.data.length - vocabulary;
  let best = 0;
  for (let token = 1; token < vocabulary; token++) {
    if ((logits.data[first + token] ?? -Infinity) > (logits.data[first + best] ?? -Infinity)) best = token;
  }
  return best;
}
