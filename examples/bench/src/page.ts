/** The element with an id of index.html. @throws TypeError if the page and the code disagree */
export function element<T extends HTMLElement>(id: string, type: new () => T): T {
  const found = document.getElementById(id);
  if (found instanceof type) return found;
  throw new TypeError(`The page has no ${type.name} with the id '${id}'.`);
}

/** What a cell shows. */
export interface Cell {
  readonly text: string;
  /** Columns that it takes; 1 when absent. */
  readonly span?: number;
  /** Drawn as a bar behind the text: 1 fills the cell. */
  readonly share?: number;
  readonly tone?: 'warning' | 'quiet';
}

/** The rows of a table of index.html. */
export class Rows {
  readonly #body: HTMLTableSectionElement;

  constructor(id: string) {
    const [body] = element(id, HTMLTableElement).tBodies;
    if (body === undefined) throw new TypeError(`The table '${id}' has no body.`);
    this.#body = body;
  }

  clear(): void {
    this.#body.replaceChildren();
  }

  add(cells: readonly Cell[]): void {
    const row = this.#body.insertRow();
    for (const { text, span = 1, share, tone } of cells) {
      const cell = row.insertCell();
      cell.textContent = text;
      cell.colSpan = span;
      if (tone !== undefined) cell.classList.add(tone);
      if (span > 1) cell.classList.add('wide');
      if (share !== undefined && Number.isFinite(share)) {
        cell.classList.add('bar');
        cell.style.setProperty('--share', `${Math.min(100, Math.max(0, 100 * share)).toFixed(1)}%`);
      }
    }
  }
}

/** Lets the user save a value as a file. */
export function downloadJson(name: string, value: unknown): void {
  const link = document.createElement('a');
  link.download = name;
  link.href = URL.createObjectURL(new Blob([`${JSON.stringify(value, undefined, 1)}\n`], { type: 'application/json' }));
  link.click();
  // The download has begun once the click is handled.
  setTimeout(() => URL.revokeObjectURL(link.href));
}
