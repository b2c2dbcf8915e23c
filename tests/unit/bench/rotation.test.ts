import { rotationCount } from '@mambalab/bench';
import { expect, it } from 'vitest';

const MiB = 2 ** 20;
const roomy = { memory: 8192 * MiB, maxBuffer: 2048 * MiB, software: false };

it.each([
  ['fills more than 256 MiB', { ...roomy, bytes: 10 * MiB, largest: 8 * MiB }, 26],
  ['takes two copies just below', { ...roomy, bytes: 255 * MiB, largest: 200 * MiB }, 2],
  ['needs no copies from there up', { ...roomy, bytes: 256 * MiB, largest: 200 * MiB }, 1],
  ['bounds the copies of tiny cases', { ...roomy, bytes: 1024, largest: 512 }, 128],
  ['keeps to the memory it may take', { ...roomy, bytes: 10 * MiB, largest: 8 * MiB, memory: 45 * MiB }, 4],
  ['keeps to the largest buffer', { ...roomy, bytes: 10 * MiB, largest: 8 * MiB, maxBuffer: 128 * MiB }, 16],
  ['never takes less than one', { ...roomy, bytes: 10 * MiB, largest: 8 * MiB, memory: 1, maxBuffer: 1 }, 1],
  ['does not rotate on software adapters', { ...roomy, bytes: 1024, largest: 512, software: true }, 1],
])('%s', (_, limits, copies) => {
  expect(rotationCount(limits)).toBe(copies);
});
