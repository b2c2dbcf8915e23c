import { readFileSync } from 'node:fs';
import { dequantize } from '@mambalab/kernels/reference';
import { openSafetensors } from '@mambalab/models';
import { describe, expect, it } from 'vitest';
import type { BlockKind } from '../../../packages/models/src/weights/gguf_blocks.ts';
import { dequantizeBlocks, exactDtypes, repackBlocks } from '../../../packages/models/src/weights/gguf_blocks.ts';
import { fileInMemory } from '../../support/checkpoints.ts';
import { fixturePath } from '../../support/fixtures.ts';

const KINDS: readonly BlockKind[] = ['Q4_0', 'Q4_1', 'Q5_0', 'Q5_1', 'Q8_0', 'Q4_K', 'Q5_K', 'Q6_K'];

const fixture = await openSafetensors(fileInMemory('blocks', readFileSync(fixturePath('gguf/blocks.safetensors'))));

async function blocksOf(kind: BlockKind): Promise<{ readonly bytes: Uint8Array; readonly values: Float32Array }> {
  const values = new Uint8Array(await fixture.read(`${kind}.values`));
  return { bytes: await fixture.read(`${kind}.blocks`), values: new Float32Array(values.buffer) };
}

/** Bits, so that 0 and -0 differ. */
const bitsOf = (values: Float32Array): number[] => [
  ...new Uint32Array(values.buffer, values.byteOffset, values.length),
];

describe.each(KINDS)('%s', (kind) => {
  it('becomes what the Python package makes of it, bit by bit', async () => {
    const { bytes, values } = await blocksOf(kind);
    expect(values.length).toBeGreaterThan(200);
    expect(bitsOf(dequantizeBlocks(kind, bytes))).toEqual(bitsOf(values));
  });

  it('is read from anywhere in a file', async () => {
    const { bytes, values } = await blocksOf(kind);
    const shifted = new Uint8Array(bytes.byteLength + 1);
    shifted.set(bytes, 1);
    expect(bitsOf(dequantizeBlocks(kind, shifted.subarray(1)))).toEqual(bitsOf(values));
  });

  it('is refused in block formats that do not hold its numbers', async () => {
    const { bytes } = await blocksOf(kind);
    const others = (['q8', 'q4'] as const).filter((dtype) => !exactDtypes(kind).includes(dtype));
    for (const dtype of others) expect(() => repackBlocks(kind, bytes, dtype)).toThrow(RangeError);
  });
});

it.each([
  ['Q8_0', 'q8'],
  ['Q5_0', 'q8'],
  ['Q4_0', 'q8'],
  ['Q4_0', 'q4'],
] as const)('%s keeps its numbers as %s', async (kind, dtype) => {
  const { bytes, values } = await blocksOf(kind);
  const { quants, scales } = repackBlocks(kind, bytes, dtype);
  // One row, its scales behind its quants, as the reference reads it.
  const words = new Uint32Array(quants.length + Math.ceil(scales.length / 2));
  words.set(quants);
  new Uint16Array(words.buffer, 4 * quants.length).set(scales);
  const options = { dtype, rows: 1, width: values.length, scalesAt: quants.length };
  expect(Array.from(dequantize({ words }, options))).toEqual(Array.from(values));
});

it('only kinds without an offset and with one scale for 32 values have an exact form', () => {
  expect(Object.fromEntries(KINDS.map((kind) => [kind, exactDtypes(kind)]))).toEqual({
    Q4_0: ['q4', 'q8'],
    Q5_0: ['q8'],
    Q8_0: ['q8'],
    Q4_1: [],
    Q5_1: [],
    Q4_K: [],
    Q5_K: [],
    Q6_K: [],
  });
});
