import type { GeneratedPiece, GenerationResult } from '../generation/generate.ts';
import type { ToolCallPart } from '../tool_calls/index.ts';
import type { Reasoning } from './reasoning.ts';
import { ReasoningSplitter } from './reasoning.ts';
import { randomId } from './registry.ts';
import type { TokenNames } from './token_names.ts';
import type { ChatDelta, ChatTokenLogprob, ChatToolCall, ChatToolCallDelta, FinishReason } from './types.ts';

/** What became known of one answer. */
export interface ChatPart {
  readonly choice: number;
  readonly delta: ChatDelta;
  readonly logprobs: readonly ChatTokenLogprob[];
  readonly finish?: FinishReason;
  /** At the end, all calls that are complete. */
  readonly calls?: readonly ChatToolCall[];
}

export interface ChatWriterSettings {
  readonly choice: number;
  /** Where log-probabilities were asked for. */
  readonly names: TokenNames | undefined;
  /** How thoughts are found; undefined where the text has none. */
  readonly reasoning: Reasoning | undefined;
  /** Calls of tools that are handed on. */
  readonly mostCalls: number;
}

/** Pieces of a text as parts of an answer. */
export class ChatWriter {
  readonly #settings: ChatWriterSettings;
  readonly #splitter: ReasoningSplitter | undefined;
  readonly #ids: string[] = [];
  #reasoningTokens = 0;

  constructor(settings: ChatWriterSettings) {
    this.#settings = settings;
    const { reasoning } = settings;
    this.#splitter = reasoning === undefined ? undefined : new ReasoningSplitter(reasoning === 'open');
  }

  /** Tokens of thoughts so far. */
  get reasoningTokens(): number {
    return this.#reasoningTokens;
  }

  async push(piece: GeneratedPiece): Promise<ChatPart> {
    const { reasoning, text } = this.#splitter?.push(piece.text) ?? { reasoning: '', text: piece.text };
    if (this.#splitter?.isReasoning === true) this.#reasoningTokens += 1;
    const calls = this.#callsOf(piece.toolCalls ?? []);
    const { names } = this.#settings;
    const logprob =
      names === undefined || piece.logprob === undefined
        ? undefined
        : await names.chatLogprob(piece.token, piece.logprob, piece.topLogprobs ?? []);
    return this.#part(
      {
        ...(text !== '' && { content: text }),
        ...(reasoning !== '' && { reasoning_content: reasoning }),
        ...(calls.length > 0 && { tool_calls: calls }),
      },
      logprob === undefined ? [] : [logprob],
    );
  }

  finish({ finishReason, toolCalls = [] }: GenerationResult): ChatPart {
    const { reasoning, text } = this.#splitter?.flush() ?? { reasoning: '', text: '' };
    const delta = { ...(text !== '' && { content: text }), ...(reasoning !== '' && { reasoning_content: reasoning }) };
    const ended = finishReason === 'length' ? 'length' : 'stop';
    const calls = toolCalls
      .slice(0, this.#settings.mostCalls)
      .map(({ name, arguments: given }, index): ChatToolCall => {
        return { id: this.#idOf(index), type: 'function', function: { name, arguments: JSON.stringify(given) } };
      });
    return { ...this.#part(delta, []), calls, finish: calls.length > 0 ? 'tool_calls' : ended };
  }

  #part(delta: ChatDelta, logprobs: readonly ChatTokenLogprob[]): ChatPart {
    return { choice: this.#settings.choice, delta, logprobs };
  }

  #callsOf(parts: readonly ToolCallPart[]): ChatToolCallDelta[] {
    const deltas = new Map<number, ChatToolCallDelta>();
    for (const { index, name, argumentsText } of parts) {
      if (index >= this.#settings.mostCalls || (name === undefined && argumentsText === undefined)) continue;
      const delta = deltas.get(index) ?? { index };
      if (name !== undefined) {
        Object.assign(delta, { id: this.#idOf(index), type: 'function', function: { name, arguments: '' } });
      }
      const before = delta.function?.arguments ?? '';
      if (argumentsText !== undefined) delta.function = { ...delta.function, arguments: before + argumentsText };
      deltas.set(index, delta);
    }
    return [...deltas.values()];
  }

  #idOf(index: number): string {
    // Some templates want nine letters and digits, and none wants anything else.
    return (this.#ids[index] ??= randomId('', 9));
  }
}
