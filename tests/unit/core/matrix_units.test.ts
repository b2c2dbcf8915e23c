import type { Capabilities, Dtype, ForcedChoices, TensorRef } from '@mambalab/kernels';
import {
  ArgumentError,
  BASELINE_CAPABILITIES,
  DEFAULT_LIMITS,
  fusedMlp,
  matmul,
  namedSize,
  Recording,
  ssdChunkScan,
  TILES,
} from '@mambalab/kernels';
import { describe, expect, it } from 'vitest';
import { chooseMatrixTile } from '../../../packages/kernels/src/core/matrix.ts';

const UNITS: Capabilities = {
  ...BASELINE_CAPABILITIES,
  features: new Set(['shader-f16', 'subgroups', 'chromium-experimental-subgroup-matrix']),
  limits: { ...DEFAULT_LIMITS, maxComputeWorkgroupStorageSize: 49_152 },
  subgroupSize: { min: 32, max: 32 },
  subgroupMatrix: [{ componentType: 'f16', resultComponentType: 'f32', M: 16, N: 16, K: 16 }],
};

interface Setting {
  readonly capabilities?: Capabilities;
  readonly force?: ForcedChoices;
  readonly dtype?: Dtype;
  readonly rows?: number;
}

/** Names of the shaders that a product and a feed-forward layer are recorded with. */
function recorded({ capabilities = UNITS, force = {}, dtype = 'f16', rows = 32 }: Setting): readonly string[] {
  const recording = new Recording(capabilities, { force });
  const x = recording.external('x', 'f32', [namedSize('length', rows), 64]);
  const weight = recording.external('weight', dtype, [64, 64], 64);
  matmul(recording, { x, weight });
  fusedMlp(recording, { x, gate: weight, up: weight, down: weight }, { activation: 'silu' });
  return [...new Set(recording.dispatches.map(({ shader }) => shader.name))];
}

const MATRIX = ['linear/matmul_matrix', 'mlp/fused_mlp_matrix'];
const PORTABLE = ['linear/matmul', 'mlp/fused_mlp'];

describe('matrix units', () => {
  it('do what has f16 or quantized weights and rows enough', () => {
    for (const dtype of ['f16', 'q8', 'q4'] as const) expect(recorded({ dtype })).toEqual(MATRIX);
    expect(recorded({ rows: 9 })).toEqual(MATRIX);
    expect(recorded({ rows: 8 })).not.toContain('linear/matmul_matrix');
    expect(recorded({ dtype: 'f32' })).toEqual(PORTABLE);
    expect(recorded({ dtype: 'bf16' })).toEqual(PORTABLE);
  });

  it('are left out where the device lacks anything that they need', () => {
    const lesser: readonly Partial<Capabilities>[] = [
      { features: new Set(['subgroups', 'chromium-experimental-subgroup-matrix']) },
      { subgroupSize: { min: 32, max: 64 } },
      { subgroupMatrix: [{ componentType: 'f16', resultComponentType: 'f16', M: 16, N: 16, K: 16 }] },
      { limits: DEFAULT_LIMITS },
    ];
    for (const less of lesser) expect(recorded({ capabilities: { ...UNITS, ...less } })).toEqual(PORTABLE);
  });

  it('can be forced on and off', () => {
    expect(recorded({ force: { unit: 'portable' } })).toEqual(PORTABLE);
    expect(recorded({ force: { unit: 'matrix' }, rows: 8 })).toContain('linear/matmul_matrix');
    expect(recorded({ force: { unit: 'matrix' }, dtype: 'f32' })).toEqual(PORTABLE);
    expect(() => recorded({ force: { unit: 'matrix' }, capabilities: BASELINE_CAPABILITIES })).toThrow(ArgumentError);
  });

  it('are left out where a portable tile is asked for', () => {
    const recording = new Recording(UNITS);
    const x = recording.external('x', 'f32', [64, 64]);
    matmul(recording, { x, weight: recording.external('weight', 'f16', [64, 64], 64) }, { tile: TILES['64x64'] });
    expect(recording.dispatches.map(({ shader }) => shader.name)).toEqual(['linear/matmul']);
  });

  it('scan in longer chunks, where the sizes suit them', () => {
    const chunkOf = (headDim: number): unknown => {
      const recording = new Recording(UNITS);
      const tensor = (name: string, ...shape: number[]): TensorRef => recording.external(name, 'f32', shape);
      ssdChunkScan(
        recording,
        {
          x: tensor('x', 1, 512, 2, headDim),
          dt: tensor('dt', 1, 512, 2),
          A: tensor('A', 2),
          B: tensor('B', 1, 512, 1, 64),
          C: tensor('C', 1, 512, 1, 64),
        },
        { operands: 'f16' },
      );
      const [cumsum, ...others] = recording.dispatches;
      return [cumsum?.overrides['CHUNK'], others.some(({ shader }) => shader.name.endsWith('_matrix'))];
    };
    expect(chunkOf(64)).toEqual([256, true]);
    expect(chunkOf(24)).toEqual([128, false]);
  });

  it('take large tiles where there are enough of them', () => {
    expect(chooseMatrixTile(512, 3352)).toEqual({ SIDE: 4 });
    expect(chooseMatrixTile(512, 2048)).toEqual({ SIDE: 2 });
  });
});
