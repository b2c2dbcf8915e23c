import type { Command } from 'commander';
import type { ContextCommandOptions } from './context_options.ts';
import {
  ablationOption,
  architecturesOption,
  batchesOption,
  layersScaleOption,
  lengthsOption,
  minutesOption,
  prefillOption,
  scaleOption,
  storageOption,
} from './context_options.ts';
import { jsonOption, memoryOption, quickOption, seedOption, stepsOption, togglesOption } from './options.ts';

/** Names of sizes, known without loading the models. */
const SCALE_NAMES = ['8b', '3b', '800m', '100m', 'tiny'] as const;

/** The command `context`. What it measures with is loaded when it runs. */
export function addContextCommand(program: Command): void {
  program
    .command('context')
    .description("tokens per second and memory over context length, for the paper's architectures")
    .addOption(scaleOption(SCALE_NAMES))
    .addOption(architecturesOption())
    .addOption(lengthsOption())
    .addOption(batchesOption())
    .addOption(layersScaleOption())
    .addOption(storageOption())
    .addOption(stepsOption())
    .addOption(minutesOption())
    .addOption(ablationOption())
    .addOption(prefillOption())
    .addOption(jsonOption())
    .addOption(quickOption())
    .addOption(togglesOption())
    .addOption(memoryOption())
    .addOption(seedOption())
    .action(async (options: ContextCommandOptions) => {
      const { benchContext } = await import('./context_command.ts');
      if (!(await benchContext(options))) process.exitCode = 1;
    });
}
