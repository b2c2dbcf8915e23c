import { readFileSync } from 'node:fs';
import { UnsupportedModelError, WeightFormatError } from '@mambalab/kernels';
import { parseConfig } from '@mambalab/models';
import { expect, it } from 'vitest';
import { createTokenizer } from '../../../packages/models/src/text/tokenizer.ts';
import { openGguf } from '../../../packages/models/src/weights/gguf.ts';
import { planWeights } from '../../../packages/models/src/weights/plan.ts';
import { rowBlocks } from '../../../packages/models/src/weights/rows.ts';
import type { ByteFile, Folder } from '../../../packages/models/src/weights/source.ts';
import { fixturePath } from '../../support/fixtures.ts';
import { convertGolden } from '../../support/gguf_models.ts';
import { writeGguf } from '../../support/gguf_writer.ts';
import { Random } from '../../support/numbers.ts';
import { memoryFolder } from './fixtures.ts';

const MUTATIONS = 500;

/** A file that takes a read outside of it for a failure of the reader. */
function guarded(bytes: Uint8Array): Folder {
  const file: ByteFile = {
    name: 'm.gguf',
    size: () => Promise.resolve(bytes.byteLength),
    read: (start, end) => {
      if (!(
        Number.isInteger(start) &&
        Number.isInteger(end) &&
        0 <= start &&
        start <= end &&
        end <= bytes.byteLength
      )) {
        throw new RangeError(`bytes ${start} to ${end} of ${bytes.byteLength} were asked for`);
      }
      return Promise.resolve(bytes.slice(start, end));
    },
  };
  return { ...memoryFolder({ 'm.gguf': '' }), file: () => Promise.resolve(file) };
}

/** Loads as much of a model as can be loaded without a GPU. */
async function load(bytes: Uint8Array): Promise<void> {
  const opened = await openGguf(guarded(bytes));
  if (opened === undefined) throw new Error('the file was not found');
  const { config, source, tokenizerJson, tokenizerConfig } = opened;
  if (tokenizerJson !== undefined) createTokenizer(tokenizerJson, tokenizerConfig).encode('Once upon');
  for (const { spec, dtype } of planWeights(parseConfig(config), source, 'auto')) {
    let rows = 0;
    for await (const block of rowBlocks(spec, dtype, source)) rows += block.rows;
    const all = spec.shape.reduce((product, size) => product * size, 1);
    const width = spec.kind === 'matrix' ? (spec.shape[spec.shape.length - 1] ?? 1) : 1;
    if (rows !== all / width) throw new Error(`${spec.name} has ${rows} rows`);
  }
}

/** Values that lengths, counts and offsets of damaged files take. */
const TELLING = [0, 1, 0x7f, 0x80, 0xff, 0x7fffffff, 0x80000000, 0xffffffff] as const;

function joined(front: Uint8Array, back: Uint8Array): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(front.byteLength + back.byteLength);
  all.set(front);
  all.set(back, front.byteLength);
  return all;
}

/** One to three changes: bits, bytes, numbers, a piece cut out, doubled or moved, or an end that is cut off. */
function mutated(original: Uint8Array, random: Random, front: number): Uint8Array {
  let bytes = Uint8Array.from(original);
  for (let change = random.integer(1, 3); change > 0 && bytes.byteLength > 16; change--) {
    const at = random.integer(0, Math.min(front, bytes.byteLength) - 9);
    const length = random.integer(1, 40);
    const view = new DataView(bytes.buffer);
    switch (random.integer(0, 6)) {
      case 0:
        bytes[at] = (bytes[at] ?? 0) ^ (1 << random.integer(0, 7));
        break;
      case 1:
        bytes[at] = random.integer(0, 255);
        break;
      case 2:
        view.setUint32(at, TELLING[random.integer(0, TELLING.length - 1)] ?? 0, true);
        break;
      case 3:
        view.setBigUint64(at, BigInt(TELLING[random.integer(0, TELLING.length - 1)] ?? 0) << 32n, true);
        break;
      case 4:
        bytes = joined(bytes.subarray(0, at), bytes.subarray(at + length));
        break;
      case 5:
        bytes = joined(bytes.subarray(0, at + length), bytes.subarray(at));
        break;
      default:
        bytes = bytes.slice(0, at + 9);
    }
  }
  return bytes;
}

async function withMerges(): Promise<Uint8Array> {
  const { fields, tensors } = await convertGolden('nemotron_h');
  const vocabulary = {
    'tokenizer.ggml.model': 'gpt2',
    'tokenizer.ggml.pre': 'llama-bpe',
    'tokenizer.ggml.tokens': ['a', 'b', 'ab', '<s>', 'O', 'n'],
    'tokenizer.ggml.token_type': [1, 1, 1, 3, 1, 1],
    'tokenizer.ggml.merges': ['a b'],
    'tokenizer.ggml.bos_token_id': 3,
  };
  return writeGguf({ ...fields, ...vocabulary }, tensors);
}

const withScores = (): Promise<Uint8Array> =>
  Promise.resolve(new Uint8Array(readFileSync(fixturePath('gguf/llama-q8_0.gguf'))));

it.each([
  { kind: 'scores', make: withScores, front: 20_000 },
  { kind: 'merges', make: withMerges, front: 5000 },
])('a changed file with $kind is refused or loads', async ({ make, front }) => {
  const original = await make();
  await load(original);
  const random = new Random(1);
  let refused = 0;
  for (let index = 0; index < MUTATIONS; index++) {
    const bytes = mutated(original, random, front);
    const began = performance.now();
    const error: unknown = await load(bytes).catch((caught: unknown) => caught);
    expect(performance.now() - began).toBeLessThan(2000);
    if (error === undefined) continue;
    refused++;
    const isExpected = error instanceof WeightFormatError || error instanceof UnsupportedModelError;
    if (!isExpected) throw new Error(`change ${index}: ${String(error)}`, { cause: error });
    expect(error.message.length).toBeLessThan(4000);
  }
  // Some changes are of texts alone.
  expect(refused).toBeGreaterThan(MUTATIONS / 2);
});
