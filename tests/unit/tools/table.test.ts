import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { variantsTable } from '../../../packages/kernels/tools/table.mjs';

it('docs/kernels/variants.md says what the shaders declare (node packages/kernels/tools/table.mjs writes it)', () => {
  const file = new URL('../../../docs/kernels/variants.md', import.meta.url);
  expect(readFileSync(file, 'utf8')).toBe(variantsTable());
});

it('lists every shader under a kernel', () => {
  const table = variantsTable();
  for (const shader of ['linear/matmul', 'linear/matmul_matrix', 'attention/flash_attention_matrix', 'ssm/ssd_step']) {
    expect(table).toContain(`\`${shader}\``);
  }
  expect(table).toMatch(/\| `matvec` \| `linear\/matvec` \| simd: subgroups \(`subgroups`\), baseline; weight/);
});
