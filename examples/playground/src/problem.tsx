import { MambalabError } from '@mambalab/models';
import type { VNode } from 'preact';
import { useValue } from './observable.ts';
import type { Tasks } from './tasks.ts';

/** An error: what happened, and what to do about it. */
export function Problem({ tasks }: { readonly tasks: Tasks }): VNode {
  const error = useValue(tasks.problem);
  const isShown = error !== undefined && !isNoWebGpu(error);
  return (
    <div id="problem" class="panel notice" role="alert" hidden={!isShown}>
      {isShown && (
        <>
          <strong>{error instanceof Error ? error.name : 'Error'}</strong>
          <p>{messageOf(error)}</p>
          {error instanceof MambalabError && <p>{error.hint}</p>}
        </>
      )}
    </div>
  );
}

const isNoWebGpu = (error: unknown): error is MambalabError =>
  error instanceof MambalabError && error.code === 'webgpu-unavailable';

/** Messages end with their hint, which is shown as a paragraph of its own. */
function messageOf(error: unknown): string {
  if (!(error instanceof MambalabError)) return String(Reflect.get(Object(error), 'message') ?? error);
  const { message, hint } = error;
  return message.endsWith(hint) ? message.slice(0, -hint.length).trim() : message;
}

interface Advice {
  readonly browser: string;
  /** What the user agent of such a browser has in it. */
  readonly pattern: RegExp;
  readonly text: VNode;
}

// Those whose names stand in the user agents of others come after them.
const ADVICE: readonly Advice[] = [
  {
    browser: 'Firefox',
    pattern: /Firefox\//,
    text: (
      <>
        141 or later on Windows, 145 or later on Macs with Apple silicon; elsewhere try Nightly with{' '}
        <code>dom.webgpu.enabled</code> in <code>about:config</code>.
      </>
    ),
  },
  {
    browser: 'Chrome, Edge, Opera',
    pattern: /Chrom(?:e|ium)\//,
    text: (
      <>
        113 or later (Android: 121): switch on “Use graphics acceleration when available” in the settings. On Linux,
        also enable <code>chrome://flags/#enable-unsafe-webgpu</code> and <code>chrome://flags/#enable-vulkan</code>.
      </>
    ),
  },
  {
    browser: 'Safari',
    pattern: /Safari\//,
    text: <>26 or later (macOS, iOS and iPadOS 26): WebGPU is on from the start.</>,
  },
];

/** What to do where there is no WebGPU; the browser that this seems to be stands first. */
export function NoWebGpu({ tasks }: { readonly tasks: Tasks }): VNode {
  const error = useValue(tasks.problem);
  const own = ADVICE.find(({ pattern }) => pattern.test(navigator.userAgent));
  const ordered = [...ADVICE.filter((advice) => advice === own), ...ADVICE.filter((advice) => advice !== own)];
  return (
    <section id="no-webgpu" class="panel notice" aria-labelledby="no-webgpu-heading" hidden={!isNoWebGpu(error)}>
      <h2 id="no-webgpu-heading">This browser offers no WebGPU</h2>
      <p>{messageOf(error)}</p>
      <ul>
        {ordered.map(({ browser, text }) => (
          <li key={browser}>
            <strong>
              {browser}
              {browser === own?.browser && ' (as this seems to be)'}
            </strong>{' '}
            {text}
          </li>
        ))}
        <li>
          Pages get WebGPU only over <code>https:</code> or from <code>localhost</code>.
        </li>
      </ul>
    </section>
  );
}
