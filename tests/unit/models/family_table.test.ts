import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { parseConfig, SUPPORTED_FAMILIES } from '../../../packages/models/src/families/index.ts';
import { parseJson } from '../../../packages/models/src/weights/json.ts';
import { FAMILY_CATALOGUE } from '../../../packages/models/tools/family_catalogue.ts';
import type { StorageErrors } from '../../../packages/models/tools/family_table.ts';
import { familyTable } from '../../../packages/models/tools/family_table.ts';
import { fixturePath, readFixture, readText } from '../../support/fixtures.ts';

it('the catalogue names every family, and no other', () => {
  expect(Object.keys(FAMILY_CATALOGUE).sort()).toEqual([...SUPPORTED_FAMILIES].sort());
});

it('docs/models/families.md says what the parsers say (-u writes it)', async () => {
  const errors = readFixture<Readonly<Record<string, StorageErrors>>>('models/storage_errors.json');
  const rows = [...SUPPORTED_FAMILIES].sort().flatMap((family) => {
    const file = [`models/${family}/config.json`, `models/variants/${family}/config.json`].find((path) =>
      existsSync(fixturePath(path)),
    );
    if (file === undefined) return [];
    const { spec } = parseConfig(parseJson(readText(file), file));
    return [{ family, spec, errors: errors[family] }];
  });
  const file = fileURLToPath(new URL('../../../docs/models/families.md', import.meta.url));
  await expect(familyTable(rows)).toMatchFileSnapshot(file);
});
