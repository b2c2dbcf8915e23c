import type { ConfigReader } from '../spec/config.ts';
import { readActivation } from '../spec/config.ts';
import type { MoeSpec } from '../spec/model_spec.ts';
import type { MoeNames } from '../spec/weights/moe.ts';
import type { StoredPart } from '../spec/weights/tensors.ts';
import { gatedMlpNames } from './transformer.ts';

// Mixtures of experts as the Qwen line configures and stores them.

/** The experts of a layer, whose number has one of two names; undefined where there are none. */
export function readExperts(config: ConfigReader, normalize: boolean): MoeSpec | undefined {
  const [name, other] = ['num_experts', 'num_local_experts'] as const;
  const field = config.raw(name) === undefined && config.raw(other) !== undefined ? other : name;
  if (config.raw(field) === 0) return undefined;
  return {
    kind: 'moe',
    experts: config.size(field),
    topK: config.size('num_experts_per_tok'),
    intermediateSize: config.size('moe_intermediate_size'),
    activation: readActivation(config, 'hidden_act', 'silu'),
    gated: true,
    scoring: 'softmax',
    order: 'scoreThenTopK',
    normalize,
    correctionBias: false,
  };
}

/** {@link readExperts} with a gated feed-forward layer of every token beside them. */
export function readSharedExperts(config: ConfigReader, normalize: boolean): MoeSpec | undefined {
  const moe = readExperts(config, normalize);
  if (moe === undefined) return undefined;
  return { ...moe, shared: { intermediateSize: config.size('shared_expert_intermediate_size'), gate: true } };
}

/** Which layers have experts: every `decoder_sparse_step`th, but for `mlp_only_layers`. */
export function readSparseLayers(config: ConfigReader): (index: number) => boolean {
  const dense = config.numbers('mlp_only_layers') ?? [];
  const step = config.size('decoder_sparse_step', 1);
  return (index) => !dense.includes(index) && (index + 1) % step === 0;
}

/** Each expert has tensors of its own, or all have two together: gate and up of each expert in turn, and down. */
export function expertNames(prefix: string, spec: MoeSpec, hiddenSize: number): MoeNames {
  const { experts, intermediateSize: inner } = spec;
  const first = (expert: number, half: 0 | 1): StoredPart => ({
    name: `${prefix}.experts.${expert}.${half === 0 ? 'gate' : 'up'}_proj`,
    otherwise: {
      name: `${prefix}.experts.gate_up_proj`,
      shape: [experts, 2 * inner, hiddenSize],
      ranges: [{ first: (2 * expert + half) * inner, count: inner }],
    },
  });
  const down = (expert: number): StoredPart => ({
    name: `${prefix}.experts.${expert}.down_proj`,
    otherwise: {
      name: `${prefix}.experts.down_proj`,
      shape: [experts, hiddenSize, inner],
      ranges: [{ first: expert * hiddenSize, count: hiddenSize }],
    },
  });
  return {
    kind: 'moe',
    router: `${prefix}.gate`,
    expert: (index) => ({ gate: first(index, 0), up: first(index, 1), down: down(index) }),
    ...(spec.shared !== undefined && {
      shared: gatedMlpNames(`${prefix}.shared_expert`),
      sharedGate: `${prefix}.shared_expert_gate`,
    }),
  };
}
