import type { GeneratedPiece } from './generate.ts';

/** Pieces of a text as a stream of strings. Each is asked for when it is read; cancelling leaves the text. */
export function readableText(pieces: AsyncGenerator<GeneratedPiece, void>): ReadableStream<string> {
  return new ReadableStream<string>(
    {
      async pull(controller): Promise<void> {
        const { value, done } = await pieces.next();
        if (done === true) controller.close();
        else controller.enqueue(value.text);
      },
      async cancel(): Promise<void> {
        await pieces.return();
      },
    },
    { highWaterMark: 0 },
  );
}
