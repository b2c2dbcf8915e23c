import { WebGPUUnavailableError } from '@mambalab/kernels';
import { element } from './page.ts';

const box: HTMLElement = element('problem', HTMLDivElement);

export function hideProblem(): void {
  box.hidden = true;
}

/** Shows an error. Messages of this library end with what to do. */
export function showProblem(error: unknown): void {
  if (error instanceof WebGPUUnavailableError) {
    element('no-webgpu-reason', HTMLParagraphElement).textContent = error.message;
    element('no-webgpu', HTMLElement).hidden = false;
    return;
  }
  const title = document.createElement('strong');
  title.textContent = error instanceof Error ? error.name : 'Error';
  const message = document.createElement('p');
  message.textContent = error instanceof Error ? error.message : String(error);
  box.replaceChildren(title, message);
  box.hidden = false;
}
