import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import type { Device } from '@mambalab/kernels';
import { requestDevice } from '@mambalab/kernels/node';
import type { LoadOptions, Model, ModelSource } from '@mambalab/models/node';
import type * as models from '@mambalab/models/node';
import { loadModel } from '@mambalab/models/node';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { fixturePath } from '../support/fixtures.ts';
import { codeBlocks, pagesOfRepository } from '../support/markdown.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const tiny = fixturePath('models/stories260k');
const shared = vi.hoisted(() => ({ device: undefined as unknown }));

// One device for all, whose pipelines are compiled once; and the smallest model in place of the shipped ones.
vi.mock('@mambalab/models', async () => {
  const node = await vi.importActual<typeof models>('@mambalab/models/node');
  const load = (source: ModelSource, options: LoadOptions = {}): Promise<Model> =>
    node.loadModel(source, { ...options, device: shared.device as Device });
  return { ...node, loadModel: load };
});
vi.mock('@mambalab/checkpoints', () => {
  const tinyModel = { name: 'tiny', url: new URL('../fixtures/models/stories260k/', import.meta.url).href };
  return { hybrid: tinyModel, mamba: tinyModel, mamba2: tinyModel, transformer: tinyModel };
});

let device: Device;
let model: Model;

beforeAll(async () => {
  device = await requestDevice();
  shared.device = device;
  model = await loadModel(tiny, { device });
  vi.stubGlobal('model', model);
});

afterAll(() => {
  model.dispose();
  device.dispose();
  vi.unstubAllGlobals();
});

/** Runs a module with arguments, and returns what it printed. */
async function runModule(file: string, args: readonly string[] = []): Promise<string> {
  const { argv } = process;
  let printed = '';
  const print = (...values: readonly unknown[]): void => {
    printed += `${values.map((value) => (typeof value === 'object' ? JSON.stringify(value) : String(value))).join(' ')}\n`;
  };
  const log = vi.spyOn(console, 'log').mockImplementation(print);
  const write = vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    printed += String(text);
    return true;
  });
  try {
    process.argv = [process.execPath, file, ...args];
    await import(/* @vite-ignore */ pathToFileURL(file).href);
  } finally {
    process.argv = argv;
    log.mockRestore();
    write.mockRestore();
  }
  return printed;
}

describe('examples', () => {
  it('node-cli writes a text', async () => {
    const printed = await runModule(join(root, 'examples/node-cli/main.mjs'), ['One day', tiny]);
    expect(printed).toMatch(/^One day[^]+\n\n32 tokens, [\d.]+ tokens\/s\n$/);
  });

  it('structured-output writes what the schema says', async () => {
    const printed = await runModule(join(root, 'examples/structured-output/main.mjs'), [tiny]);
    expect(JSON.parse(printed)).toEqual({
      animal: expect.stringMatching(/^(fox|owl|bear)$/),
      age: expect.any(Number),
      isKind: expect.any(Boolean),
    });
  });

  it('state-fork writes several ends, and the same after a restore', async () => {
    const printed = await runModule(join(root, 'examples/state-fork/main.mjs'), [tiny]);
    const [, first, second] = /^end 1:(.*)\nend 2:(.*)$/m.exec(printed) ?? [];
    expect(first).not.toBe(second);
    expect(printed).toMatch(/\d+ bytes saved; restored, it writes the same: true\n$/);
  });

  it('ai-sdk-next-route streams a text', async () => {
    const file = join(root, 'examples/ai-sdk-next-route/app/api/chat/route.js');
    const route = (await import(/* @vite-ignore */ pathToFileURL(file).href)) as Record<
      'POST',
      (request: Request) => Promise<Response>
    >;
    const body = JSON.stringify({ prompt: 'Who lives in the wood?' });
    const response = await route.POST(new Request('http://localhost/api/chat', { method: 'POST', body }));
    expect(response.headers.get('content-type')).toMatch(/^text\/plain/);
    expect((await response.text()).length).toBeGreaterThan(10);
  });
});

describe('blocks of the documentation that can run', () => {
  const blocks = pagesOfRepository()
    .flatMap(codeBlocks)
    .filter(({ isRunnable }) => isRunnable);
  const folder = join(root, '.cache/doc-blocks');

  it.each(blocks.map((block, index) => ({ ...block, index })))('$place', async ({ code, index }) => {
    mkdirSync(folder, { recursive: true });
    const file = join(folder, `block-${index}.ts`);
    writeFileSync(file, `${code}\nexport {};\n`);
    // A block that is wrong throws.
    expect(await runModule(file)).toEqual(expect.any(String));
  });

  it('are there', () => {
    expect(blocks.length).toBeGreaterThan(4);
  });
});
