#!/usr/bin/env node
import { Command, InvalidArgumentError, Option } from 'commander';
import pc from 'picocolors';
import { MambalabError } from '../surface.ts';
import { clearCached, listCached } from './cache.ts';
import type { CacheFlags } from './cache.ts';
import { chat } from './chat.ts';
import type { ChatFlags } from './chat.ts';
import { convert } from './convert.ts';
import type { ConvertFlags } from './convert.ts';
import { generate } from './generate.ts';
import type { GenerateFlags } from './generate.ts';
import { inspect } from './inspect.ts';
import type { InspectFlags } from './inspect.ts';
import { quantizationOptions } from './quantization_flags.ts';
import { quality } from './quality.ts';
import type { QualityFlags } from './quality.ts';
import { serve } from './serve.ts';
import type { ServeFlags } from './serve.ts';
import { verify } from './verify.ts';
import type { VerifyFlags } from './verify.ts';

const wholeNumber = (text: string): number => {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 0) throw new InvalidArgumentError('Give a whole number.');
  return value;
};

const anyNumber = (text: string): number => {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw new InvalidArgumentError('Give a number.');
  return value;
};

const positiveNumber = (text: string): number => {
  const value = Number(text);
  if (!Number.isFinite(value) || value < 0) throw new InvalidArgumentError('Give a number of at least 0.');
  return value;
};

const SIZE_UNITS: Readonly<Record<string, number>> = {
  '': 1,
  K: 1e3,
  M: 1e6,
  G: 1e9,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
};

const byteSize = (text: string): number => {
  const match = /^(\d+(?:\.\d+)?) ?([KMG]i?|)B?$/.exec(text);
  const value = Math.floor(Number(match?.[1]) * (SIZE_UNITS[match?.[2] ?? ''] ?? 1));
  if (match === null || value < 1) throw new InvalidArgumentError('Give a size, such as 500MB or 4GB.');
  return value;
};

const DTYPES = ['auto', 'f32', 'f16', 'bf16', 'q8', 'q4'];
const dtype = new Option('--dtype <type>', 'storage of matrices on the GPU').choices(DTYPES).default('auto');

const REVISION = ['--revision <name>', 'branch, tag or commit of a model on the hub'] as const;
const NO_CACHE = ['--no-cache', 'keep nothing of what is downloaded'] as const;

const program = new Command('mambalab')
  .description('Mamba, Mamba-2, Transformer and hybrid language models on WebGPU')
  .showHelpAfterError();

program
  .command('generate')
  .description('write a text after a prompt')
  .argument(
    '<source>',
    'id on the Hugging Face hub, or path or URL of a folder with config.json, *.safetensors and tokenizer.json, or of a .gguf file',
  )
  .argument('<prompt>', 'the text to continue')
  .option('-n, --max-tokens <count>', 'most tokens to write', wholeNumber, 256)
  .option('-t, --temperature <value>', '0 is greedy', positiveNumber, 0)
  .option('--top-k <count>', 'keep the most probable tokens; 0 keeps all', wholeNumber)
  .option('--top-p <probability>', 'keep the most probable tokens until their mass is this', positiveNumber)
  .option('--min-p <ratio>', 'keep tokens at least this times as probable as the most probable one', positiveNumber)
  .option('--repetition-penalty <factor>', 'makes recent tokens less probable; 1 is none', positiveNumber)
  .option('--presence-penalty <value>', 'is subtracted from the logits of recent tokens', anyNumber)
  .option('--frequency-penalty <value>', 'the same, as often as each occurs', anyNumber)
  .option('--stop <texts...>', 'texts that end the text, and are no part of it')
  .option('--json-schema <file>', 'write JSON of the schema in this file')
  .option('--regex <pattern>', 'write what the pattern matches')
  .option('--logprobs <count>', 'log-probabilities, with so many alternatives; for --json', wholeNumber)
  .option('--prompt-lookup', 'guess tokens by what stood in the text before')
  .option('--seed <number>', 'fixes what is drawn at a temperature above 0', wholeNumber)
  .option('--context-length <tokens>', 'upper bound for KV caches', wholeNumber)
  .option('--ignore-eos', "go on after the model's end-of-sequence token")
  .option('--json', 'print one JSON object instead of streaming text')
  .option('--quiet', 'print the text alone')
  .option(...REVISION)
  .option(...NO_CACHE)
  .addOption(dtype)
  .action((source: string, prompt: string, flags: GenerateFlags) => generate(source, prompt, flags));

program
  .command('chat')
  .description('a conversation, line by line; /help lists commands, Ctrl-C stops an answer')
  .argument('<source>', 'id on the Hugging Face hub, or path or URL of a model with a chat template')
  .option('--system <text>', 'what the model is told first')
  .option('-n, --max-tokens <count>', 'most tokens of an answer', wholeNumber, 1024)
  .option('-t, --temperature <value>', '0 is greedy; as the model says when absent', positiveNumber)
  .option('--seed <number>', 'fixes what is drawn at a temperature above 0', wholeNumber)
  .option('--context-length <tokens>', 'upper bound for KV caches', wholeNumber)
  .option('--load <file>', 'go on with a conversation that /save wrote')
  .option(...REVISION)
  .option(...NO_CACHE)
  .addOption(dtype)
  .action((source: string, flags: ChatFlags) => chat(source, flags));

program
  .command('serve')
  .description("answer requests of OpenAI's API over HTTP, until it is interrupted")
  .argument('<source>', 'id on the Hugging Face hub, or path or URL of a model')
  .option('-p, --port <number>', 'where to listen; 0 takes a free port', wholeNumber, 8080)
  .option('--host <address>', 'address to listen at; others than this machine reach 0.0.0.0', '127.0.0.1')
  .option('--token <text>', 'what requests must bear; better in the environment, as MAMBALAB_TOKEN')
  .option('--cors <origins...>', 'origins whose pages may ask, or *')
  .option('--name <name>', 'what requests call the model')
  .option('--max-running <count>', 'requests that are served at the same time', wholeNumber, 64)
  .option('--max-waiting <count>', 'requests that wait; further ones are refused', wholeNumber, 256)
  .option('--timeout <seconds>', 'how long a request may take', positiveNumber, 600)
  .option('--grace <seconds>', 'how long texts in progress may take at the end', positiveNumber, 10)
  .option('--context-length <tokens>', 'upper bound for KV caches', wholeNumber)
  .option('--json', 'log a JSON object a line')
  .option(...REVISION)
  .option(...NO_CACHE)
  .addOption(dtype)
  .action((source: string, flags: ServeFlags) => serve(source, flags));

program
  .command('verify')
  .description("compare this device's logits and greedy tokens with golden.safetensors beside the weights")
  .argument('<folder>', 'folder of a model that holds golden.safetensors too')
  .option('--tolerance <value>', 'allowed error over the largest |logit|', positiveNumber)
  .option('--json', 'print one JSON object')
  .addOption(dtype)
  .action((folder: string, flags: VerifyFlags) => verify(folder, flags));

const qualityCommand = program
  .command('quality')
  .description('compare the predictions of a model over a text with those of a reference: what quantization changes')
  .argument('<source>', 'id on the Hugging Face hub, or path or URL of a model')
  .requiredOption('--reference <source>', 'the model to compare with, of the same vocabulary')
  .requiredOption('--text <file>', 'the text, in UTF-8')
  .addOption(dtype)
  .addOption(new Option('--reference-dtype <type>', 'the same of the reference').choices(DTYPES).default('f32'))
  .option('--chunk <tokens>', 'tokens that are given at a time', wholeNumber, 512)
  .option('--max-tokens <count>', 'most tokens of the text', wholeNumber)
  .option('--json', 'print one JSON object')
  .action((source: string, flags: QualityFlags) => quality(source, flags));
for (const option of quantizationOptions()) qualityCommand.addOption(option);

const convertCommand = program
  .command('convert')
  .description('write a checkpoint as safetensors: Hugging Face folders, PyTorch .bin, GGUF and Megatron checkpoints')
  .argument('<source>', 'path or URL of a model')
  .argument('<folder>', 'folder to make')
  .addOption(
    new Option(
      '--dtype <type>',
      'storage of matrices; everything else becomes f32, or keeps its type with q8 and q4',
    ).choices(['f32', 'f16', 'bf16', 'q8', 'q4']),
  )
  .addOption(
    new Option('--shard-size <size>', 'most data in one file, such as 500MB').argParser(byteSize).default(4e9, '4GB'),
  )
  .option('--force', 'replace a model folder that exists')
  .option('--json', 'print one JSON object')
  .action((source: string, folder: string, flags: ConvertFlags) => convert(source, folder, flags));
for (const option of quantizationOptions()) convertCommand.addOption(option);

program
  .command('inspect')
  .description('print what a model is made of, without loading its weights')
  .argument('<source>', 'id on the Hugging Face hub, or path or URL of a model')
  .option('--json', 'print one JSON object')
  .option(...REVISION)
  .option(...NO_CACHE)
  .action((source: string, flags: InspectFlags) => inspect(source, flags));

const cache = program.command('cache').description('what is kept of models that were downloaded');

cache
  .command('list')
  .description('print the files, by model')
  .option('--json', 'print one JSON object')
  .action((flags: CacheFlags) => listCached(flags));

cache
  .command('clear')
  .description('remove the files of one model, or of all')
  .argument('[source]', 'id or URL as `cache list` prints it')
  .option('--json', 'print one JSON object')
  .action((source: string | undefined, flags: CacheFlags) => clearCached(source, flags));

try {
  await program.parseAsync();
} catch (error) {
  const text =
    error instanceof MambalabError
      ? `${error.name}: ${error.message}`
      : String(error instanceof Error ? error.stack : error);
  process.stderr.write(`${pc.red(text)}\n`);
  process.exitCode = 1;
}
