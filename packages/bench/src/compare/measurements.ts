import type { AnyReport } from '../any_report.ts';
import { isContextReport, isKernelReport, isModelReport, isPeersReport } from '../any_report.ts';
import type { Summary } from '../harness/statistics.ts';

/** One number of a report that another report may have too. */
export interface Measurement {
  /** The same in every report for the same thing. */
  readonly name: string;
  readonly unit: 'us' | 'ms' | 'bytes';
  /** A time with its spread, or a number of bytes, which has none. */
  readonly value: Summary | number;
}

/** Every time and every size of a report: of all, less is better. */
export function measurementsOf(report: AnyReport): readonly Measurement[] {
  if (isKernelReport(report)) {
    return report.kernels.flatMap(({ name, cases }) =>
      cases.flatMap((result): Measurement[] =>
        result.status === 'measured'
          ? [{ name: `${name} ${result.label}`, unit: 'us', value: result.microseconds }]
          : [],
      ),
    );
  }
  if (isModelReport(report)) {
    return report.models.flatMap(({ name, prefill, decode, memory }): Measurement[] => [
      ...prefill.map(({ tokens, milliseconds }) => time(`${name} prefill ${tokens}`, milliseconds)),
      ...decode.map(({ context, millisecondsPerToken }) => time(`${name} decode at ${context}`, millisecondsPerToken)),
      ...Object.entries(memory).map(([part, bytes]) => size(`${name} ${part}`, Number(bytes))),
    ]);
  }
  if (isContextReport(report)) {
    return [...report.architectures, ...report.ablation].flatMap((result) => {
      if (!('decode' in result)) return [];
      const { architecture, attentionPercent } = result;
      const kind = architecture === 'ablation' ? `${attentionPercent.toFixed(0)} % attention` : architecture;
      const name = `${report.family.scale} ${report.dtype} ${kind}`;
      return [
        ...[...result.decode, ...result.prefill].flatMap((point): Measurement[] => {
          if (point.status !== 'measured') return [];
          if ('milliseconds' in point) return [time(`${name} prefill ${point.context}`, point.milliseconds)];
          const at = `${name} batch ${point.batch} at ${point.context}`;
          return [
            time(`${at} decode`, point.millisecondsPerStep),
            size(`${at} states and cache`, point.memory.state + point.memory.cache),
          ];
        }),
        size(`${name} weights`, result.weightsBytes),
      ];
    });
  }
  if (isPeersReport(report)) {
    return report.engines.flatMap((result): Measurement[] =>
      result.status === 'measured'
        ? [
            time(`${result.engine} ${result.model} prefill ${result.promptTokens}`, result.prefillMilliseconds),
            time(`${result.engine} ${result.model} decode`, result.millisecondsPerToken),
          ]
        : [],
    );
  }
  return [];
}

const time = (name: string, value: Summary): Measurement => ({ name, unit: 'ms', value });
const size = (name: string, value: number): Measurement => ({ name, unit: 'bytes', value });
