import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { openChecker } from '../../../packages/kernels/tools/check.mjs';
import { linkVariant, reflect } from '../../../packages/kernels/tools/link.mjs';
import {
  allVariants,
  conditionsOf,
  isFeature,
  isShared,
  parseDirectives,
  readShaders,
} from '../../../packages/kernels/tools/shader-source.mjs';

const WGSL = join(dirname(fileURLToPath(import.meta.url)), '..', '..', '..', 'wgsl');

describe('directives', () => {
  it('declare axes, constants and loops', () => {
    const text = [
      '// equation',
      '//! axis simd: subgroups(subgroups, maxComputeWorkgroupStorageSize>=32768) | baseline',
      '//! axis weight: f32 | f16 | tile-64',
      '//! constant HEAD_DIM',
      '//! unroll f, column',
      '//! requires shader-f16, subgroupSize=32',
      '//! requires matrix:f16:16x16x16:f32',
      'struct Params { rows: u32 }',
    ].join('\n');
    expect(parseDirectives('a/b', text)).toEqual({
      axes: [
        {
          axis: 'simd',
          choices: [
            { choice: 'subgroups', requires: ['subgroups', 'maxComputeWorkgroupStorageSize>=32768'] },
            { choice: 'baseline', requires: [] },
          ],
        },
        {
          axis: 'weight',
          choices: [
            { choice: 'f32', requires: [] },
            { choice: 'f16', requires: [] },
            { choice: 'tile-64', requires: [] },
          ],
        },
      ],
      constants: ['HEAD_DIM'],
      requires: ['shader-f16', 'subgroupSize=32', 'matrix:f16:16x16x16:f32'],
      unroll: ['f', 'column'],
    });
    expect(parseDirectives('a/b', '// none')).toEqual({ axes: [], constants: [], requires: [], unroll: [] });
  });

  it.each([
    ['//! axis simd: subgroups(subgroups)', /^a\/b: the last choice of axis simd must need nothing$/],
    ['//! axis simd: sub groups | baseline', /^a\/b: cannot read the choice/],
    ['//! axes simd: a | b', /^a\/b: unknown directive "axes"/],
    ['//! unroll f g', /^a\/b: cannot read the directive/],
    ['//! axis', /^a\/b: cannot read the directive/],
  ])('%s is refused', (line, message) => {
    expect(() => parseDirectives('a/b', line)).toThrow(message);
  });

  it('tell features from other requirements', () => {
    const needs = ['shader-f16', 'subgroupSize=32', 'matrix:f16:16x16x16:f32', 'maxBufferSize>=1', 'subgroups'];
    expect(needs.filter(isFeature)).toEqual(['shader-f16', 'subgroups']);
  });

  it('make every combination, and one true condition on each axis', () => {
    const { axes } = parseDirectives('a/b', '//! axis simd: x | y\n//! axis tile: tile-64 | small');
    const variants = allVariants(axes);
    expect(variants).toEqual([
      { simd: 'x', tile: 'tile-64' },
      { simd: 'x', tile: 'small' },
      { simd: 'y', tile: 'tile-64' },
      { simd: 'y', tile: 'small' },
    ]);
    expect(conditionsOf(axes, { simd: 'y', tile: 'tile-64' })).toEqual({
      simd_x: false,
      simd_y: true,
      tile_tile_64: true,
      tile_small: false,
    });
    expect(allVariants([])).toEqual([{}]);
  });
});

/** A shader in two variants that imports a piece. */
const SOURCES = {
  'a/scale.wgsl': `//! axis simd: subgroups(subgroups) | baseline
import package::shared::piece::twice;
@if(simd_subgroups) enable subgroups;
struct Params { rows: u32, factor: f32 }
override SIZE: u32 = 64u;
override FLAG: bool = true;
@group(0) @binding(0) var<uniform> params: Params;
// a comment that goes away
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@compute @workgroup_size(SIZE) fn main(@builtin(global_invocation_id) id: vec3<u32>) {
  @if(simd_subgroups) y[id.x] = subgroupAdd(twice(f32(x[id.x].x)));
  @if(!simd_subgroups) y[id.x] = twice(f32(x[id.x].x)) * params.factor;
}
`,
  'shared/piece.wgsl': `fn twice(v: f32) -> f32 { return 2.0 * v; }
fn unused() -> f32 { return 1.0; }
`,
} as const;
const SCALE = { name: 'a/scale', path: 'a/scale.wgsl', text: SOURCES['a/scale.wgsl'] };
const { axes: AXES } = parseDirectives(SCALE.name, SCALE.text);

describe('linking', () => {
  it('takes one variant and what it uses', async () => {
    const code = await linkVariant(SCALE, SOURCES, AXES, { simd: 'subgroups' });
    expect(code).toContain('enable subgroups;');
    expect(code).toContain('fn twice(v: f32) -> f32');
    expect(code).not.toMatch(/unused|@if|import|\/\//);
    expect(await linkVariant(SCALE, SOURCES, AXES, { simd: 'baseline' })).not.toMatch(/subgroup/);
  });

  it('keeps the words of matrix units, also in pieces, and reflects around them', async () => {
    const text = `import package::shared::matrix::{staged, left};
enable f16;
enable chromium_experimental_subgroup_matrix;
struct Sums { all: subgroup_matrix_result<f32, 16, 16> }
alias Right = subgroup_matrix_right<f16, 16, 16>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(128) fn main() {
  var sums: Sums;
  let right = subgroupMatrixLoad<Right, col_major>(&staged, 0u, 2u);
  sums.all = subgroupMatrixMultiplyAccumulate(left(), right, sums.all);
  subgroupMatrixStore<row_major>(&y, 0u, sums.all, 16u);
}
`;
    const piece = `var<workgroup> staged: array<vec4<u32>, 64>;
fn left() -> subgroup_matrix_left<f16, 16, 16> {
  return subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&staged, 0u, 2u);
}
`;
    const sources = { 'a/product.wgsl': text, 'shared/matrix.wgsl': piece };
    const shader = { name: 'a/product', path: 'a/product.wgsl', text };
    const code = await linkVariant(shader, sources, [], {});
    expect(code).not.toContain('stub');
    expect(code).toContain('subgroupMatrixLoad<subgroup_matrix_left<f16, 16, 16>, row_major>(&staged, 0u, 2u)');
    expect(reflect('a/product', code).bindings).toEqual([{ name: 'y', index: 1, access: 'read_write', scalar: 'f32' }]);
    const checker = await openChecker();
    const needs = ['shader-f16', 'subgroups', 'chromium-experimental-subgroup-matrix', 'matrix:f16:16x16x16:f32'];
    const quiet = code.replace('struct', 'diagnostic(off, chromium.subgroup_matrix_uniformity);\nstruct');
    await checker.check('a/product', quiet, needs);
    checker.close();
  });

  it('gives the same text every time, for every shader of the library', async () => {
    const shaders = readShaders(WGSL);
    const sources = Object.fromEntries(shaders.map(({ path, text }) => [path, text]));
    const reversed = Object.fromEntries(Object.entries(sources).toReversed());
    expect(shaders.map(({ path }) => path)).toEqual(shaders.map(({ path }) => path).toSorted());
    for (const shader of shaders.filter(({ name }) => !isShared(name))) {
      const { axes } = parseDirectives(shader.name, shader.text);
      const variants = allVariants(axes);
      // The first and the last variant stand for all: linking is slow.
      for (const variant of [variants[0], variants.at(-1)]) {
        const code = await linkVariant(shader, sources, axes, variant ?? {});
        expect(await linkVariant(shader, reversed, axes, variant ?? {})).toBe(code);
      }
    }
  }, 60_000);

  it('reflects bindings by number, Params, overrides and defaults', async () => {
    const code = await linkVariant(SCALE, SOURCES, AXES, { simd: 'baseline' });
    expect(reflect('a/scale', code)).toEqual({
      bindings: [
        { name: 'x', index: 1, access: 'read', scalar: 'u32' },
        { name: 'y', index: 2, access: 'read_write', scalar: 'f32' },
      ],
      paramsBinding: 0,
      paramsSize: 8,
      params: { rows: { type: 'u32', offset: 0 }, factor: { type: 'f32', offset: 4 } },
      overrides: { SIZE: { type: 'u32', default: 64 }, FLAG: { type: 'bool', default: true } },
    });
  });

  it.each([
    ['fn main(', 'fn start(', /a\/scale: a shader has exactly one entry point, named main/],
    ['factor: f32 }', 'factor: vec2<f32> }', /a\/scale: Params.factor must be u32, i32 or f32/],
    ['@group(0) @binding(1)', '@group(1) @binding(1)', /a\/scale: x must be in group 0/],
  ])('refuses "%s" as "%s"', async (right, wrong, message) => {
    const shader = { ...SCALE, text: SCALE.text.replace(right, wrong) };
    const code = await linkVariant(shader, { ...SOURCES, 'a/scale.wgsl': shader.text }, AXES, { simd: 'baseline' });
    expect(() => reflect('a/scale', code)).toThrow(message);
  });

  it('refuses an import that does not exist', async () => {
    const shader = { ...SCALE, text: SCALE.text.replaceAll('twice', 'thrice') };
    const sources = { ...SOURCES, 'a/scale.wgsl': shader.text };
    await expect(linkVariant(shader, sources, AXES, { simd: 'baseline' })).rejects.toThrow(/thrice/);
  });
});

describe('checking', async () => {
  const checker = await openChecker();
  afterAll(() => checker.close());
  const linked = (variant: string): Promise<string> => linkVariant(SCALE, SOURCES, AXES, { simd: variant });

  it('passes what compiles', async () => {
    await expect(checker.check('a/scale', await linked('baseline'), [])).resolves.toBeUndefined();
    await expect(checker.check('a/scale', await linked('subgroups'), ['subgroups'])).resolves.toBeUndefined();
  });

  it('refuses a feature that is not declared', async () => {
    await expect(checker.check('a/scale {}', await linked('subgroups'), [])).rejects.toThrow(
      /^a\/scale \{\} does not compile:[^]*subgroups/,
    );
  });

  it('names the shader, the place and the line of a mistake', async () => {
    const code = (await linked('baseline')).replace('params.factor', 'params.rows');
    await expect(checker.check('a/scale {}', code, [])).rejects.toThrow(
      /^a\/scale \{\} does not compile:\s+\d+:\d+ .*operator \* \(f32, u32\)[^]*params\.rows/,
    );
  });

  it('refuses more than the default limits, unless that is declared', async () => {
    const code = (await linked('baseline'))
      .replace('override SIZE', 'var<workgroup> large: array<f32, 5000>;\noverride SIZE')
      .replace('y[id.x] =', 'large[id.x] = 1.0; workgroupBarrier(); y[id.x] = large[5] +');
    await expect(checker.check('a/scale {}', code, [])).rejects.toThrow(/makes no pipeline with default limits/);
    await checker.check('a/scale {}', code, ['maxComputeWorkgroupStorageSize>=20000']);
  });
});
