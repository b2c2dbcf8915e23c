import { Template } from '@huggingface/jinja';
import { ArgumentError, UnsupportedModelError } from '@mambalab/kernels';
import { NAMED_TOKENS, childConfigs, field, namedToken } from './tokenizer_json.ts';

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
  /** Further variables that this model's template knows, such as `enable_thinking`. */
  readonly variables?: Readonly<Record<string, unknown>>;
}

/** A model's own way to write a conversation as one text. */
export interface ChatTemplate {
  /** Whether the model has one. */
  readonly exists: boolean;
  /**
   * The conversation as text. It holds its special tokens already: encode it with `addSpecialTokens: false`.
   *
   * @throws UnsupportedModelError if the model has no template, or one that cannot be read; ArgumentError if the
   * template refuses the messages.
   */
  render(messages: readonly ChatMessage[], options?: ChatTemplateOptions): string;
}

/**
 * The chat template of a checkpoint: `chat_template.jinja` where there is one, otherwise the `chat_template` of
 * tokenizer_config.json (a template, or a list of named ones).
 *
 * @param tokenizerConfig tokenizer_config.json, parsed; it also names the tokens that templates write
 * @param templateFile the text of chat_template.jinja
 */
export function createChatTemplate(tokenizerConfig: unknown, templateFile?: string): ChatTemplate {
  const templates = readTemplates(tokenizerConfig, templateFile);
  const tokens = NAMED_TOKENS.flatMap((name) => {
    const token = namedToken(tokenizerConfig, name);
    return token === undefined ? [] : [[name, token] as const];
  });
  const parsed = new Map<string, Template>();
  return {
    exists: templates.size > 0,
    render: (messages, { addGenerationPrompt = true, tools, variables } = {}) => {
      const source = (tools === undefined ? undefined : templates.get('tool_use')) ?? templates.get('default');
      if (source === undefined) {
        throw new UnsupportedModelError(
          'This model has no chat template.',
          'Give the prompt as text, or use a model that was tuned for chat.',
        );
      }
      const template = parsed.get(source) ?? parseTemplate(source);
      parsed.set(source, template);
      return renderTemplate(template, {
        ...Object.fromEntries(tokens),
        // Templates test these with `is not none`, so they are always there.
        tools: tools ?? null,
        documents: null,
        ...variables,
        messages,
        add_generation_prompt: addGenerationPrompt,
      });
    },
  };
}

function readTemplates(tokenizerConfig: unknown, templateFile: string | undefined): Map<string, string> {
  const inConfig = field(tokenizerConfig, 'chat_template');
  const named = childConfigs(tokenizerConfig, 'chat_template').flatMap((item) => {
    const name = field(item, 'name');
    const template = field(item, 'template');
    return typeof name === 'string' && typeof template === 'string' ? [[name, template] as const] : [];
  });
  const templates = new Map(named);
  if (typeof inConfig === 'string') templates.set('default', inConfig);
  if (templateFile !== undefined) templates.set('default', templateFile);
  return templates;
}

function parseTemplate(source: string): Template {
  try {
    return new Template(source);
  } catch (cause) {
    throw new UnsupportedModelError(
      `The model's chat template cannot be read: ${messageOf(cause)}.`,
      'Render the conversation yourself and give it as text.',
      { cause },
    );
  }
}

function renderTemplate(template: Template, variables: Record<string, unknown>): string {
  try {
    return template.render(variables);
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
