import { MambalabError } from '@mambalab/kernels';
import { Command } from 'commander';
import manifest from '../../package.json' with { type: 'json' };
import type { OpenModel } from '../harness/model_bench.ts';
import { benchKernels, UsageError } from './kernels_command.ts';
import { loadCommand } from './load_command.ts';
import { benchModels } from './models_command.ts';
import type { KernelsOptions, ModelsOptions } from './options.ts';
import {
  allOption,
  dtypeOption,
  forceOption,
  jsonOption,
  memoryOption,
  presetOption,
  promptsOption,
  quickOption,
  repeatsOption,
  seedOption,
  simdOption,
  stepsOption,
  timeOption,
  togglesOption,
} from './options.ts';

/**
 * The command line of `mambalab-bench`.
 *
 * @param loadOpenModel loads what opens models; called by the command `models` only, so that the others start without it
 */
export function buildProgram(loadOpenModel: () => Promise<OpenModel>): Command {
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
    .addOption(jsonOption())
    .addOption(quickOption())
    .addOption(togglesOption())
    .addOption(memoryOption())
    .addOption(seedOption())
    .action(async (sources: readonly string[], options: ModelsOptions) => {
      await benchModels(sources, options, await loadOpenModel());
    });
  program.addCommand(loadCommand());
  return program;
}

/** Runs the command line and ends the process: Dawn would keep it alive. */
export async function main(loadOpenModel: () => Promise<OpenModel>): Promise<void> {
  try {
    await buildProgram(loadOpenModel).parseAsync();
  } catch (error) {
    console.error(error instanceof UsageError || error instanceof MambalabError ? error.message : error);
    process.exitCode = 2;
  }
  process.exit();
}
