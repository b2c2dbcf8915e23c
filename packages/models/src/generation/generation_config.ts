import type { ConfigReader } from '../spec/config.ts';
import type { SamplingOptions } from './options.ts';

/**
 * How generation_config.json says that conversations are continued: greedily unless `do_sample` is true. What the file
 * does not name changes nothing.
 */
export function readSampling(config: ConfigReader): SamplingOptions {
  const isSampled = config.boolean('do_sample', false);
  return {
    temperature: isSampled ? config.number('temperature', 1) : 0,
    topK: config.number('top_k', 0),
    topP: config.number('top_p', 1),
    minP: config.number('min_p', 0),
    repetitionPenalty: config.number('repetition_penalty', 1),
  };
}
