import type {
  LanguageModelV4Message,
  LanguageModelV4Prompt,
  LanguageModelV4ToolResultOutput,
  LanguageModelV4ToolResultPart,
} from '@ai-sdk/provider';
import { ArgumentError } from '@mambalab/kernels';
import type { ChatMessage } from '../text/chat_template.ts';

/**
 * A prompt of the AI SDK as messages that chat templates take.
 *
 * @throws ArgumentError for files: models here read text alone
 */
export function chatMessages(prompt: LanguageModelV4Prompt): readonly ChatMessage[] {
  return prompt.flatMap(messagesOf);
}

function messagesOf(message: LanguageModelV4Message): readonly ChatMessage[] {
  switch (message.role) {
    case 'system':
      return [{ role: 'system', content: message.content }];
    case 'user':
      return [{ role: 'user', content: message.content.map(textOf).join('') }];
    case 'assistant':
      return [assistantMessage(message.content)];
    case 'tool':
      return message.content.flatMap((part) => (part.type === 'tool-result' ? [resultMessage(part)] : []));
  }
}

type AssistantPart = Extract<LanguageModelV4Message, { readonly role: 'assistant' }>['content'][number];
type TextPart = { readonly type: string; readonly text?: string };

function textOf(part: TextPart): string {
  if (part.type === 'text' && part.text !== undefined) return part.text;
  throw new ArgumentError(
    `The prompt has a part of the type '${part.type}'.`,
    'Give text: models here read nothing else.',
  );
}

function assistantMessage(parts: readonly AssistantPart[]): ChatMessage {
  const reasoning = parts.flatMap((part) => (part.type === 'reasoning' ? [part.text] : []));
  const calls = parts.flatMap((part) => {
    if (part.type !== 'tool-call') return [];
    return [{ id: part.toolCallId, type: 'function', function: { name: part.toolName, arguments: part.input } }];
  });
  const texts = parts.filter(({ type }) => type !== 'reasoning' && type !== 'tool-call');
  return {
    role: 'assistant',
    content: texts.map(textOf).join(''),
    ...(reasoning.length > 0 && { reasoning_content: reasoning.join('') }),
    ...(calls.length > 0 && { tool_calls: calls }),
  };
}

function resultMessage({ toolCallId, toolName, output }: LanguageModelV4ToolResultPart): ChatMessage {
  return { role: 'tool', tool_call_id: toolCallId, name: toolName, content: outputText(output) };
}

function outputText(output: LanguageModelV4ToolResultOutput): string {
  switch (output.type) {
    case 'text':
    case 'error-text':
      return output.value;
    case 'json':
    case 'error-json':
      return JSON.stringify(output.value);
    case 'execution-denied':
      return output.reason ?? 'The call was not allowed.';
    case 'content':
      return output.value.map(textOf).join('');
  }
}
