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
export { causalConv1dStep, type CausalConv1dStepOptions } from './conv/causal_conv1d_step.ts';

export { ssdScan } from './ssm/ssd_scan.ts';
export { ssdChunkScan, type SsdChunkScanOptions } from './ssm/ssd_chunk_scan.ts';
export { ssdStep, type SsdStepOptions } from './ssm/ssd_step.ts';
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

export { attention, type AttentionInputs, type AttentionOptions } from './attention/attention.ts';
export { flashAttention, type FlashAttentionInputs, type FlashAttentionOptions } from './attention/flash_attention.ts';
export { attentionStep, type AttentionStepInputs, type AttentionStepOptions } from './attention/attention_step.ts';
export {
  ropeAppend,
  type RopeAppendInputs,
  type RopeAppendOptions,
  type RopeAppendResult,
} from './attention/rope_append.ts';
export { rope, type RopeInputs, type RopeOptions } from './attention/rope.ts';
export {
  ropeInverseFrequencies,
  type Llama3RopeScaling,
  type RopeInverseFrequenciesOptions,
} from './attention/rope_inverse_frequencies.ts';

export { fusedMlp, type FusedMlpInputs, type FusedMlpOptions } from './mlp/fused_mlp.ts';

export { advance, type AdvanceInputs, type AdvanceOptions } from './token/advance.ts';
export { argmax, type ArgmaxInputs, type ArgmaxOptions } from './token/argmax.ts';
export { embed, type EmbedInputs, type EmbedOptions } from './token/embed.ts';
export { philox, sample, sampleScores, type SampleInputs, type SampleOptions } from './token/sample.ts';
export { softmax, type SoftmaxInputs, type SoftmaxOptions } from './token/softmax.ts';

export { ceilingCopy } from './ceiling/copy.ts';
export { ceilingFma, type CeilingFmaOptions } from './ceiling/fma.ts';
export { ceilingRead } from './ceiling/read.ts';
