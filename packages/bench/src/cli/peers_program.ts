import type { Command } from 'commander';
import { InvalidArgumentError } from 'commander';
import type { CommonOptions } from './options.ts';
import { jsonOption, quickOption, togglesOption } from './options.ts';

export interface PeersOptions extends CommonOptions {
  /** Names of engines, and the model of each. */
  readonly peer: readonly (readonly [string, string])[];
  readonly modules: string;
  readonly device: string;
  readonly prompt?: string;
  readonly tokens: number;
}

/** The command `peers`. */
export function addPeersCommand(program: Command): void {
  program
    .command('peers')
    .description('other engines on the same prompt: transformers.js, WebLLM, wllama, onnxruntime, where installed')
    .argument('[source]', 'a model for this engine')
    .option(
      '--peer <engine=model>',
      "another engine's model: an ONNX repository or folder, an MLC id, a GGUF address, an .onnx file",
      (text: string, before: PeersOptions['peer']) => [...before, parsePeer(text)],
      [],
    )
    .option('--modules <folder>', 'where node_modules with the engines is', '.')
    .option('--device <name>', 'what engines that ask should run on: webgpu, cpu', 'webgpu')
    .option('--prompt <text>', 'the prompt; some sentences when absent')
    .option('--tokens <number>', 'tokens to write', parseTokenCount, 64)
    .addOption(jsonOption())
    .addOption(quickOption())
    .addOption(togglesOption())
    .action(async (source: string | undefined, options: PeersOptions) => {
      const { benchPeers } = await import('./peers_command.ts');
      if (!(await benchPeers(source, options))) process.exitCode = 1;
    });
}

function parsePeer(text: string): readonly [string, string] {
  const at = text.indexOf('=');
  if (at < 1 || at === text.length - 1) throw new InvalidArgumentError('engine=model is expected.');
  return [text.slice(0, at), text.slice(at + 1)];
}

function parseTokenCount(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 2) throw new InvalidArgumentError('A whole number of 2 or more is expected.');
  return value;
}
