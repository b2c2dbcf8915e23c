import { requestDevice } from '@mambalab/kernels/node';
import { environmentLines, formatNumber } from '../format.ts';
import { describeEnvironment } from '../harness/environment.ts';
import { packagesOf } from '../peers/import_package.ts';
import { mambalab } from '../peers/mambalab.ts';
import { measurePeer, PEERS_METHOD } from '../peers/measure.ts';
import { onnxruntime } from '../peers/onnxruntime.ts';
import type { Peer } from '../peers/peer.ts';
import type { MeasuredEngine, PeersReport, SkippedEngine } from '../peers/results.ts';
import { transformersJs } from '../peers/transformers_js.ts';
import { webLlm } from '../peers/web_llm.ts';
import { wllama } from '../peers/wllama.ts';
import { unknownName } from '../near.ts';
import { describeNode } from './environment.ts';
import { onInterrupt } from './interrupt.ts';
import { saveReport, UsageError, writeReport } from './kernels_command.ts';
import type { PeersOptions } from './peers_program.ts';
import { startProgress } from './progress.ts';
import type { Column } from './table.ts';
import { formatHeader, formatRow } from './table.ts';

const COLUMNS: readonly Column[] = [
  { title: 'engine', width: 15 },
  { title: 'version', width: 9 },
  { title: 'prompt', width: 6, align: 'right' },
  { title: 'prefill tok/s', width: 13, align: 'right' },
  { title: 'decode tok/s', width: 12, align: 'right' },
  { title: 'model', width: 5 },
];

const OTHERS: readonly Peer[] = [transformersJs, webLlm, wllama, onnxruntime];
const SENTENCE = 'Once upon a time there was a little girl who lived near the sea and liked to count the ships. ';

/** `mambalab-bench peers`: every engine on the same text, one after the other. */
export async function benchPeers(source: string | undefined, options: PeersOptions): Promise<boolean> {
  const models = new Map(options.peer);
  const names = OTHERS.map(({ name }) => name);
  for (const name of models.keys()) {
    if (!names.includes(name)) throw new UsageError(unknownName('engine', name, names));
  }
  const prompt = options.prompt ?? SENTENCE.repeat(options.quick === true ? 1 : 6).trim();
  const device = await requestDevice({ toggles: options.toggles });
  using interrupt = onInterrupt();
  using progress = startProgress();
  try {
    const environment = describeEnvironment(device, describeNode(options.toggles));
    for (const line of environmentLines(environment)) progress.line(line);
    progress.line(`\n${formatHeader(COLUMNS)}`);
    const peers = [mambalab(device), ...OTHERS];
    const engines: (MeasuredEngine | SkippedEngine)[] = [];
    const reportOf = (complete: boolean): PeersReport => ({
      schema: 'mambalab-bench/peers',
      version: 1,
      environment,
      complete,
      promptTokens: engines.find((engine) => engine.status === 'measured')?.promptTokens ?? 1,
      newTokens: options.tokens,
      method: PEERS_METHOD,
      engines: [...engines],
    });
    for (const [index, peer] of peers.entries()) {
      if (interrupt.signal.aborted) break;
      progress.stage(peer.name, index, peers.length);
      const model = peer.name === 'mambalab' ? source : models.get(peer.name);
      const request = {
        prompt,
        newTokens: options.tokens,
        device: options.device,
        importPackage: packagesOf(options.modules),
      };
      const result: MeasuredEngine | SkippedEngine =
        model === undefined
          ? { status: 'skipped', engine: peer.name, reason: unnamed(peer.name) }
          : await measurePeer(peer, { ...request, model }, options.quick === true ? 1 : 3, interrupt.signal);
      engines.push(result);
      progress.line(formatRow(COLUMNS, cells(result)));
      saveReport(options.json, reportOf(false));
    }
    progress[Symbol.dispose]();
    writeReport(options.json, reportOf(!interrupt.signal.aborted));
    return engines.every(({ status }) => status !== 'failed');
  } finally {
    device.dispose();
  }
}

const unnamed = (name: string): string =>
  name === 'mambalab' ? 'no model was named' : `no model was named for it; name one with --peer ${name}=MODEL`;

function cells(result: MeasuredEngine | SkippedEngine): string[] {
  if (result.status !== 'measured') return [result.engine, `${result.status}: ${result.reason}`];
  return [
    result.engine,
    result.version,
    String(result.promptTokens),
    formatNumber(result.prefillTokensPerSecond),
    formatNumber(result.decodeTokensPerSecond),
    `${result.model} (${result.device})`,
  ];
}
