import { BASELINE_CAPABILITIES, Recording, ArgumentError } from '@mambalab/kernels';
import { expect, it } from 'vitest';
import { affineShader } from './probe_shaders.ts';

// The lines marked below are errors of the compiler (`npm run check`); some of them fail at run time, too.
it('the names of a shader are checked by the compiler', () => {
  const recording = new Recording(BASELINE_CAPABILITIES);
  const x = recording.external('x', 'f32', [4]);
  const y = recording.scratch('y', 'f32', [4]);
  const params = { count: 4, factor: 1, shift: 0 };
  recording.dispatch(affineShader, { bindings: { x, y }, params, workgroups: [1], choices: { simd: 'baseline' } });

  // @ts-expect-error a binding is missing
  expect(() => recording.dispatch(affineShader, { bindings: { x }, params, workgroups: [1] })).toThrow(ArgumentError);
  // @ts-expect-error there is no binding z
  recording.dispatch(affineShader, { bindings: { x, y, z: x }, params, workgroups: [1] });
  // @ts-expect-error a parameter is missing
  recording.dispatch(affineShader, { bindings: { x, y }, params: { count: 4, factor: 1 }, workgroups: [1] });
  // @ts-expect-error there is no parameter width
  recording.dispatch(affineShader, { bindings: { x, y }, params: { ...params, width: 4 }, workgroups: [1] });
  // @ts-expect-error there is no override SCALE
  recording.dispatch(affineShader, { bindings: { x, y }, params, overrides: { SCALE: 1 }, workgroups: [1] });
  // @ts-expect-error there is no constant WIDTH
  recording.dispatch(affineShader, { bindings: { x, y }, params, constants: { WIDTH: 1 }, workgroups: [1] });
  expect(() =>
    // @ts-expect-error there is no choice quads
    recording.dispatch(affineShader, { bindings: { x, y }, params, choices: { simd: 'quads' }, workgroups: [1] }),
  ).toThrow(ArgumentError);
  // @ts-expect-error there is no axis tile
  recording.dispatch(affineShader, { bindings: { x, y }, params, choices: { tile: 'small' }, workgroups: [1] });
  // @ts-expect-error a grid has at least one dimension
  expect(() => recording.dispatch(affineShader, { bindings: { x, y }, params, workgroups: [] })).toThrow(TypeError);
});
