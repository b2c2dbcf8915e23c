export { ToolCallParser } from './parser.ts';
export type { ToolCall, ToolCallPart } from './parser.ts';
export { TOOL_CALL_MARKERS } from './formats.ts';
