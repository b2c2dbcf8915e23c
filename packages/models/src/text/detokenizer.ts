import type { DecodeStage } from './decoder.ts';

/**
 * Turns the tokens of one text into text as they arrive. `push` returns only text that no later token can change; all
 * returned text and then `flush()`, joined, equals `Tokenizer.decode` of all tokens. A token costs the same however
 * many came before it.
 */
export interface Detokenizer {
  /** The text that this token settles; often its own, `''` while a character is incomplete. */
  push(id: number): string;
  /** What was held back; afterwards the detokenizer is spent. */
  flush(): string;
}

/**
 * A detokenizer of decode steps.
 *
 * @param tokenOf the token of an id, or undefined for one that adds no text (skipped, or not in the vocabulary)
 */
export function createDetokenizer(
  tokenOf: (id: number) => string | undefined,
  stages: readonly DecodeStage[],
): Detokenizer {
  const run = (pieces: readonly string[], from: number): readonly string[] =>
    stages.slice(from).reduce((items, stage) => items.flatMap((item) => stage.push(item)), pieces);
  return {
    push: (id) => {
      const token = tokenOf(id);
      return token === undefined ? '' : run([token], 0).join('');
    },
    // What a step holds still has to go through the steps after it, before those are flushed.
    flush: () => stages.flatMap((stage, i) => run(stage.flush(), i + 1)).join(''),
  };
}
