import type { EventStream } from '../openai/index.ts';

export interface EventBodyOptions {
  /** What an error is to the reader: the text of the last event. */
  readonly describe: (error: unknown) => string;
  /** A reader that takes nothing for so long is gone. */
  readonly stallMs: number;
  /** Breaks the connection of such a reader; without it, the body fails. */
  readonly breakOff?: (() => void) | undefined;
  /** Called once: with what went wrong, where something did, or that the reader left. */
  readonly onEnd: (end: { readonly error?: unknown; readonly left?: boolean }) => void;
}

/**
 * Server-sent events of a stream, with `[DONE]` at their end. The next event is asked for when the reader took the one
 * before, so that a slow reader slows the text and nothing gathers here.
 */
export function eventBody(events: EventStream<unknown>, options: EventBodyOptions): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  const lines = (data: string): Uint8Array => encoder.encode(`data: ${data}\n\n`);
  let timer: ReturnType<typeof setTimeout> | undefined;
  let isOver = false;
  const end = async (how: { readonly error?: unknown; readonly left?: boolean }): Promise<void> => {
    clearTimeout(timer);
    if (isOver) return;
    isOver = true;
    // A text that is left stops, and its place is free only then.
    await events.return().catch(() => undefined);
    options.onEnd(how);
  };
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller): Promise<void> {
        clearTimeout(timer);
        try {
          const { value, done } = await events.next();
          if (isOver) return;
          if (done === true) {
            controller.enqueue(lines('[DONE]'));
            controller.close();
            await end({});
            return;
          }
          controller.enqueue(lines(JSON.stringify(value)));
          timer = setTimeout(() => {
            void end({ left: true });
            if (options.breakOff === undefined) controller.error(new Error('The reader takes nothing.'));
            else options.breakOff();
          }, options.stallMs);
        } catch (error) {
          if (isOver) return;
          controller.enqueue(lines(options.describe(error)));
          controller.close();
          await end({ error });
        }
      },
      async cancel(): Promise<void> {
        await end({ left: true });
      },
    },
    { highWaterMark: 0 },
  );
}
