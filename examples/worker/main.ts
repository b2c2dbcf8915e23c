import { hybrid } from '@mambalab/checkpoints';
import { createWorkerModel } from '@mambalab/models/worker';

const text = document.body.appendChild(document.createElement('p'));
text.ariaLive = 'polite';
text.textContent = 'Loading …';
const more = document.body.appendChild(document.createElement('button'));
more.textContent = 'More';
more.disabled = true;

// The model and its GPU work are in the worker; the page draws undisturbed.
const worker = new Worker(new URL('./model.worker.ts', import.meta.url), { type: 'module' });
const model = await createWorkerModel(worker, hybrid);
const session = model.session();

async function write(prompt?: string): Promise<void> {
  more.disabled = true;
  const options = { maxTokens: 16 };
  const written = prompt === undefined ? session.generate(options) : session.generate(prompt, options);
  for await (const piece of written) text.append(piece.text);
  more.disabled = false;
}

more.addEventListener('click', () => void write());
text.textContent = 'Once upon a time';
await write('Once upon a time');
