import { Ajv } from 'ajv';
import { describe, expect, it } from 'vitest';
import type { ResponseFormat } from '../../../packages/models/src/generation/constraint.ts';
import { GrammarConstraints } from '../../../packages/models/src/generation/grammar_constraint.ts';
import { grammarEngine } from '../../../packages/models/src/generation/grammar_engine_node.ts';
import { createTokenizer } from '../../../packages/models/src/text/tokenizer.ts';
import { readFixture } from '../../support/fixtures.ts';
import { randomSchema } from '../../support/json_schemas.ts';
import { Random } from '../../support/numbers.ts';

const isLong = process.env['MAMBALAB_LONG'] === '1';

// Vocabularies of both spellings: bytes in hexadecimal, and byte-level; logits have more rows than there are tokens.
describe.each(['models/stories260k', 'text/gpt_neox_small'])('with the vocabulary of %s', (name) => {
  const tokenizer = createTokenizer(
    readFixture(`${name}/tokenizer.json`),
    readFixture(`${name}/tokenizer_config.json`),
  );
  const vocabSize = tokenizer.vocabSize + 70;
  const end = tokenizer.specialIds.eos ?? 0;
  const constraints = new GrammarConstraints(grammarEngine, tokenizer, vocabSize);

  /** A text by a model that knows nothing: each allowed token is as probable as any other. */
  async function write(format: ResponseFormat, seed: number, stops = new Set([end])): Promise<string> {
    const random = new Random(seed);
    const constraint = await constraints.constraint(format, stops);
    const tokens: number[] = [];
    while (!constraint.ended && tokens.length < 5000) {
      const mask = await constraint.mask();
      expect(mask).toHaveLength(Math.ceil(vocabSize / 32));
      const allowed: number[] = [];
      for (let token = 0; token < vocabSize; token++) {
        if ((((mask[token >>> 5] ?? 0) >>> (token & 31)) & 1) === 1) allowed.push(token);
      }
      const token = allowed[random.integer(0, allowed.length - 1)] ?? -1;
      expect(token).toBeLessThan(tokenizer.vocabSize);
      constraint.accept(token);
      if (!stops.has(token)) tokens.push(token);
    }
    constraint.dispose();
    const text = tokenizer.decode(tokens, { skipSpecialTokens: true });
    // What is left out of the text was never allowed in it.
    expect(tokenizer.decode(tokens)).toBe(text);
    return text;
  }

  it('every text of a random schema is valid JSON of it', async () => {
    for (let seed = 0; seed < (isLong ? 200 : 40); seed++) {
      const schema = randomSchema(new Random(seed), 3);
      const text = await write({ type: 'json_schema', schema }, seed);
      const validate = new Ajv({ strict: false }).compile(schema);
      expect(validate(JSON.parse(text)), `${JSON.stringify(schema)}: ${text}`).toBe(true);
    }
  }, 120_000);

  it('every text of a pattern matches it, and ends by itself where no token ends it', async () => {
    for (let seed = 0; seed < 10; seed++) {
      expect(await write({ type: 'regex', pattern: '[a-zé]{1,3}(-[0-9]{2}){2}' }, seed)).toMatch(
        /^[a-zé]{1,3}(-[0-9]{2}){2}$/,
      );
      expect(await write({ type: 'regex', pattern: '(yes|no)!' }, seed, new Set())).toMatch(/^(yes|no)!$/);
    }
  });

  it('grammars may be recursive', async () => {
    const grammar = 'root ::= "(" root ")" | "x"';
    for (let seed = 0; seed < 5; seed++) expect(await write({ type: 'grammar', grammar }, seed)).toMatch(/^\(*x\)*$/);
  });

  it('compiled grammars are kept, the latest of them', async () => {
    for (let round = 0; round < 40; round++) {
      const letters = 'abcdefghijklmnopqrst'[round % 20] ?? '';
      expect(await write({ type: 'regex', pattern: `${letters}{2}` }, round)).toBe(letters.repeat(2));
    }
  });
});
