import { openTestDevice } from '../support/gpu.ts';
import { describeGoldens } from '../support/golden_suite.ts';

const device = await openTestDevice();

describeGoldens(device, ['lfm2', 'olmo_hybrid', 'qwen3_next', 'qwen3_5_text', 'zamba2']);

// What their configurations leave out: biases, other layer patterns, heads, blocks and names of tensors.
const VARIANTS = ['lfm2', 'olmo_hybrid', 'qwen3_next', 'qwen3_5_moe', 'zamba2'];
describeGoldens(
  device,
  VARIANTS.map((name) => `variants/${name}`),
  true,
);
