import type { OpenPeer, Peer, PeerRequest } from './peer.ts';
import { importPeer, PeerUnavailableError } from './peer.ts';

interface Loader {
  from_pretrained(model: string, options?: Readonly<Record<string, unknown>>): Promise<unknown>;
}

interface Inputs {
  readonly input_ids: { readonly dims: readonly number[] };
}

interface CausalModel {
  generate(options: Readonly<Record<string, unknown>>): Promise<unknown>;
  dispose(): Promise<unknown>;
}

const isLoader = (value: unknown): value is Loader =>
  (typeof value === 'function' || typeof value === 'object') && value !== null && 'from_pretrained' in value;

/** transformers.js: ONNX files of the hub, or of a folder, through onnxruntime. */
export const transformersJs: Peer = {
  name: 'transformers.js',
  open: async (request: PeerRequest): Promise<OpenPeer> => {
    const { module, version } = await importPeer(request, '@huggingface/transformers');
    const { AutoTokenizer, AutoModelForCausalLM } = module;
    if (!isLoader(AutoTokenizer) || !isLoader(AutoModelForCausalLM)) {
      throw new PeerUnavailableError(`version ${version} has no AutoTokenizer or no AutoModelForCausalLM`);
    }
    const { model: source, prompt, newTokens, device } = request;
    const tokenizer = (await AutoTokenizer.from_pretrained(source)) as (text: string) => Inputs;
    const model = (await AutoModelForCausalLM.from_pretrained(source, { device })) as CausalModel;
    return {
      version,
      model: source,
      device,
      run: async () => {
        const inputs = tokenizer(prompt);
        const times: number[] = [];
        let isPrompt = true;
        const started = performance.now();
        // The first that a streamer gets is the prompt.
        const put = (): void => {
          if (!isPrompt) times.push(performance.now() - started);
          isPrompt = false;
        };
        await model.generate({
          ...inputs,
          max_new_tokens: newTokens,
          min_new_tokens: newTokens,
          do_sample: false,
          streamer: { put, end: () => undefined },
        });
        return { promptTokens: inputs.input_ids.dims[1] ?? 0, times };
      },
      dispose: async () => void (await model.dispose()),
    };
  },
};
