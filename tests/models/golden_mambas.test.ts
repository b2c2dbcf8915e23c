import { describeGoldens } from '../support/golden_suite.ts';
import { openTestDevice } from '../support/gpu.ts';

const device = await openTestDevice();

const FAMILIES = ['mamba', 'mamba2', 'falcon_mamba', 'jamba', 'bamba', 'granitemoehybrid', 'falcon_h1', 'nemotron_h'];
describeGoldens(device, FAMILIES);

const VARIANTS = [
  // As mamba_ssm stores it: biases, filters without.
  'mamba_ssm',
  // As mamba_ssm stores it, with names of mistral-inference: a gated norm for each group, a bound of dt.
  'mamba2_ssm',
  // A gated norm over two groups, bounds of dt, biases, filters without.
  'mamba2',
  // Experts, biases of Mamba.
  'jamba',
  // A gated norm over two groups, bounds of dt, all biases, attention first.
  'bamba',
  // Experts in one tensor, positions, biases, bounds of dt, older words.
  'granitemoehybrid',
  // The gate behind the norm of each group, and in front of it; all biases beside all factors.
  'falcon_h1_biased',
  'falcon_h1_gated',
  // Experts of groups in a latent space, biases, tensors that nothing needs, letters.
  'nemotron_h',
];
describeGoldens(
  device,
  VARIANTS.map((name) => `variants/${name}`),
  true,
);
