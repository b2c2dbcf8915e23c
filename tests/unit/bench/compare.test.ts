import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { compareReports, isWorse, measurementsOf } from '@mambalab/bench';
import { describe, expect, it } from 'vitest';
import { comparisonLines } from '../../../packages/bench/src/cli/compare_command.ts';
import { nearNames, unknownName } from '../../../packages/bench/src/near.ts';
import { describeStage } from '../../../packages/bench/src/cli/progress.ts';
import { parseReport } from '../../../packages/bench/src/parse_report.ts';
import { contextReport, kernelReport, peersReport } from '../../support/bench_reports.ts';

const RESULTS = fileURLToPath(new URL('../../../packages/bench/results', import.meta.url));
const files = readdirSync(RESULTS, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.json'));
const copied = (value: unknown): Record<string, unknown> =>
  JSON.parse(JSON.stringify(value)) as Record<string, unknown>;

describe('the schema', () => {
  it.each(files)('describes %s', (file) => {
    const report: unknown = JSON.parse(readFileSync(join(RESULTS, file), 'utf8'));
    expect(parseReport(report)).toBe(report);
  });

  it.each([kernelReport([1, 2]), contextReport(), peersReport()])('describes $schema', (report) => {
    expect(parseReport(copied(report))).toEqual(report);
  });

  it('lets the results of other commands pass with what all have in common', () => {
    const { environment } = kernelReport([1]);
    const report = { schema: 'mambalab-bench/phonebook', version: 2, environment, anything: [] };
    expect(parseReport(report)).toBe(report);
    expect(() => parseReport({ schema: 'mambalab-bench/phonebook', version: 2 })).toThrow('environment');
  });

  it('names what is wrong', () => {
    expect(() => parseReport(null)).toThrow('no result');
    expect(() => parseReport({ schema: 'other' })).toThrow('no result');
    expect(() => parseReport({ ...kernelReport([1]), version: 7 })).toThrow(/valid mambalab-bench\/kernels: \/version/);
    const wrong = copied(contextReport());
    wrong['family'] = { ...contextReport().family, layers: 'many' };
    expect(() => parseReport(wrong)).toThrow('/family/layers must be integer');
  });
});

describe('comparison', () => {
  const verdictOf = (before: readonly number[], after: readonly number[], noise?: number): string | undefined =>
    compareReports(kernelReport(before), kernelReport(after), noise).changes[0]?.verdict;

  it('tells changes from noise by the spread', () => {
    expect(verdictOf([10, 10, 10], [8, 8, 8])).toBe('faster');
    expect(verdictOf([10, 10, 10], [12, 12, 12])).toBe('slower');
    // Steady, but less than two runs of the same thing differ.
    expect(verdictOf([10, 10, 10], [10.2, 10.2, 10.2])).toBe('within noise');
    expect(verdictOf([10, 10, 10], [10.2, 10.2, 10.2], 0.01)).toBe('slower');
    // Far apart, but neither is steady.
    expect(verdictOf([6, 10, 14], [9, 13, 17])).toBe('within noise');
  });

  it('has bytes, which have no noise, and what only one of the reports has', () => {
    const before = contextReport();
    const [hybrid, ...others] = before.architectures;
    if (hybrid === undefined || !('decode' in hybrid)) throw new Error('There is no hybrid.');
    const after = { ...before, architectures: [{ ...hybrid, weightsBytes: 2e9, prefill: [] }, ...others] };
    const { changes, differences } = compareReports(before, after);
    expect(differences).toEqual([]);
    expect(changes.filter(({ verdict }) => verdict === 'larger').map(({ name }) => name)).toEqual([
      '800m f16 hybrid weights',
    ]);
    expect(changes.filter(({ verdict }) => verdict === 'only before').map(({ name }) => name)).toEqual([
      '800m f16 hybrid prefill 1024',
    ]);
    expect(changes.filter(isWorse)).toHaveLength(1);
    expect(new Set(measurementsOf(before).map(({ name }) => name)).size).toBe(measurementsOf(before).length);
  });

  it('says what else differs, and refuses what is not of one command', () => {
    const before = kernelReport([1]);
    const { environment } = before;
    const after = { ...before, environment: { ...environment, toggles: 'native' as const } };
    expect(compareReports(before, after).differences).toEqual(['toggles: default, then native']);
    expect(() => compareReports(before, contextReport())).toThrow('one command');
    const other = { schema: 'mambalab-bench/eval' as const, version: 1, environment };
    expect(() => compareReports(other, other)).toThrow('nothing to compare');
  });

  it('is told in a table of what changed, and a count', () => {
    const lines = comparisonLines(compareReports(kernelReport([10]), kernelReport([8])), false);
    expect(lines.join('\n')).toMatch(/norm\/rms_norm 8 x 64 +10\.0 us +8\.00 us +-20\.0 % +faster/);
    expect(lines[lines.length - 1]).toBe('1 faster');
    expect(comparisonLines(compareReports(kernelReport([10]), kernelReport([10])), false)).toEqual(['1 within noise']);
  });
});

describe('what a terminal shows', () => {
  it('suggests near names', () => {
    const names = ['norm/rms_norm', 'norm/layer_norm', 'ssm/ssd_step'];
    expect(nearNames('rms_nrom', names)[0]).toBe('norm/rms_norm');
    expect(nearNames('attention', names)).toEqual([]);
    expect(unknownName('size', '8B', ['auto', '8b'])).toBe(
      "There is no size '8B'. Did you mean 8b? There are: auto, 8b.",
    );
  });

  it('draws a bar', () => {
    expect(describeStage('hybrid', 1, 4)).toBe('[#####...............] 1 of 4: hybrid');
    expect(describeStage('', 0, 0)).toContain('0 of 0');
  });
});
