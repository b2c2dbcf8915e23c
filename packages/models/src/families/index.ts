import { UnsupportedModelError } from '@mambalab/kernels';
import { ConfigReader } from '../spec/config.ts';
import type { ParsedModel } from '../spec/weight_spec.ts';
import { parseLlama } from './llama.ts';
import { parseMamba2 } from './mamba2.ts';
import { parseNemotronH } from './nemotron_h.ts';

const FAMILIES: Readonly<Record<string, (config: ConfigReader) => ParsedModel>> = {
  llama: parseLlama,
  mamba2: parseMamba2,
  nemotron_h: parseNemotronH,
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
