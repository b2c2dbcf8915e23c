import type { GenerateOptions, LoadProgress, Model, ModelSource } from '@mambalab/models';
import { loadModel } from '@mambalab/models';
import { formatBytes, formatTime } from './format.ts';
import { element, showRows } from './page.ts';
import type { Run } from './panels.ts';
import { describeModel, deviceRows, memoryRows, speedRows } from './panels.ts';
import { hideProblem, showProblem } from './problem.ts';

const modelStatus: HTMLElement = element('model-status', HTMLParagraphElement);
const progress: HTMLProgressElement = element('load-progress', HTMLProgressElement);
const loadShipped: HTMLButtonElement = element('load-shipped', HTMLButtonElement);
const generate: HTMLButtonElement = element('generate', HTMLButtonElement);
const stop: HTMLButtonElement = element('stop', HTMLButtonElement);
const given: HTMLElement = element('given', HTMLSpanElement);
const written: HTMLElement = element('written', HTMLSpanElement);
const textStatus: HTMLElement = element('text-status', HTMLParagraphElement);

/** One model at a time, and one text at a time. A new wish ends what is under way. */
export class Playground {
  #model: Model | undefined;
  #task: { readonly abort: AbortController; readonly done: Promise<void> } | undefined;
  #run: Run | undefined;
  #drawing = false;

  constructor() {
    this.#draw();
  }

  load(source: ModelSource, label: string): Promise<void> {
    return this.#start(async (signal) => {
      this.#model?.dispose();
      this.#model = undefined;
      this.#run = undefined;
      modelStatus.textContent = `Loading ${label} …`;
      progress.removeAttribute('value');
      progress.hidden = false;
      try {
        const started = performance.now();
        const model = await loadModel(source, { signal, onProgress: progressDisplay(label) });
        this.#model = model;
        loadShipped.hidden = true;
        modelStatus.textContent = `${label} (${describeModel(model)}), loaded in ${formatTime(performance.now() - started)}.`;
        void this.#watch(model);
      } catch (error) {
        loadShipped.hidden = false;
        modelStatus.textContent = `${label} is not loaded.`;
        throw error;
      } finally {
        progress.hidden = true;
      }
    });
  }

  generate(prompt: string, options: GenerateOptions): Promise<void> {
    return this.#start(async (signal) => {
      const model = this.#model;
      if (model === undefined) return;
      given.textContent = prompt;
      written.textContent = '';
      written.ariaBusy = 'true';
      textStatus.textContent = 'Writing …';
      stop.disabled = false;
      try {
        const promptTokens = model.tokenizer.encode(prompt).length;
        const run: Run = {
          promptTokens,
          started: performance.now(),
          writtenTokens: 0,
          firstToken: undefined,
          lastToken: undefined,
        };
        this.#run = run;
        const text = model.generate(prompt, { ...options, signal });
        for await (const piece of text) {
          run.lastToken = performance.now();
          run.firstToken ??= run.lastToken;
          run.writtenTokens += 1;
          written.append(piece.text);
          this.#drawSoon();
        }
        const { finishReason, usage } = await text.result;
        run.writtenTokens = usage.completionTokens;
        textStatus.textContent = finishReason === 'stop' ? 'The model ended its text.' : 'All tokens are written.';
      } catch (error) {
        textStatus.textContent = signal.aborted ? 'Stopped.' : 'The text was not finished.';
        throw error;
      } finally {
        written.ariaBusy = 'false';
        stop.disabled = true;
      }
    });
  }

  stop(): void {
    this.#task?.abort.abort();
  }

  /** Runs a task after the one under way has ended; shows its error unless it was aborted. */
  async #start(body: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const previous = this.#task;
    previous?.abort.abort();
    const abort = new AbortController();
    const run = async (): Promise<void> => {
      await previous?.done;
      if (abort.signal.aborted) return;
      hideProblem();
      generate.disabled = true;
      try {
        await body(abort.signal);
      } catch (error) {
        if (!abort.signal.aborted) showProblem(error);
      }
      generate.disabled = this.#model === undefined;
      this.#draw();
    };
    const done = run();
    this.#task = { abort, done };
    await done;
  }

  /** Tells when the GPU goes away under a model that is still in use. */
  async #watch(model: Model): Promise<void> {
    await model.runtime.device.lost;
    if (this.#model !== model) return;
    this.#model = undefined;
    generate.disabled = true;
    loadShipped.hidden = false;
    modelStatus.textContent = 'The GPU device was lost. Load the model again.';
    this.#draw();
  }

  /** Figures change with each token; the eye needs them once a frame. */
  #drawSoon(): void {
    if (this.#drawing) return;
    this.#drawing = true;
    requestAnimationFrame(() => {
      this.#drawing = false;
      this.#draw();
    });
  }

  #draw(): void {
    const tokens = (this.#run?.promptTokens ?? 0) + (this.#run?.writtenTokens ?? 0);
    showRows(element('speed', HTMLDListElement), speedRows(this.#run));
    showRows(element('memory', HTMLDListElement), memoryRows(this.#model, tokens));
    showRows(element('device', HTMLDListElement), deviceRows(this.#model));
  }
}

/** Shows how far loading is: of what is downloaded while something is, then of what is on the GPU. */
function progressDisplay(label: string): (progress: LoadProgress) => void {
  let isDownloading = false;
  return ({ phase, loadedBytes, totalBytes }) => {
    if (phase === 'compile') {
      progress.removeAttribute('value');
      modelStatus.textContent = `Compiling the shaders of ${label} …`;
      return;
    }
    if (phase === 'download') isDownloading = loadedBytes < totalBytes;
    if (phase === 'upload' && isDownloading) return;
    progress.value = loadedBytes / totalBytes;
    modelStatus.textContent = `Loading ${label}: ${formatBytes(loadedBytes)} of ${formatBytes(totalBytes)}`;
  };
}
