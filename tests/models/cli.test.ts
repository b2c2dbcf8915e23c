import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { ArgumentError, openSafetensors, WeightFormatError } from '@mambalab/models';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { chat } from '../../packages/models/src/cli/chat.ts';
import { generate } from '../../packages/models/src/cli/generate.ts';
import { inspect } from '../../packages/models/src/cli/inspect.ts';
import { formatBytes } from '../../packages/models/src/cli/terminal.ts';
import { verify } from '../../packages/models/src/cli/verify.ts';
import { writeSafetensors } from '../../packages/models/src/weights/safetensors.ts';
import { copyCheckpoint, fileInMemory } from '../support/checkpoints.ts';
import { fixturePath, readFixture } from '../support/fixtures.ts';

// Commands request a device and dispose of it; here all get the same one, whose shaders are compiled once.
vi.mock(import('@mambalab/kernels/node'), async (importOriginal) => {
  const { withSharedDevice } = await import('../support/commands.ts');
  return withSharedDevice(await importOriginal());
});

const stories = fixturePath('models/stories260k');
const mamba2 = fixturePath('models/mamba2');

let out = '';
let messages = '';

beforeEach(() => {
  out = '';
  messages = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    out += String(text);
    return true;
  });
  vi.spyOn(process.stderr, 'write').mockImplementation((text) => {
    messages += String(text);
    return true;
  });
});

afterEach(() => {
  vi.restoreAllMocks();
});

/** What a command left as the exit code of the process, which the tests must not keep. */
function takeExitCode(): typeof process.exitCode {
  const { exitCode } = process;
  process.exitCode = undefined;
  return exitCode;
}

describe('generate', () => {
  const expected = readFixture<{ prompt: string; greedy_ids: number[]; text: string }>(
    'models/stories260k/expected.json',
  );
  const { prompt, greedy_ids: greedy } = expected;
  const flags = { maxTokens: 8, temperature: 0, contextLength: 64, dtype: 'auto' as const };
  const expectText = (): void => {
    expect(out).toMatch(/^, there was.*\n$/);
    expect(expected.text.startsWith(prompt + out.trimEnd())).toBe(true);
  };

  it('streams the text, and says on the other channel what it cost', async () => {
    const listeners = process.listenerCount('SIGINT');
    await generate(stories, prompt, flags);
    expectText();
    expect(messages).toContain(prompt);
    expect(messages).toContain('llama, 10 layers of 64');
    expect(messages).toContain('prompt   5 tokens');
    expect(messages).toContain('written  8 tokens');
    expect(messages).toContain('KV cache');
    expect(process.listenerCount('SIGINT')).toBe(listeners);
  });

  it('prints the text alone with --quiet', async () => {
    await generate(stories, prompt, { ...flags, quiet: true, seed: 1, ignoreEos: true });
    expectText();
    expect(messages).toBe('');
  });

  it('prints one JSON object with --json', async () => {
    await generate(stories, prompt, { ...flags, json: true });
    expect(messages).toBe('');
    expect(JSON.parse(out)).toMatchObject({
      tokens: greedy.slice(0, 8),
      finishReason: 'length',
      usage: { promptTokens: 5, completionTokens: 8 },
      // Keys and values of 4 heads of 8 in 5 layers.
      memory: { stateBytes: 0, kvBytesPerToken: 2 * 4 * 8 * 5 * 4 },
    });
  });

  it('fails where there is no model', async () => {
    const listeners = process.listenerCount('SIGINT');
    await expect(generate(join(stories, 'nowhere'), prompt, flags)).rejects.toThrow(ArgumentError);
    expect(process.listenerCount('SIGINT')).toBe(listeners);
  });
});

describe('verify', () => {
  it('passes for a golden that agrees', async () => {
    await verify(mamba2, { dtype: 'auto' });
    expect(out).toContain('mamba2: passed');
    expect(out).toContain('greedy tokens equal: 100.0 %');
    expect(takeExitCode()).toBeUndefined();
  });

  it('fails for a golden that does not, with an exit code', async () => {
    const source = await openSafetensors(fileInMemory('golden', await readFile(join(mamba2, 'golden.safetensors'))));
    const tensors = await Promise.all(
      [...source.tensors.values()].map(async ({ name, dtype, shape }) => {
        const bytes = await source.read(name);
        if (name === 'logits') new DataView(bytes.buffer, bytes.byteOffset).setFloat32(400, 3, true);
        return { name, dtype, shape, bytes };
      }),
    );
    const path = await copyCheckpoint('mamba2', { files: { 'golden.safetensors': writeSafetensors(tensors) } });
    await verify(path, { dtype: 'auto', json: true });
    expect(JSON.parse(out)).toMatchObject({ family: 'mamba2', passed: false, greedyAgreement: 1, tolerance: 2e-4 });
    expect(takeExitCode()).toBe(1);
  });

  it('says which file is missing', async () => {
    const verification = verify(stories, { dtype: 'auto' });
    await expect(verification).rejects.toThrow(WeightFormatError);
    await expect(verification).rejects.toThrow('golden.safetensors');
  });
});

describe('inspect', () => {
  it('prints what a model is made of', async () => {
    await inspect(fixturePath('models/nemotron_h'), {});
    expect(out).toContain('family          nemotron_h');
    expect(out).toContain('layers          M-M*-');
    expect(out).toContain('state           20.5 KiB');
    expect(out).toContain('128 B a token');
  });

  it('prints facts for machines', async () => {
    await inspect(mamba2, { json: true });
    expect(JSON.parse(out)).toMatchObject({
      family: 'mamba2',
      layers: 'MMM',
      hiddenSize: 32,
      vocabSize: 128,
      contextLength: null,
      kvBytesPerToken: 0,
      storedAs: ['F32'],
    });
  });
});

describe('the program', () => {
  const run = async (...words: readonly string[]): Promise<void> => {
    const before = process.argv;
    process.argv = ['node', 'mambalab', ...words];
    vi.resetModules();
    try {
      await import('../../packages/models/src/cli/main.ts');
    } finally {
      process.argv = before;
    }
  };

  it('hands words to commands', async () => {
    await run('inspect', mamba2, '--json');
    expect(JSON.parse(out)).toMatchObject({ family: 'mamba2' });
    expect(takeExitCode()).toBeUndefined();
  });

  it('prints an error with what to do, and exits with 1', async () => {
    await run('inspect', join(mamba2, 'nowhere'));
    expect(messages).toContain('ArgumentError: There is no folder');
    expect(messages).toContain('Give the path of a folder');
    expect(messages).not.toContain('\n    at ');
    expect(takeExitCode()).toBe(1);
  });
});

it('writes bytes in the unit that suits them', () => {
  expect([0, 1023, 1024, 1536, 11_811_160, 2 ** 43].map(formatBytes)).toEqual([
    '0 B',
    '1023 B',
    '1.0 KiB',
    '1.5 KiB',
    '11.3 MiB',
    '8.0 TiB',
  ]);
});

describe('chat', () => {
  const TEMPLATE =
    "{% for message in messages %}{{ message.role[0] + ': ' + message.content + '\n' }}{% endfor %}" +
    "{% if add_generation_prompt %}{{ 'a:' }}{% endif %}";
  const FLAGS = { maxTokens: 4, temperature: 0, contextLength: 64, dtype: 'auto' as const, cache: false };
  let folder = '';

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'mambalab-'));
    await cp(stories, folder, { recursive: true });
    await writeFile(join(folder, 'chat_template.jinja'), TEMPLATE);
  });

  afterAll(() => rm(folder, { recursive: true, force: true }));

  /** What a conversation of these lines answers, a line each. */
  async function talk(lines: readonly string[], flags: object = {}): Promise<string[]> {
    out = '';
    messages = '';
    await chat(folder, { ...FLAGS, ...flags }, Readable.from(lines.map((line) => `${line}\n`)));
    return out.split('\n').slice(0, -1);
  }

  it('answers, takes back, keeps and goes on, and outlives mistakes', async () => {
    const file = join(folder, 'talk.bin');
    const whole = await talk([
      'The cat',
      '/nothing',
      '/undo',
      '/undo',
      'The cat',
      'The dog',
      '/memory',
      `/save ${file}`,
      'A bird',
      '/exit',
      'no',
    ]);
    expect(whole).toHaveLength(4);
    expect(whole[0]).not.toBe('');
    expect(whole[1]).toBe(whole[0]);
    expect(messages).toContain('There is no command /nothing.');
    expect(messages).toContain('There is no turn to take back.');
    expect(messages).toMatch(/\d+ tokens, .* with checkpoints/);

    const later = await talk(['A bird'], { load: file });
    expect(later).toEqual([whole[3]]);
    expect(await talk(['/reset', '/save', 'The cat'], { load: file })).toEqual([whole[0]]);
    expect(messages).toContain('/save needs a file.');
  });

  it('tells the model first what it shall be told', async () => {
    const [plain] = await talk(['The cat']);
    const [told] = await talk(['The cat'], { system: 'All cats are blue and sing at night.' });
    expect(told).not.toBe(plain);
  });
});
