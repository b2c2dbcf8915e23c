import type { ChatMessage } from '../text/chat_template.ts';
import { isObject } from './request_reader.ts';
import type { RequestReader } from './request_reader.ts';

const ROLES = ['system', 'developer', 'user', 'assistant', 'tool'] as const;

/**
 * The messages of a request as chat templates take them: texts in one piece, `developer` as `system`, arguments of calls
 * as objects, and results with the name of their function, which some templates write.
 */
export function readMessages(request: RequestReader): readonly ChatMessage[] {
  const given = request.objects('messages');
  if (given === undefined) return request.refuse('messages', 'is missing', 'missing_required_parameter');
  if (given.length === 0) return request.refuse('messages', 'is empty', 'empty_array');
  const called = new Map<string, string>();
  return given.map((message) => {
    const role = message.choice('role', ROLES) ?? message.refuse('role', 'is missing', 'missing_required_parameter');
    const calls = role === 'assistant' ? readCalls(message, called) : [];
    const content = readContent(message);
    if (content === undefined && calls.length === 0) message.refuse('content', 'is missing');
    const callId = message.string('tool_call_id');
    if (role === 'tool' && callId === undefined) message.refuse('tool_call_id', 'is missing');
    const name = message.string('name') ?? (callId === undefined ? undefined : called.get(callId));
    const thought = message.string('reasoning_content');
    return {
      role: role === 'developer' ? 'system' : role,
      content: content ?? '',
      ...(calls.length > 0 && { tool_calls: calls }),
      ...(callId !== undefined && { tool_call_id: callId }),
      ...(name !== undefined && { name }),
      ...(thought !== undefined && { reasoning_content: thought }),
    };
  });
}

function readContent(message: RequestReader): string | undefined {
  const content = message.value('content');
  if (content === undefined || typeof content === 'string') return content;
  return message
    .objects('content')
    ?.map((part) => {
      const type = part.string('type');
      if (type === 'refusal') return part.string('refusal') ?? part.refuse('refusal', 'is missing');
      if (type !== 'text')
        return part.refuse('type', 'must be text: models here read nothing else', 'unsupported_value');
      return part.string('text') ?? part.refuse('text', 'is missing');
    })
    .join('');
}

interface TemplateCall {
  readonly id: string;
  readonly type: 'function';
  readonly function: { readonly name: string; readonly arguments: unknown };
}

/** @param called names of the functions that were called, by the id of the call; grows */
function readCalls(message: RequestReader, called: Map<string, string>): readonly TemplateCall[] {
  return (message.objects('tool_calls') ?? []).map((call) => {
    const id = call.string('id') ?? call.refuse('id', 'is missing');
    const described = call.object('function') ?? call.refuse('function', 'is missing');
    const name = described.string('name') ?? described.refuse('name', 'is missing');
    called.set(id, name);
    const text = described.string('arguments') ?? '';
    const parsed = text === '' ? {} : parseObject(text);
    if (parsed === undefined) described.refuse('arguments', 'must be the text of a JSON object');
    return { id, type: 'function', function: { name, arguments: parsed } };
  });
}

function parseObject(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}
