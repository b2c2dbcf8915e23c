import type {
  Architecture,
  ArchitectureResult,
  Crossing,
  DecodePoint,
  Speedup,
  SkippedArchitecture,
} from './results.ts';

const OVER: readonly Architecture[] = ['transformer', 'transformer-gqa'];
const FASTER: readonly Architecture[] = ['hybrid', 'mamba2', 'mamba'];

/** How the hybrid and the pure models compare with the Transformers, at every batch and context that both have. */
export function speedups(results: readonly (ArchitectureResult | SkippedArchitecture)[]): Speedup[] {
  const decodes = new Map(
    results.flatMap((result) => ('decode' in result ? [[result.architecture, measured(result)] as const] : [])),
  );
  return OVER.flatMap((over) =>
    FASTER.flatMap((architecture) => {
      const own = decodes.get(architecture) ?? [];
      const others = decodes.get(over) ?? [];
      const batches = [...new Set(own.map(({ batch }) => batch))].sort((a, b) => a - b);
      return batches.flatMap((batch): Speedup[] => {
        const points = pairs(own, others, batch);
        if (points.length === 0) return [];
        const faster = crossing(points.map(({ context, speed }) => [context, speed]));
        const smaller = crossing(points.map(({ context, memory }) => [context, memory]));
        return [{ architecture, over, batch, points, faster, smaller }];
      });
    }),
  );
}

/**
 * Where a ratio that is known at some contexts, in rising order, passes 1 for good: between two of them by logarithms.
 */
export function crossing(ratios: readonly (readonly [context: number, ratio: number])[]): Crossing {
  const last = ratios.findLastIndex(([, ratio]) => ratio <= 1);
  if (last < 0) return { at: 'always' };
  const [below, above] = [ratios[last], ratios[last + 1]];
  if (below === undefined || above === undefined) return { at: 'never' };
  const share = Math.log(below[1]) / (Math.log(below[1]) - Math.log(above[1]));
  return { at: 'context', tokens: Math.round(Math.exp(Math.log(below[0]) + share * Math.log(above[0] / below[0]))) };
}

const measured = ({ decode }: ArchitectureResult): DecodePoint[] =>
  decode.filter((point): point is DecodePoint => point.status === 'measured');

function pairs(own: readonly DecodePoint[], others: readonly DecodePoint[], batch: number): Speedup['points'] {
  const sameBatch = own.filter((point) => point.batch === batch).sort((a, b) => a.context - b.context);
  return sameBatch.flatMap((point) => {
    const other = others.find((candidate) => candidate.batch === batch && candidate.context === point.context);
    if (other === undefined) return [];
    const held = ({ memory }: DecodePoint): number => memory.state + memory.cache;
    return [
      {
        context: point.context,
        speed: point.tokensPerSecond / other.tokensPerSecond,
        bytes: other.bytesPerStep / point.bytesPerStep,
        memory: held(other) / held(point),
      },
    ];
  });
}
