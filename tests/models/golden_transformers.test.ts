import { describeGoldens } from '../support/golden_suite.ts';
import { openTestDevice } from '../support/gpu.ts';

const device = await openTestDevice();

const FAMILIES = [
  'llama',
  'mistral',
  'qwen2',
  'qwen3',
  'smollm3',
  'granite',
  'nemotron',
  'gpt2',
  'gemma3_text',
  'gpt_neox',
];
describeGoldens(device, FAMILIES);

const VARIANTS = [
  // YaRN, all biases, a tied head.
  'llama',
  // A window, and the scaling of Llama 3.
  'mistral',
  // Windows of the later layers alone, linear scaling, older fields.
  'qwen2',
  // Nested beside a model of pictures, with older fields; linear scaling of the global layers.
  'gemma3',
  // Biases beside the factor of what blocks add.
  'granite',
  // One block after the other, an odd part of each head that turns, older fields, stored masks.
  'gpt_neox',
  // Scores divided by the number of their layer, names without their beginning, stored masks.
  'gpt2',
  // A feed-forward layer and then experts.
  'qwen3_moe',
];
describeGoldens(
  device,
  VARIANTS.map((name) => `variants/${name}`),
  true,
);
