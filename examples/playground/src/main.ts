import { hybrid } from '@mambalab/checkpoints';
import type { GenerateOptions } from '@mambalab/models';
import { element } from './page.ts';
import { Playground } from './playground.ts';

const playground = new Playground();
const loadHybrid = (): Promise<void> => playground.load(hybrid, hybrid.name);

element('load-shipped', HTMLButtonElement).addEventListener('click', () => void loadHybrid());
element('stop', HTMLButtonElement).addEventListener('click', () => playground.stop());

for (const id of ['folder', 'files']) {
  const input = element(id, HTMLInputElement);
  input.addEventListener('change', () => {
    const files = [...(input.files ?? [])];
    const [first] = files;
    // Emptied, so that choosing the same files again is a change too.
    input.value = '';
    if (first !== undefined) void playground.load(files, first.webkitRelativePath.split('/')[0] || 'the chosen files');
  });
}

const form = element('prompt-form', HTMLFormElement);
const prompt = element('prompt', HTMLTextAreaElement);

form.addEventListener('submit', (event) => {
  event.preventDefault();
  void playground.generate(prompt.value, readOptions());
});

prompt.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey))
    form.requestSubmit(element('generate', HTMLButtonElement));
});

function readOptions(): GenerateOptions {
  const seed = element('seed', HTMLInputElement);
  return {
    maxTokens: element('max-tokens', HTMLInputElement).valueAsNumber,
    temperature: element('temperature', HTMLInputElement).valueAsNumber,
    ...(seed.value !== '' && { seed: seed.valueAsNumber }),
  };
}

// The shipped model is small enough to load unasked, unless the user saves data.
const { connection } = navigator as Navigator & { readonly connection?: { readonly saveData?: boolean } };
if (connection?.saveData !== true) void loadHybrid();
