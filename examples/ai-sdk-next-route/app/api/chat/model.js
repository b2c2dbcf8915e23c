import { hybrid } from '@mambalab/checkpoints';
import { loadModel } from '@mambalab/models';
import { languageModel } from '@mambalab/models/ai-sdk';

/** The shipped models have no chat template of their own, so conversations are written as transcripts. */
const toPrompt = (messages) => `${messages.map(({ role, content }) => `${role}: ${content}`).join('\n')}\nassistant:`;

let loaded;

/** One model for all requests of this process, loaded with the first. */
export function model() {
  loaded ??= loadModel(hybrid).then((loadedModel) => languageModel(loadedModel, { id: 'hybrid', toPrompt }));
  return loaded;
}
