// node main.mjs "a prompt" [source]: writes on in the terminal. A source is a path, a hub id or a URL.
import { hybrid } from '@mambalab/checkpoints';
import { loadModel } from '@mambalab/models';

const [prompt = 'Once upon a time', source = hybrid] = process.argv.slice(2);

const model = await loadModel(source);
const text = model.generate(prompt, { maxTokens: 32, temperature: 0.7, seed: 1 });
process.stdout.write(prompt);
for await (const piece of text) process.stdout.write(piece.text);

const { usage, timings } = await text.result;
console.log(`\n\n${usage.completionTokens} tokens, ${timings.decodeTokensPerSecond.toFixed(1)} tokens/s`);
model.dispose();
