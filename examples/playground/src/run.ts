import type { GenerateOptions, GenerationResult, Model, Session } from '@mambalab/models';

/** What is known of a text in the making. Times are of `performance.now()`. */
export interface Run {
  readonly started: number;
  /** Tokens of the session when this run began. */
  readonly before: number;
  promptTokens: number;
  writtenTokens: number;
  firstToken: number | undefined;
  lastToken: number | undefined;
  /** Tokens of the session, its prompt included. */
  tokens: number;
}

export interface Rates {
  readonly firstTokenMs: number;
  readonly tokensPerSecond: number;
}

export function ratesOf({ started, firstToken, lastToken, writtenTokens }: Run): Rates {
  return {
    firstTokenMs: (firstToken ?? NaN) - started,
    tokensPerSecond: ((writtenTokens - 1) / ((lastToken ?? NaN) - (firstToken ?? NaN))) * 1000,
  };
}

/** A prompt as sessions take it; without one, the text goes on. */
export type Part = Parameters<Session['append']>[0] | undefined;

/**
 * Writes on in a session.
 *
 * @param onPiece called after each token, with its text and what is known by then
 */
export async function writeOn(
  session: Session,
  part: Part,
  options: GenerateOptions,
  onPiece: (text: string, run: Run) => void,
): Promise<GenerationResult> {
  const before = session.length;
  const run: Run = {
    started: performance.now(),
    before,
    promptTokens: 0,
    writtenTokens: 0,
    firstToken: undefined,
    lastToken: undefined,
    tokens: before,
  };
  const text = part === undefined ? session.generate(options) : session.generate(part, options);
  for await (const piece of text) {
    run.lastToken = performance.now();
    run.firstToken ??= run.lastToken;
    run.writtenTokens += 1;
    run.tokens = session.length;
    run.promptTokens = Math.max(0, run.tokens - before - run.writtenTokens);
    onPiece(piece.text, run);
  }
  const result = await text.result;
  run.tokens = session.length;
  run.writtenTokens = result.usage.completionTokens;
  run.promptTokens = Math.max(0, run.tokens - before - run.writtenTokens);
  onPiece('', run);
  return result;
}

/** Bytes that a text of so many tokens needs: what never grows, and what each token adds to. */
export function memoryOfText(model: Model, tokens: number): { readonly state: number; readonly cache: number } {
  const { stateBytes, kvBytesPerToken } = model.memory();
  return { state: stateBytes, cache: kvBytesPerToken * tokens };
}
