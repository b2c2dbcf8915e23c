import { Environment, Interpreter, Template } from '@huggingface/jinja';
import { ArgumentError, UnsupportedModelError } from '@mambalab/kernels';
import { strftime } from './strftime.ts';
import { childConfigs, field, namedToken, typeOf } from './tokenizer_json.ts';

/** One turn of a conversation. Templates may read further fields, such as `tool_calls`. */
export interface ChatMessage {
  readonly role: string;
  readonly content: unknown;
  readonly [field: string]: unknown;
}

/** What a template is rendered with, beyond the messages. */
export interface ChatTemplateOptions {
  /** End with what makes the model answer. Default true. */
  readonly addGenerationPrompt?: boolean;
  /** Functions that the model may call, as JSON schemas. */
  readonly tools?: readonly unknown[];
  /** Texts that the answer should rest on, usually with the fields `title` and `text`; for templates that know them. */
  readonly documents?: readonly Readonly<Record<string, unknown>>[];
  /** Which of several named templates, such as `rag`. Default: `tool_use` where tools are given, else `default`. */
  readonly template?: string;
  /** Further variables that this model's template knows, such as `enable_thinking`. */
  readonly variables?: Readonly<Record<string, unknown>>;
}

/** A model's own way to write a conversation as one text. */
export interface ChatTemplate {
  /** Whether the model has one. */
  readonly exists: boolean;
  /** Names of its templates; `default` is the one without a name. */
  readonly names: readonly string[];
  /**
   * The conversation as text. It holds its special tokens already: encode it with `addSpecialTokens: false`.
   *
   * @throws UnsupportedModelError if the model has no template, or one that cannot be read; ArgumentError if the
   * template refuses the messages, or there is none of the name asked for.
   */
  render(messages: readonly ChatMessage[], options?: ChatTemplateOptions): string;
}

/** Texts of templates that a checkpoint may have, the first counting most. */
export interface ChatTemplateFiles {
  /** The text of chat_template.jinja. */
  readonly jinja?: string | undefined;
  /** chat_template.json, parsed. */
  readonly json?: unknown;
}

/**
 * The chat template of a checkpoint: `chat_template.jinja` where there is one, otherwise the `chat_template` of
 * chat_template.json or of tokenizer_config.json (a template, or a list of named ones).
 *
 * @param tokenizerConfig tokenizer_config.json, parsed; it also names the tokens that templates write
 */
export function createChatTemplate(tokenizerConfig: unknown, files: ChatTemplateFiles = {}): ChatTemplate {
  const templates = new Map([...readTemplates(tokenizerConfig), ...readTemplates(files.json)]);
  if (files.jinja !== undefined) templates.set('default', files.jinja);
  const tokens = specialTokens(tokenizerConfig);
  const parsed = new Map<string, Template>();
  const names = [...templates.keys()];
  return {
    exists: names.length > 0,
    names,
    render: (messages, { addGenerationPrompt = true, tools, documents, template: asked, variables } = {}) => {
      if (asked !== undefined && names.length > 0 && !templates.has(asked)) {
        throw new ArgumentError(
          `The model has no chat template '${asked}'.`,
          `Its templates are: ${names.join(', ')}.`,
        );
      }
      const name = asked ?? (tools !== undefined && templates.has('tool_use') ? 'tool_use' : 'default');
      const source = templates.get(name);
      if (source === undefined) {
        throw new UnsupportedModelError(
          'This model has no chat template.',
          'Give the prompt as text, or use a model that was tuned for chat.',
        );
      }
      const template = parsed.get(source) ?? parseTemplate(source);
      parsed.set(source, template);
      return renderTemplate(template, {
        ...tokens,
        // Templates test these with `is not none`, so they are always there.
        tools: tools ?? null,
        documents: documents ?? null,
        ...variables,
        messages,
        add_generation_prompt: addGenerationPrompt,
      });
    },
  };
}

/** `bos_token`, `eos_token` and whatever other tokens the configuration names. */
function specialTokens(config: unknown): Record<string, string> {
  const names = typeof config === 'object' && config !== null ? Object.keys(config) : [];
  return Object.fromEntries(
    names.flatMap((name) => {
      const token = name.endsWith('_token') ? namedToken(config, name) : undefined;
      return token === undefined ? [] : [[name, token]];
    }),
  );
}

function readTemplates(config: unknown): Map<string, string> {
  const whole = field(config, 'chat_template');
  const named = childConfigs(config, 'chat_template').flatMap((item) => {
    const name = field(item, 'name');
    const template = field(item, 'template');
    return typeof name === 'string' && typeof template === 'string' ? [[name, template] as const] : [];
  });
  return new Map(typeof whole === 'string' ? [['default', whole]] : named);
}

function parseTemplate(source: string): Template {
  try {
    const template = new Template(source);
    writeUndefinedAsNothing(template.parsed);
    return template;
  } catch (cause) {
    throw new UnsupportedModelError(
      `The model's chat template cannot be read: ${messageOf(cause)}.`,
      'Render the conversation yourself and give it as text.',
      { cause },
    );
  }
}

/**
 * Lets `string` make nothing of what is undefined, as in Python, where the library throws: `value | string` becomes
 * `value | default('') | string`.
 */
function writeUndefinedAsNothing(node: unknown): void {
  if (typeof node !== 'object' || node === null) return;
  for (const child of Object.values(node)) writeUndefinedAsNothing(child);
  if (typeOf(node) !== 'FilterExpression' || field(field(node, 'filter'), 'value') !== 'string') return;
  const filter = {
    type: 'CallExpression',
    callee: { type: 'Identifier', value: 'default' },
    args: [{ type: 'StringLiteral', value: '' }],
  };
  Object.assign(node, { operand: { type: 'FilterExpression', operand: field(node, 'operand'), filter } });
}

/** What templates may call and name, as transformers gives it to them. */
const GLOBALS: Readonly<Record<string, unknown>> = {
  true: true,
  True: true,
  false: false,
  False: false,
  none: null,
  None: null,
  raise_exception: (message: unknown): never => {
    throw new Error(String(message));
  },
  range: (first: number, end?: number, step: number = 1): number[] => {
    const [from, to] = end === undefined ? [0, first] : [first, end];
    return Array.from({ length: Math.max(0, Math.ceil((to - from) / step)) }, (_, index) => from + index * step);
  },
  // The library's own writes months in the language of the browser.
  strftime_now: (format: string): string => strftime(new Date(), format),
};

function scopeOf(variables: Readonly<Record<string, unknown>>, parent?: Environment): Environment {
  const scope = new Environment(parent);
  for (const [name, value] of Object.entries(variables)) scope.set(name, value);
  return scope;
}

function renderTemplate(template: Template, variables: Readonly<Record<string, unknown>>): string {
  try {
    // Variables may have the names of globals, and then take their place.
    const { value } = new Interpreter(scopeOf(variables, scopeOf(GLOBALS))).run(template.parsed);
    return String(value);
  } catch (cause) {
    throw new ArgumentError(
      `The model's chat template refused the messages: ${messageOf(cause)}.`,
      'Check the roles, their order and the fields of each message.',
      { cause },
    );
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
