import type { Tensor } from '@mambalab/kernels';
import { stateTensors } from '@mambalab/models';
import { loadModel } from '@mambalab/models/node';
import { expect, it } from 'vitest';
import { cacheBytesPerToken } from '../../packages/models/src/graph/names.ts';
import { fixturePath } from '../support/fixtures.ts';
import { openTestDevice } from '../support/gpu.ts';
import { nmse, Random } from '../support/numbers.ts';

const device = await openTestDevice();
const MODEL = fixturePath('models/variants/mistral');
const CONTEXT = 2 ** 18;
/** More tokens than two layers with its window see. */
const TOKENS = [...new Random(3).integers(40, 32)];

it('a model with windows forgets what lies behind them, in memory of one size', async () => {
  using model = await loadModel(MODEL, { device, contextLength: CONTEXT, warmUp: false });
  const near = await model.logits(TOKENS);
  const before = [...new Random(4).integers(1100, 32)];
  const far = await model.withSequence(before.length + TOKENS.length, async (sequence) => {
    await sequence.prefill(before);
    await sequence.prefill(TOKENS);
    // A ring of four pages of 256 tokens, where the sequence has room for 2048.
    expect(sequence.bytes().kvBytes).toBe(1024 * cacheBytesPerToken(model.spec, 'f32'));
    return await sequence.lastLogits();
  });
  expect(nmse(far, near)).toBeLessThan(1e-7);
});

it('positions go beyond 128 K', async () => {
  using model = await loadModel(MODEL, { device, contextLength: CONTEXT, warmUp: false });
  const near = await model.logits(TOKENS);
  const { runtime, spec } = model;
  const plan = await runtime.decodePlan(CONTEXT);
  const made = (name: string, dtype: Tensor['dtype'], shape: readonly number[]): [string, Tensor] => [
    name,
    device.createTensor(`far/${name}`, dtype, shape),
  ];
  const own = new Map([
    ...stateTensors(spec, 1, CONTEXT, 'f32').map(({ name, dtype, shape }) => made(name, dtype, shape)),
    made('token', 'u32', [1]),
    made('position', 'u32', [1]),
    made('settings', 'u32', [1, 16]),
    made('logits', 'f32', [1, spec.vocabSize]),
  ]);
  const tensor = (name: string): Tensor => {
    const found = own.get(name);
    if (found === undefined) throw new Error(`there is no '${name}'`);
    return found;
  };
  try {
    const bound = plan.bind(new Map([...runtime.constants, ...runtime.pageTables(CONTEXT), ...own]));
    device.write(tensor('position'), Uint32Array.of(200_000));
    for (const token of TOKENS) {
      device.write(tensor('token'), Uint32Array.of(token));
      bound.submit();
    }
    const { data } = await device.read(tensor('logits'));
    // A position times a frequency has 24 bits: an angle of 200,000 is known to a hundredth.
    expect(nmse(Float32Array.from(data.subarray(0, spec.vocabSize)), near)).toBeLessThan(1e-3);
  } finally {
    for (const made of own.values()) made.dispose();
  }
});
