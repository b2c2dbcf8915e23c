import type { HostTensor, Mamba2DecodeStepInputs, Recording, TensorRef } from '@mambalab/kernels';
import {
  ArgumentError,
  BASELINE_CAPABILITIES,
  Executor,
  fitsMamba2DecodeStep,
  mamba2DecodeStep,
  mamba2ProjectStep,
  mamba2UpdateStep,
  Recording as NewRecording,
  run,
  ShapeError,
} from '@mambalab/kernels';
import { mamba2DecodeStep as reference } from '@mambalab/kernels/reference';
import { describe, expect, it } from 'vitest';
import { openTestDevice, simdChoices } from '../../support/gpu.ts';
import type { MatrixDtype } from '../../support/matrices.ts';
import { WEIGHT_DTYPES, weightMatrix } from '../../support/matrices.ts';
import { expectClose, expectSameBits, normalTensor, Random } from '../../support/numbers.ts';

const device = await openTestDevice();
const executor = new Executor(device, { poison: true });
// Inputs are scaled so that every intermediate is of the order of 1: sums of up to 384 products in f32, one after another
// through two projections, a convolution, the state and a norm.
const TOLERANCE = { rtol: 2e-5, atol: 5e-5 };

interface Sizes {
  readonly batch: number;
  readonly hidden: number;
  readonly heads: number;
  readonly headDim: number;
  readonly groups: number;
  readonly stateSize: number;
  readonly taps: number;
  readonly normGroups: number;
}

interface Settings {
  readonly dtype?: MatrixDtype;
  /** Whether the optional inputs are given. */
  readonly bias?: boolean;
  readonly norm?: boolean;
}

const SMALL: Sizes = { batch: 1, hidden: 32, heads: 4, headDim: 16, groups: 1, stateSize: 32, taps: 4, normGroups: 1 };

type Inputs = Readonly<Record<string, HostTensor & { data: Float32Array }>>;

function draw(sizes: Sizes, { dtype = 'f32', bias = true, norm = true }: Settings = {}) {
  const { batch, hidden, heads, headDim, groups, stateSize, taps } = sizes;
  const random = new Random(batch * 7919 + hidden * 131 + groups * 17 + stateSize + taps);
  const inner = heads * headDim;
  const channels = inner + 2 * groups * stateSize;
  const outputs = inner + channels + heads;
  const inWeight = weightMatrix(random, [outputs, hidden], dtype);
  const outWeight = weightMatrix(random, [hidden, inner], dtype);
  const vectors: Inputs = {
    // Weights are standard normal: small inputs make up for it.
    x: normalTensor(random, [batch, hidden], 1 / Math.sqrt(hidden)),
    convWeight: normalTensor(random, [channels, taps], 0.5),
    convState: normalTensor(random, [batch, taps - 1, channels]),
    A: { data: random.uniforms(heads, -8, -1), shape: [heads], dtype: 'f32' },
    dtBias: { data: random.normals(heads, 0.5, -3), shape: [heads], dtype: 'f32' },
    D: normalTensor(random, [heads]),
    state: normalTensor(random, [batch, heads, headDim, stateSize], 0.3),
    gateNorm: normalTensor(random, [inner], 1 / Math.sqrt(inner)),
    residual: normalTensor(random, [batch, hidden]),
    ...(norm && { normWeight: normalTensor(random, [hidden], 1 / Math.sqrt(hidden)) }),
    ...(bias && {
      inBias: normalTensor(random, [outputs]),
      convBias: normalTensor(random, [channels]),
      outBias: normalTensor(random, [hidden]),
    }),
  };
  const data = Object.fromEntries(Object.entries(vectors).map(([name, tensor]) => [name, tensor.data]));
  return {
    tensors: { ...vectors, inWeight: inWeight.tensor, outWeight: outWeight.tensor } as never,
    numbers: { ...data, inWeight: inWeight.values, outWeight: outWeight.values } as never as Parameters<
      typeof reference
    >[0],
  };
}

const EPS = { normEps: 0.01, gateEps: 0.02 };

/** The step with the states among its results. */
const step = (
  recording: Recording,
  inputs: Mamba2DecodeStepInputs,
  options: Sizes & { readonly software?: boolean },
): { y: TensorRef; convState: TensorRef; state: TensorRef } => {
  const { groups, normGroups, software = recording.capabilities.software } = options;
  // The workgroups of a CPU or a GPU, on whatever device runs the tests.
  Object.assign(recording, { capabilities: { ...recording.capabilities, software } });
  const y = mamba2DecodeStep(recording, inputs, { groups, normGroups, dtLimits: [0.001, 0.5], ...EPS });
  return { y, convState: inputs.convState, state: inputs.state };
};

interface Variant {
  readonly simd: string;
  readonly software: boolean;
}

async function expectStep(sizes: Sizes, settings: Settings, { simd, software }: Variant): Promise<void> {
  const { tensors, numbers } = draw(sizes, settings);
  const result = await run(device, step, tensors, { ...sizes, software }, { force: { simd }, executor });
  const expected = reference(numbers, { ...sizes, dtLimits: [0.001, 0.5], ...EPS });
  expectClose(result.convState.data, expected.convState, TOLERANCE);
  expectClose(result.state.data, expected.state, TOLERANCE);
  expectClose(result.y.data, expected.y, TOLERANCE);
  // The window moves without a change.
  const { batch, taps } = sizes;
  const channels = result.convState.data.length / batch / (taps - 1);
  for (let b = 0; b < batch; b++) {
    const start = b * (taps - 1) * channels;
    const kept = (taps - 2) * channels;
    const before = Float32Array.from(numbers.convState).subarray(start + channels, start + channels + kept);
    expectSameBits(result.convState.data.subarray(start, start + kept), before);
  }
}

const variants: readonly Variant[] = simdChoices(device).flatMap(({ simd = '' }) => [
  { simd, software: false },
  { simd, software: true },
]);

describe.each(variants.filter(({ software }) => software))(
  'mamba2DecodeStep with the workgroups of a CPU, %o',
  (variant) => {
    const settings = { force: { simd: variant.simd }, executor };

    it.each<[string, Sizes]>([
      ['one sequence, one group', SMALL],
      ['three sequences, two groups, a norm for each', { ...SMALL, batch: 3, groups: 2, normGroups: 2 }],
      ['groups without their norms', { ...SMALL, groups: 4 }],
      ['norms without their groups', { ...SMALL, batch: 2, normGroups: 4 }],
      ['two taps', { ...SMALL, taps: 2 }],
      ['three taps', { ...SMALL, batch: 2, taps: 3 }],
      ['eight groups', { ...SMALL, batch: 3, heads: 8, headDim: 12, groups: 8, normGroups: 8, stateSize: 16 }],
      ['eight sequences', { ...SMALL, batch: 8, headDim: 8, groups: 2, normGroups: 2 }],
      ['a group of the norm that ends within a workgroup', { ...SMALL, heads: 3, headDim: 20, normGroups: 3 }],
      ['states of 12', { ...SMALL, heads: 2, headDim: 6, stateSize: 12 }],
      ['states of 256', { ...SMALL, batch: 2, heads: 2, headDim: 4, stateSize: 256, normGroups: 2 }],
      [
        'a small model',
        { batch: 1, hidden: 192, heads: 6, headDim: 64, groups: 1, stateSize: 64, taps: 4, normGroups: 1 },
      ],
      [
        'a small model with groups',
        { batch: 3, hidden: 192, heads: 6, headDim: 64, groups: 2, stateSize: 64, taps: 4, normGroups: 2 },
      ],
    ])('%s', async (_, sizes) => {
      await expectStep(sizes, {}, variant);
    });

    it.each(WEIGHT_DTYPES)('with %s weights', async (dtype) => {
      await expectStep({ ...SMALL, batch: 3, hidden: 36, normGroups: 2 }, { dtype }, variant);
      await expectStep({ ...SMALL, hidden: 36, headDim: 5, stateSize: 8 }, { dtype }, variant);
    });

    it.each(['q8', 'q4'] as const)('with %s weights', async (dtype) => {
      await expectStep({ ...SMALL, batch: 3, hidden: 36, headDim: 20, normGroups: 2 }, { dtype }, variant);
    });

    it('without biases and norm', async () => {
      await expectStep({ ...SMALL, batch: 2, groups: 2, normGroups: 2 }, { bias: false, norm: false }, variant);
    });

    it('goes on from the states that it leaves', async () => {
      const sizes = { ...SMALL, batch: 2, groups: 2, normGroups: 2 };
      const { tensors, numbers } = draw(sizes);
      let host: Record<string, HostTensor> = tensors;
      let expected = numbers;
      for (let token = 0; token < 4; token++) {
        const result = await run(device, step, host as never, { ...sizes, software: variant.software }, settings);
        const next = reference(expected, { ...sizes, dtLimits: [0.001, 0.5], ...EPS });
        expectClose(result.y.data, next.y, TOLERANCE);
        expectClose(result.convState.data, next.convState, TOLERANCE);
        expectClose(result.state.data, next.state, TOLERANCE);
        const x = normalTensor(new Random(token), [sizes.batch, sizes.hidden]);
        host = { ...host, x, convState: result.convState, state: result.state };
        expected = { ...expected, x: x.data, convState: next.convState, state: next.state };
      }
    });

    it('gives the same bits every time', async () => {
      const sizes = { ...SMALL, batch: 3, groups: 2, normGroups: 2 };
      const { tensors } = draw(sizes);
      const [a, b] = [
        await run(device, step, tensors, { ...sizes, software: variant.software }, settings),
        await run(device, step, tensors, { ...sizes, software: variant.software }, settings),
      ];
      expectSameBits(a.y.data as Float32Array, b.y.data as Float32Array);
      expectSameBits(a.state.data as Float32Array, b.state.data as Float32Array);
    });
  },
);

describe.each(variants.filter(({ software }) => !software))(
  'mamba2DecodeStep with the workgroups of a GPU, %o',
  (variant) => {
    it.each<[string, Sizes]>([
      ['eight groups', { ...SMALL, heads: 8, headDim: 20, groups: 8, normGroups: 8, stateSize: 16 }],
      ['states of 256', { ...SMALL, heads: 2, headDim: 12, stateSize: 256 }],
      ['four rows of x', { ...SMALL, batch: 3, heads: 3, headDim: 20, normGroups: 3, stateSize: 12 }],
      ['states of 128', { ...SMALL, hidden: 8, headDim: 24, stateSize: 128, normGroups: 2 }],
    ])('%s', async (_, sizes) => {
      await expectStep(sizes, { dtype: 'bf16' }, variant);
    });

    // Quads of a load are unrolled here.
    it.each(['q8', 'q4'] as const)('%s weights', async (dtype) => {
      await expectStep({ ...SMALL, hidden: 68, headDim: 20 }, { dtype }, variant);
    });
  },
);

describe('mamba2DecodeStep', () => {
  it('is three dispatches', () => {
    const recording = new NewRecording(BASELINE_CAPABILITIES);
    step(recording, record(recording, SMALL), SMALL);
    expect(recording.dispatches.map(({ label }) => label)).toEqual([
      'ssm/mamba2_project_step',
      'ssm/mamba2_update_step',
      'ssm/mamba2_output_step',
    ]);
  });

  it('refuses sizes that only the single kernels take, and says which it takes', () => {
    const refused = (wrong: Partial<Sizes>): (() => unknown) => {
      const sizes = { ...SMALL, ...wrong };
      expect(fitsMamba2DecodeStep(sizes)).toBe(false);
      return () => {
        const recording = new NewRecording(BASELINE_CAPABILITIES);
        return step(recording, record(recording, sizes), sizes);
      };
    };
    expect(fitsMamba2DecodeStep(SMALL)).toBe(true);
    expect(refused({ hidden: 30 })).toThrow(ArgumentError);
    expect(refused({ stateSize: 10 })).toThrow(ArgumentError);
    expect(refused({ headDim: 3, heads: 2 })).toThrow(ArgumentError);
    expect(refused({ headDim: 3, normGroups: 2 })).toThrow(ArgumentError);
    expect(refused({ taps: 5 })).toThrow(ArgumentError);
    expect(refused({ heads: 128, headDim: 4, normGroups: 128 })).toThrow(ArgumentError);
    expect(refused({ batch: 9 })).toThrow(ShapeError);
  });

  it('refuses tensors that do not belong together', () => {
    const recording = new NewRecording(BASELINE_CAPABILITIES);
    const inputs = record(recording, SMALL);
    const other = (name: string, ...shape: number[]): TensorRef => recording.external(name, 'f32', shape);
    const attempt = (wrong: object) => (): unknown => step(recording, { ...inputs, ...wrong }, SMALL);
    expect(attempt({ convState: other('a', 1, 2, 128) })).toThrow(ShapeError);
    expect(attempt({ A: other('b', 5) })).toThrow(ShapeError);
    expect(attempt({ outWeight: other('c', 32, 72) })).toThrow(ShapeError);
    expect(attempt({ convWeight: other('d', 400, 4), convState: other('e', 1, 3, 400) })).toThrow(ArgumentError);
    const projected = other('f', 1, 64);
    expect(() => mamba2UpdateStep(recording, { ...inputs, projected }, { groups: 1 })).toThrow(ShapeError);
    const x = other('g', 1, 36);
    expect(() => mamba2ProjectStep(recording, { ...inputs, x, weight: inputs.inWeight }, { inner: 64 })).toThrow(
      ShapeError,
    );
  });
});

/** The tensors of a layer without values. */
function record(recording: Recording, sizes: Sizes): Mamba2DecodeStepInputs {
  const { batch, hidden, heads, headDim, groups, stateSize, taps } = sizes;
  const inner = heads * headDim;
  const channels = inner + 2 * groups * stateSize;
  const tensor = (name: string, ...shape: number[]): TensorRef => recording.external(name, 'f32', shape);
  const weight = (name: string, rows: number, width: number): TensorRef =>
    recording.external(name, 'f16', [rows, width], Math.ceil(width / 8) * 8);
  return {
    x: tensor('x', batch, hidden),
    inWeight: weight('inWeight', inner + channels + heads, hidden),
    normWeight: tensor('normWeight', hidden),
    convWeight: tensor('convWeight', channels, taps),
    convState: tensor('convState', batch, taps - 1, channels),
    A: tensor('A', heads),
    state: tensor('state', batch, heads, headDim, stateSize),
    gateNorm: tensor('gateNorm', inner),
    outWeight: weight('outWeight', hidden, inner),
  };
}
