// Makes the shipped models from float16 checkpoints: node packages/checkpoints/tools/make.mjs FOLDER, which holds a
// folder for each of them. Build before. Model cards stay; `mambalab quality` measures what they say of quantization.
import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const path = (relative) => fileURLToPath(new URL(relative, import.meta.url));

/** What is in q8 gains most for its size. Without embedding and head in blocks a model would be twice as large. */
const RULES = {
  hybrid: ['embedding=q4', 'head=q4', 'outProjection=q8'],
  mamba: ['embedding=q4', 'head=q4'],
  mamba2: ['embedding=q4', 'head=q4', 'outProjection=q8'],
  transformer: ['embedding=q4', 'head=q4', 'qkv=q8'],
};

const [source] = process.argv.slice(2);
if (source === undefined) throw new Error('Give the folder of the checkpoints.');
for (const [name, rules] of Object.entries(RULES)) {
  const folder = mkdtempSync(join(tmpdir(), 'mambalab-'));
  const made = join(folder, name);
  const tensors = rules.flatMap((rule) => ['--tensor', rule]);
  const options = ['--dtype', 'q4', '--method', 'search', ...tensors];
  execFileSync(process.execPath, [path('../../models/dist/cli.js'), 'convert', join(source, name), made, ...options], {
    stdio: 'inherit',
  });
  // The spaces of a tokenizer are more than half of it.
  const tokenizer = join(made, 'tokenizer.json');
  writeFileSync(tokenizer, JSON.stringify(JSON.parse(readFileSync(tokenizer, 'utf8'))));
  cpSync(made, path(`../models/${name}`), { recursive: true });
  rmSync(folder, { recursive: true });
}
