import * as Plot from '@observablehq/plot';

/** A picture of results: drawn in the page at any width, and by the command line as a file. */
export interface Chart {
  /** Unique in a page; names files. */
  readonly id: string;
  readonly title: string;
  /** How to read it. */
  readonly note: string;
  draw(frame: Frame): SVGSVGElement;
}

export interface Frame {
  readonly width: number;
  readonly document: Document;
  /** Whether a pointer shows what a mark stands for. */
  readonly interactive: boolean;
}

/** A line or group of marks, as the legend names it. */
export interface Series {
  readonly name: string;
  readonly color: string;
  readonly dashed?: boolean;
}

/** Colours that stand out from white and from black by 3 to 1 and more. */
export const COLORS: readonly string[] = ['#0d9488', '#ea580c', '#6366f1', '#b7791f', '#c026d3', '#64748b', '#dc2626'];

export const colorAt = (index: number): string => COLORS[index % COLORS.length] ?? '#64748b';

const LETTER = 7;
const ROW = 18;
const SWATCH = 22;

/** Marks that name the series above the frame, in as many rows as the width asks for, and the room that they take. */
export function legend(
  series: readonly Series[],
  width: number,
): { readonly marks: Plot.Markish[]; readonly height: number } {
  let [x, row] = [0, 0];
  const places = series.map((entry) => {
    const taken = SWATCH + LETTER * entry.name.length + 14;
    if (x > 0 && x + taken > width) [x, row] = [0, row + 1];
    const place = { entry, x, row };
    x += taken;
    return place;
  });
  const height = series.length === 0 ? 0 : (row + 1) * ROW + 10;
  const marks = places.flatMap(({ entry, x: left, row: line }): Plot.Markish[] => {
    const dy = line * ROW - height + 4;
    const at = { frameAnchor: 'top-left' as const, dy, lineAnchor: 'top' as const, textAnchor: 'start' as const };
    return [
      Plot.text([entry.dashed === true ? '╍╍' : '━━'], { ...at, dx: left, fill: entry.color }),
      Plot.text([entry.name], { ...at, dx: left + SWATCH, fill: 'currentColor' }),
    ];
  });
  return { marks, height };
}

/** Draws marks below a legend. */
export function drawPlot(
  { width, document }: Frame,
  series: readonly Series[],
  options: Plot.PlotOptions & { readonly marks: readonly Plot.Markish[] },
): SVGSVGElement {
  const { marginLeft = 52, marginRight = 16 } = options;
  const top = legend(series, width - marginLeft - marginRight);
  const drawn = Plot.plot({
    width,
    height: Math.round(Math.min(420, Math.max(260, width * 0.55))) + top.height,
    marginLeft,
    marginRight,
    marginBottom: 40,
    style: { background: 'transparent', fontSize: '12px', fontFamily: 'system-ui, sans-serif', overflow: 'visible' },
    document,
    ...options,
    marginTop: top.height + 16,
    marks: [...top.marks, ...options.marks],
  });
  drawn.setAttribute('font-family', 'system-ui, sans-serif');
  // Without a legend of its own, Plot hands out the picture itself.
  return drawn as SVGSVGElement;
}

/** `1K`, `128K`: lengths of contexts are powers of two. */
export const tokensLabel = (tokens: number): string =>
  tokens >= 1024 && tokens % 1024 === 0 ? `${tokens / 1024}K` : String(tokens);

const SI = ['', 'k', 'M', 'G', 'T'];

/** `0.25`, `120`, `12k`: for axes. */
export function shortNumber(value: number): string {
  const power = Math.max(0, Math.min(SI.length - 1, Math.floor(Math.log10(Math.abs(value) || 1) / 3)));
  return `${Number((value / 1000 ** power).toPrecision(3))}${SI[power] ?? ''}`;
}
