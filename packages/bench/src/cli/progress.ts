import type { Ora } from 'ora';
import ora from 'ora';

const BAR_CELLS = 20;

/** What a long run says while it goes on: rows of its table, and how far it is. */
export interface Progress extends Disposable {
  /** One line of the output, above the bar. */
  line(text: string): void;
  /** What is under way, and how much of all is done. */
  stage(text: string, done: number, total: number): void;
}

/**
 * A bar at the foot of a terminal, on the error output; elsewhere nothing but the lines. The bar is drawn when something
 * changed and never by a timer, which would take time from what is measured.
 */
export function startProgress(): Progress {
  const isTerminal = process.stderr.isTTY;
  const bar: Ora | undefined = isTerminal
    ? ora({ stream: process.stderr, discardStdin: false, spinner: { interval: 2 ** 30, frames: [' '] } })
    : undefined;
  return {
    line: (text) => {
      bar?.clear();
      console.log(text);
      bar?.render();
    },
    stage: (text, done, total) => {
      if (bar === undefined) return;
      bar.text = describeStage(text, done, total);
      if (bar.isSpinning) bar.render();
      else bar.start();
    },
    [Symbol.dispose]: () => void bar?.stop(),
  };
}

/** `[#####...............] 2 of 8: hybrid` */
export function describeStage(text: string, done: number, total: number): string {
  const cells = total === 0 ? 0 : Math.round((BAR_CELLS * done) / total);
  return `[${'#'.repeat(cells)}${'.'.repeat(BAR_CELLS - cells)}] ${done} of ${total}: ${text}`;
}

/** One line that rewrites itself on a terminal, for what has no end in sight; nothing elsewhere, where it would fill a log. */
export function showProgress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}
