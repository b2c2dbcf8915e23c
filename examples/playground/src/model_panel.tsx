import type { VNode } from 'preact';
import { useState } from 'preact/hooks';
import { useValue } from './observable.ts';
import type { ModelChoice, Shelf } from './shelf.ts';

interface ModelPanelProps {
  readonly shelf: Shelf;
  readonly chosen: string;
  readonly onLoad: (choice: ModelChoice) => void;
}

/** Types of JSX do not know it yet. */
const FOLDERS = { webkitdirectory: true };

/** Which model writes: one that is shipped, one of the hub, or files of the user's own. */
export function ModelPanel({ shelf, chosen, onLoad }: ModelPanelProps): VNode {
  const choices = useValue(shelf.choices);
  const { text, progress } = useValue(shelf.status);
  const [hubId, setHubId] = useState('');
  const openFiles = (input: HTMLInputElement): void => {
    const choice = choiceOfFiles([...(input.files ?? [])]);
    // Emptied, so that choosing the same files again is a change too.
    input.value = '';
    if (choice !== undefined) onLoad(choice);
  };
  return (
    <section class="panel" aria-labelledby="model-heading">
      <h2 id="model-heading">Model</h2>
      <label for="model">Model to write with</label>
      <select
        id="model"
        value={chosen}
        onChange={({ currentTarget }) => {
          const choice = choices.find(({ key }) => key === currentTarget.value);
          if (choice !== undefined) onLoad(choice);
        }}
      >
        {chosen === '' && <option value="">Choose a model</option>}
        {choices.map(({ key, label }) => (
          <option key={key} value={key}>
            {label}
          </option>
        ))}
      </select>
      <p id="model-status" role="status">
        {text}
      </p>
      <progress
        id="load-progress"
        aria-labelledby="model-status"
        max="1"
        hidden={progress === undefined}
        {...(typeof progress === 'number' && { value: progress })}
      />
      <details>
        <summary>Another model</summary>
        <form
          class="inline"
          onSubmit={(event) => {
            event.preventDefault();
            const id = hubId.trim();
            if (id !== '') onLoad({ key: `hub:${id}`, label: id, source: id });
          }}
        >
          <label for="hub-id">Hugging Face id, or address of a folder or .gguf file</label>
          <input
            id="hub-id"
            type="text"
            placeholder="state-spaces/mamba-130m-hf"
            spellcheck={false}
            autocomplete="off"
            value={hubId}
            onInput={({ currentTarget }) => setHubId(currentTarget.value)}
          />
          <button type="submit">Load</button>
        </form>
        <p>
          Or files of your own, which can also be dropped anywhere on this page: a folder with <code>config.json</code>,{' '}
          <code>*.safetensors</code> and <code>tokenizer.json</code>, or a <code>.gguf</code> file. They are read where
          they are and sent nowhere.
        </p>
        <label>
          Folder <input id="folder" type="file" {...FOLDERS} onChange={(event) => openFiles(event.currentTarget)} />
        </label>
        <label>
          or its files <input id="files" type="file" multiple onChange={(event) => openFiles(event.currentTarget)} />
        </label>
      </details>
    </section>
  );
}

function choiceOfFiles(files: readonly File[]): ModelChoice | undefined {
  const [first] = files;
  if (first === undefined) return undefined;
  const folder = first.webkitRelativePath.split('/')[0];
  const label = folder || (files.length === 1 ? first.name : 'the chosen files');
  return { key: `files:${label}:${first.lastModified}`, label, source: files };
}

type HandleItem = DataTransferItem & { getAsFileSystemHandle?: () => Promise<FileSystemHandle | null> };

/** What was dropped on the page, as a model: a folder where the browser gives one, or files. */
export async function choiceOfDrop(transfer: DataTransfer): Promise<ModelChoice | undefined> {
  // The items are gone after the first wait.
  const files = [...transfer.files];
  const [item] = [...transfer.items].filter(({ kind }) => kind === 'file') as HandleItem[];
  const handle = await item?.getAsFileSystemHandle?.();
  if (handle?.kind === 'directory') {
    return { key: `files:${handle.name}`, label: handle.name, source: handle as FileSystemDirectoryHandle };
  }
  return choiceOfFiles(files);
}
