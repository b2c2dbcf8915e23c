import { UnsupportedModelError, WeightFormatError } from '@mambalab/kernels';
import { DELTA_NETS } from './gguf_delta.ts';
import { HYBRIDS } from './gguf_hybrids.ts';
import type { GgufModel } from './gguf_model.ts';
import { placeByRules } from './gguf_names.ts';
import type { Architecture } from './gguf_rules.ts';
import { STATE_SPACE } from './gguf_state_space.ts';
import type { PlacedTensor } from './gguf_tensors.ts';
import { TRANSFORMERS } from './gguf_transformers.ts';

const ARCHITECTURES: Readonly<Record<string, Architecture>> = {
  ...STATE_SPACE,
  ...HYBRIDS,
  ...DELTA_NETS,
  ...TRANSFORMERS,
};

/** The architecture of a file. @throws UnsupportedModelError for one that is not known here */
export function architectureOf(name: string, file: string): Architecture {
  const architecture = Object.hasOwn(ARCHITECTURES, name) ? ARCHITECTURES[name] : undefined;
  if (architecture !== undefined) return architecture;
  throw new UnsupportedModelError(
    `${file} holds a model of the architecture '${name.slice(0, 80)}', which this version does not run.`,
    `Supported are: ${Object.keys(ARCHITECTURES).join(', ')}.`,
  );
}

/** The configuration of the model, and its tensors under Hugging Face's names. */
export function readArchitecture(model: GgufModel): {
  readonly config: Readonly<Record<string, unknown>>;
  readonly tensors: PlacedTensor[];
} {
  const { config, rules, finish } = architectureOf(model.architecture, model.file);
  const read = config(model);
  const placed = placeByRules(model.tensors.values(), rules(model), model);
  const tensors = finish?.(model, placed) ?? placed;
  const seen = new Map<string, string>();
  for (const { name, parts } of tensors) {
    const own = parts[0]?.tensor.name ?? name;
    const other = seen.get(name);
    if (other !== undefined) {
      throw new WeightFormatError(
        `Tensors '${other}' and '${own}' in ${model.file} are both '${name}'.`,
        'Download or convert the model again.',
      );
    }
    seen.set(name, own);
  }
  return { config: read, tensors };
}
