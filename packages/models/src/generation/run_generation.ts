import type { Detokenizer } from '../text/detokenizer.ts';
import type { Tokenizer } from '../text/tokenizer.ts';
import type { ToolCallPart } from '../tool_calls/index.ts';
import { TOOL_CALL_MARKERS, ToolCallParser } from '../tool_calls/index.ts';
import type { TokenConstraint } from './constraint.ts';
import type { GeneratedPiece, GenerationEvents, GenerationResult, TokenStream } from './generate.ts';
import { generateInLoop, generateTokens } from './generate.ts';
import type { GenerationPlan } from './options.ts';
import type { SampledToken } from './sampling_control.ts';
import type { Sequence } from './sequence.ts';
import type { Drafter } from './speculative.ts';
import { generateSpeculatively } from './speculative.ts';
import { StopTexts } from './stop_texts.ts';

/** A sequence lent to one generation, and how it goes back. */
export interface LentSequence {
  readonly sequence: Sequence;
  /** What the sequence holds already, and what is left to process, where that is not nothing and the prompt. */
  readonly history?: readonly number[];
  readonly prompt?: readonly number[];
  /** Tokens of the prompt that need not be processed, since the model remembered them. */
  readonly cachedTokens?: number;
  /** Called when the first token is there. */
  onPrompt?(): void;
  /** Called with every token, before it is handed out. */
  onToken?(token: number): void;
  release(): void;
}

/** What a generation needs of its model. */
export interface GenerationSetup {
  /** Without one, pieces have no text. */
  readonly tokenizer: Tokenizer | undefined;
  /** Throws for a bad prompt or option; called when the generation starts. */
  readonly plan: () => GenerationPlan;
  /** What the plan's response format allows. */
  readonly constrain: (plan: GenerationPlan) => Promise<TokenConstraint | undefined>;
  /** What guesses tokens, where the plan asks for it. */
  readonly draft: (plan: GenerationPlan) => Promise<Drafter | undefined>;
  /** Whether calls of tools are taken out of the text. */
  readonly hasTools: boolean;
  readonly acquire: (plan: GenerationPlan) => Promise<LentSequence>;
}

/** What a generation has written so far, and when. */
export class Progress implements GenerationEvents {
  promptTokens = 0;
  cachedTokens = 0;
  toolCalls: ToolCallParser | undefined;
  readonly #tokens: number[] = [];
  readonly #logprobs: number[] = [];
  readonly #texts: string[] = [];
  #started = 0;
  #firstToken = 0;
  #drafted: { drafted: number; accepted: number } | undefined;

  start(): void {
    this.#started = performance.now();
    this.#firstToken = this.#started;
  }

  onPrompt(): void {
    this.#firstToken = performance.now();
  }

  onDraft(drafted: number, accepted: number): void {
    this.#drafted ??= { drafted: 0, accepted: 0 };
    this.#drafted.drafted += drafted;
    this.#drafted.accepted += accepted;
  }

  addToken({ token, logprob }: SampledToken): void {
    this.#tokens.push(token);
    if (logprob !== undefined) this.#logprobs.push(logprob);
  }

  addText(text: string): void {
    this.#texts.push(text);
  }

  result(finishReason: GenerationResult['finishReason']): GenerationResult {
    const { promptTokens, cachedTokens } = this;
    const tokens = [...this.#tokens];
    const prefillMs = this.#firstToken - this.#started;
    const decodeMs = tokens.length === 0 ? 0 : performance.now() - this.#firstToken;
    const drafted = this.#drafted;
    return {
      text: this.#texts.join(''),
      tokens,
      finishReason,
      ...(this.toolCalls && { toolCalls: this.toolCalls.calls }),
      ...(this.#logprobs.length > 0 && { logprobs: [...this.#logprobs] }),
      usage: { promptTokens, completionTokens: tokens.length, ...(cachedTokens > 0 && { cachedTokens }) },
      timings: {
        timeToFirstTokenMs: prefillMs,
        prefillMs,
        decodeMs,
        prefillTokensPerSecond: prefillMs > 0 ? ((promptTokens - cachedTokens) / prefillMs) * 1000 : 0,
        decodeTokensPerSecond: decodeMs > 0 ? ((tokens.length - 1) / decodeMs) * 1000 : 0,
        ...(drafted && { draftedTokens: drafted.drafted, acceptedTokens: drafted.accepted }),
      },
    };
  }
}

/** Runs a generation: tokens to text, less stop texts and calls of tools. */
export async function* runGeneration(
  setup: GenerationSetup,
  progress: Progress,
): AsyncGenerator<GeneratedPiece, GenerationResult> {
  progress.start();
  const plan = setup.plan();
  plan.signal?.throwIfAborted();
  progress.promptTokens = plan.prompt.length;
  const writer = new TextWriter(setup, plan.stopTexts);
  progress.toolCalls = writer.toolCalls;
  const constraint = await setup.constrain(plan);
  let drafter: Drafter | undefined;
  let lent: LentSequence | undefined;
  try {
    lent = await setup.acquire(plan);
    progress.cachedTokens = lent.cachedTokens ?? 0;
    drafter = await setup.draft(plan);
    const { sequence, prompt = plan.prompt, history = plan.history } = lent;
    const source = streamOf(sequence, { ...plan, prompt, history }, constraint, drafter, eventsOf(progress, lent));
    let last: SampledToken | undefined;
    let finishReason: GenerationResult['finishReason'] | undefined;
    try {
      while (finishReason === undefined) {
        const { value, done } = await source.next();
        if (done === true) {
          finishReason = value;
        } else {
          last = value;
          progress.addToken(value);
          lent.onToken?.(value.token);
          const { text, parts } = writer.push(value.token);
          progress.addText(text);
          yield { text, ...value, ...(parts.length > 0 && { toolCalls: parts }) };
          if (writer.stopped) finishReason = 'stop';
        }
      }
    } finally {
      // Waits for steps on their way, so that the sequence goes back quiet.
      await source.return('abort');
    }
    if (finishReason === 'abort') plan.signal?.throwIfAborted();
    const result = progress.result(finishReason);
    const { text, parts } = writer.flush();
    progress.addText(text);
    // What the last tokens left open belongs to the last of them.
    if (last !== undefined && (text !== '' || parts.length > 0)) {
      yield { text, token: last.token, ...(parts.length > 0 && { toolCalls: parts }) };
    }
    const ended = writer.stopped ? 'stop' : finishReason;
    return { ...progress.result(ended), timings: result.timings };
  } finally {
    constraint?.dispose();
    drafter?.release();
    lent?.release();
  }
}

function eventsOf(progress: Progress, lent: LentSequence): GenerationEvents {
  return {
    onPrompt: () => {
      progress.onPrompt();
      lent.onPrompt?.();
    },
    onDraft: (drafted, accepted) => progress.onDraft(drafted, accepted),
  };
}

function streamOf(
  sequence: Sequence,
  plan: GenerationPlan,
  constraint: TokenConstraint | undefined,
  drafter: Drafter | undefined,
  events: GenerationEvents,
): TokenStream {
  if (drafter !== undefined) return generateSpeculatively(sequence, plan, drafter, events);
  const isInLoop = constraint !== undefined || plan.logitsProcessor !== undefined;
  return isInLoop ? generateInLoop(sequence, plan, constraint, events) : generateTokens(sequence, plan, events);
}

/** What a token, or the end, settled. */
interface Written {
  readonly text: string;
  readonly parts: readonly ToolCallPart[];
}

/** Tokens to the text that a reader sees. */
class TextWriter {
  readonly toolCalls: ToolCallParser | undefined;
  readonly #stops: StopTexts;
  readonly #detokenizer: Detokenizer | undefined;
  readonly #skipped: (token: number) => boolean;

  constructor({ tokenizer, hasTools }: GenerationSetup, stopTexts: readonly string[]) {
    this.toolCalls = hasTools ? new ToolCallParser() : undefined;
    this.#stops = new StopTexts(stopTexts);
    this.#detokenizer = tokenizer?.detokenizer();
    this.#skipped = (token): boolean => {
      if (tokenizer?.specialIds.all.has(token) !== true) return false;
      return !hasTools || !TOOL_CALL_MARKERS.has(tokenizer.idToToken(token) ?? '');
    };
  }

  /** Whether a stop text was found. */
  get stopped(): boolean {
    return this.#stops.found;
  }

  push(token: number): Written {
    return this.#write(this.#skipped(token) ? '' : (this.#detokenizer?.push(token) ?? ''));
  }

  flush(): Written {
    const open = this.#stops.found ? '' : (this.#detokenizer?.flush() ?? '');
    const text = this.#stops.push(open) + this.#stops.flush();
    if (this.toolCalls === undefined) return { text, parts: [] };
    const before = this.toolCalls.push(text);
    const rest = this.toolCalls.flush();
    return { text: before.text + rest.text, parts: [...before.parts, ...rest.parts] };
  }

  #write(piece: string): Written {
    const text = this.#stops.push(piece);
    return this.toolCalls?.push(text) ?? { text, parts: [] };
  }
}
