import type { AnyReport } from '../any_report.ts';
import type { Summary } from '../harness/statistics.ts';
import type { Measurement } from './measurements.ts';
import { measurementsOf } from './measurements.ts';

export type Verdict =
  'faster' | 'slower' | 'smaller' | 'larger' | 'within noise' | 'same' | 'only before' | 'only after';

/** One measurement in both reports. */
export interface Change {
  readonly name: string;
  readonly unit: Measurement['unit'];
  /** Medians, or bytes. */
  readonly before?: number;
  readonly after?: number;
  /** After over before, less 1; of times and of bytes less is better. */
  readonly change?: number;
  readonly verdict: Verdict;
}

export interface Comparison {
  readonly changes: readonly Change[];
  /** What makes the two hard to compare: another device, other toggles, another version of the driver. */
  readonly differences: readonly string[];
}

/** Two runs of the same thing on one machine differ by so much although each is steady. */
export const DEFAULT_NOISE = 0.03;

/**
 * Sets two reports of one command against each other. A time has changed if the medians differ by more than `noise` and
 * the middle halves of the samples do not overlap; bytes have no noise.
 *
 * @throws TypeError if the reports are of different commands, or of one that has no times
 */
export function compareReports(before: AnyReport, after: AnyReport, noise: number = DEFAULT_NOISE): Comparison {
  if (before.schema !== after.schema) {
    throw new TypeError(`Results of one command are compared; these are of ${before.schema} and ${after.schema}.`);
  }
  const first = new Map(measurementsOf(before).map((measurement) => [measurement.name, measurement]));
  const second = new Map(measurementsOf(after).map((measurement) => [measurement.name, measurement]));
  if (first.size === 0 && second.size === 0)
    throw new TypeError(`Results of ${before.schema} have nothing to compare.`);
  const changes = [...new Set([...first.keys(), ...second.keys()])].map((name) =>
    compareOne(name, first.get(name), second.get(name), noise),
  );
  return { changes, differences: differencesOf(before, after) };
}

function compareOne(
  name: string,
  before: Measurement | undefined,
  after: Measurement | undefined,
  noise: number,
): Change {
  const unit = (before ?? after)?.unit ?? 'ms';
  if (before === undefined || after === undefined) {
    return {
      name,
      unit,
      ...(before && { before: middle(before.value) }),
      ...(after && { after: middle(after.value) }),
      verdict: before === undefined ? 'only after' : 'only before',
    };
  }
  const [from, to] = [middle(before.value), middle(after.value)];
  const change = from === to ? 0 : to / from - 1;
  const verdict =
    typeof before.value === 'number' || typeof after.value === 'number'
      ? compareBytes(from, to)
      : compareTimes(before.value, after.value, change, noise);
  // From nothing to something is no ratio.
  return { name, unit, before: from, after: to, ...(Number.isFinite(change) && { change }), verdict };
}

const middle = (value: Summary | number): number => (typeof value === 'number' ? value : value.median);

function compareBytes(from: number, to: number): Verdict {
  if (from === to) return 'same';
  return to < from ? 'smaller' : 'larger';
}

function compareTimes(before: Summary, after: Summary, change: number, noise: number): Verdict {
  const overlap = before.lowerQuartile <= after.upperQuartile && after.lowerQuartile <= before.upperQuartile;
  if (overlap || Math.abs(change) <= noise) return 'within noise';
  return change < 0 ? 'faster' : 'slower';
}

/** Whether a change is one that a check should stop. */
export const isWorse = ({ verdict }: Change): boolean => verdict === 'slower' || verdict === 'larger';

function differencesOf(before: AnyReport, after: AnyReport): string[] {
  const facts = ({ environment: { device, toggles, runtime, packages, platform } }: AnyReport): [string, string][] => [
    ['device', device.name || `${device.vendor} ${device.architecture}`],
    ['driver', device.driver],
    ['toggles', toggles],
    ['platform', platform],
    ['runtime', runtime],
    ...Object.entries(packages).map(([name, version]): [string, string] => [name, version]),
  ];
  const other = new Map(facts(after));
  return facts(before).flatMap(([name, value]) => {
    const now = other.get(name) ?? 'nothing';
    return now === value ? [] : [`${name}: ${value}, then ${now}`];
  });
}
