/** Something to be found in a context, and what it is: tokens that must follow. */
export interface Question {
  readonly context: readonly number[];
  /** Tokens of the answer, the space before it included. */
  readonly answer: readonly number[];
  /** The tokens that count where parts of an answer are counted; all when absent. */
  readonly counted?: readonly number[];
  /** Where in the context it stands: 0 at the beginning, towards 1 at the end. */
  readonly depth: number;
}
