import type { KernelBench } from '../harness/kernel_bench.ts';
import { attentionStepBench } from './attention/attention_step.bench.ts';
import { flashAttentionBench } from './attention/flash_attention.bench.ts';
import { qkNormBench } from './attention/qk_norm.bench.ts';
import { ropeBench } from './attention/rope.bench.ts';
import { ropeAppendBench } from './attention/rope_append.bench.ts';
import { copyBench } from './ceiling/copy.bench.ts';
import { fmaBench } from './ceiling/fma.bench.ts';
import { readBench } from './ceiling/read.bench.ts';
import { causalConv1dBench } from './conv/causal_conv1d.bench.ts';
import { causalConv1dStepBench } from './conv/causal_conv1d_step.bench.ts';
import { shortConvBench } from './conv/short_conv.bench.ts';
import { shortConvStepBench } from './conv/short_conv_step.bench.ts';
import { gatedDeltaRuleBench } from './delta/gated_delta_rule.bench.ts';
import { gatedDeltaStepBench } from './delta/gated_delta_step.bench.ts';
import { linearBench } from './linear/linear.bench.ts';
import { matmulBench } from './linear/matmul.bench.ts';
import { matvecBench } from './linear/matvec.bench.ts';
import { applyGateBench } from './mlp/apply_gate.bench.ts';
import { fusedMlpBench } from './mlp/fused_mlp.bench.ts';
import { expertMatmulBench } from './moe/expert_matmul.bench.ts';
import { expertMatvecBench } from './moe/expert_matvec.bench.ts';
import { moeMlpBench } from './moe/moe_mlp.bench.ts';
import { moeRouteBench } from './moe/moe_route.bench.ts';
import { gatedRmsNormBench } from './norm/gated_rms_norm.bench.ts';
import { layerNormBench } from './norm/layer_norm.bench.ts';
import { rmsNormBench } from './norm/rms_norm.bench.ts';
import { fillNormalBench } from './random/fill_normal.bench.ts';
import { mamba2DecodeStepBench } from './ssm/mamba2_decode_step.bench.ts';
import { ssdChunkScanBench, ssdScanLoopBench, ssdScanMatrixBench } from './ssm/ssd_chunk_scan.bench.ts';
import { mamba3ScanBench } from './ssm/mamba3_scan.bench.ts';
import { mamba3StepBench } from './ssm/mamba3_step.bench.ts';
import { selectiveScanBench } from './ssm/selective_scan.bench.ts';
import { selectiveScanStepBench } from './ssm/selective_scan_step.bench.ts';
import { ssdStepBench } from './ssm/ssd_step.bench.ts';
import { advanceBench } from './token/advance.bench.ts';
import { embedBench } from './token/embed.bench.ts';
import { sampleBench } from './token/sample.bench.ts';

/** The benchmark of every kernel, ceilings first. */
export const kernelBenches: readonly KernelBench[] = [
  readBench,
  copyBench,
  fmaBench,
  matvecBench,
  matmulBench,
  linearBench,
  fusedMlpBench,
  applyGateBench,
  moeRouteBench,
  expertMatvecBench,
  expertMatmulBench,
  moeMlpBench,
  rmsNormBench,
  layerNormBench,
  gatedRmsNormBench,
  causalConv1dBench,
  causalConv1dStepBench,
  shortConvBench,
  shortConvStepBench,
  ssdChunkScanBench,
  ssdScanLoopBench,
  ssdScanMatrixBench,
  ssdStepBench,
  mamba2DecodeStepBench,
  selectiveScanBench,
  selectiveScanStepBench,
  mamba3ScanBench,
  mamba3StepBench,
  gatedDeltaRuleBench,
  gatedDeltaStepBench,
  ropeBench,
  ropeAppendBench,
  qkNormBench,
  flashAttentionBench,
  attentionStepBench,
  embedBench,
  sampleBench,
  advanceBench,
  fillNormalBench,
];
