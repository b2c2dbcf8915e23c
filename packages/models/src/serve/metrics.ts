/** Values that a metric has, by its labels. */
type Labels = Readonly<Record<string, string>>;

const BUCKETS: readonly number[] = [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300];

/** The text that Prometheus reads, version 0.0.4: counts, levels and times. */
export class Metrics {
  readonly #families = new Map<string, Family>();

  /** A number that only grows. */
  counter(name: string, help: string): Counter {
    return this.#add(name, new Counter(name, help));
  }

  /** A number that is asked for when the text is. */
  gauge(name: string, help: string, value: () => number): void {
    this.#add(name, new Gauge(name, help, value));
  }

  /** How long something took, in seconds. */
  histogram(name: string, help: string): Histogram {
    return this.#add(name, new Histogram(name, help));
  }

  text(): string {
    return [...this.#families.values()].flatMap((family) => family.lines()).join('\n') + '\n';
  }

  #add<T extends Family>(name: string, family: T): T {
    this.#families.set(name, family);
    return family;
  }
}

interface Family {
  lines(): string[];
}

const headOf = (name: string, help: string, type: string): string[] => [
  `# HELP ${name} ${help}`,
  `# TYPE ${name} ${type}`,
];

function labelsOf(labels: Labels): string {
  const escaped = (value: string): string => value.replace(/[\\"]/g, '\\$&').replaceAll('\n', '\\n');
  const parts = Object.entries(labels).map(([name, value]) => `${name}="${escaped(value)}"`);
  return parts.length === 0 ? '' : `{${parts.join(',')}}`;
}

export class Counter implements Family {
  readonly #head: readonly string[];
  readonly #name: string;
  readonly #values = new Map<string, number>();

  constructor(name: string, help: string) {
    this.#name = name;
    this.#head = headOf(name, help, 'counter');
  }

  add(labels: Labels, amount = 1): void {
    const key = labelsOf(labels);
    this.#values.set(key, (this.#values.get(key) ?? 0) + amount);
  }

  lines(): string[] {
    return [...this.#head, ...Array.from(this.#values, ([labels, value]) => `${this.#name}${labels} ${value}`)];
  }
}

class Gauge implements Family {
  readonly #name: string;
  readonly #help: string;
  readonly #value: () => number;

  constructor(name: string, help: string, value: () => number) {
    this.#name = name;
    this.#help = help;
    this.#value = value;
  }

  lines(): string[] {
    return [...headOf(this.#name, this.#help, 'gauge'), `${this.#name} ${this.#value()}`];
  }
}

interface Distribution {
  readonly labels: Labels;
  readonly counts: number[];
  sum: number;
  count: number;
}

export class Histogram implements Family {
  readonly #name: string;
  readonly #help: string;
  readonly #values = new Map<string, Distribution>();

  constructor(name: string, help: string) {
    this.#name = name;
    this.#help = help;
  }

  observe(labels: Labels, seconds: number): void {
    const key = labelsOf(labels);
    const known = this.#values.get(key) ?? { labels, counts: BUCKETS.map(() => 0), sum: 0, count: 0 };
    for (const [at, bound] of BUCKETS.entries()) if (seconds <= bound) known.counts[at] = (known.counts[at] ?? 0) + 1;
    known.sum += seconds;
    known.count += 1;
    this.#values.set(key, known);
  }

  lines(): string[] {
    const name = this.#name;
    return [
      ...headOf(name, this.#help, 'histogram'),
      ...[...this.#values.values()].flatMap(({ labels, counts, sum, count }) => [
        ...BUCKETS.map((bound, at) => `${name}_bucket${labelsOf({ ...labels, le: String(bound) })} ${counts[at] ?? 0}`),
        `${name}_bucket${labelsOf({ ...labels, le: '+Inf' })} ${count}`,
        `${name}_sum${labelsOf(labels)} ${sum}`,
        `${name}_count${labelsOf(labels)} ${count}`,
      ]),
    ];
  }
}
