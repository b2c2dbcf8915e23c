import type { OpenPeer, Peer, PeerRequest } from './peer.ts';
import { importPeer, PeerUnavailableError } from './peer.ts';

interface Chunk {
  readonly choices: readonly { readonly text: string; readonly finish_reason: string | null }[];
  readonly usage?: { readonly prompt_tokens: number } | null;
}

interface Wllama {
  loadModelFromUrl(address: string): Promise<void>;
  getEOS(): number;
  createCompletion(request: Readonly<Record<string, unknown>>): Promise<AsyncIterable<Chunk>>;
  exit(): Promise<void>;
}

type WllamaClass = new (paths: unknown) => Wllama;

/** wllama: llama.cpp as WebAssembly, with GGUF files. It runs where pages have workers. */
export const wllama: Peer = {
  name: 'wllama',
  open: async (request: PeerRequest): Promise<OpenPeer> => {
    const { module, version } = await importPeer(request, '@wllama/wllama');
    if (!('Worker' in globalThis)) throw new PeerUnavailableError('it needs a browser');
    const { Wllama: type } = module;
    if (typeof type !== 'function') throw new PeerUnavailableError(`version ${version} has no Wllama`);
    const { default: paths } = await request
      .importPackage('@wllama/wllama/esm/wasm-from-cdn.js')
      .then((from) => from.module);
    const engine = new (type as WllamaClass)(paths);
    const { model, prompt, newTokens } = request;
    await engine.loadModelFromUrl(model);
    return {
      version,
      model,
      device: 'wasm',
      run: async () => {
        const times: number[] = [];
        let promptTokens = 0;
        const started = performance.now();
        const chunks = await engine.createCompletion({
          prompt,
          max_tokens: newTokens,
          temperature: 0,
          // The text must not end early.
          logit_bias: { [String(engine.getEOS())]: -1000 },
          stream: true,
        });
        for await (const { choices, usage } of chunks) {
          if (usage) promptTokens = usage.prompt_tokens;
          if (choices.length > 0 && times.length < newTokens) times.push(performance.now() - started);
        }
        return { promptTokens, times };
      },
      dispose: () => engine.exit(),
    };
  },
};
