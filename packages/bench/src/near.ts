import { distance } from 'fastest-levenshtein';

/** Of some names, those that somebody who wrote `text` may have meant: the nearest first, at most three. */
export function nearNames(text: string, names: readonly string[]): readonly string[] {
  const wanted = text.toLowerCase();
  const farthest = Math.max(2, Math.ceil(wanted.length / 3));
  return names
    .map((name) => ({ name, steps: stepsTo(wanted, name.toLowerCase()) }))
    .filter(({ steps }) => steps <= farthest)
    .sort((a, b) => a.steps - b.steps)
    .slice(0, 3)
    .map(({ name }) => name);
}

/** Names of two parts (`norm/rms_norm`) are often written by their last one. */
const stepsTo = (wanted: string, name: string): number =>
  Math.min(distance(wanted, name), distance(wanted, name.slice(name.lastIndexOf('/') + 1)));

/** `There is no size 'tinny'. Did you mean tiny? There are: tiny, 8b.` */
export function unknownName(kind: string, text: string, names: readonly string[]): string {
  const near = nearNames(text, names);
  const suggestion = near.length === 0 ? '' : ` Did you mean ${near.join(' or ')}?`;
  return `There is no ${kind} '${text}'.${suggestion} There are: ${names.join(', ')}.`;
}
