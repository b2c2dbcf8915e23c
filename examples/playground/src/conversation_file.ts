import type { Mode, Turn } from './writer.ts';

/** A conversation as a file: one line of JSON with what was said, then the bytes of `session.save()`. */
interface Header {
  readonly mode: Mode;
  readonly turns: readonly Turn[];
}

const BRACE = 0x7b;
const LINE_END = 0x0a;

export function writeConversation(mode: Mode, turns: readonly Turn[], session: Uint8Array): Uint8Array<ArrayBuffer> {
  const header = new TextEncoder().encode(`${JSON.stringify({ mode, turns })}\n`);
  const bytes = new Uint8Array(header.byteLength + session.byteLength);
  bytes.set(header);
  bytes.set(session, header.byteLength);
  return bytes;
}

/** Bytes without a header are those of a session alone: what was said must then be read from its tokens. */
export function readConversation(bytes: Uint8Array): {
  readonly mode: Mode;
  readonly turns: readonly Turn[] | undefined;
  readonly session: Uint8Array;
} {
  const end = bytes.indexOf(LINE_END);
  if (bytes[0] !== BRACE || end < 0) return { mode: 'completion', turns: undefined, session: bytes };
  const { mode, turns } = JSON.parse(new TextDecoder().decode(bytes.subarray(0, end))) as Header;
  return { mode: mode === 'chat' ? 'chat' : 'completion', turns, session: bytes.subarray(end + 1) };
}
