// node main.mjs [source]: one beginning, several ends. What the model remembers is copied, saved and restored.
import { hybrid } from '@mambalab/checkpoints';
import { loadModel } from '@mambalab/models';

const model = await loadModel(process.argv[2] ?? hybrid);
const beginning = model.session();
await beginning.append('Once upon a time there was a little girl who');
console.log(`${beginning.length} tokens, ${beginning.bytes} bytes on the GPU`);

// The beginning is processed once. Forks are copies on the GPU, and none knows of the other.
for (const seed of [1, 2]) {
  const fork = beginning.fork();
  const { text } = await fork.generate({ maxTokens: 12, temperature: 0.9, seed }).result;
  console.log(`end ${seed}:${text}`);
  fork.dispose();
}

// Bytes for a file or another device, where the text goes on with the same tokens.
const bytes = await beginning.save();
const restored = await model.restore(bytes);
const options = { maxTokens: 12 };
const here = await beginning.generate(options).result;
const there = await restored.generate(options).result;
console.log(`${bytes.byteLength} bytes saved; restored, it writes the same: ${here.text === there.text}`);
model.dispose();
