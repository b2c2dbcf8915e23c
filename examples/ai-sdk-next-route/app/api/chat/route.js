// A route of Next's app folder: POST { "prompt": "..." } answers with the text as it is written.
import { streamText } from 'ai';
import { model } from './model.js';

// The model is on the GPU of the server, through Dawn, which needs Node.
export const runtime = 'nodejs';

export async function POST(request) {
  const { prompt } = await request.json();
  const result = streamText({
    model: await model(),
    prompt,
    maxOutputTokens: 48,
    abortSignal: request.signal,
  });
  return result.toTextStreamResponse();
}
