import type { AxisChoice, Shader } from '@mambalab/kernels';

/** Small shaders written by hand as the build step would write them: the runtime is tested on them alone. */

const SIMD: readonly AxisChoice<'subgroups' | 'baseline'>[] = [
  { choice: 'subgroups', requires: ['subgroups'] },
  { choice: 'baseline', requires: [] },
];

const AFFINE_CODE = `struct Params { count: u32, factor: f32, shift: i32 }
override BIAS: f32 = 0.0;
const TILE: u32 = 64u;
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(TILE) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  if (id.x < params.count) { y[id.x] = x[id.x] * params.factor + f32(params.shift) + BIAS; }
}`;

/** y = x * factor + shift + BIAS */
export const affineShader: Shader<
  'x' | 'y',
  'count' | 'factor' | 'shift',
  'BIAS',
  'TILE',
  { readonly simd: 'subgroups' | 'baseline' }
> = {
  name: 'probe/affine',
  bindings: [
    { name: 'x', index: 1, access: 'read', scalars: ['f32', 'f32'] },
    { name: 'y', index: 2, access: 'read_write', scalars: ['f32', 'f32'] },
  ],
  paramsBinding: 0,
  paramsSize: 12,
  params: {
    count: { type: 'u32', offset: 0 },
    factor: { type: 'f32', offset: 4 },
    shift: { type: 'i32', offset: 8 },
  },
  overrides: { BIAS: { type: 'f32', default: 0 } },
  constants: { TILE: { declaration: 'const TILE: u32 = 64u;', type: 'u32' } },
  requires: [],
  axes: { simd: SIMD },
  variants: [
    { choices: { simd: 'subgroups' }, code: `enable subgroups;\n${AFFINE_CODE}` },
    { choices: { simd: 'baseline' }, code: AFFINE_CODE },
  ],
};

/** A shader with two axes, one of which needs a feature and a limit. It has no text: nothing compiles it. */
export const twoAxesShader: Shader<
  'x',
  never,
  never,
  never,
  { readonly tile: 'large' | 'small'; readonly weight: 'f16' | 'f32' }
> = {
  name: 'probe/two_axes',
  bindings: [{ name: 'x', index: 0, access: 'read', scalars: ['u32', 'f32', 'u32', 'f32'] }],
  paramsBinding: undefined,
  paramsSize: 0,
  params: {},
  overrides: {},
  constants: {},
  requires: [],
  axes: {
    tile: [
      { choice: 'large', requires: ['shader-f16', 'maxComputeWorkgroupStorageSize>=32768'] },
      { choice: 'small', requires: [] },
    ],
    weight: [
      { choice: 'f16', requires: [] },
      { choice: 'f32', requires: [] },
    ],
  },
  variants: [
    { choices: { tile: 'large', weight: 'f16' }, code: 'a' },
    { choices: { tile: 'large', weight: 'f32' }, code: 'b' },
    { choices: { tile: 'small', weight: 'f16' }, code: 'c' },
    { choices: { tile: 'small', weight: 'f32' }, code: 'd' },
  ],
};

/** A shader without text that reads and writes as many tensors as are asked for, named r0, r1, ... and w0, w1, ... */
export function accessShader(reads: number, writes: number): Shader {
  const names = [
    ...Array.from({ length: reads }, (_, i) => `r${i}`),
    ...Array.from({ length: writes }, (_, i) => `w${i}`),
  ];
  return {
    name: `probe/access_${reads}_${writes}`,
    bindings: names.map((name, index) => ({
      name,
      index,
      access: index < reads ? 'read' : 'read_write',
      scalars: ['f32'],
    })),
    paramsBinding: undefined,
    paramsSize: 0,
    params: {},
    overrides: {},
    constants: {},
    requires: [],
    axes: {},
    variants: [{ choices: {}, code: '' }],
  };
}
