import type { ResponseFormat } from '../generation/constraint.ts';
import { isObject } from './request_reader.ts';
import type { RequestReader } from './request_reader.ts';

/** A function that the model may call. */
export interface OfferedFunction {
  readonly name: string;
  readonly description?: string;
  readonly parameters: Readonly<Record<string, unknown>>;
}

/** Which functions a text may, or must, call. */
export interface ToolOrder {
  /** What the chat template is given. */
  readonly tools: readonly { readonly type: 'function'; readonly function: OfferedFunction }[];
  readonly functions: readonly OfferedFunction[];
  /** `auto`, or that one of `functions` is called. */
  readonly isForced: boolean;
}

const NO_PARAMETERS: Readonly<Record<string, unknown>> = { type: 'object', properties: {} };

/** Reads `tools` and `tool_choice`; undefined where nothing may be called. */
export function readTools(request: RequestReader): ToolOrder | undefined {
  const functions = request.objects('tools')?.map(readTool) ?? [];
  const repeated = functions.find(({ name }, at) => functions.findIndex((other) => other.name === name) !== at);
  if (repeated !== undefined) request.refuse('tools', `has the function '${repeated.name}' twice`);
  const chosen = readChoice(request);
  if (functions.length === 0) {
    if (chosen !== undefined && chosen !== 'none') request.refuse('tool_choice', "is set without 'tools'");
    return undefined;
  }
  if (chosen === 'none') return undefined;
  const tools = functions.map((described) => ({ type: 'function' as const, function: described }));
  if (typeof chosen !== 'object') return { tools, functions, isForced: chosen === 'required' };
  const named = functions.filter(({ name }) => name === chosen.name);
  if (named.length === 0) request.refuse('tool_choice', `names '${chosen.name}', which is not among the tools`);
  return { tools, functions: named, isForced: true };
}

function readTool(tool: RequestReader): OfferedFunction {
  const type = tool.string('type');
  if (type !== 'function') tool.refuse('type', "must be 'function'", 'unsupported_value');
  const described = tool.object('function') ?? tool.refuse('function', 'is missing', 'missing_required_parameter');
  tool.refuseOthers();
  const name = described.string('name') ?? described.refuse('name', 'is missing', 'missing_required_parameter');
  if (!/^[\w.-]{1,64}$/.test(name)) described.refuse('name', 'must have 1 to 64 letters, digits, _, - or .');
  const description = described.string('description');
  const parameters = described.value('parameters') ?? NO_PARAMETERS;
  if (!isObject(parameters)) return described.refuse('parameters', 'must be a JSON schema');
  described.ignore('strict');
  described.refuseOthers();
  return { name, ...(description !== undefined && { description }), parameters };
}

function readChoice(request: RequestReader): 'auto' | 'none' | 'required' | { readonly name: string } | undefined {
  if (typeof request.value('tool_choice') !== 'object') {
    return request.choice<'auto' | 'none' | 'required'>('tool_choice', ['auto', 'none', 'required']);
  }
  const choice = request.object('tool_choice');
  if (choice === undefined) return undefined;
  if (choice.string('type') !== 'function') choice.refuse('type', "must be 'function'", 'unsupported_value');
  const name = choice.object('function')?.string('name');
  return name === undefined ? choice.refuse('function', 'is missing') : { name };
}

/**
 * The format of a text that is a call of one of several functions, or, where one is given, of `other`. Calls are
 * written as JSON alone, which is read as a call whatever the template's own style is.
 *
 * @throws APIError where `other` is no JSON
 */
export function callFormat(functions: readonly OfferedFunction[], other?: ResponseFormat): ResponseFormat | undefined {
  const rest = other === undefined ? [] : [schemaOf(other)];
  if (rest.includes(undefined)) return undefined;
  // Each has a name at the root: grammar engines follow references through objects alone.
  const calls = functions.map(({ name, parameters }, index) => ({
    type: 'object',
    properties: { name: { const: name }, arguments: moved(parameters, `#/$defs/form${index}/properties/arguments`) },
    required: ['name', 'arguments'],
  }));
  const forms = [...calls, ...rest.map((schema) => moved(schema, `#/$defs/form${calls.length}`))];
  const schema = {
    anyOf: forms.map((_, index) => ({ $ref: `#/$defs/form${index}` })),
    $defs: Object.fromEntries(forms.map((form, index) => [`form${index}`, form])),
  };
  return { type: 'json_schema', schema };
}

function schemaOf(format: ResponseFormat): unknown {
  if (format.type === 'json_object') return { type: 'object', additionalProperties: true };
  return format.type === 'json_schema' ? format.schema : undefined;
}

/** A schema that stands inside another: references to its root point to its place there. */
function moved(schema: unknown, place: string): unknown {
  if (Array.isArray(schema)) return schema.map((item) => moved(item, place));
  if (!isObject(schema)) return schema;
  return Object.fromEntries(
    Object.entries(schema).map(([key, value]) =>
      key === '$ref' && typeof value === 'string' && value.startsWith('#')
        ? [key, place + value.slice(1)]
        : [key, moved(value, place)],
    ),
  );
}
