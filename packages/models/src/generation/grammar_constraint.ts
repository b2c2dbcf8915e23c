import { ArgumentError } from '@mambalab/kernels';
import type { Tokenizer } from '../text/tokenizer.ts';
import type { ResponseFormat, TokenConstraint } from './constraint.ts';

/** What is used of XGrammar. Its objects live in its own memory until they are disposed. */
export interface GrammarEngine {
  readonly TokenizerInfo: {
    createTokenizerInfo(
      encodedVocab: string[],
      vocabType: string,
      prependSpaceInTokenization: boolean,
      vocabSize: number,
      stopTokenIds: number[],
    ): Promise<EngineObject>;
  };
  readonly GrammarCompiler: {
    createGrammarCompiler(info: EngineObject, cacheEnabled: boolean): Promise<EngineCompiler>;
  };
  readonly GrammarMatcher: {
    createGrammarMatcher(
      grammar: EngineObject,
      overrideStopTokens: number[] | undefined,
      terminateWithoutStopToken: boolean,
    ): Promise<EngineMatcher>;
  };
}

export type GrammarEngineSource = () => Promise<GrammarEngine>;

interface EngineObject {
  dispose(): void;
}

interface EngineCompiler extends EngineObject {
  compileJSONSchema(schema: string, ...options: unknown[]): Promise<EngineObject>;
  compileBuiltinJSONGrammar(): Promise<EngineObject>;
  compileGrammar(grammar: string): Promise<EngineObject>;
  compileStructuralTag(tag: unknown): Promise<EngineObject>;
}

interface EngineMatcher extends EngineObject {
  acceptToken(token: number): boolean;
  getNextTokenBitmask(): Promise<Int32Array>;
  isTerminated(): boolean;
}

interface ReadyEngine {
  readonly engine: GrammarEngine;
  readonly compiler: EngineCompiler;
  readonly info: EngineObject;
}

/** Grammars that are kept compiled. */
const KEPT_GRAMMARS = 16;

/** Compiles response formats for the vocabulary of one model; needs nothing until the first. */
export class GrammarConstraints {
  readonly #source: GrammarEngineSource;
  readonly #tokenizer: Tokenizer;
  readonly #vocabSize: number;
  readonly #compiled = new Map<string, Promise<EngineObject>>();
  #ready: Promise<ReadyEngine> | undefined;

  /** @param vocabSize rows of the logits, which may be more than the tokenizer has tokens */
  constructor(source: GrammarEngineSource, tokenizer: Tokenizer, vocabSize: number) {
    this.#source = source;
    this.#tokenizer = tokenizer;
    this.#vocabSize = vocabSize;
  }

  /**
   * What a format allows, for one text that ends with one of `stops`; without any, where it first is complete.
   *
   * @throws ArgumentError for a format that the engine refuses
   */
  async constraint(format: ResponseFormat, stops: ReadonlySet<number>): Promise<TokenConstraint> {
    const { engine, compiler } = await this.#prepare();
    const key = JSON.stringify(format);
    const grammar = this.#compiled.get(key) ?? compile(compiler, format);
    // The grammar that was used last stands last.
    this.#compiled.delete(key);
    this.#compiled.set(key, grammar);
    grammar.catch(() => this.#compiled.delete(key));
    for (const [oldest, value] of this.#compiled) {
      if (this.#compiled.size <= KEPT_GRAMMARS) break;
      this.#compiled.delete(oldest);
      // Whatever matches it holds it by itself.
      void disposeOf(value);
    }
    const matcher = await engine.GrammarMatcher.createGrammarMatcher(
      await grammar,
      stops.size === 0 ? undefined : [...stops],
      stops.size === 0,
    );
    return new GrammarConstraint(matcher);
  }

  dispose(): void {
    for (const grammar of this.#compiled.values()) void disposeOf(grammar);
    this.#compiled.clear();
    void disposeOf(this.#ready?.then(({ compiler }) => compiler));
    void disposeOf(this.#ready?.then(({ info }) => info));
    this.#ready = undefined;
  }

  #prepare(): Promise<ReadyEngine> {
    this.#ready ??= this.#load();
    this.#ready.catch(() => (this.#ready = undefined));
    return this.#ready;
  }

  async #load(): Promise<ReadyEngine> {
    const engine = await this.#source();
    const { words, spelling } = vocabularyOf(this.#tokenizer);
    const info = await engine.TokenizerInfo.createTokenizerInfo(words, spelling, false, this.#vocabSize, []);
    return { engine, info, compiler: await engine.GrammarCompiler.createGrammarCompiler(info, false) };
  }
}

/** Frees an object once it is there; one that failed is none. */
async function disposeOf(object: Promise<EngineObject> | undefined): Promise<void> {
  const [made] = await Promise.allSettled([object]);
  if (made.status === 'fulfilled') made.value?.dispose();
}

class GrammarConstraint implements TokenConstraint {
  readonly #matcher: EngineMatcher;

  constructor(matcher: EngineMatcher) {
    this.#matcher = matcher;
  }

  get ended(): boolean {
    return this.#matcher.isTerminated();
  }

  async mask(): Promise<Uint32Array> {
    const words = await this.#matcher.getNextTokenBitmask();
    return new Uint32Array(words.buffer, words.byteOffset, words.length);
  }

  accept(token: number): void {
    if (this.#matcher.acceptToken(token)) return;
    throw new RangeError(`The grammar does not allow the token ${token}, which its mask allowed.`);
  }

  dispose(): void {
    this.#matcher.dispose();
  }
}

/**
 * The vocabulary as the engine takes it. Special tokens are empty, which the engine never allows inside a text: they
 * would be left out of it.
 */
function vocabularyOf(tokenizer: Tokenizer): { readonly words: string[]; readonly spelling: string } {
  const last = lastTokenOf(tokenizer);
  const words = Array.from({ length: last + 1 }, (_, id) =>
    tokenizer.specialIds.all.has(id) ? '' : (tokenizer.idToToken(id) ?? ''),
  );
  const has = (token: string): boolean => tokenizer.tokenToId(token) !== undefined;
  // Byte-level vocabularies spell a space as this letter, others a byte in hexadecimal or a space as a low line.
  const spelling =
    has('<0x0A>') || words.some((word) => word.startsWith('\u2581'))
      ? 'byte_fallback'
      : has('\u0120')
        ? 'byte_level'
        : 'raw';
  return { words, spelling };
}

/** The largest id: those of added tokens may lie beyond the number of tokens. */
function lastTokenOf(tokenizer: Tokenizer): number {
  let last = tokenizer.vocabSize - 1;
  for (const id of tokenizer.specialIds.all) last = Math.max(last, id);
  return last;
}

/** White space between elements, at most: a model that cannot decide would write nothing else. */
const MOST_SPACES = 32;

/** With properties that the schema does not name only where it says so, as OpenAI's strict mode has it. */
function compileSchema(compiler: EngineCompiler, schema: unknown): Promise<EngineObject> {
  return compiler.compileJSONSchema(JSON.stringify(schema), true, undefined, undefined, true, MOST_SPACES);
}

async function compile(compiler: EngineCompiler, format: ResponseFormat): Promise<EngineObject> {
  try {
    switch (format.type) {
      case 'json_object':
        return await compileSchema(compiler, { type: 'object', additionalProperties: true });
      case 'json_schema':
        return await compileSchema(compiler, format.schema);
      case 'regex':
        return await compiler.compileStructuralTag({
          type: 'structural_tag',
          format: { type: 'regex', pattern: format.pattern },
        });
      case 'grammar':
        return await compiler.compileGrammar(format.grammar);
    }
  } catch (cause) {
    throw new ArgumentError(
      `The grammar engine refuses the response format '${format.type}'.`,
      'It printed the reason to the console; see what XGrammar supports of JSON schema, or give a grammar.',
      { cause },
    );
  }
}
