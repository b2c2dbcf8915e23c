import type { MambaSpec } from '../model_spec.ts';
import type { WeightSpec } from './tensors.ts';
import { biasOf, convFilters, matrix, vector } from './tensors.ts';

/** Checkpoint names of a Mamba mixer. */
export interface MambaNames {
  readonly kind: 'mamba';
  /** Rows of x and then of z. */
  readonly inProjection: string;
  readonly conv: string;
  /** Rows of dt, B and C. */
  readonly xProjection: string;
  readonly dtProjection: string;
  readonly aLog: string;
  readonly dSkip: string;
  readonly outProjection: string;
  /** Norms of dt, B and C, where they have weights. */
  readonly innerNorms?: { readonly dt: string; readonly B: string; readonly C: string };
}

export function mambaWeights(name: string, spec: MambaSpec, names: MambaNames, hiddenSize: number): WeightSpec[] {
  const { innerSize, stateSize, dtRank, convWidth } = spec;
  const norms = spec.innerNorm?.weights === true ? names.innerNorms : undefined;
  return [
    matrix(`${name}.inProjection`, [[names.inProjection, 2 * innerSize]], hiddenSize),
    ...(spec.projectionBias ? [biasOf(`${name}.inBias`, [[names.inProjection, 2 * innerSize]])] : []),
    convFilters(`${name}.convWeight`, [[names.conv, innerSize]], convWidth),
    ...(spec.convBias ? [biasOf(`${name}.convBias`, [[names.conv, innerSize]])] : []),
    matrix(`${name}.xProjection`, [[names.xProjection, dtRank + 2 * stateSize]], innerSize),
    ...(norms === undefined
      ? []
      : [
          vector(`${name}.dtNorm`, `${norms.dt}.weight`, [dtRank]),
          vector(`${name}.bNorm`, `${norms.B}.weight`, [stateSize]),
          vector(`${name}.cNorm`, `${norms.C}.weight`, [stateSize]),
        ]),
    // Through softplus and exp, as A: small, and much depends on it.
    { ...matrix(`${name}.dtProjection`, [[names.dtProjection, innerSize]], dtRank), exact: true },
    { ...vector(`${name}.A`, names.aLog, [innerSize, stateSize]), transform: 'negativeExp' },
    // One tensor: the scan reads both through one binding.
    {
      name: `${name}.dtBiasAndSkip`,
      kind: 'vector',
      shape: [2, innerSize],
      sources: [
        { name: `${names.dtProjection}.bias`, shape: [innerSize] },
        { name: names.dSkip, shape: [innerSize] },
      ],
    },
    matrix(`${name}.outProjection`, [[names.outProjection, hiddenSize]], innerSize),
    ...(spec.projectionBias ? [biasOf(`${name}.outBias`, [[names.outProjection, hiddenSize]])] : []),
  ];
}
