import { Ajv2020 } from 'ajv/dist/2020.js';
import schema from './results.schema.json' with { type: 'json' };
import type { AnyReport } from './any_report.ts';

const validate = new Ajv2020({ formats: { 'date-time': true } }).compile(schema);

/** A report of whatever command. @throws TypeError that names the first field which is not what the schema says */
export function parseReport(value: unknown): AnyReport {
  const isValid: boolean = validate(value);
  if (isValid) return value as AnyReport;
  const name = typeof value === 'object' && value !== null && 'schema' in value ? String(value.schema) : undefined;
  if (name === undefined || !/^mambalab-bench\/[a-z-]+$/.test(name)) {
    throw new TypeError('This is no result of mambalab-bench: it has no "schema" that begins with mambalab-bench/.');
  }
  // Errors of the other alternatives say nothing: the deepest one is of the alternative that the report means to be.
  const [first] = [...(validate.errors ?? [])]
    .filter(({ keyword, schemaPath }) => keyword !== 'oneOf' && !schemaPath.endsWith('/schema/const'))
    .sort((a, b) => b.instancePath.split('/').length - a.instancePath.split('/').length);
  throw new TypeError(
    `This is no valid ${name}: ${first?.instancePath || 'the report'} ${first?.message ?? 'is wrong'}.`,
  );
}
