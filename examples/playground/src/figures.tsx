import type { Model } from '@mambalab/models';
import type { VNode } from 'preact';
import { MemoryChart, memorySeries } from './chart.tsx';
import { useValue } from './observable.ts';
import type { Rows } from './rows.ts';
import { deviceRows, memoryRows, speedRows } from './rows.ts';
import type { Writer } from './writer.ts';

export function RowList({ id, rows }: { readonly id: string; readonly rows: Rows }): VNode {
  return (
    <dl id={id}>
      {rows.map(([term, description]) => (
        <div key={term}>
          <dt>{term}</dt>
          <dd>{description}</dd>
        </div>
      ))}
    </dl>
  );
}

/** Speed and memory of the text in the making. */
export function Figures({ writer }: { readonly writer: Writer }): VNode {
  const model = useValue(writer.model);
  const run = useValue(writer.run);
  useValue(writer.active);
  const { branch } = writer;
  const tokens = run?.tokens ?? branch?.session.length ?? 0;
  return (
    <>
      <section class="panel" aria-labelledby="speed-heading">
        <h2 id="speed-heading">Speed</h2>
        <RowList id="speed" rows={speedRows(run)} />
      </section>
      <section class="panel" aria-labelledby="memory-heading">
        <h2 id="memory-heading">GPU memory</h2>
        {model !== undefined && (
          <MemoryChart series={memorySeries(model, '', tokens)} tokens={tokens} subject="this text" />
        )}
        <RowList id="memory" rows={memoryRows(model, branch?.session, tokens)} />
      </section>
    </>
  );
}

export function DevicePanel({ model }: { readonly model: Model | undefined }): VNode {
  return (
    <section class="panel" aria-labelledby="device-heading">
      <h2 id="device-heading">Device</h2>
      <RowList id="device" rows={deviceRows(model)} />
    </section>
  );
}
