/** What the code does not say of a family. */
export interface FamilyEntry {
  /** Small public checkpoints. */
  readonly checkpoints: readonly string[];
  /** What is particular, in a few words. */
  readonly particular: string;
}

/** By `model_type`. */
export const FAMILY_CATALOGUE: Readonly<Record<string, FamilyEntry>> = {
  bamba: {
    checkpoints: ['ibm-ai-platform/Bamba-9B-v2'],
    particular: 'half of each head turns; the gated norm spans all channels',
  },
  falcon_h1: {
    checkpoints: ['tiiuae/Falcon-H1-Tiny-90M', 'tiiuae/Falcon-H1-0.5B-Base'],
    particular: 'both mixers read one norm; a factor for every part',
  },
  falcon_mamba: {
    checkpoints: ['tiiuae/falcon-mamba-7b'],
    particular: 'dt, B and C are normalised without weights',
  },
  gemma3: { checkpoints: ['google/gemma-3-4b-it'], particular: 'the text part of the models that see' },
  gemma3_text: {
    checkpoints: ['google/gemma-3-270m', 'google/gemma-3-1b-it'],
    particular: 'norms behind blocks; five layers with a window to one without',
  },
  gpt2: { checkpoints: ['openai-community/gpt2'], particular: 'matrices stored transposed' },
  gpt_neox: {
    checkpoints: ['EleutherAI/pythia-70m', 'EleutherAI/pythia-160m'],
    particular: 'attention and feed-forward side by side; queries, keys and values by turns',
  },
  granite: { checkpoints: ['ibm-granite/granite-3.3-2b-instruct'], particular: 'four factors' },
  granitemoehybrid: {
    checkpoints: ['ibm-granite/granite-4.0-h-350m', 'ibm-granite/granite-4.0-h-1b'],
    particular: 'four factors; an expert layer of every token; the gated norm spans all channels',
  },
  jamba: {
    checkpoints: ['ai21labs/AI21-Jamba-Reasoning-3B'],
    particular: 'dt, B and C are normalised with weights',
  },
  lfm2: { checkpoints: ['LiquidAI/LFM2-350M', 'LiquidAI/LFM2-1.2B'], particular: 'convolutions of three tokens' },
  llama: {
    checkpoints: ['HuggingFaceTB/SmolLM2-135M', 'meta-llama/Llama-3.2-1B'],
    particular: 'every scaling of RoPE',
  },
  mamba: {
    checkpoints: ['state-spaces/mamba-130m-hf', 'state-spaces/mamba-130m'],
    particular: 'also as mamba_ssm stores it',
  },
  mamba2: {
    checkpoints: ['state-spaces/mamba2-130m', 'mistralai/Mamba-Codestral-7B-v0.1'],
    particular: 'also as mamba_ssm stores it; the gated norm spans all channels, whatever the groups',
  },
  mistral: { checkpoints: ['mistralai/Mistral-7B-v0.1'], particular: 'a window, in the first version' },
  nemotron: {
    checkpoints: ['nvidia/Minitron-4B-Base'],
    particular: "the paper's Transformer; layer norms that store w - 1",
  },
  nemotron_h: {
    checkpoints: ['nvidia/NVIDIA-Nemotron-3-Nano-4B', 'nvidia/Nemotron-H-8B-Base-8K'],
    particular: "the paper's Mamba-2 and hybrid; the gated norm per group; dt is never clamped",
  },
  olmo_hybrid: {
    checkpoints: ['allenai/Olmo-Hybrid-7B'],
    particular: 'norms behind attention, in front of delta nets; eigenvalues may be negative',
  },
  qwen2: { checkpoints: ['Qwen/Qwen2.5-0.5B'], particular: 'biases of queries, keys and values' },
  qwen3: { checkpoints: ['Qwen/Qwen3-0.6B'], particular: 'queries and keys are normalised' },
  qwen3_5: { checkpoints: ['Qwen/Qwen3.5-0.8B'], particular: 'the text part of the models that see' },
  qwen3_5_text: { checkpoints: ['Qwen/Qwen3.5-0.8B'], particular: 'attention with a gate of its own' },
  qwen3_5_moe: { checkpoints: ['Qwen/Qwen3.5-35B-A3B'], particular: 'the text part of the models that see' },
  qwen3_5_moe_text: { checkpoints: ['Qwen/Qwen3.5-35B-A3B'], particular: 'as qwen3_5_text, with experts' },
  qwen3_moe: { checkpoints: ['Qwen/Qwen3-30B-A3B'], particular: 'queries and keys are normalised' },
  qwen3_next: {
    checkpoints: ['Qwen/Qwen3-Next-80B-A3B-Instruct'],
    particular: 'a gated layer of every token beside the experts',
  },
  smollm3: { checkpoints: ['HuggingFaceTB/SmolLM3-3B'], particular: 'no positions in every fourth layer' },
  zamba2: {
    checkpoints: ['Zyphra/Zamba2-1.2B'],
    particular: 'shared Transformer blocks with adapters of low rank for each use; the gated norm per group',
  },
};
