import { describe, expect, it } from 'vitest';
import { causalConv1d, causalConv1dStep } from '@mambalab/kernels/reference';
import { joinTokens, sliceTokens, uniform } from './support.ts';

const [batch, length, channels] = [2, 11, 3];

describe.each([1, 2, 3, 4])('causalConv1d of width %i', (width) => {
  const draw = uniform(width);
  const filter = { weight: draw(channels * width), bias: draw(channels) };
  const x = draw(batch * length * channels);
  const state = draw(batch * (width - 1) * channels);
  const options = { batch, channels, width, activation: 'silu' } as const;
  const whole = causalConv1d({ x, state, ...filter }, { ...options, length });
  const part = (start: number, end: number): Float64Array => sliceTokens(x, batch, length, start, end);

  it.each([0, 1, 2, 5, 10])('two calls, cut at %i, are one call', (cut) => {
    const first = causalConv1d({ x: part(0, cut), state, ...filter }, { ...options, length: cut });
    const second = causalConv1d(
      { x: part(cut, length), state: first.state, ...filter },
      { ...options, length: length - cut },
    );
    expect(joinTokens([first.y, second.y], batch)).toEqual(whole.y);
    expect(second.state).toEqual(whole.state);
  });

  it('steps are the whole', () => {
    const outputs: Float64Array[] = [];
    let carried = state;
    for (let l = 0; l < length; l++) {
      const step = causalConv1dStep({ x: part(l, l + 1), state: carried, ...filter }, options);
      outputs.push(step.y);
      carried = step.state;
    }
    expect(joinTokens(outputs, batch)).toEqual(whole.y);
    expect(carried).toEqual(whole.state);
  });

  it('no state is a state of zeros', () => {
    const zeros = new Float64Array(state.length);
    const from = causalConv1d({ x, state: zeros, ...filter }, { ...options, length });
    expect(causalConv1d({ x, ...filter }, { ...options, length })).toEqual(from);
    const one = { x: part(0, 1), ...filter };
    expect(causalConv1dStep(one, options)).toEqual(causalConv1dStep({ ...one, state: zeros }, options));
  });
});
