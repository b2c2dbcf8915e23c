import { UnsupportedModelError } from '@mambalab/kernels';
import { ConfigReader } from '../spec/config.ts';
import { blocksOf } from '../spec/model_spec.ts';
import type { ParsedModel } from '../spec/weight_spec.ts';
import { parseBamba } from './bamba.ts';
import { parseFalconH1 } from './falcon_h1.ts';
import { parseFalconMamba } from './falcon_mamba.ts';
import { parseGemma3 } from './gemma3.ts';
import { parseGemma3Text } from './gemma3_text.ts';
import { parseGpt2 } from './gpt2.ts';
import { parseGptNeoX } from './gpt_neox.ts';
import { parseGranite } from './granite.ts';
import { parseGraniteMoeHybrid } from './granitemoehybrid.ts';
import { parseJamba } from './jamba.ts';
import { parseLfm2 } from './lfm2.ts';
import { parseLlama } from './llama.ts';
import { parseMamba } from './mamba.ts';
import { parseMamba2 } from './mamba2.ts';
import { isMambaSsm, parseMambaSsm } from './mamba_ssm.ts';
import { parseMistral } from './mistral.ts';
import { parseNemotron } from './nemotron.ts';
import { parseNemotronH } from './nemotron_h.ts';
import { parseOlmoHybrid } from './olmo_hybrid.ts';
import { parseQwen2 } from './qwen2.ts';
import { parseQwen3 } from './qwen3.ts';
import { parseQwen35, parseQwen35Moe } from './qwen3_5.ts';
import { parseQwen3Moe } from './qwen3_moe.ts';
import { parseQwen3Next } from './qwen3_next.ts';
import { parseSmolLM3 } from './smollm3.ts';
import { parseZamba2 } from './zamba2.ts';

const FAMILIES: Readonly<Record<string, (config: ConfigReader) => ParsedModel>> = {
  bamba: parseBamba,
  falcon_h1: parseFalconH1,
  falcon_mamba: parseFalconMamba,
  gemma3: parseGemma3,
  gemma3_text: parseGemma3Text,
  gpt2: parseGpt2,
  gpt_neox: parseGptNeoX,
  granite: parseGranite,
  granitemoehybrid: parseGraniteMoeHybrid,
  jamba: parseJamba,
  lfm2: parseLfm2,
  llama: parseLlama,
  mamba2: parseMamba2,
  mamba: parseMamba,
  mistral: parseMistral,
  nemotron: parseNemotron,
  nemotron_h: parseNemotronH,
  olmo_hybrid: parseOlmoHybrid,
  qwen2: parseQwen2,
  qwen3: parseQwen3,
  qwen3_5: parseQwen35,
  qwen3_5_moe: parseQwen35Moe,
  qwen3_5_moe_text: parseQwen35Moe,
  qwen3_5_text: parseQwen35,
  qwen3_moe: parseQwen3Moe,
  qwen3_next: parseQwen3Next,
  smollm3: parseSmolLM3,
  zamba2: parseZamba2,
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
  checkParts(parsed);
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
  for (const { block } of blocksOf(spec)) {
    if (block.kind === 'mamba2') divides('n_groups', block.groups, 'heads', block.heads);
    if (block.kind === 'attention') divides('num_key_value_heads', block.kvHeads, 'num_attention_heads', block.heads);
    if (block.kind === 'gatedDelta')
      divides('linear_num_key_heads', block.keyHeads, 'linear_num_value_heads', block.valueHeads);
  }
}

/** Far above any model: a damaged configuration must not ask for more lists than there is memory for. */
const MOST_PARTS = 2 ** 18;

function checkParts({ spec }: ParsedModel): void {
  let parts = spec.layers.length;
  for (const { block } of blocksOf(spec)) {
    parts += block.kind === 'moe' ? block.experts : block.kind === 'gatedDelta' ? block.valueHeads : 1;
  }
  if (parts <= MOST_PARTS) return;
  throw new UnsupportedModelError(
    `config.json describes ${spec.layers.length} layers of ${parts} parts in all; at most ${MOST_PARTS} run here.`,
    'Check the numbers of layers, experts and heads.',
  );
}

function divides(name: string, part: number, wholeName: string, whole: number): void {
  if (whole % part === 0) return;
  throw new UnsupportedModelError(
    `config.json: '${name}' (${part}) must divide ${wholeName} (${whole}).`,
    'Check that the configuration belongs to this model.',
  );
}
