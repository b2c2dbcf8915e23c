import type { Device } from '@mambalab/kernels';
import { loadModel } from '@mambalab/models/node';
import manifest from '../../../models/package.json' with { type: 'json' };
import type { OpenPeer, Peer, PeerRequest } from './peer.ts';

/** This project's own engine, under the same rules as the others. */
export const mambalab = (device: Device): Peer => ({
  name: 'mambalab',
  open: async ({ model: source, prompt, newTokens }: PeerRequest): Promise<OpenPeer> => {
    const model = await loadModel(source, { device });
    return {
      version: manifest.version,
      model: source,
      device: 'webgpu',
      run: async () => {
        const pieces: { readonly token: number; readonly time: number }[] = [];
        const started = performance.now();
        const generation = model.generate(prompt, { maxTokens: newTokens, temperature: 0, ignoreEos: true });
        for await (const { token } of generation) pieces.push({ token, time: performance.now() - started });
        const { usage } = await generation.result;
        return { promptTokens: usage.promptTokens, times: pieces.map(({ time }) => time) };
      },
      dispose: () => Promise.resolve(model.dispose()),
    };
  },
});
