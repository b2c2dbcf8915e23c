import { ArgumentError } from '@mambalab/kernels';

/** What a text must be. */
export type ResponseFormat =
  | { readonly type: 'json_object' }
  | { readonly type: 'json_schema'; readonly schema: unknown }
  | { readonly type: 'regex'; readonly pattern: string }
  /** EBNF as llama.cpp and XGrammar write it, with the rule `root`. */
  | { readonly type: 'grammar'; readonly grammar: string };

/** Says which tokens may come next, of one text. */
export interface TokenConstraint {
  /** Bit i % 32 of word i / 32 is 1 where token i may come next, (ceil(V / 32)). */
  mask(): Promise<Uint32Array>;
  /** Takes note of the next token. */
  accept(token: number): void;
  /** Whether the text is complete, with nothing that could follow but its end. */
  readonly ended: boolean;
  dispose(): void;
}

/** @throws ArgumentError for what is no response format */
export function checkResponseFormat(format: ResponseFormat): void {
  const { type } = format;
  const refuse = (problem: string, hint: string): never => {
    throw new ArgumentError(`'responseFormat' ${problem}.`, hint);
  };
  switch (type) {
    case 'json_object':
      return;
    case 'json_schema': {
      const { schema } = format;
      const isSchema = typeof schema === 'boolean' || (typeof schema === 'object' && schema !== null);
      if (!isSchema) refuse('has no schema', "Give a JSON schema as an object, in 'schema'.");
      return;
    }
    case 'regex':
      if (!isPattern(format.pattern)) {
        refuse(`has the pattern ${String(format.pattern)}`, 'Give a regular expression as a string.');
      }
      return;
    case 'grammar':
      if (!/^\s*root\s*::=/m.test(format.grammar)) {
        refuse("has a grammar without the rule 'root'", 'Give EBNF, such as `root ::= "yes" | "no"`.');
      }
      return;
    default:
      refuse(`has the type ${String(type)}`, "Give 'json_object', 'json_schema', 'regex' or 'grammar'.");
  }
}

function isPattern(pattern: string): boolean {
  try {
    return typeof pattern === 'string' && RegExp(pattern) instanceof RegExp;
  } catch {
    return false;
  }
}
