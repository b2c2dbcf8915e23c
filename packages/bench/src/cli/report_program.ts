import type { Command } from 'commander';
import type { ReportCommandOptions } from './report_command.ts';

/** The command `report`. What draws is loaded when it runs. */
export function addReportCommand(program: Command): void {
  program
    .command('report')
    .description('one self-contained page of charts and tables from result files')
    .argument('<file...>', 'what --json of the other commands wrote')
    .option('--out <file>', 'the page', 'report.html')
    .option('--title <text>', 'its title', 'mambalab bench')
    .option('--svg <folder>', 'also write every chart as an SVG file')
    .action(async (files: readonly string[], options: ReportCommandOptions) => {
      (await import('./report_command.ts')).writeReportPage(files, options);
    });
}
