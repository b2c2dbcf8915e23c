import { mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { requestDevice } from '@mambalab/kernels/node';
import type { WeightDtype } from '@mambalab/models';
import { Command, Option } from 'commander';
import { environmentLines, formatBytes, formatNumber } from '../format.ts';
import { describeEnvironment } from '../harness/environment.ts';
import type { LoadRun } from '../harness/measure_load.ts';
import type { Environment } from '../results.ts';
import { STORAGES } from '../storages.ts';
import { describeNode } from './environment.ts';
import { UsageError, writeReport } from './kernels_command.ts';
import { integer, jsonOption, togglesOption } from './options.ts';
import type { Column } from './table.ts';
import { formatHeader, formatRow } from './table.ts';

interface LoadFlags {
  readonly preset?: string;
  readonly folder?: string;
  readonly cache: string;
  readonly dtype: WeightDtype;
  readonly repeats: number;
  readonly toggles: 'default' | 'native';
  readonly json?: string;
}

/** What `mambalab-bench load --json` writes. */
export interface LoadReport {
  readonly schema: 'mambalab-bench/load';
  readonly version: 1;
  readonly environment: Environment;
  readonly source: string;
  readonly dtype: WeightDtype;
  readonly runs: readonly LoadRun[];
}

const number = (title: string, width: number): Column => ({ title, width, align: 'right' });
const COLUMNS: readonly Column[] = [
  { title: 'load', width: 8 },
  number('s', 7),
  number('weights', 9),
  number('s to GPU', 8),
  number('GB/s', 7),
  number('reading s', 9),
  number('storing s', 9),
  number('writing s', 9),
  number('compiling s', 11),
];

/** `mambalab-bench load`. */
export function loadCommand(): Command {
  return new Command('load')
    .description('how long a model takes to load, from its checkpoint and from weights that were kept; with warm files')
    .argument('[source]', 'folder, file, URL or repository of a model')
    .addOption(new Option('--preset <name>', 'write a random checkpoint of this shape into --folder first'))
    .addOption(new Option('--folder <path>', 'where the checkpoint of --preset goes'))
    .addOption(new Option('--cache <path>', 'folder in which weights are kept meanwhile').default(tmpdir()))
    .addOption(
      new Option('--dtype <dtype>', 'storage type of the weights').choices(['auto', ...STORAGES]).default('auto'),
    )
    .addOption(new Option('--repeats <number>', 'loads of what was kept').argParser(integer).default(2))
    .addOption(togglesOption())
    .addOption(jsonOption())
    .action(async (source: string | undefined, flags: LoadFlags) => await benchLoad(source, flags));
}

async function benchLoad(given: string | undefined, flags: LoadFlags): Promise<void> {
  const { preset, folder, cache, dtype, repeats, toggles } = flags;
  const source = given ?? folder;
  if (source === undefined || (preset === undefined) !== (folder === undefined) || (given !== undefined && preset)) {
    throw new UsageError('Give a model, or --preset with the name of a shape and --folder.');
  }
  // What reads and writes models is loaded by this command only.
  const { measureLoads } = await import('../harness/measure_load.ts');
  if (preset !== undefined) {
    const { presetNamed } = await import('../harness/presets.ts');
    const { writeRandomCheckpoint } = await import('../harness/random_checkpoint.ts');
    await writeRandomCheckpoint(presetNamed(preset), source);
  }
  await mkdir(cache, { recursive: true });
  const device = await requestDevice({ toggles });
  const environment = describeEnvironment(device, describeNode(toggles));
  device.dispose();
  console.log(`${environmentLines(environment).join('\n')}\n\n${formatHeader(COLUMNS)}`);
  const runs = await measureLoads(source, {
    dtype,
    cacheParent: cache,
    repeats,
    warmUp: true,
    requestDevice: () => requestDevice({ toggles }),
    onRun: (run) => {
      console.log(formatRow(COLUMNS, cellsOf(run)));
      for (const note of run.notes) console.log(note);
    },
  });
  const report: LoadReport = { schema: 'mambalab-bench/load', version: 1, environment, source, dtype, runs };
  writeReport(flags.json, report);
}

function cellsOf(run: LoadRun): string[] {
  return [
    run.kind,
    formatNumber(run.seconds),
    formatBytes(run.bytes),
    formatNumber(run.uploadedSeconds),
    formatNumber(run.gigabytesPerSecond),
    formatNumber(run.readingSeconds),
    formatNumber(run.storingSeconds),
    formatNumber(run.writingSeconds),
    formatNumber(run.compilingSeconds),
  ];
}
