import type { VNode } from 'preact';
import { useMemo, useState } from 'preact/hooks';
import type { Series } from './chart.tsx';
import { LineChart } from './chart.tsx';
import { useValue } from './observable.ts';
import type { BookResult } from './phone_book.ts';
import { PhoneBook, shareRight } from './phone_book.ts';
import type { Shelf } from './shelf.ts';
import type { Tasks } from './tasks.ts';

const LENGTHS = [2, 4, 8, 16, 32];
const PERCENT = [0, 0.5, 1].map((value) => [value, `${value * 100} %`] as const);
const STYLES = 4;

/** How well models remember a phone book that they read once, over its length and over the place of the entry. */
export function PhoneBookView({ shelf, tasks }: { readonly shelf: Shelf; readonly tasks: Tasks }): VNode {
  const recall = useMemo(() => new PhoneBook(shelf, tasks), [shelf, tasks]);
  const choices = useValue(shelf.choices);
  const isBusy = useValue(tasks.isBusy);
  const results = useValue(recall.results);
  const status = useValue(recall.status);
  const [keys, setKeys] = useState<readonly string[]>(['hybrid', 'mamba2', 'transformer']);
  const [longest, setLongest] = useState(8);
  const [seed, setSeed] = useState(1);
  const [books, setBooks] = useState(1);
  const lengths = LENGTHS.filter((entries) => entries <= longest);
  const labels = [...new Set(results.map(({ label }) => label))];
  return (
    <>
      <form
        class="panel"
        onSubmit={(event) => {
          event.preventDefault();
          const chosen = choices.filter(({ key }) => keys.includes(key));
          void recall.start(chosen, lengths, books, seed);
        }}
      >
        <p>
          A model reads a book of made-up names and numbers once. Then it is asked for every entry, each time from a
          fork of what it remembers. Attention can look the number up; a constant state has to have kept it.
        </p>
        <fieldset class="modes">
          <legend>Models</legend>
          {choices.map(({ key, label }) => (
            <label key={key}>
              <input
                type="checkbox"
                checked={keys.includes(key)}
                onChange={({ currentTarget: { checked } }) =>
                  setKeys(checked ? [...keys, key] : keys.filter((other) => other !== key))
                }
              />{' '}
              {label}
            </label>
          ))}
        </fieldset>
        <div class="options">
          <label>
            Longest book
            <select value={String(longest)} onChange={({ currentTarget }) => setLongest(Number(currentTarget.value))}>
              {LENGTHS.map((entries) => (
                <option key={entries} value={String(entries)}>
                  {entries} entries
                </option>
              ))}
            </select>
          </label>
          <label>
            Books of each length
            <input
              type="number"
              min="1"
              step="1"
              required
              value={books}
              onInput={({ currentTarget }) => setBooks(currentTarget.valueAsNumber)}
            />
          </label>
          <label>
            Which books (a number)
            <input
              type="number"
              min="0"
              step="1"
              required
              value={seed}
              onInput={({ currentTarget }) => setSeed(currentTarget.valueAsNumber)}
            />
          </label>
        </div>
        <div class="buttons">
          <button type="submit" class="primary" disabled={isBusy || keys.length === 0}>
            Ask for every entry
          </button>
          <button type="button" disabled={!isBusy} onClick={() => tasks.stop()}>
            Stop
          </button>
        </div>
        <p id="recall-status" class="quiet" role="status">
          {status}
        </p>
      </form>
      {results.length > 0 && (
        <>
          <section class="panel" aria-labelledby="recall-heading">
            <h2 id="recall-heading">Right answers by the length of the book</h2>
            <LengthChart results={results} labels={labels} lengths={lengths} />
            <RecallTable results={results} labels={labels} lengths={lengths} />
          </section>
          <section class="panel" aria-labelledby="place-heading">
            <h2 id="place-heading">Right answers by place in the longest books</h2>
            <PlaceChart results={results} labels={labels} />
            <PlaceTable results={results} labels={labels} />
          </section>
        </>
      )}
    </>
  );
}

interface RecallProps {
  readonly results: readonly BookResult[];
  readonly labels: readonly string[];
  readonly lengths: readonly number[];
}

const percent = (share: number): string => `${Math.round(share * 100)} %`;

function LengthChart({ results, labels, lengths }: RecallProps): VNode {
  // Lengths double, and stand at equal distances.
  const series = labels.map((label, index): Series => {
    const own = results.filter((result) => result.label === label);
    const points = own.map(({ entries, answers }) => ({ x: lengths.indexOf(entries) + 0.5, y: shareRight(answers) }));
    return { label, style: index % STYLES, points };
  });
  const told = results.map(
    ({ label, entries, answers }) => `${label}, ${entries} entries: ${percent(shareRight(answers))}`,
  );
  return (
    <LineChart
      series={series}
      hasMarkers
      xMax={lengths.length}
      yMax={1.05}
      xTicks={lengths.map((entries, index) => [index + 0.5, String(entries)])}
      yTicks={PERCENT}
      xLabel="entries in the book"
      description={`Share of right answers. ${told.join('; ')}.`}
    />
  );
}

function RecallTable({ results, labels, lengths }: RecallProps): VNode {
  const cell = (label: string, entries: number): string => {
    const found = results.find((result) => result.label === label && result.entries === entries);
    if (found === undefined) return '';
    return `${found.answers.filter(({ isRight }) => isRight).length} of ${found.answers.length}`;
  };
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Right answers by model and length">
      <table id="recall-table">
        <thead>
          <tr>
            <th scope="col">Entries</th>
            {lengths.map((entries) => (
              <th key={entries} scope="col">
                {entries}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {labels.map((label) => (
            <tr key={label}>
              <th scope="row">{label}</th>
              {lengths.map((entries) => (
                <td key={entries}>{cell(label, entries)}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function ofLongest(results: readonly BookResult[]): readonly BookResult[] {
  const longest = Math.max(...results.map(({ entries }) => entries));
  return results.filter(({ entries }) => entries === longest);
}

/** Of all books of the greatest length: the share of right answers at each place. */
function PlaceChart({ results, labels }: Omit<RecallProps, 'lengths'>): VNode {
  const shown = ofLongest(results);
  const entries = shown[0]?.entries ?? 1;
  const places = Array.from({ length: entries }, (_, position) => position);
  const series = labels.flatMap((label, index): Series[] => {
    const answers = shown.find((result) => result.label === label)?.answers ?? [];
    const points = places.flatMap((position) => {
      const own = answers.filter((answer) => answer.position === position);
      return own.length === 0 ? [] : [{ x: position + 0.5, y: shareRight(own) }];
    });
    return points.length === 0 ? [] : [{ label, style: index % STYLES, points }];
  });
  const told = series.map(({ label, points }) => `${label}: ${points.map(({ y }) => percent(y)).join(', ')}`);
  return (
    <LineChart
      series={series}
      hasMarkers
      xMax={entries}
      yMax={1.05}
      xTicks={places
        .filter((at) => at === 0 || (at + 1) % Math.ceil(entries / 8) === 0)
        .map((at) => [at + 0.5, `${at + 1}`])}
      yTicks={PERCENT}
      xLabel="place in the book"
      description={`Share of right answers by place, first to last. ${told.join('; ')}.`}
    />
  );
}

/** One row a place of the first of the longest books: the entry, and what each model answered. */
function PlaceTable({ results, labels }: Omit<RecallProps, 'lengths'>): VNode {
  const shown = ofLongest(results).map(({ answers, ...rest }) => ({
    ...rest,
    answers: answers.filter(({ book }) => book === 0),
  }));
  const book = shown.toSorted((a, b) => b.answers.length - a.answers.length)[0]?.answers ?? [];
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Answers by place in the book">
      <table id="place-table">
        <thead>
          <tr>
            <th scope="col">Place</th>
            <th scope="col">Entry</th>
            {labels.map((label) => (
              <th key={label} scope="col">
                {label}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {book.map(({ name, number, position }) => (
            <tr key={name}>
              <td>{position + 1}</td>
              <th scope="row">
                {name}: {number}
              </th>
              {labels.map((label) => {
                const found = shown.find((result) => result.label === label)?.answers[position];
                return (
                  <td key={label} class={found?.isRight === true ? 'right' : 'wrong'}>
                    {found === undefined ? '' : found.isRight ? '✓ right' : `✗ ${found.answer}`}
                  </td>
                );
              })}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
