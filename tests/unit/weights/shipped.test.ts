import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import * as checkpoints from '@mambalab/checkpoints';
import { parameterCount, parseConfig } from '@mambalab/models';
import { expect, it } from 'vitest';
import { toFloat32 } from '../../../packages/models/src/weights/convert.ts';
import { openCheckpoint } from '../../../packages/models/src/weights/folder.ts';
import { openNodeFolder } from '../../../packages/models/src/weights/node_folder.ts';
import { planWeights } from '../../../packages/models/src/weights/plan.ts';
import { createTokenizer } from '../../../packages/models/src/text/tokenizer.ts';
import type { ShippedGoldens } from '../../support/fixtures.ts';
import { readFixture } from '../../support/fixtures.ts';

const entries = Object.values(checkpoints);
const { models } = readFixture<ShippedGoldens>('models/shipped.json');

it('the four are shipped, within 18 MB', () => {
  expect(entries.map(({ name }) => name).sort()).toEqual(['hybrid', 'mamba', 'mamba2', 'transformer']);
  const folders = entries.map(({ url }) => fileURLToPath(url));
  const sizes = folders.flatMap((folder) => readdirSync(folder).map((name) => statSync(join(folder, name)).size));
  expect(sizes.reduce((sum, size) => sum + size, 0)).toBeLessThan(18e6);
});

it.each(entries)('$name has what its card says', async ({ name, url }) => {
  const path = fileURLToPath(url);
  const { config, source, tokenizerJson, tokenizerConfig } = await openCheckpoint(await openNodeFolder(path));
  const model = parseConfig(config);
  const plan = planWeights(model, source, 'auto');
  const card = readFileSync(join(path, 'README.md'), 'utf8');
  expect(card).toContain(`${parameterCount(model).toLocaleString('en')} parameters`);
  expect(card).toMatch(/licen[cs]e/i);
  expect(card).toMatch(/\| KL divergence, nats a token \| 0\.0\d+ \|/);
  // Blocks for every matrix but Mamba's small one of dt, which is as it was trained.
  const exact = plan.filter(({ spec, dtype }) => spec.kind === 'matrix' && dtype !== 'q4' && dtype !== 'q8');
  expect([...new Set(exact.map(({ spec }) => spec.name.split('.').at(-1)))]).toEqual(
    name === 'mamba' ? ['dtProjection'] : [],
  );
  for (const { name: tensor, blocks } of source.tensors.values()) {
    if (blocks === undefined) continue;
    const values = toFloat32(await source.read(tensor, 0, 4096), 'F32');
    expect(values.every(Number.isFinite)).toBe(true);
    expect(new Set(values).size).toBeGreaterThan(20);
  }
  const tokenizer = createTokenizer(tokenizerJson, tokenizerConfig);
  expect(models[name]?.[0]?.inputIds).toEqual(tokenizer.encode('Once upon a time there was a little princess who'));
  await source.dispose();
});
