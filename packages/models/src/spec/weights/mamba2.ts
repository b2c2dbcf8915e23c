import type { Mamba2Spec } from '../model_spec.ts';
import { mamba2NormScale, mamba2Widths } from '../model_spec.ts';
import type { Part, WeightSpec } from './tensors.ts';
import { biasOf, convFilters, matrix, vector } from './tensors.ts';

/** Checkpoint names of a Mamba-2 mixer. */
export interface Mamba2Names {
  readonly kind: 'mamba2';
  /** Rows of z, x, B, C and dt. */
  readonly inProjection: string;
  readonly conv: string;
  readonly dtBias: string;
  readonly aLog: string;
  readonly dSkip: string;
  /** Of the gated norm; absent where z only gates. */
  readonly norm?: string;
  readonly outProjection: string;
  /** Factors of what is projected, and of the rows of the projection and its bias (muP). */
  readonly inScales?: {
    readonly input: number;
    readonly z: number;
    readonly x: number;
    readonly B: number;
    readonly C: number;
    readonly dt: number;
  };
}

export function mamba2Weights(name: string, spec: Mamba2Spec, names: Mamba2Names, hiddenSize: number): WeightSpec[] {
  const { conv, inner } = mamba2Widths(spec);
  const heads = [spec.heads];
  const inParts = projectionParts(spec, names, hiddenSize);
  const scale = mamba2NormScale(spec);
  const scaled = scale === 1 ? {} : { scale };
  if ((names.norm === undefined) !== (spec.gate === 'gateOnly'))
    throw new RangeError(`The family names no gated norm for ${name}, or one too many.`);
  return [
    matrix(`${name}.inProjection`, inParts, hiddenSize),
    ...(spec.projectionBias ? [biasOf(`${name}.inBias`, inParts)] : []),
    convFilters(`${name}.convWeight`, [[names.conv, conv]], spec.convWidth),
    ...(spec.convBias ? [biasOf(`${name}.convBias`, [[names.conv, conv]])] : []),
    vector(`${name}.dtBias`, names.dtBias, heads),
    { ...vector(`${name}.A`, names.aLog, heads), transform: 'negativeExp' },
    vector(`${name}.dSkip`, names.dSkip, heads),
    ...(names.norm === undefined
      ? []
      : [
          {
            name: `${name}.gateNorm`,
            kind: 'vector' as const,
            shape: [inner],
            sources: [{ name: `${names.norm}.weight`, shape: [inner], ...scaled }],
          },
        ]),
    matrix(`${name}.outProjection`, [[names.outProjection, hiddenSize]], inner),
    ...((spec.outputBias ?? spec.projectionBias)
      ? [biasOf(`${name}.outBias`, [[{ name: names.outProjection, ...scaled }, hiddenSize]])]
      : []),
  ];
}

/** The rows of the projection: all at once, or z, x, B, C and dt each with its factor. */
function projectionParts(spec: Mamba2Spec, { inProjection, inScales }: Mamba2Names, hiddenSize: number): Part[] {
  const { inner, projection } = mamba2Widths(spec);
  if (inScales === undefined) return [[inProjection, projection]];
  const shared = spec.groups * spec.stateSize;
  const widths = { z: inner, x: inner, B: shared, C: shared, dt: spec.heads } as const;
  let first = 0;
  return (['z', 'x', 'B', 'C', 'dt'] as const).map((part): Part => {
    const count = widths[part];
    const ranges = [{ first, count }];
    first += count;
    const biasScale = inScales[part];
    const scale = inScales.input * biasScale;
    return [{ name: inProjection, shape: [projection, hiddenSize], ranges, scale, biasScale }, count];
  });
}
