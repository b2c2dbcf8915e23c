import type { OpenPeer, Peer, PeerRequest } from './peer.ts';
import { functionOf, importPeer, PeerUnavailableError } from './peer.ts';

interface Chunk {
  readonly choices: readonly { readonly text?: string }[];
  readonly usage?: { readonly prompt_tokens: number };
}

interface Engine {
  readonly completions: { create(request: Readonly<Record<string, unknown>>): Promise<AsyncIterable<Chunk>> };
  resetChat(): Promise<void>;
  unload(): Promise<void>;
}

/** WebLLM: models that MLC compiled for WebGPU. It runs where `navigator.gpu` is. */
export const webLlm: Peer = {
  name: 'WebLLM',
  open: async (request: PeerRequest): Promise<OpenPeer> => {
    const loaded = await importPeer(request, '@mlc-ai/web-llm');
    if (!('gpu' in navigator)) throw new PeerUnavailableError('it needs a browser with WebGPU');
    const { model, prompt, newTokens } = request;
    const engine = (await functionOf(loaded, 'CreateMLCEngine')(model)) as Engine;
    return {
      version: loaded.version,
      model,
      device: 'webgpu',
      run: async () => {
        await engine.resetChat();
        const times: number[] = [];
        let promptTokens = 0;
        const started = performance.now();
        const chunks = await engine.completions.create({
          prompt,
          max_tokens: newTokens,
          temperature: 0,
          ignore_eos: true,
          stream: true,
          stream_options: { include_usage: true },
        });
        for await (const { choices, usage } of chunks) {
          if (usage !== undefined) promptTokens = usage.prompt_tokens;
          else if (choices.length > 0 && times.length < newTokens) times.push(performance.now() - started);
        }
        return { promptTokens, times };
      },
      dispose: () => engine.unload(),
    };
  },
};
