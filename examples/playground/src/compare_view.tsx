import type { VNode } from 'preact';
import { useMemo, useState } from 'preact/hooks';
import { MemoryChart, memorySeries } from './chart.tsx';
import type { CompareRun } from './comparison.ts';
import { Comparison } from './comparison.ts';
import { formatBytes, formatRate, formatTime } from './format.ts';
import { useValue } from './observable.ts';
import { ratesOf } from './run.ts';
import type { Shelf } from './shelf.ts';
import type { Tasks } from './tasks.ts';

const SIDES = ['A', 'B'] as const;

/** Two models on one prompt, one after the other, so that neither disturbs the other's figures. */
export function CompareView({ shelf, tasks }: { readonly shelf: Shelf; readonly tasks: Tasks }): VNode {
  const comparison = useMemo(() => new Comparison(shelf, tasks), [shelf, tasks]);
  const choices = useValue(shelf.choices);
  const isBusy = useValue(tasks.isBusy);
  const runs = useValue(comparison.runs);
  const status = useValue(comparison.status);
  const [keys, setKeys] = useState(['hybrid', 'transformer']);
  const [prompt, setPrompt] = useState('The old king looked out of the window and');
  const [tokens, setTokens] = useState(64);
  const start = (): void => {
    const chosen = keys.flatMap((key) => choices.filter((choice) => choice.key === key));
    void comparison.start(chosen, prompt, tokens);
  };
  const drawn = runs.flatMap(({ model, label, run }, side) =>
    run === undefined ? [] : memorySeries(model, label, run.tokens, 2 * side),
  );
  const most = Math.max(0, ...runs.map(({ run }) => run?.tokens ?? 0));
  return (
    <>
      <form
        class="panel"
        onSubmit={(event) => {
          event.preventDefault();
          start();
        }}
      >
        <div class="options">
          {SIDES.map((side, index) => (
            <label key={side}>
              Model {side}
              <select
                value={keys[index]}
                onChange={({ currentTarget: { value } }) =>
                  setKeys(keys.map((key, at) => (at === index ? value : key)))
                }
              >
                {choices.map(({ key, label }) => (
                  <option key={key} value={key}>
                    {label}
                  </option>
                ))}
              </select>
            </label>
          ))}
          <label>
            Tokens each
            <input
              type="number"
              min="1"
              step="1"
              required
              value={tokens}
              onInput={({ currentTarget }) => setTokens(currentTarget.valueAsNumber)}
            />
          </label>
        </div>
        <label for="compare-prompt">Text that both go on with</label>
        <textarea
          id="compare-prompt"
          rows={2}
          spellcheck={false}
          value={prompt}
          onInput={({ currentTarget }) => setPrompt(currentTarget.value)}
        />
        <div class="buttons">
          <button type="submit" class="primary" disabled={isBusy}>
            Compare
          </button>
          <button type="button" disabled={!isBusy} onClick={() => tasks.stop()}>
            Stop
          </button>
        </div>
        <p id="compare-status" class="quiet" role="status">
          {status}
        </p>
      </form>
      <div class="sides">
        {runs.map(({ key, label, text }) => (
          <section key={key} class="panel" aria-label={label}>
            <h2>{label}</h2>
            <p class="story">{text}</p>
          </section>
        ))}
      </div>
      {runs.length > 0 && (
        <section class="panel" aria-labelledby="compare-heading">
          <h2 id="compare-heading">Side by side</h2>
          <CompareTable runs={runs} />
          <MemoryChart series={drawn} tokens={most} subject="each text" />
        </section>
      )}
    </>
  );
}

function CompareTable({ runs }: { readonly runs: readonly CompareRun[] }): VNode {
  const rows: readonly (readonly [string, (run: CompareRun) => string])[] = [
    ['Time to first token', ({ run }) => (run?.firstToken === undefined ? '–' : formatTime(ratesOf(run).firstTokenMs))],
    ['Writing at', ({ run }) => (run === undefined ? '–' : formatRate(ratesOf(run).tokensPerSecond))],
    ['Tokens', ({ run }) => (run === undefined ? '–' : `${run.tokens}`)],
    ['State (constant)', ({ model }) => formatBytes(model.memory().stateBytes)],
    ['KV cache', ({ model, run }) => formatBytes(model.memory().kvBytesPerToken * (run?.tokens ?? 0))],
    ['Weights', ({ model }) => formatBytes(model.memory().weightsBytes)],
  ];
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Figures of both models">
      <table id="compare-table">
        <thead>
          <tr>
            <td />
            {runs.map(({ key, label }) => (
              <th key={key} scope="col">
                {label}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {rows.map(([term, figure]) => (
            <tr key={term}>
              <th scope="row">{term}</th>
              {runs.map((run) => (
                <td key={run.key}>{figure(run)}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
