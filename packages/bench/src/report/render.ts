import type { Chart } from './chart.ts';

/** Draws the charts of a page into their figures, anew at every width, and answers their buttons. */
export function renderCharts(charts: readonly Chart[], root: Document = document): void {
  for (const chart of charts) {
    const figure = root.getElementById(chart.id);
    const picture = figure?.querySelector<HTMLElement>('.picture');
    if (figure === null || picture === null || picture === undefined) continue;
    let width = 0;
    const draw = (): void => {
      const now = Math.floor(picture.clientWidth);
      if (now === width || now === 0) return;
      width = now;
      picture.replaceChildren(chart.draw({ width, document: root, interactive: true }));
    };
    draw();
    new ResizeObserver(draw).observe(picture);
    for (const button of figure.querySelectorAll<HTMLButtonElement>('button[data-format]')) {
      button.addEventListener('click', () => void save(chart, picture, button.dataset['format'] ?? 'svg'));
    }
  }
}

const EXPORT_WIDTH = 800;
/** Pixels of a picture for one of the page. */
const SCALE = 2;

async function save(chart: Chart, picture: HTMLElement, format: string): Promise<void> {
  const drawn = chart.draw({ width: EXPORT_WIDTH, document, interactive: false });
  const style = getComputedStyle(picture);
  const background = getComputedStyle(picture.closest('section') ?? document.body).backgroundColor;
  const svg = new Blob([svgText(drawn, style.color, background)], { type: 'image/svg+xml' });
  if (format !== 'png') {
    download(svg, `${chart.id}.svg`);
    return;
  }
  const address = URL.createObjectURL(svg);
  try {
    const image = new Image();
    image.src = address;
    await image.decode();
    const canvas = document.createElement('canvas');
    canvas.width = SCALE * image.naturalWidth;
    canvas.height = SCALE * image.naturalHeight;
    canvas.getContext('2d')?.drawImage(image, 0, 0, canvas.width, canvas.height);
    const png = await new Promise<Blob | null>((resolve) => canvas.toBlob(resolve, 'image/png'));
    if (png !== null) download(png, `${chart.id}.png`);
  } finally {
    URL.revokeObjectURL(address);
  }
}

function download(blob: Blob, name: string): void {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** A picture as a file of its own: with its colours, and a background where one is given. */
export function svgText(drawn: SVGSVGElement, color: string, background?: string): string {
  drawn.setAttribute('xmlns', 'http://www.w3.org/2000/svg');
  const style = drawn.getAttribute('style') ?? '';
  const filled = background === undefined ? '' : ` background: ${background};`;
  // A canvas draws no background of the root: a rectangle below everything is one everywhere.
  if (background !== undefined) {
    const sheet = drawn.ownerDocument.createElementNS('http://www.w3.org/2000/svg', 'rect');
    for (const [name, value] of [
      ['width', '100%'],
      ['height', '100%'],
      ['fill', background],
    ] as const) {
      sheet.setAttribute(name, value);
    }
    drawn.insertBefore(sheet, drawn.firstChild);
  }
  drawn.setAttribute('style', `${style}; color: ${color};${filled}`);
  return drawn.outerHTML;
}
