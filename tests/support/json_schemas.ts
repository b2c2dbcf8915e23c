import type { Random } from './numbers.ts';

/** A JSON schema, as a value. */
export type Schema = Readonly<Record<string, unknown>>;

/**
 * A random schema of objects, arrays, strings, numbers, enumerations and choices, no deeper than `depth`. Whatever has
 * no end of its own is bounded, so that a model which writes at random comes to an end.
 */
export function randomSchema(random: Random, depth = 2): Schema {
  const properties = Object.fromEntries(
    Array.from({ length: random.integer(1, 3) }, (_, at) => [`k${at}`, randomValue(random, depth)]),
  );
  const names = Object.keys(properties);
  return {
    type: 'object',
    properties,
    required: names.filter((_, at) => at === 0 || random.integer(0, 1) === 1),
    additionalProperties: false,
  };
}

function randomValue(random: Random, depth: number): Schema {
  switch (random.integer(0, depth > 0 ? 7 : 4)) {
    case 0:
      return { type: 'boolean' };
    case 1:
      return { type: 'integer', minimum: -random.integer(0, 20), maximum: random.integer(0, 300) };
    case 2:
      return { type: 'string', minLength: random.integer(0, 2), maxLength: random.integer(2, 6) };
    case 3:
      return { enum: ['red', 'light green', 7, null, true].slice(0, random.integer(1, 5)) };
    case 4:
      return { type: 'string', pattern: '^[a-c]{2}-[0-9]{1,3}$' };
    case 5:
      return {
        type: 'array',
        items: randomValue(random, depth - 1),
        minItems: random.integer(0, 1),
        maxItems: random.integer(1, 3),
      };
    case 6:
      return { anyOf: [{ type: 'null' }, randomValue(random, depth - 1)] };
    default:
      return randomSchema(random, depth - 1);
  }
}
