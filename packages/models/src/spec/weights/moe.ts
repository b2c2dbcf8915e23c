import type { MoeSpec } from '../model_spec.ts';
import { mlpWeights } from './mlp.ts';
import type { PartName, WeightSpec } from './tensors.ts';
import { biasOf, expertMatrices, matrix, vector } from './tensors.ts';

/** Checkpoint names of the matrices of one expert. */
export interface ExpertNames {
  readonly gate?: PartName;
  readonly up: PartName;
  readonly down: PartName;
}

/** Checkpoint names of a mixture of experts. */
export interface MoeNames {
  readonly kind: 'moe';
  readonly router: string;
  /** Full name. */
  readonly correctionBias?: string;
  readonly expert: (index: number) => ExpertNames;
  readonly latent?: { readonly down: string; readonly up: string };
  readonly shared?: ExpertNames;
  /** Of the gate of the shared feed-forward layer. */
  readonly sharedGate?: string;
}

export function moeWeights(name: string, spec: MoeSpec, names: MoeNames, hiddenSize: number): WeightSpec[] {
  const { experts, intermediateSize, gated, latentSize, shared, bias = false } = spec;
  const width = latentSize ?? hiddenSize;
  const all = Array.from({ length: experts }, (_, index) => names.expert(index));
  if (all.some(({ gate }) => (gate !== undefined) !== gated))
    throw new RangeError(`The family names no gates for the experts of ${name}, or some too many.`);
  const first = all.map(({ gate, up }) => [
    ...(gate === undefined ? [] : [[gate, intermediateSize] as const]),
    [up, intermediateSize] as const,
  ]);
  const projection = (role: string, part: string, rows: number, inner: number): WeightSpec[] => [
    matrix(`${name}.${role}`, [[part, rows]], inner),
    ...(bias ? [biasOf(`${name}.${role}Bias`, [[part, rows]])] : []),
  ];
  return [
    { ...matrix(`${name}.router`, [[names.router, experts]], hiddenSize), exact: true },
    ...(spec.correctionBias && names.correctionBias !== undefined
      ? [vector(`${name}.correctionBias`, names.correctionBias, [experts])]
      : []),
    ...(names.latent === undefined ? [] : projection('latentDown', names.latent.down, width, hiddenSize)),
    expertMatrices(`${name}.${gated ? 'gateUp' : 'up'}`, first, width),
    expertMatrices(
      `${name}.down`,
      all.map(({ down }) => [[down, width] as const]),
      intermediateSize,
    ),
    ...(names.latent === undefined ? [] : projection('latentUp', names.latent.up, hiddenSize, width)),
    ...(shared === undefined || names.shared === undefined
      ? []
      : mlpWeights(
          `${name}.shared`,
          { intermediateSize: shared.intermediateSize, gated, bias },
          names.shared,
          hiddenSize,
        )),
    ...(shared?.gate === true && names.sharedGate !== undefined
      ? [{ ...matrix(`${name}.sharedGate`, [[names.sharedGate, 1]], hiddenSize), exact: true }]
      : []),
  ];
}
