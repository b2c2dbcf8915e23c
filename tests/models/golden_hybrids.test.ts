import { openTestDevice } from '../support/gpu.ts';
import { describeGolden } from '../support/golden_suite.ts';

const device = await openTestDevice();

describeGolden(device, 'lfm2', { f16: 1e-3, bf16: 8e-3, q8: 0.02, q4: 0.4 });
// Its state remembers much, rounding errors included: with q4, random weights leave nothing to compare.
describeGolden(device, 'olmo_hybrid', { f16: 0.01, bf16: 0.06, q8: 0.15 });
describeGolden(device, 'qwen3_next', { f16: 2e-3, bf16: 0.02 });
describeGolden(device, 'qwen3_5_text', { f16: 2.5e-3, bf16: 0.03, q8: 0.06, q4: 0.7 });
describeGolden(device, 'zamba2', { f16: 1.6e-3, bf16: 0.015, q8: 0.04, q4: 0.5 });

// What their configurations leave out: biases, other layer patterns, heads, blocks and names of tensors.
for (const name of ['lfm2', 'olmo_hybrid', 'qwen3_next', 'qwen3_5_moe', 'zamba2'])
  describeGolden(device, `variants/${name}`, {});
