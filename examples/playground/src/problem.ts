import { MambalabError } from '@mambalab/models';
import { element } from './page.ts';

const box: HTMLElement = element('problem', HTMLDivElement);
const noWebGpu: HTMLElement = element('no-webgpu', HTMLElement);

export function hideProblem(): void {
  box.hidden = true;
}

/** Shows an error: what happened and what to do about it. */
export function showProblem(error: unknown): void {
  if (error instanceof MambalabError && error.code === 'webgpu-unavailable') {
    showNoWebGpu(withoutHint(error));
    return;
  }
  const title = document.createElement('strong');
  const message = document.createElement('p');
  const hint = document.createElement('p');
  title.textContent = error instanceof Error ? error.name : 'Error';
  message.textContent =
    error instanceof MambalabError ? withoutHint(error) : String(Reflect.get(Object(error), 'message') ?? error);
  hint.textContent = error instanceof MambalabError ? error.hint : '';
  box.replaceChildren(title, message, ...(hint.textContent === '' ? [] : [hint]));
  box.hidden = false;
}

function showNoWebGpu(reason: string): void {
  element('no-webgpu-reason', HTMLParagraphElement).textContent = reason;
  noWebGpu.hidden = false;
}

/** Messages end with their hint, which is shown as a paragraph of its own. */
function withoutHint({ message, hint }: MambalabError): string {
  return message.endsWith(hint) ? message.slice(0, -hint.length).trim() : message;
}
