import { UnsupportedModelError } from '@mambalab/kernels';
import { ConfigReader } from '../spec/config.ts';
import type { ParsedModel } from '../spec/weight_spec.ts';
import { parseBamba } from './bamba.ts';
import { parseFalconH1 } from './falcon_h1.ts';
import { parseFalconMamba } from './falcon_mamba.ts';
import { parseGraniteMoeHybrid } from './granitemoehybrid.ts';
import { parseJamba } from './jamba.ts';
import { parseLlama } from './llama.ts';
import { parseMamba } from './mamba.ts';
import { isMambaSsm, parseMambaSsm } from './mamba_ssm.ts';
import { parseMamba2 } from './mamba2.ts';
import { parseNemotronH } from './nemotron_h.ts';

const FAMILIES: Readonly<Record<string, (config: ConfigReader) => ParsedModel>> = {
  bamba: parseBamba,
  falcon_h1: parseFalconH1,
  falcon_mamba: parseFalconMamba,
  granitemoehybrid: parseGraniteMoeHybrid,
  jamba: parseJamba,
  llama: parseLlama,
  mamba: parseMamba,
  mamba2: parseMamba2,
  nemotron_h: parseNemotronH,
};

/** `model_type`s that can be loaded. Configurations of mamba_ssm, which have none, are known by their fields. */
export const SUPPORTED_FAMILIES: readonly string[] = Object.keys(FAMILIES);

/**
 * The model that a `config.json` describes.
 *
 * @throws UnsupportedModelError if its family is unknown, or it asks for something that is not computed here
 */
export function parseConfig(config: unknown): ParsedModel {
  const reader = new ConfigReader(config);
  const parse = parserOf(reader);
  reader.refuse('quantization_config', []);
  const parsed = parse(reader);
  checkDivides(parsed);
  return parsed;
}

function parserOf(config: ConfigReader): (config: ConfigReader) => ParsedModel {
  if (isMambaSsm(config)) return parseMambaSsm;
  const family = config.string('model_type');
  const parse = Object.hasOwn(FAMILIES, family) ? FAMILIES[family] : undefined;
  if (parse === undefined) {
    throw new UnsupportedModelError(
      `The model is of type '${family}', which this version does not run.`,
      `Supported are: ${SUPPORTED_FAMILIES.join(', ')}.`,
    );
  }
  return parse;
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
