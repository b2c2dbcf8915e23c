import type { TensorRef } from '@mambalab/kernels';
import { applyGate, fusedMlp, linear, moeMlp, moeRoute } from '@mambalab/kernels';
import type { MoeSpec } from '../../spec/model_spec.ts';
import type { BlockArguments } from './block.ts';
import { outputOptions, withResidual } from './block.ts';

export function addMoe(block: BlockArguments<MoeSpec>): TensorRef {
  const { context, name, spec, input } = block;
  const { recording } = context;
  // Router, experts and the shared layer read it.
  const x = input.normalized();
  const logits = linear(recording, { x, weight: context.weight(`${name}.router`) });
  const correctionBias = context.optionalWeight(`${name}.correctionBias`);
  const routing = moeRoute(
    recording,
    { logits, ...(correctionBias && { correctionBias }) },
    {
      topK: spec.topK,
      scoring: spec.scoring,
      order: spec.order,
      normalize: spec.normalize,
      normalizeEps: spec.normalizeEps,
      scale: spec.routedScale,
      groups: spec.groups,
      topGroups: spec.topGroups,
    },
  );
  const output = outputOptions(spec);
  const latentDown = context.optionalWeight(`${name}.latentDown`);
  const routed = moeMlp(
    recording,
    {
      x:
        latentDown === undefined
          ? x
          : linear(recording, { x, weight: latentDown, ...context.bias(`${name}.latentDownBias`) }),
      routing,
      ...(spec.gated ? { gateUp: context.weight(`${name}.gateUp`) } : { up: context.weight(`${name}.up`) }),
      down: context.weight(`${name}.down`),
      ...(latentDown === undefined && withResidual(block)),
    },
    { activation: spec.activation, ...(latentDown === undefined && output) },
  );
  const sum =
    latentDown === undefined
      ? routed
      : linear(
          recording,
          {
            x: routed,
            weight: context.weight(`${name}.latentUp`),
            ...context.bias(`${name}.latentUpBias`),
            ...withResidual(block),
          },
          output,
        );
  return spec.shared === undefined ? sum : addShared(block, x, sum);
}

/** Adds the feed-forward layer that every token takes to `sum`. */
function addShared({ context, name, spec }: BlockArguments<MoeSpec>, x: TensorRef, sum: TensorRef): TensorRef {
  const { recording } = context;
  const weights = {
    x,
    gate: context.optionalWeight(`${name}.shared.gate`),
    up: context.weight(`${name}.shared.up`),
    down: context.weight(`${name}.shared.down`),
    gateBias: context.optionalWeight(`${name}.shared.gateBias`),
    upBias: context.optionalWeight(`${name}.shared.upBias`),
    downBias: context.optionalWeight(`${name}.shared.downBias`),
  };
  const { activation } = spec;
  const output = outputOptions(spec);
  const gateWeight = context.optionalWeight(`${name}.sharedGate`);
  if (gateWeight === undefined) return fusedMlp(recording, { ...weights, residual: sum }, { activation, ...output });
  const gate = linear(recording, { x, weight: gateWeight });
  const shared = fusedMlp(recording, weights, { activation });
  return applyGate(recording, { x: shared, gate, residual: sum }, { activation: 'sigmoid', ...output });
}
