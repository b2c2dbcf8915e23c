import { ArgumentError, BASELINE_CAPABILITIES } from '@mambalab/kernels';
import type {
  ChatMessage,
  GeneratedPiece,
  GenerationResult,
  LanguageModel,
  ModelSpec,
  Prompt,
  TextOptions,
  TextStream,
} from '@mambalab/models';
import { ToolCallParser } from '@mambalab/models';

/** What a scripted model was asked, and how far it got. */
export interface ScriptedCall {
  readonly prompt: Prompt;
  readonly options: TextOptions;
  written: number;
  outcome?: GenerationResult['finishReason'];
}

export interface Script {
  /** What it answers, given all that it was asked. */
  readonly text: (call: ScriptedCall, at: number) => string;
  /** How the conversation is written. */
  readonly render?: (messages: readonly ChatMessage[]) => string;
  /** Waits before each token; not at all when absent. */
  readonly delayMs?: number;
  /** Characters of a token; 3 when absent. */
  readonly size?: number;
  /** Fails before this token. */
  readonly failAt?: number;
}

export interface ScriptedModel extends LanguageModel {
  readonly calls: ScriptedCall[];
  readonly running: number;
  /** The most that it wrote at the same time. */
  readonly mostRunning: number;
  recover(): Promise<void>;
}

/** A model without a GPU that writes what a test says: for what stands between it and a user. */
export function scriptedModel(script: Script): ScriptedModel {
  const calls: ScriptedCall[] = [];
  let running = 0;
  let mostRunning = 0;
  const encode = (text: string): number[] => Array.from(text, (character) => character.codePointAt(0) ?? 0);
  const unused = (): never => {
    throw new ArgumentError('A scripted model does not do this.', 'Use a real one.');
  };
  async function* write(call: ScriptedCall): AsyncGenerator<GeneratedPiece, GenerationResult> {
    running += 1;
    mostRunning = Math.max(mostRunning, running);
    const { signal, tools, maxTokens = 256 } = call.options;
    const parser = (tools?.length ?? 0) > 0 ? new ToolCallParser() : undefined;
    const texts: string[] = [];
    const piece = (given: string, parsed = parser?.push(given)): GeneratedPiece => {
      texts.push(parsed?.text ?? given);
      return { text: parsed?.text ?? given, token: 65, ...(parsed && { toolCalls: parsed.parts }) };
    };
    const result = (finishReason: GenerationResult['finishReason']): GenerationResult => {
      call.outcome = finishReason;
      const speed = { timeToFirstTokenMs: 1, prefillMs: 1, decodeMs: 1 };
      return {
        text: texts.join(''),
        tokens: Array.from({ length: call.written }, () => 65),
        finishReason,
        ...(parser && { toolCalls: parser.calls }),
        usage: { promptTokens: 7, completionTokens: call.written },
        timings: { ...speed, prefillTokensPerSecond: 1, decodeTokensPerSecond: 1 },
      };
    };
    let isOver = false;
    try {
      signal?.throwIfAborted();
      const parts = script.text(call, calls.indexOf(call)).match(new RegExp(`.{1,${script.size ?? 3}}`, 'gsu')) ?? [];
      for (const part of parts.slice(0, maxTokens)) {
        if (script.delayMs !== undefined) await new Promise((resolve) => setTimeout(resolve, script.delayMs));
        signal?.throwIfAborted();
        if (call.written === script.failAt) throw new ArgumentError('The script fails.', 'Do not.');
        call.written += 1;
        yield piece(part);
      }
      isOver = true;
      const rest = parser?.flush();
      if (rest !== undefined) yield piece('', rest);
      return result(parts.length > maxTokens ? 'length' : 'stop');
    } finally {
      running -= 1;
      if (!isOver) result('abort');
    }
  }
  return {
    calls,
    get running(): number {
      return running;
    },
    get mostRunning(): number {
      return mostRunning;
    },
    spec: { family: 'scripted', hiddenSize: 2, vocabSize: 128 } as ModelSpec,
    config: {},
    capabilities: BASELINE_CAPABILITIES,
    contextLength: Infinity,
    tokenizer: {
      encode,
      decode: (ids) => String.fromCodePoint(...ids),
      tokenToId: (token) => token.codePointAt(0),
      idToToken: (id) => String.fromCodePoint(id),
      vocabSize: 128,
      specialIds: { bos: undefined, eos: undefined, pad: undefined, unk: undefined, all: new Set() },
    },
    chatTemplate: {
      exists: script.render !== undefined,
      names: [],
      render: (messages) => script.render?.(messages) ?? unused(),
    },
    generate: (prompt, options = {}) => {
      const call: ScriptedCall = { prompt, options, written: 0 };
      calls.push(call);
      return new ScriptedText(call, write(call));
    },
    embed: (texts) => Promise.resolve(texts.map((text) => Float32Array.of(text.length, 0))),
    memory: unused,
    logits: unused,
    score: unused,
    logprobs: unused,
    session: unused,
    restore: unused,
    verify: unused,
    recover: unused,
    dispose: () => undefined,
  };
}

/** One reader at a time, which is all that is needed here. */
class ScriptedText implements TextStream {
  readonly #source: AsyncGenerator<GeneratedPiece, GenerationResult>;
  readonly #call: ScriptedCall;
  readonly #texts: string[] = [];
  #outcome: Promise<GenerationResult> | undefined;

  constructor(call: ScriptedCall, source: AsyncGenerator<GeneratedPiece, GenerationResult>) {
    this.#call = call;
    this.#source = source;
  }

  get result(): Promise<GenerationResult> {
    return this.#drain();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<GeneratedPiece, void> {
    let isOver = false;
    try {
      for (;;) {
        const { value, done } = await this.#source.next();
        isOver = done === true;
        if (done === true) {
          this.#outcome = Promise.resolve(value);
          return;
        }
        this.#texts.push(value.text);
        yield value;
      }
    } catch (error) {
      isOver = true;
      this.#outcome = Promise.reject(error);
      this.#outcome.catch(() => undefined);
      throw error;
    } finally {
      if (!isOver) {
        const usage = { promptTokens: 7, completionTokens: this.#call.written };
        const left = { text: this.#texts.join(''), tokens: [], finishReason: 'abort', usage } as unknown;
        this.#outcome = Promise.resolve(left as GenerationResult);
        await this.#source.return(left as GenerationResult);
      }
    }
  }

  toReadableStream(): ReadableStream<string> {
    throw new Error('Nobody asks a scripted text for a stream.');
  }

  async #drain(): Promise<GenerationResult> {
    if (this.#outcome === undefined) for await (const _piece of this);
    if (this.#outcome === undefined) throw new Error('The text did not end.');
    return await this.#outcome;
  }
}
