/** A measured number and its standard error, where there is one. */
export interface Metric {
  readonly name: string;
  readonly value: number;
  /** Undefined for fewer than two documents. */
  readonly standardError?: number;
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** Of the mean of values: their sample standard deviation over the root of their number. */
export function standardError(values: readonly number[]): number | undefined {
  if (values.length < 2) return undefined;
  const middle = mean(values);
  const squares = values.reduce((sum, value) => sum + (value - middle) ** 2, 0);
  return Math.sqrt(squares / (values.length - 1) / values.length);
}

function metric(name: string, value: number, error: number | undefined): Metric {
  return { name, value, ...(error === undefined ? {} : { standardError: error }) };
}

/** The first of the largest values. */
export function argmax(values: readonly number[]): number {
  return values.reduce((best, value, index) => (value > (values[best] ?? NaN) ? index : best), 0);
}

/** Collects what documents scored. */
export class Means {
  readonly #values = new Map<string, number[]>();

  add(name: string, value: number): void {
    const values = this.#values.get(name) ?? [];
    values.push(value);
    this.#values.set(name, values);
  }

  metrics(): Metric[] {
    return Array.from(this.#values, ([name, values]) => metric(name, mean(values), standardError(values)));
  }

  of(name: string): readonly number[] {
    return this.#values.get(name) ?? [];
  }
}

/** Perplexity of targets, exp(-mean logprob); its error to first order. */
export function perplexity(logprobs: readonly number[]): Metric {
  const value = Math.exp(-mean(logprobs));
  const error = standardError(logprobs);
  return metric('perplexity', value, error === undefined ? undefined : value * error);
}

export interface TextScore {
  readonly logprob: number;
  readonly words: number;
  readonly bytes: number;
}

/** Perplexities of whole texts by word and byte; their errors to first order, of a ratio of sums over texts. */
export function textMetrics(scores: readonly TextScore[]): Metric[] {
  const total = (of: (score: TextScore) => number): number => scores.reduce((sum, score) => sum + of(score), 0);
  const logprob = total((score) => score.logprob);
  const rate = (of: (score: TextScore) => number): { readonly nats: number; readonly error: number | undefined } => {
    const units = total(of);
    const nats = -logprob / units;
    if (scores.length < 2) return { nats, error: undefined };
    const squares = total((score) => (-score.logprob - nats * of(score)) ** 2);
    return { nats, error: Math.sqrt((squares * scores.length) / (scores.length - 1)) / units };
  };
  const [byWord, byByte] = [rate(({ words }) => words), rate(({ bytes }) => bytes)];
  const scaled = (error: number | undefined, factor: number): number | undefined =>
    error === undefined ? undefined : error * factor;
  const [word, byte] = [Math.exp(byWord.nats), Math.exp(byByte.nats)];
  return [
    metric('word_perplexity', word, scaled(byWord.error, word)),
    metric('byte_perplexity', byte, scaled(byByte.error, byte)),
    metric('bits_per_byte', byByte.nats / Math.LN2, scaled(byByte.error, 1 / Math.LN2)),
  ];
}

/** Words as the lm-evaluation-harness counts them: parts between runs of white space. */
export function countWords(text: string): number {
  // oxlint-disable-next-line no-control-regex -- control characters divide words in Python
  return text.split(/[\s\x1c-\x1f\x85]+/).length;
}

export function countBytes(text: string): number {
  return new TextEncoder().encode(text).length;
}

/** A mean over files: of all documents together, with the error that the parts have by themselves. */
export function pooledMetrics(
  parts: readonly { readonly documents: number; readonly metrics: readonly Metric[] }[],
): Metric[] {
  const names = parts[0]?.metrics.map(({ name }) => name) ?? [];
  const documents = parts.reduce((sum, part) => sum + part.documents, 0);
  return names.map((name) => {
    const found = parts.map((part) => ({
      documents: part.documents,
      ...part.metrics.find((one) => one.name === name),
    }));
    const value = found.reduce((sum, { documents: count, value: own = NaN }) => sum + count * own, 0) / documents;
    const squares = found.reduce(
      (sum, { documents: count, standardError: error = NaN }) => sum + (count - 1) * error ** 2 * count,
      0,
    );
    const error = Math.sqrt(squares / (documents - parts.length) / documents);
    return metric(name, value, Number.isFinite(error) ? error : undefined);
  });
}
