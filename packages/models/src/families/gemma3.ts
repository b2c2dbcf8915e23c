import type { ConfigReader } from '../spec/config.ts';
import type { ParsedModel } from '../spec/weight_spec.ts';
import { gemma3Text } from './gemma3_text.ts';

/**
 * Gemma 3 with pictures: the text model under `text_config` runs, and what sees pictures is left in the checkpoint. Names
 * begin with `language_model.model.` or, in memory of newer versions of the library, with `model.language_model.`
 */
export function parseGemma3(config: ConfigReader): ParsedModel {
  const text = config.object('text_config');
  text.refuse('model_type', ['gemma3_text']);
  const { spec, names } = gemma3Text(text, 'gemma3');
  const eosTokens = config.tokens('eos_token_id');
  return {
    spec: {
      ...spec,
      tiedEmbeddings: config.boolean('tie_word_embeddings', spec.tiedEmbeddings),
      eosTokens: eosTokens.length > 0 ? eosTokens : spec.eosTokens,
    },
    names: {
      ...names,
      prefixes: [
        { 'model.': 'language_model.model.', 'lm_head.': 'language_model.lm_head.' },
        { 'model.': 'model.language_model.' },
      ],
      ignored: [...names.ignored, /^(model\.)?(vision_tower|multi_modal_projector)\./],
    },
  };
}
