import { MambalabError } from '@mambalab/kernels';
import { Command } from 'commander';
import manifest from '../../package.json' with { type: 'json' };
import type { checkLeaks } from '../harness/leaks.ts';
import type { OpenModel } from '../harness/model_bench.ts';
import { addEvaluationCommands } from './evaluation_commands.ts';
import { addCompareCommand } from './compare_command.ts';
import { addContextCommand } from './context_program.ts';
import { benchKernels, UsageError } from './kernels_command.ts';
import { benchLeaks } from './leaks_command.ts';
import { loadCommand } from './load_command.ts';
import { benchModels } from './models_command.ts';
import type { KernelsOptions, LeaksOptions, ModelsOptions } from './options.ts';
import { addPeersCommand } from './peers_program.ts';
import { addReportCommand } from './report_program.ts';
import {
  allOption,
  batchOption,
  draftOption,
  dtypeOption,
  forceOption,
  generationsOption,
  jsonOption,
  memoryOption,
  presetOption,
  promptsOption,
  quickOption,
  repeatsOption,
  seedOption,
  sessionsOption,
  simdOption,
  stepsOption,
  timeOption,
  togglesOption,
} from './options.ts';

/** Loads what needs the models package: called by the commands that do, so that the others start without it. */
export interface LateParts {
  readonly openModel: () => Promise<OpenModel>;
  readonly checkLeaks: () => Promise<typeof checkLeaks>;
}

/** The command line of `mambalab-bench`. */
export function buildProgram(load: LateParts): Command {
  const program = new Command('mambalab-bench')
    .description('Measures kernels and models of mambalab on this device.')
    .version(manifest.version);
  program
    .command('kernels')
    .description('verify kernels against their references, then time them against what the device can do')
    .argument('[filter]', 'part of the names of kernels, such as ssm/ or rms_norm')
    .addOption(jsonOption())
    .addOption(quickOption())
    .addOption(togglesOption())
    .addOption(simdOption())
    .addOption(forceOption())
    .addOption(memoryOption())
    .addOption(seedOption())
    .addOption(allOption())
    .addOption(repeatsOption())
    .addOption(timeOption())
    .action(async (filter: string | undefined, options: KernelsOptions) => {
      if (!(await benchKernels(filter, options))) process.exitCode = 1;
    });
  program
    .command('models')
    .description('tokens per second of prefill and decode, CPU time, dispatches and memory')
    .argument('[source...]', 'folders, files, URLs or repositories of models')
    .addOption(presetOption())
    .addOption(dtypeOption())
    .addOption(promptsOption())
    .addOption(stepsOption())
    .addOption(batchOption())
    .addOption(draftOption())
    .addOption(jsonOption())
    .addOption(quickOption())
    .addOption(togglesOption())
    .addOption(memoryOption())
    .addOption(seedOption())
    .action(async (sources: readonly string[], options: ModelsOptions) => {
      await benchModels(sources, options, await load.openModel());
    });
  program
    .command('leaks')
    .description('use a tiny model in every way, over and over, and count what it holds on the GPU before and after')
    .addOption(generationsOption())
    .addOption(sessionsOption())
    .addOption(jsonOption())
    .addOption(quickOption())
    .addOption(togglesOption())
    .action(async (options: LeaksOptions) => {
      if (!(await benchLeaks(options, await load.checkLeaks()))) process.exitCode = 1;
    });
  program.addCommand(loadCommand());
  addEvaluationCommands(program);
  addContextCommand(program);
  addCompareCommand(program);
  addPeersCommand(program);
  addReportCommand(program);
  return program;
}

/** Runs the command line and ends the process: Dawn would keep it alive. */
export async function main(load: LateParts): Promise<void> {
  try {
    await buildProgram(load).parseAsync();
  } catch (error) {
    console.error(error instanceof UsageError || error instanceof MambalabError ? error.message : error);
    process.exitCode = 2;
  }
  process.exit();
}
