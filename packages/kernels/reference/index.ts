/** Every kernel's equation as scalar loops in float64: plain arrays in and out, shapes as options, no GPU. */
export { activate, erf, erfc, gelu, geluTanh, sigmoid, silu, softplus, type Activation } from './activations.ts';
export { type Numbers } from './arrays.ts';
export { dequantize, type DequantizeInputs, type DequantizeOptions } from './dequantize.ts';
export { type SsdInputs, type SsdOptions, type SsdResult } from './ssd.ts';
export { type TimeStepOptions } from './time_step.ts';

export { matmul, type MatmulInputs, type MatmulOptions } from './linear/matmul.ts';
export { matvec, type MatvecOptions } from './linear/matvec.ts';

export { rmsNorm, type RmsNormInputs, type RmsNormOptions } from './norm/rms_norm.ts';
export { layerNorm, type LayerNormInputs, type LayerNormOptions } from './norm/layer_norm.ts';
export { gatedRmsNorm, type GatedRmsNormInputs, type GatedRmsNormOptions } from './norm/gated_rms_norm.ts';

export {
  causalConv1d,
  type CausalConv1dInputs,
  type CausalConv1dOptions,
  type CausalConv1dResult,
} from './conv/causal_conv1d.ts';
export {
  causalConv1dStep,
  type CausalConv1dStepInputs,
  type CausalConv1dStepOptions,
} from './conv/causal_conv1d_step.ts';
export { shortConv, type ShortConvInputs, type ShortConvOptions } from './conv/short_conv.ts';
export { shortConvStep, type ShortConvStepOptions } from './conv/short_conv_step.ts';

export {
  gatedDeltaRule,
  type GatedDeltaRuleInputs,
  type GatedDeltaRuleOptions,
  type GatedDeltaRuleResult,
} from './delta/gated_delta_rule.ts';
export { gatedDeltaStep, type GatedDeltaStepOptions } from './delta/gated_delta_step.ts';

export { ssdScan } from './ssm/ssd_scan.ts';
export { ssdChunkScan, type SsdChunkScanOptions } from './ssm/ssd_chunk_scan.ts';
export { ssdStep, type SsdStepInputs, type SsdStepOptions } from './ssm/ssd_step.ts';
export {
  mamba2DecodeStep,
  type Mamba2DecodeStepInputs,
  type Mamba2DecodeStepOptions,
  type Mamba2DecodeStepResult,
} from './ssm/mamba2_decode_step.ts';
export {
  selectiveScan,
  type SelectiveScanInputs,
  type SelectiveScanOptions,
  type SelectiveScanResult,
} from './ssm/selective_scan.ts';
export { selectiveScanStep, type SelectiveScanStepOptions } from './ssm/selective_scan_step.ts';
export { mamba3Scan, type Mamba3Inputs, type Mamba3Options, type Mamba3Result } from './ssm/mamba3_scan.ts';
export { mamba3Step, type Mamba3StepOptions } from './ssm/mamba3_step.ts';

export { attention, type AttentionInputs, type AttentionOptions } from './attention/attention.ts';
export { flashAttention, type FlashAttentionInputs, type FlashAttentionOptions } from './attention/flash_attention.ts';
export { attentionStep, type AttentionStepInputs, type AttentionStepOptions } from './attention/attention_step.ts';
export {
  ropeAppend,
  type RopeAppendInputs,
  type RopeAppendOptions,
  type RopeAppendResult,
} from './attention/rope_append.ts';
export { qkNorm, type QkNormInputs, type QkNormOptions } from './attention/qk_norm.ts';
export { quantizeBlocks } from './attention/quantize_blocks.ts';
export { rope, type RopeInputs, type RopeOptions } from './attention/rope.ts';
export {
  ropeAttentionFactor,
  ropeInverseFrequencies,
  type DynamicRopeScaling,
  type Llama3RopeScaling,
  type LongRopeScaling,
  type RopeInverseFrequenciesOptions,
  type RopeScaling,
  type YarnRopeScaling,
} from './attention/rope_inverse_frequencies.ts';

export { applyGate, type ApplyGateInputs, type ApplyGateOptions } from './mlp/apply_gate.ts';
export { fusedMlp, type FusedMlpInputs, type FusedMlpOptions } from './mlp/fused_mlp.ts';

export { expertMatmul, type ExpertMatmulInputs, type ExpertMatmulOptions } from './moe/expert_matmul.ts';
export { expertMatvec, type ExpertMatvecOptions } from './moe/expert_matvec.ts';
export { moeMlp, type MoeMlpInputs, type MoeMlpOptions } from './moe/moe_mlp.ts';
export { moeRoute, type MoeRouteInputs, type MoeRouteOptions, type MoeRouteResult } from './moe/moe_route.ts';

export { advance, type AdvanceInputs, type AdvanceOptions } from './token/advance.ts';
export { argmax, type ArgmaxInputs, type ArgmaxOptions } from './token/argmax.ts';
export { embed, type EmbedInputs, type EmbedOptions } from './token/embed.ts';
export { philox, sample, sampleScores, type SampleInputs, type SampleOptions } from './token/sample.ts';
export { sampleAdjusted, type SampleAdjustedInputs, type SampleAdjustedOptions } from './token/sample_adjusted.ts';
export { sampleKept, type SampleKeptInputs, type SampleKeptOptions } from './token/sample_kept.ts';
export {
  sampleLogprobs,
  type SampleLogprobsInputs,
  type SampleLogprobsOptions,
  type SampleLogprobsResult,
} from './token/sample_logprobs.ts';
export { softmax, type SoftmaxInputs, type SoftmaxOptions } from './token/softmax.ts';

export { fillNormal, type FillNormalOptions } from './random/fill_normal.ts';

export { ceilingCopy } from './ceiling/copy.ts';
export { ceilingFma, type CeilingFmaOptions } from './ceiling/fma.ts';
export { ceilingRead } from './ceiling/read.ts';
