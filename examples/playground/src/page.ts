/** The element with an id of index.html. @throws TypeError if the page and the code disagree */
export function element<T extends HTMLElement>(id: string, type: new () => T): T {
  const found = document.getElementById(id);
  if (found instanceof type) return found;
  throw new TypeError(`The page has no ${type.name} with the id '${id}'.`);
}

/** Rows of a description list: what, and how much. */
export type Rows = readonly (readonly [term: string, description: string])[];

/** Fills a description list; rows that are already there keep their elements, so that text stays selected. */
export function showRows(list: HTMLElement, rows: Rows): void {
  while (list.children.length > 2 * rows.length) list.lastElementChild?.remove();
  for (const [index, texts] of rows.entries()) {
    for (const [part, text] of texts.entries()) {
      const place =
        list.children[2 * index + part] ?? list.appendChild(document.createElement(part === 0 ? 'dt' : 'dd'));
      if (place.textContent !== text) place.textContent = text;
    }
  }
}
