import type { KernelReport } from '@mambalab/bench';
import { kernelBenches } from '@mambalab/bench';
import type { Device } from '@mambalab/kernels';
import { requestDevice } from '@mambalab/kernels';
import { compareWithGpuJs } from './baseline.ts';
import { environmentOf, runSuite, showEnvironment } from './kernels.ts';
import { downloadJson, element } from './page.ts';
import { hideProblem, showProblem } from './problem.ts';

const filter = element('filter', HTMLInputElement);
const quick = element('quick', HTMLInputElement);
const run = element('run', HTMLButtonElement);
const stop = element('stop', HTMLButtonElement);
const download = element('download', HTMLButtonElement);
const compare = element('compare', HTMLButtonElement);
const status = element('status', HTMLParagraphElement);
const baselineStatus = element('baseline-status', HTMLParagraphElement);

let device: Device | undefined;
let report: KernelReport | undefined;
let abort: AbortController | undefined;

/** The device of this page; a new one where the last was lost. */
async function openDevice(): Promise<Device> {
  if (device !== undefined) return device;
  const opened = await requestDevice();
  device = opened;
  void watch(opened);
  return opened;
}

async function watch(opened: Device): Promise<void> {
  await opened.lost;
  if (device === opened) device = undefined;
}

/** Does one thing at a time with the GPU: meanwhile only Stop can be pressed. */
async function start(
  place: HTMLElement,
  body: (device: Device, task: { signal: AbortSignal; onStatus: (text: string) => void }) => Promise<void>,
): Promise<void> {
  if (abort !== undefined) return;
  abort = new AbortController();
  hideProblem();
  for (const button of [run, compare, download]) button.disabled = true;
  stop.disabled = false;
  const onStatus = (text: string): void => {
    place.textContent = text;
  };
  try {
    await body(await openDevice(), { signal: abort.signal, onStatus });
  } catch (error) {
    onStatus('Not finished.');
    showProblem(error);
  }
  abort = undefined;
  stop.disabled = true;
  for (const button of [run, compare]) button.disabled = false;
  download.disabled = report === undefined;
}

element('controls', HTMLFormElement).addEventListener('submit', (event) => {
  event.preventDefault();
  void start(status, async (opened, task) => {
    report = undefined;
    report = await runSuite(opened, { ...task, filter: filter.value.trim(), quick: quick.checked });
  });
});

compare.addEventListener('click', () => {
  void start(baselineStatus, (opened, task) => compareWithGpuJs(opened, { ...task, quick: quick.checked }));
});

stop.addEventListener('click', () => {
  abort?.abort();
  stop.disabled = true;
});

download.addEventListener('click', () => downloadJson('mambalab-kernels.json', report));

element('names', HTMLDataListElement).replaceChildren(
  ...kernelBenches.map(({ name }) => Object.assign(document.createElement('option'), { value: name })),
);

try {
  const opened = await openDevice();
  showEnvironment(environmentOf(opened));
  // A CPU takes minutes for what a GPU does in seconds.
  quick.checked = opened.capabilities.software;
  status.textContent = 'Ready.';
  run.disabled = false;
  compare.disabled = false;
} catch (error) {
  status.textContent = 'There is nothing to measure.';
  showProblem(error);
}
