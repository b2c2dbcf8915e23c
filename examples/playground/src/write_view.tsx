import type { VNode } from 'preact';
import { useState } from 'preact/hooks';
import { useValue } from './observable.ts';
import type { SamplingFields } from './sampling.tsx';
import { DEFAULT_SAMPLING, optionsOf, SamplingInputs } from './sampling.tsx';
import type { Tasks } from './tasks.ts';
import type { Branch, Mode, Writer } from './writer.ts';
import { chatNote } from './writer.ts';

const PROMPT = 'Once upon a time there was a little princess who';

interface WriteViewProps {
  readonly writer: Writer;
  readonly tasks: Tasks;
  readonly mode: Mode;
  readonly onMode: (mode: Mode) => void;
}

/** Writing texts and chatting, with forks. */
export function WriteView({ writer, tasks, mode, onMode }: WriteViewProps): VNode {
  const model = useValue(writer.model);
  const isBusy = useValue(tasks.isBusy);
  const isWriting = useValue(writer.isWriting);
  const status = useValue(writer.status);
  const branches = useValue(writer.branches);
  const active = useValue(writer.active);
  const branch = branches.find(({ id }) => id === active);
  const [prompt, setPrompt] = useState(PROMPT);
  const [message, setMessage] = useState('');
  const [fields, setFields] = useState<SamplingFields>(DEFAULT_SAMPLING);
  const isChat = (branch?.mode ?? mode) === 'chat';
  const isReady = model !== undefined && !isBusy;
  const hasText = branch !== undefined && branch.turns.length > 0;

  const send = (): void => {
    if (!isReady) return;
    if (!isChat) void writer.complete(prompt, optionsOf(fields));
    else if (message.trim() !== '') {
      void writer.answer(message, optionsOf(fields));
      setMessage('');
    }
  };
  const sendByKey = (event: KeyboardEvent): void => {
    if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    (event.currentTarget as HTMLTextAreaElement).form?.requestSubmit();
  };

  return (
    <>
      <form
        id="prompt-form"
        class="panel"
        onSubmit={(event) => {
          event.preventDefault();
          send();
        }}
      >
        <fieldset class="modes">
          <legend>What to write</legend>
          {(['completion', 'chat'] as const).map((name) => (
            <label key={name}>
              <input
                type="radio"
                name="mode"
                checked={isChat === (name === 'chat')}
                onChange={() => {
                  onMode(name);
                  writer.renew(name);
                }}
              />{' '}
              {name === 'chat' ? 'Chat' : 'Completion'}
            </label>
          ))}
        </fieldset>
        <label for="prompt">{isChat ? 'Message' : 'Prompt'}</label>
        <textarea
          id="prompt"
          rows={3}
          spellcheck={false}
          value={isChat ? message : prompt}
          onInput={({ currentTarget }) => (isChat ? setMessage : setPrompt)(currentTarget.value)}
          onKeyDown={sendByKey}
        />
        {isChat && chatNote(model) !== '' && <p class="quiet">{chatNote(model)}</p>}
        <SamplingInputs fields={fields} onChange={setFields} />
        <div class="buttons">
          <button id="generate" type="submit" class="primary" aria-keyshortcuts="Control+Enter" disabled={!isReady}>
            {isChat ? 'Send' : 'Generate'}
          </button>
          <button id="stop" type="button" disabled={!isWriting} onClick={() => writer.stop()}>
            Stop
          </button>
          {!isChat && (
            <button
              type="button"
              disabled={!isReady || !hasText}
              onClick={() => void writer.continueText(optionsOf(fields))}
            >
              Continue
            </button>
          )}
        </div>
      </form>

      <section class="panel" aria-labelledby="text-heading">
        <h2 id="text-heading">{isChat ? 'Conversation' : 'Text'}</h2>
        <Branches writer={writer} branches={branches} active={active} isBusy={isBusy} />
        <BranchText branch={branch} isChat={isChat} isWriting={isWriting} />
        <p id="text-status" class="quiet" role="status">
          {status}
        </p>
        <div class="buttons">
          <button type="button" disabled={!isReady || !hasText} onClick={() => void writer.fork()}>
            Fork
          </button>
          <button type="button" disabled={!isReady || !hasText} onClick={() => void writer.save()}>
            Save
          </button>
          <label class="button">
            Restore
            <input
              id="restore"
              type="file"
              class="unseen"
              disabled={!isReady}
              onChange={({ currentTarget }) => {
                const [file] = currentTarget.files ?? [];
                currentTarget.value = '';
                if (file !== undefined) void writer.restore(file);
              }}
            />
          </label>
        </div>
      </section>
    </>
  );
}

interface BranchesProps {
  readonly writer: Writer;
  readonly branches: readonly Branch[];
  readonly active: number;
  readonly isBusy: boolean;
}

/** The forks of a text, where there are any. */
function Branches({ writer, branches, active, isBusy }: BranchesProps): VNode | null {
  const shown = branches.find(({ id }) => id === active);
  if (branches.length < 2 || shown === undefined) return null;
  return (
    <div class="buttons">
      <label class="branch">
        Fork shown{' '}
        <select
          id="branch"
          value={String(active)}
          disabled={isBusy}
          onChange={({ currentTarget }) => writer.show(Number(currentTarget.value))}
        >
          {branches.map(({ id, parent }) => (
            <option key={id} value={String(id)}>
              {parent === undefined ? `Text ${id}` : `Text ${id}, from ${parent}`}
            </option>
          ))}
        </select>
      </label>
      <button type="button" disabled={isBusy} onClick={() => writer.close(active)}>
        Close
      </button>
    </div>
  );
}

interface BranchTextProps {
  readonly branch: Branch | undefined;
  readonly isChat: boolean;
  readonly isWriting: boolean;
}

function BranchText({ branch, isChat, isWriting }: BranchTextProps): VNode {
  const turns = branch?.turns ?? [];
  // A screen reader hears an answer when it is whole.
  const live = { 'aria-live': 'polite', 'aria-busy': isWriting } as const;
  if (!isChat) {
    const [given, written] = turns;
    return (
      <p id="text">
        <span id="given">{given?.text ?? ''}</span>
        <span id="written" {...live}>
          {written?.text ?? ''}
        </span>
      </p>
    );
  }
  return (
    <ol id="turns" {...live}>
      {turns.map(({ role, text }, index) => (
        <li key={index} class={role}>
          <strong>{role === 'user' ? 'You' : 'Model'}</strong>
          <p>{text.trim()}</p>
        </li>
      ))}
    </ol>
  );
}
