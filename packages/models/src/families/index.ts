import { UnsupportedModelError } from '@mambalab/kernels';
import { ConfigReader } from '../spec/config.ts';
import type { ParsedModel } from '../spec/weight_spec.ts';
import { parseGemma3 } from './gemma3.ts';
import { parseGemma3Text } from './gemma3_text.ts';
import { parseGpt2 } from './gpt2.ts';
import { parseGptNeoX } from './gpt_neox.ts';
import { parseGranite } from './granite.ts';
import { parseLlama } from './llama.ts';
import { parseMamba2 } from './mamba2.ts';
import { parseMistral } from './mistral.ts';
import { parseNemotron } from './nemotron.ts';
import { parseNemotronH } from './nemotron_h.ts';
import { parseQwen2 } from './qwen2.ts';
import { parseQwen3 } from './qwen3.ts';
import { parseSmolLM3 } from './smollm3.ts';

const FAMILIES: Readonly<Record<string, (config: ConfigReader) => ParsedModel>> = {
  gemma3: parseGemma3,
  gemma3_text: parseGemma3Text,
  gpt2: parseGpt2,
  gpt_neox: parseGptNeoX,
  granite: parseGranite,
  llama: parseLlama,
  mamba2: parseMamba2,
  mistral: parseMistral,
  nemotron: parseNemotron,
  nemotron_h: parseNemotronH,
  qwen2: parseQwen2,
  qwen3: parseQwen3,
  smollm3: parseSmolLM3,
};

/** `model_type`s that can be loaded. */
export const SUPPORTED_FAMILIES: readonly string[] = Object.keys(FAMILIES);

/**
 * The model that a `config.json` describes.
 *
 * @throws UnsupportedModelError if its family is unknown, or it asks for something that is not computed here
 */
export function parseConfig(config: unknown): ParsedModel {
  const reader = new ConfigReader(config);
  const family = reader.string('model_type');
  const parse = Object.hasOwn(FAMILIES, family) ? FAMILIES[family] : undefined;
  if (parse === undefined) {
    throw new UnsupportedModelError(
      `The model is of type '${family}', which this version does not run.`,
      `Supported are: ${SUPPORTED_FAMILIES.join(', ')}.`,
    );
  }
  reader.refuse('quantization_config', []);
  const parsed = parse(reader);
  checkDivides(parsed);
  return parsed;
}

/** What every kernel takes for granted. */
function checkDivides({ spec }: ParsedModel): void {
  for (const { blocks } of spec.layers) {
    for (const block of blocks) {
      if (block.kind === 'mamba2') divides('n_groups', block.groups, 'heads', block.heads);
      if (block.kind === 'attention') divides('num_key_value_heads', block.kvHeads, 'num_attention_heads', block.heads);
    }
  }
}

function divides(name: string, part: number, wholeName: string, whole: number): void {
  if (whole % part === 0) return;
  throw new UnsupportedModelError(
    `config.json: '${name}' (${part}) must divide ${wholeName} (${whole}).`,
    'Check that the configuration belongs to this model.',
  );
}
