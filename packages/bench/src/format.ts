import type { Ceilings, DispatchedShader, Environment } from './results.ts';

/** Three significant digits, without exponents: 0.00123, 1.23, 123, 12345. */
export function formatNumber(value: number): string {
  if (!Number.isFinite(value)) return '-';
  if (value === 0) return '0';
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return value.toFixed(Math.min(digits, 6));
}

/** `12.3 %` */
export function formatPercent(value: number): string {
  return Number.isFinite(value) ? `${value.toFixed(1)} %` : '-';
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

/** `1.50 GiB` */
export function formatBytes(bytes: number): string {
  const unit = bytes < 1 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log2(bytes) / 10));
  return `${formatNumber(bytes / 2 ** (10 * unit))} ${UNITS[unit] ?? ''}`;
}

/** The choices of the shaders of a case, in short: `subgroups`, or `tile16 f16` for several axes. */
export function formatChoices(dispatches: readonly Pick<DispatchedShader, 'choices'>[]): string {
  return [...new Set(dispatches.flatMap(({ choices }) => Object.values(choices)))].join(' ');
}

/** The device, the software and the ceilings: a line each. */
export function environmentLines(environment: Environment, ceilings?: Ceilings): readonly string[] {
  const { device, toggles, packages, commit, runtime } = environment;
  // Browsers tell the vendor and the architecture alone.
  const name = device.name || [device.vendor, device.architecture].filter(Boolean).join(' ');
  const versions = Object.entries(packages).map((pair) => pair.join(' '));
  return [
    `${name}, ${device.driver || 'driver unknown'}${device.software ? ', software' : ''}; toggles ${toggles}`,
    [runtime, ...versions, ...(commit === undefined ? [] : [`commit ${commit.slice(0, 9)}`])].join(', '),
    ...(ceilings === undefined ? [] : [describeCeilings(ceilings)]),
  ];
}

function describeCeilings(ceilings: Ceilings): string {
  return (
    `ceilings: read ${formatNumber(ceilings.readGigabytesPerSecond)} GB/s, copy ${formatNumber(ceilings.copyGigabytesPerSecond)} GB/s, ` +
    `f32 fma ${formatNumber(ceilings.fmaTeraflops)} TFLOP/s, dispatch ${formatNumber(ceilings.dispatchMicroseconds)} us`
  );
}
