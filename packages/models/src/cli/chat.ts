import { readFile, writeFile } from 'node:fs/promises';
import { createInterface } from 'node:readline/promises';
import type { Readable } from 'node:stream';
import pc from 'picocolors';
import type { Model, Session } from '../node.ts';
import { ArgumentError, loadModel, MambalabError } from '../node.ts';
import type { WeightDtype } from '../surface.ts';
import { sourceOptions } from './source_flags.ts';
import type { SourceFlags } from './source_flags.ts';
import { formatBytes, progressReporter } from './terminal.ts';

export interface ChatFlags extends SourceFlags {
  readonly system?: string;
  readonly maxTokens: number;
  readonly temperature?: number;
  readonly seed?: number;
  readonly contextLength?: number;
  readonly load?: string;
  readonly dtype: WeightDtype;
}

const HELP = [
  '/reset        begin anew',
  '/undo         take the last turn back',
  '/save FILE    keep the conversation with its state',
  '/memory       what it takes on the GPU',
  '/exit         end; so does Ctrl-D',
].join('\n');

/** `mambalab chat SOURCE`: a conversation, line by line. Ctrl-C stops an answer; without one, the program. */
export async function chat(source: string, flags: ChatFlags, input: Readable = process.stdin): Promise<void> {
  await using model = await loadModel(source, {
    ...sourceOptions(flags),
    dtype: flags.dtype,
    ...(flags.contextLength !== undefined && { contextLength: flags.contextLength }),
    onProgress: progressReporter(),
  });
  const talk = await Talk.begin(model, flags);
  const isTerminal = process.stdin.isTTY && input === process.stdin;
  // Made last: lines that come before somebody reads them would be lost.
  const lines = createInterface({ input, ...(isTerminal && { output: process.stderr }), terminal: isTerminal });
  try {
    if (isTerminal) process.stderr.write(`${pc.dim('/help lists commands.')}\n`);
    const prompt = (): void => {
      lines.setPrompt(pc.bold('> '));
      if (isTerminal) lines.prompt();
    };
    lines.on('SIGINT', () => {
      if (!talk.stop()) lines.close();
    });
    prompt();
    for await (const line of lines) {
      if (line.trim() === '/exit') break;
      try {
        await talk.take(line.trim());
      } catch (error) {
        // A conversation outlives a mistake in one line of it.
        if (!(error instanceof MambalabError)) throw error;
        process.stderr.write(`${pc.red(error.message)}\n`);
      }
      prompt();
    }
  } finally {
    lines.close();
  }
}

/** The conversation, and what its lines mean. */
class Talk {
  readonly #flags: ChatFlags;
  readonly #session: Session;
  /** Lengths of the session before each turn. */
  readonly #turns: number[] = [];
  #isAnswering = false;
  #isStopped = false;

  private constructor(flags: ChatFlags, session: Session) {
    this.#flags = flags;
    this.#session = session;
  }

  static async begin(model: Model, flags: ChatFlags): Promise<Talk> {
    if (flags.load === undefined) return new Talk(flags, model.session());
    let bytes: Uint8Array;
    try {
      bytes = await readFile(flags.load);
    } catch (cause) {
      throw new ArgumentError(`${flags.load} cannot be read.`, 'Give a file that /save wrote.', { cause });
    }
    return new Talk(flags, await model.restore(bytes));
  }

  /** Ends the answer in the making. @returns whether there was one */
  stop(): boolean {
    this.#isStopped = this.#isAnswering;
    return this.#isAnswering;
  }

  async take(line: string): Promise<void> {
    const [command = '', ...words] = line.split(' ');
    if (line === '') return;
    if (!command.startsWith('/')) await this.#answer(line);
    else if (command === '/help') process.stderr.write(`${HELP}\n`);
    else if (command === '/reset') this.#reset();
    else if (command === '/undo') await this.#undo();
    else if (command === '/save') await this.#save(words.join(' '));
    else if (command === '/memory') process.stderr.write(`${this.#memory()}\n`);
    else throw new ArgumentError(`There is no command ${command}.`, '/help lists those that there are.');
  }

  async #answer(question: string): Promise<void> {
    const { system, maxTokens, temperature, seed } = this.#flags;
    const isFirst = this.#session.length === 0 && system !== undefined;
    const before = this.#session.length;
    const messages = [
      ...(isFirst ? [{ role: 'system', content: system }] : []),
      { role: 'user', content: question },
    ] as const;
    const answer = this.#session.generate(messages, {
      maxTokens,
      ...(temperature !== undefined && { temperature }),
      ...(seed !== undefined && { seed }),
    });
    this.#isAnswering = true;
    this.#isStopped = false;
    try {
      for await (const { text } of answer) {
        process.stdout.write(text);
        if (this.#isStopped) break;
      }
      process.stdout.write('\n');
    } finally {
      this.#isAnswering = false;
      if (this.#session.length > before) this.#turns.push(before);
    }
  }

  #reset(): void {
    this.#session.reset();
    this.#turns.length = 0;
  }

  async #undo(): Promise<void> {
    const before = this.#turns.pop();
    if (before === undefined) throw new ArgumentError('There is no turn to take back.', 'Ask something first.');
    await this.#session.rewind(before);
  }

  async #save(file: string): Promise<void> {
    if (file === '') throw new ArgumentError('/save needs a file.', 'Write /save and a path.');
    const bytes = await this.#session.save();
    try {
      await writeFile(file, bytes);
    } catch (cause) {
      throw new ArgumentError(`${file} cannot be written.`, 'Give a path in a folder that exists.', { cause });
    }
    process.stderr.write(`${pc.dim(`${formatBytes(bytes.byteLength)} in ${file}`)}\n`);
  }

  #memory(): string {
    return `${this.#session.length} tokens, ${formatBytes(this.#session.bytes)} with checkpoints`;
  }
}
