import { requestDevice } from '@mambalab/kernels/node';
import { environmentLines, formatBytes } from '../format.ts';
import { describeEnvironment } from '../harness/environment.ts';
import type { checkLeaks, LeakCounts } from '../harness/leaks.ts';
import { describeNode } from './environment.ts';
import { writeReport } from './kernels_command.ts';
import type { LeaksOptions } from './options.ts';

/** `mambalab-bench leaks`: uses a tiny model over and over and counts what it holds. @returns whether that is constant */
export async function benchLeaks(options: LeaksOptions, check: typeof checkLeaks): Promise<boolean> {
  const device = await requestDevice({ toggles: options.toggles });
  try {
    const environment = describeEnvironment(device, describeNode(options.toggles));
    console.log(environmentLines(environment).join('\n'));
    const started = performance.now();
    const result = await check(device, {
      generations: options.quick === true ? Math.min(200, options.generations) : options.generations,
      sessions: options.quick === true ? Math.min(50, options.sessions) : options.sessions,
      onProgress: (done, all) => {
        if (done % 1000 === 0) console.log(`${done} of ${all}, ${Math.round((performance.now() - started) / 1000)} s`);
      },
    });
    const { generations, sessions, refused, passed } = result;
    console.log(`${generations} texts and ${sessions} sessions, ${refused} calls that failed as they should`);
    for (const name of ['empty', 'before', 'after', 'end'] as const) console.log(line(name, result[name]));
    console.log(passed ? 'nothing is left behind' : `LEAK: the counts differ: ${JSON.stringify(result.more)}`);
    writeReport(options.json, { schema: 'mambalab-bench/leaks', version: 1, environment, ...result });
    return passed;
  } finally {
    device.dispose();
  }
}

function line(name: string, { buffers, bytes, allocatedBytes }: LeakCounts): string {
  return `${name.padEnd(7)} ${buffers} buffers of ${formatBytes(bytes)}; ${formatBytes(allocatedBytes)} by the library's count`;
}
