import type { ContextReport, DecodePoint, Environment, KernelReport, PeersReport } from '@mambalab/bench';
import { speedups, summarize } from '@mambalab/bench';

const environment: Environment = {
  timestamp: '2026-01-01T00:00:00.000Z',
  platform: 'linux x64',
  runtime: 'node v20.19.0',
  packages: { webgpu: '0.6.2' },
  commit: '0123456789abcdef',
  toggles: 'default',
  device: {
    vendor: 'v',
    architecture: 'a',
    name: 'A <GPU> & "more"',
    driver: 'd 1',
    software: false,
    features: ['subgroups'],
    limits: { maxBufferSize: 1 },
    subgroupMatrix: [],
  },
};
const ceilings = {
  readGigabytesPerSecond: 400,
  copyGigabytesPerSecond: 200,
  fmaTeraflops: 10,
  dispatchMicroseconds: 2,
};

/** A report of one kernel whose case took these microseconds. */
export function kernelReport(microseconds: readonly number[]): KernelReport {
  return {
    schema: 'mambalab-bench/kernels',
    version: 1,
    environment,
    seed: 1,
    quick: true,
    force: {},
    ceilings,
    kernels: [
      {
        name: 'norm/rms_norm',
        verification: { passed: true, values: 4, worst: 0.5 },
        cases: [
          {
            status: 'measured',
            label: '8 x 64',
            microseconds: summarize(microseconds),
            method: 'timestamps',
            repetitions: 3,
            copies: 1,
            dispatches: [{ shader: 'norm/rms_norm', choices: { simd: 'baseline' } }],
            flops: 1e6,
            bytes: 1e6,
            gigabytesPerSecond: 100,
            teraflops: 0.1,
            bandwidthPercent: 25,
            fmaPercent: 1,
          },
          { status: 'skipped', label: '9 x 64', reason: 'too much work for a software adapter' },
        ],
      },
    ],
  };
}

/** A report of a hybrid whose steps cost little more with the context, and a Transformer whose steps double. */
export function contextReport(): ContextReport {
  const contexts = [1024, 8192, 131_072];
  const point = (context: number, milliseconds: number, cache: number): DecodePoint => ({
    status: 'measured',
    context,
    batch: 1,
    steps: 64,
    millisecondsPerStep: summarize([0.98 * milliseconds, milliseconds, milliseconds, 1.02 * milliseconds]),
    tokensPerSecond: 1000 / milliseconds,
    cpuMicrosecondsPerStep: 500,
    bytesPerStep: 1e9 + cache,
    bandwidthPercent: 50,
    memory: { weights: 1e9, state: 1e6, cache },
  });
  const shared = { parameters: 5e8, weightsBytes: 1e9, dispatchesPerStep: 100 };
  const architectures: ContextReport['architectures'] = [
    {
      ...shared,
      architecture: 'hybrid',
      attentionPercent: 14.3,
      pattern: 'M-M*-',
      stateBytes: 1e6,
      kvBytesPerToken: 1e3,
      decode: contexts.map((context, index) => point(context, 5 + 0.1 * index, 1e3 * context)),
      prefill: [
        {
          status: 'measured',
          context: 1024,
          batch: 1,
          milliseconds: summarize([100, 101, 102]),
          tokensPerSecond: 10_138,
        },
        { status: 'skipped', context: 8192, batch: 1, reason: 'may take 60 s' },
      ],
      agreement: {
        context: 1024,
        prompt: summarize([5, 5.1]),
        filled: summarize([5, 5.2]),
        ratio: 1.01,
        promptBytes: 3e6,
        filledBytes: 3e6,
      },
    },
    {
      ...shared,
      architecture: 'transformer',
      attentionPercent: 100,
      pattern: '*-*-',
      stateBytes: 0,
      kvBytesPerToken: 1e4,
      decode: [
        ...contexts.slice(0, 2).map((context, index) => point(context, 4.5 + 3 * index, 1e4 * context)),
        {
          status: 'skipped',
          context: 131_072,
          batch: 1,
          reason: 'needs 80 GiB of 70 GiB',
          neededBytes: 8e10,
          availableBytes: 7e10,
        },
      ],
      prefill: [],
    },
    { architecture: 'mamba', attentionPercent: 0, reason: 'no time was left' },
  ];
  return {
    schema: 'mambalab-bench/context',
    version: 1,
    environment,
    ceilings,
    quick: false,
    complete: true,
    seed: 1,
    dtype: 'f16',
    family: { scale: '800m', reason: 'as asked for', hiddenSize: 1024, layers: 48, vocabSize: 64_000 },
    method: ['Weights are random.'],
    architectures,
    speedups: speedups(architectures),
    ablation: [
      {
        ...shared,
        architecture: 'ablation',
        attentionPercent: 0,
        pattern: 'M-',
        stateBytes: 1e6,
        kvBytesPerToken: 0,
        decode: contexts.map((context) => point(context, 4, 0)),
        prefill: [],
      },
      {
        ...shared,
        architecture: 'ablation',
        attentionPercent: 100,
        pattern: '*-',
        stateBytes: 0,
        kvBytesPerToken: 1e4,
        decode: contexts.map((context, index) => point(context, 4 + 2 * index, 1e4 * context)),
        prefill: [],
      },
    ],
  };
}

/** A report of one engine that ran and one that is not there. */
export function peersReport(): PeersReport {
  return {
    schema: 'mambalab-bench/peers',
    version: 1,
    environment,
    complete: true,
    promptTokens: 128,
    newTokens: 32,
    method: ['The same prompt.'],
    engines: [
      {
        status: 'measured',
        engine: 'mambalab',
        version: '0.1.0',
        model: 'hybrid f16',
        device: 'webgpu',
        promptTokens: 128,
        newTokens: 32,
        prefillMilliseconds: summarize([10, 11]),
        millisecondsPerToken: summarize([2, 2.1]),
        prefillTokensPerSecond: 12_190,
        decodeTokensPerSecond: 487,
      },
      { status: 'skipped', engine: 'wllama', reason: 'not installed' },
    ],
  };
}
