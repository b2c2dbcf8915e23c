// A route of Next's app folder (route.mjs or route.ts): POST { "prompt": "..." } answers with the text as it is written.
import { streamText } from 'ai';
import { model } from './model.mjs';

// Dawn is a native module: the route runs in Node, and next.config names it in serverExternalPackages.
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
