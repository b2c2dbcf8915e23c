import type { AttentionSpec } from '../model_spec.ts';
import { attentionWidths } from '../model_spec.ts';
import type { Part, PartName, WeightSpec } from './tensors.ts';
import { biasOf, matrix, vector } from './tensors.ts';

/** Checkpoint names of attention. */
export interface AttentionNames {
  readonly kind: 'attention';
  readonly query: PartName;
  /** What gates the result, where the query projection makes it too. */
  readonly gate?: PartName;
  readonly key: PartName;
  readonly value: PartName;
  readonly output: PartName;
  readonly queryNorm?: string;
  readonly keyNorm?: string;
}

/** @param inputSize values of a token that the projections read */
export function attentionWeights(
  name: string,
  spec: AttentionSpec,
  names: AttentionNames,
  inputSize: number,
  hiddenSize: number,
): WeightSpec[] {
  const { queries, keys } = attentionWidths(spec);
  const parts: Part[] = [
    [names.query, queries],
    ...(names.gate === undefined ? [] : [[names.gate, queries] as const]),
    [names.key, keys],
    [names.value, keys],
  ];
  if ((names.gate === undefined) === (spec.outputGate === true))
    throw new RangeError(`The family names no gate for the attention ${name}, or one too many.`);
  const { qkNorm } = spec;
  const normed = (projection: number): number[] => [qkNorm?.over === 'head' ? spec.headDim : projection];
  return [
    matrix(`${name}.qkv`, parts, inputSize),
    ...(spec.qkvBias ? [biasOf(`${name}.qkvBias`, parts)] : []),
    ...(qkNorm === undefined
      ? []
      : [
          vector(`${name}.queryNorm`, `${names.queryNorm}.weight`, normed(queries)),
          vector(`${name}.keyNorm`, `${names.keyNorm}.weight`, normed(keys)),
        ]),
    matrix(`${name}.output`, [[names.output, hiddenSize]], queries),
    ...(spec.outputBias ? [biasOf(`${name}.outputBias`, [[names.output, hiddenSize]])] : []),
  ];
}
