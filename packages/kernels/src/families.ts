export { rmsNorm } from './norm/rms_norm.ts';
export type { RmsNormInputs, RmsNormOptions } from './norm/rms_norm.ts';
export { ceilingCopy, COPY_TILE } from './ceiling/copy.ts';
export type { CeilingCopyInputs } from './ceiling/copy.ts';
export { ceilingFma, FMA_FLOPS } from './ceiling/fma.ts';
export type { CeilingFmaInputs, CeilingFmaOptions } from './ceiling/fma.ts';
export { ceilingRead, READ_TILE } from './ceiling/read.ts';
export type { CeilingReadInputs } from './ceiling/read.ts';
export { gatedRmsNorm } from './norm/gated_rms_norm.ts';
export type { GatedRmsNormInputs, GatedRmsNormOptions } from './norm/gated_rms_norm.ts';
export { advance } from './token/advance.ts';
export type { AdvanceInputs, AdvanceOptions } from './token/advance.ts';
export { embed } from './token/embed.ts';
export type { EmbedInputs, EmbedOptions } from './token/embed.ts';
export { NO_TOKEN, sample } from './token/sample.ts';
export type { SampleInputs, SampleOptions } from './token/sample.ts';
export { chooseTile, chooseVector, MATVEC_MAX_ROWS, TILES } from './core/matrix.ts';
export type { ActivationName, TileShape, VectorShape } from './core/matrix.ts';
export { matmul } from './linear/matmul.ts';
export type { MatmulInputs, MatmulOptions } from './linear/matmul.ts';
export { causalConv1d } from './conv/causal_conv1d.ts';
export type { CausalConv1dInputs, CausalConv1dOptions, CausalConv1dResult } from './conv/causal_conv1d.ts';
export { causalConv1dStep } from './conv/causal_conv1d_step.ts';
export type { CausalConv1dStepInputs, CausalConv1dStepOptions } from './conv/causal_conv1d_step.ts';
export { ssdChunkScan } from './ssm/ssd_chunk_scan.ts';
export type { SsdChunkScanInputs, SsdChunkScanOptions, SsdChunkScanResult } from './ssm/ssd_chunk_scan.ts';
export { ssdStep } from './ssm/ssd_step.ts';
export type { SsdStepInputs, SsdStepOptions } from './ssm/ssd_step.ts';
export { mamba2DecodeStep } from './ssm/mamba2_decode_step.ts';
export type { Mamba2DecodeStepInputs, Mamba2DecodeStepOptions } from './ssm/mamba2_decode_step.ts';
export { fitsMamba2DecodeStep } from './ssm/mamba2.ts';
export type { Mamba2DecodeSizes } from './ssm/mamba2.ts';
export { mamba2ProjectStep } from './ssm/mamba2_project_step.ts';
export type { Mamba2ProjectStepInputs, Mamba2ProjectStepOptions } from './ssm/mamba2_project_step.ts';
export { mamba2UpdateStep } from './ssm/mamba2_update_step.ts';
export type {
  Mamba2UpdateStepInputs,
  Mamba2UpdateStepOptions,
  Mamba2UpdateStepResult,
} from './ssm/mamba2_update_step.ts';
export { mamba2OutputStep } from './ssm/mamba2_output_step.ts';
export type { Mamba2OutputStepInputs, Mamba2OutputStepOptions } from './ssm/mamba2_output_step.ts';
export { matvec } from './linear/matvec.ts';
export type { MatvecInputs, MatvecOptions } from './linear/matvec.ts';
export { linear } from './linear/linear.ts';
export type { LinearInputs, LinearOptions } from './linear/linear.ts';
export { fusedMlp } from './mlp/fused_mlp.ts';
export type { FusedMlpInputs, FusedMlpOptions } from './mlp/fused_mlp.ts';
export { applyGate } from './mlp/apply_gate.ts';
export type { ApplyGateInputs, ApplyGateOptions } from './mlp/apply_gate.ts';
export { flashAttention } from './attention/flash_attention.ts';
export type { FlashAttentionInputs, FlashAttentionOptions } from './attention/flash_attention.ts';
export { ropeAttentionFactor, ropeInverseFrequencies } from './attention/inverse_frequencies.ts';
export type {
  DynamicRopeScaling,
  LinearRopeScaling,
  Llama3RopeScaling,
  LongRopeScaling,
  RopeInverseFrequenciesOptions,
  RopeScaling,
  YarnRopeScaling,
} from './attention/inverse_frequencies.ts';
export { rope } from './attention/rope.ts';
export type { RopeInputs, RopeOptions } from './attention/rope.ts';
export { ropeAppend } from './attention/rope_append.ts';
export type { RopeAppendInputs, RopeAppendOptions } from './attention/rope_append.ts';
export { attentionStep } from './attention/attention_step.ts';
export type { AttentionStepInputs, AttentionStepOptions } from './attention/attention_step.ts';
export { MOE_LIMITS } from './moe/routing.ts';
export type { ExpertInputs, ExpertOptions, MoeRouting } from './moe/routing.ts';
export { moeRoute } from './moe/moe_route.ts';
export type { MoeRouteInputs, MoeRouteOptions } from './moe/moe_route.ts';
export { moeSort } from './moe/moe_sort.ts';
export type { MoeSortInputs, MoeSortOptions, MoeSortResult } from './moe/moe_sort.ts';
export { expertMatvec } from './moe/expert_matvec.ts';
export type { ExpertMatvecOptions } from './moe/expert_matvec.ts';
export { expertMatmul } from './moe/expert_matmul.ts';
export type { ExpertMatmulOptions } from './moe/expert_matmul.ts';
export { moeMlp } from './moe/moe_mlp.ts';
export type { MoeMlpInputs, MoeMlpOptions } from './moe/moe_mlp.ts';
export { SAMPLE_SETTINGS_WORDS, sampleSettings } from './token/sample_settings.ts';
export type { SampleSettings } from './token/sample_settings.ts';
export { selectiveScan } from './ssm/selective_scan.ts';
export type { SelectiveScanInputs, SelectiveScanOptions, SelectiveScanResult } from './ssm/selective_scan.ts';
export { selectiveScanStep } from './ssm/selective_scan_step.ts';
export type { SelectiveScanStepInputs, SelectiveScanStepOptions } from './ssm/selective_scan_step.ts';
export { mamba3Scan } from './ssm/mamba3_scan.ts';
export type { Mamba3ScanInputs, Mamba3ScanResult } from './ssm/mamba3_scan.ts';
export { mamba3Step } from './ssm/mamba3_step.ts';
export type { Mamba3StepInputs } from './ssm/mamba3_step.ts';
export type { Mamba3States, Mamba3Tensors } from './ssm/mamba3.ts';
export { qkNorm } from './attention/qk_norm.ts';
export type { QkNormInputs, QkNormOptions, QkNormResult } from './attention/qk_norm.ts';
export type { CacheDtype } from './attention/cache.ts';
export { packCache, unpackCache } from './attention/cache_values.ts';
export { layerNorm } from './norm/layer_norm.ts';
export type { LayerNormInputs, LayerNormOptions } from './norm/layer_norm.ts';
export { chooseRowTile } from './norm/rows.ts';
export type { RowTile } from './norm/rows.ts';
export { gatedDeltaRule } from './delta/gated_delta_rule.ts';
export type { GatedDeltaRuleInputs, GatedDeltaRuleOptions, GatedDeltaRuleResult } from './delta/gated_delta_rule.ts';
export { gatedDeltaStep } from './delta/gated_delta_step.ts';
export type { GatedDeltaStepInputs, GatedDeltaStepOptions } from './delta/gated_delta_step.ts';
export { shortConv } from './conv/short_conv.ts';
export type { ShortConvInputs, ShortConvResult } from './conv/short_conv.ts';
export { shortConvStep } from './conv/short_conv_step.ts';
export type { ShortConvStepInputs } from './conv/short_conv_step.ts';
export { fillNormal } from './random/fill_normal.ts';
export type { FillNormalInputs, FillNormalOptions } from './random/fill_normal.ts';
