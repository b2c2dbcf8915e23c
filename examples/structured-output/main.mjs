// node main.mjs [source]: a text that is JSON of a schema, whatever the model would rather write.
import { hybrid } from '@mambalab/checkpoints';
import { loadModel } from '@mambalab/models';

const schema = {
  type: 'object',
  properties: {
    animal: { enum: ['fox', 'owl', 'bear'] },
    age: { type: 'integer', minimum: 1, maximum: 99 },
    isKind: { type: 'boolean' },
  },
  required: ['animal', 'age', 'isKind'],
};

const model = await loadModel(process.argv[2] ?? hybrid);
const { text, finishReason } = await model.generate('The old animal of the wood, as JSON: ', {
  maxTokens: 200,
  responseFormat: { type: 'json_schema', schema },
}).result;
if (finishReason !== 'stop') throw new Error(`The text was cut: ${text}`);
console.log(JSON.parse(text));
model.dispose();
