import type { Command } from 'commander';
import { RECALL_TASKS } from '../evaluation/recall.ts';
import { TASKS } from '../evaluation/tasks.ts';
import type { EvalOptions } from './eval_command.ts';
import {
  bookSeedOption,
  dataOption,
  entriesOption,
  examplesOption,
  exampleSeedOption,
  fewShotOption,
  lengthsOption,
  limitOption,
  maxLengthOption,
  perBookOption,
  queriesOption,
  recallTaskOption,
  shotsOption,
  weightsOption,
} from './evaluation_options.ts';
import { INTERRUPTED } from './interrupt.ts';
import { jsonOption, togglesOption } from './options.ts';
import type { PhonebookOptions } from './phonebook_command.ts';

/** The commands `phonebook` and `eval`. What runs models is loaded when one of them is called. */
export function addEvaluationCommands(program: Command): void {
  program
    .command('phonebook')
    .description('what models recall of phone books and other texts of growing size')
    .argument('<source...>', 'folders, files, URLs or repositories of models')
    .addOption(recallTaskOption())
    .addOption(entriesOption())
    .addOption(lengthsOption())
    .addOption(queriesOption())
    .addOption(perBookOption())
    .addOption(shotsOption())
    .addOption(bookSeedOption())
    .addOption(weightsOption())
    .addOption(jsonOption())
    .addOption(togglesOption())
    .addHelpText('after', `\nTasks: ${RECALL_TASKS.join(', ')}. 'training' is for the four small models of mambalab.`)
    .action(async (sources: readonly string[], options: PhonebookOptions) => {
      const { benchPhonebook } = await import('./phonebook_command.ts');
      if (!(await benchPhonebook(sources, options))) process.exitCode = INTERRUPTED;
    });
  program
    .command('eval')
    .description('a task of the lm-evaluation-harness over local files, by log-likelihood')
    .argument('<task>', 'one of the tasks below')
    .argument('<source>', 'folder, file, URL or repository of a model')
    .addOption(dataOption())
    .addOption(fewShotOption())
    .addOption(examplesOption())
    .addOption(limitOption())
    .addOption(maxLengthOption())
    .addOption(exampleSeedOption())
    .addOption(weightsOption())
    .addOption(jsonOption())
    .addOption(togglesOption())
    .addHelpText('after', `\nTasks, and the fields of their documents:\n${taskLines()}`)
    .action(async (task: string, source: string, options: EvalOptions) => {
      const { benchEval } = await import('./eval_command.ts');
      if (!(await benchEval(task, source, options))) process.exitCode = INTERRUPTED;
    });
}

function taskLines(): string {
  const width = Math.max(...Object.keys(TASKS).map((name) => name.length));
  return Object.entries(TASKS)
    .map(([name, { about }]) => `  ${name.padEnd(width)}  ${about}`)
    .join('\n');
}
