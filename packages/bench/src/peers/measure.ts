import { summarize } from '../harness/statistics.ts';
import type { OpenPeer, Peer, PeerRequest, PeerRun } from './peer.ts';
import { PeerUnavailableError } from './peer.ts';
import type { MeasuredEngine, SkippedEngine } from './results.ts';

export const PEERS_METHOD: readonly string[] = [
  'Every engine gets the same text as a prompt, tokenizes it itself, and writes the same number of tokens greedily, end-of-text tokens included.',
  'One run is not counted: it compiles. Prefill lasts from the call until the first token; the time of a token is that between the first and the last over their number.',
  'Models are in the formats of the engines: the same architecture and weights where the user named such files, and stored as the table says.',
];

/** Measures one engine. What keeps it from running is a result, not an error. */
export async function measurePeer(
  peer: Peer,
  request: PeerRequest,
  samples: number,
  signal?: AbortSignal,
): Promise<MeasuredEngine | SkippedEngine> {
  const engine = peer.name;
  let open: OpenPeer | undefined;
  try {
    open = await peer.open(request);
    await open.run();
    const runs: PeerRun[] = [];
    for (let sample = 0; sample < samples; sample++) {
      if (sample > 0 && signal?.aborted === true) break;
      const run = await open.run();
      if (run.times.length !== request.newTokens) {
        throw new RangeError(`it wrote ${run.times.length} tokens instead of ${request.newTokens}`);
      }
      runs.push(run);
    }
    return describe(engine, open, runs, request.newTokens);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return { status: error instanceof PeerUnavailableError ? 'skipped' : 'failed', engine, reason };
  } finally {
    await open?.dispose();
  }
}

function describe(engine: string, open: OpenPeer, runs: readonly PeerRun[], newTokens: number): MeasuredEngine {
  const firsts = runs.map(({ times }) => times[0] ?? NaN);
  const steps = runs.map(({ times }) => ((times[times.length - 1] ?? NaN) - (times[0] ?? NaN)) / (newTokens - 1));
  const prefillMilliseconds = summarize(firsts);
  const millisecondsPerToken = summarize(steps);
  const promptTokens = runs[0]?.promptTokens ?? 0;
  return {
    status: 'measured',
    engine,
    version: open.version,
    model: open.model,
    device: open.device,
    promptTokens,
    newTokens,
    prefillMilliseconds,
    millisecondsPerToken,
    prefillTokensPerSecond: (1000 * promptTokens) / prefillMilliseconds.median,
    decodeTokensPerSecond: 1000 / millisecondsPerToken.median,
  };
}
