import { describeGolden } from '../support/golden_suite.ts';
import { openTestDevice } from '../support/gpu.ts';

const device = await openTestDevice();

// Families share their kernels, and each tests them with other types: compiling them is what takes the time.
describeGolden(device, 'mamba', { f16: 4.5e-4, q8: 6.6e-3 });
describeGolden(device, 'falcon_mamba', { q8: 0.013 });
describeGolden(device, 'jamba', { bf16: 0.014 });
describeGolden(device, 'bamba', { f16: 1.7e-3 });
describeGolden(device, 'granitemoehybrid', { bf16: 2.7e-3, q8: 2.7e-3 });
// Factors in the weights.
describeGolden(device, 'falcon_h1', { f16: 7.6e-4, bf16: 6.3e-3, q8: 6e-3, q4: 0.16 });

// As mamba_ssm stores it: biases, filters without.
describeGolden(device, 'variants/mamba_ssm', {});
// As mamba_ssm stores it, with names of mistral-inference: a gated norm for each group, a bound of dt.
describeGolden(device, 'variants/mamba2_ssm', {});
// A gated norm over two groups, bounds of dt, biases, filters without.
describeGolden(device, 'variants/mamba2', {});
// Experts, biases of Mamba.
describeGolden(device, 'variants/jamba', {});
// A gated norm over two groups, bounds of dt, all biases, attention first.
describeGolden(device, 'variants/bamba', {});
// Experts in one tensor, positions, biases, bounds of dt, older words.
describeGolden(device, 'variants/granitemoehybrid', { f16: 1.1e-3 });
// The gate behind the norm of each group, and in front of it; all biases beside all factors.
describeGolden(device, 'variants/falcon_h1_biased', {});
describeGolden(device, 'variants/falcon_h1_gated', {});
// Experts of groups in a latent space, biases, tensors that nothing needs, letters.
describeGolden(device, 'variants/nemotron_h', { f16: 3.3e-3 });
