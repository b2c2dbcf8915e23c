import type { Device, ForcedChoices, RowTile } from '@mambalab/kernels';

/** A norm of rows that a tile is forced on: `width` values, or elements of one value, by lanes that share them. */
export interface TiledCase {
  readonly force: ForcedChoices;
  readonly rows: number;
  readonly width: number;
  readonly tile: RowTile;
}

// Rows that fill no whole workgroup, and whole ones; as many lanes as a subgroup has, and more; 1 to 8 elements in
// registers, and none. Every one is a pipeline, so the lesser variants have the two that differ most.
const PARTIAL = { rows: 5, elements: 16, tile: { lanes: 8, rows: 4, held: true } };
const EXACT = { rows: 4, elements: 16, tile: { lanes: 4, rows: 4, held: true } };
const FULL = { rows: 3, elements: 57, tile: { lanes: 8, rows: 2, held: true } };
const WIDE = { rows: 1, elements: 257, tile: { lanes: 256, rows: 1, held: true } };
const PASSING = { rows: 3, elements: 33, tile: { lanes: 16, rows: 2, held: false } };

export function tiledCases(device: Device): readonly TiledCase[] {
  const best = device.capabilities.features.has('subgroups') ? 'subgroups' : 'baseline';
  const cases = (simd: string, access: string, all: readonly (typeof FULL)[]): TiledCase[] =>
    all.map(({ rows, elements, tile }) => ({
      force: { simd, access },
      rows,
      width: access === 'vector' ? 4 * elements : elements,
      tile,
    }));
  return [
    ...cases(best, 'vector', [PARTIAL, EXACT, FULL, WIDE, PASSING]),
    ...cases(best, 'scalar', [FULL, PASSING]),
    ...cases('baseline', 'vector', [EXACT, FULL]),
  ];
}
