import type { VNode } from 'preact';
import { useEffect, useMemo, useState } from 'preact/hooks';
import { CompareView } from './compare_view.tsx';
import { DevicePanel, Figures } from './figures.tsx';
import { choiceOfDrop, ModelPanel } from './model_panel.tsx';
import { useValue } from './observable.ts';
import { PhoneBookView } from './phone_book_view.tsx';
import { NoWebGpu, Problem } from './problem.tsx';
import { Shelf, SHIPPED } from './shelf.ts';
import { Tasks } from './tasks.ts';
import { TabList, TabPanel } from './tabs.tsx';
import { WriteView } from './write_view.tsx';
import type { Mode } from './writer.ts';
import { Writer } from './writer.ts';

const TABS = [
  { id: 'write', label: 'Write' },
  { id: 'compare', label: 'Compare' },
  { id: 'recall', label: 'Phone book' },
] as const;

type TabId = (typeof TABS)[number]['id'];

export function App(): VNode {
  const { tasks, shelf, writer } = useMemo(createParts, []);
  const [tab, setTab] = useState<TabId>('write');
  const [mode, setMode] = useState<Mode>('completion');
  const model = useValue(writer.model);
  const chosen = useValue(writer.choice);

  useEffect(() => {
    // The shipped model is small enough to load unasked, unless the user saves data.
    const { connection } = navigator as Navigator & { readonly connection?: { readonly saveData?: boolean } };
    const [first] = SHIPPED;
    if (connection?.saveData !== true && first !== undefined) void writer.load(first, 'completion');
  }, [writer]);

  useEffect(() => {
    const over = (event: DragEvent): void => event.preventDefault();
    const drop = (event: DragEvent): void => {
      event.preventDefault();
      const open = async (transfer: DataTransfer): Promise<void> => {
        const choice = await choiceOfDrop(transfer);
        if (choice !== undefined) await writer.load(choice, mode);
      };
      if (event.dataTransfer !== null) void open(event.dataTransfer);
    };
    document.addEventListener('dragover', over);
    document.addEventListener('drop', drop);
    return () => {
      document.removeEventListener('dragover', over);
      document.removeEventListener('drop', drop);
    };
  }, [writer, mode]);

  return (
    <>
      <header>
        <h1>
          mambalab <span>playground</span>
        </h1>
        <p>Language models that run on your own GPU. Nothing that you write leaves this page.</p>
      </header>
      <main>
        <NoWebGpu tasks={tasks} />
        <TabList label="What to do" tabs={TABS} chosen={tab} onChoose={setTab} />
        <Problem tasks={tasks} />
        <TabPanel id="write" chosen={tab}>
          <div class="columns">
            <div class="writing">
              <ModelPanel shelf={shelf} chosen={chosen} onLoad={(choice) => void writer.load(choice, mode)} />
              <WriteView writer={writer} tasks={tasks} mode={mode} onMode={setMode} />
            </div>
            <div class="figures">
              <Figures writer={writer} />
              <DevicePanel model={model} />
            </div>
          </div>
        </TabPanel>
        <TabPanel id="compare" chosen={tab}>
          <CompareView shelf={shelf} tasks={tasks} />
        </TabPanel>
        <TabPanel id="recall" chosen={tab}>
          <PhoneBookView shelf={shelf} tasks={tasks} />
        </TabPanel>
      </main>
    </>
  );
}

function createParts(): { readonly tasks: Tasks; readonly shelf: Shelf; readonly writer: Writer } {
  const tasks = new Tasks();
  const shelf = new Shelf();
  return { tasks, shelf, writer: new Writer(shelf, tasks) };
}
