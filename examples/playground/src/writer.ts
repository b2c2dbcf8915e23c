import type { GenerateOptions, Model, Session } from '@mambalab/models';
import { Observable, oncePerFrame } from './observable.ts';
import type { Part, Run } from './run.ts';
import { writeOn } from './run.ts';
import type { ModelChoice, Shelf } from './shelf.ts';
import type { Tasks } from './tasks.ts';
import { readConversation, writeConversation } from './conversation_file.ts';

export type Mode = 'completion' | 'chat';

export interface Turn {
  readonly role: 'user' | 'assistant';
  readonly text: string;
}

/** One text, or one conversation; forks are further ones. */
export interface Branch {
  readonly id: number;
  /** The branch that it was forked from. */
  readonly parent: number | undefined;
  readonly mode: Mode;
  readonly session: Session;
  /** Of a completion: the prompt, and what was written after it. */
  readonly turns: readonly Turn[];
}

const END_OF_TURN = '\nUser:';

/** The texts that one model writes. */
export class Writer {
  readonly model: Observable<Model | undefined> = new Observable<Model | undefined>(undefined);
  readonly choice: Observable<string> = new Observable('');
  readonly branches: Observable<readonly Branch[]> = new Observable<readonly Branch[]>([]);
  readonly active: Observable<number> = new Observable(0);
  readonly status: Observable<string> = new Observable('');
  readonly isWriting: Observable<boolean> = new Observable(false);
  /** A copy whenever its numbers changed. */
  readonly run: Observable<Run | undefined> = new Observable<Run | undefined>(undefined);
  readonly #shelf: Shelf;
  readonly #tasks: Tasks;
  #lastId = 0;

  constructor(shelf: Shelf, tasks: Tasks) {
    this.#shelf = shelf;
    this.#tasks = tasks;
    shelf.onGone = (model): void => {
      if (model === this.model.value) this.#leaveModel();
    };
  }

  get branch(): Branch | undefined {
    return this.branches.value.find(({ id }) => id === this.active.value);
  }

  load(choice: ModelChoice, mode: Mode): Promise<void> {
    return this.#tasks.start(async (signal) => {
      this.#leaveModel();
      this.choice.value = choice.key;
      this.model.value = await this.#shelf.open(choice, signal);
      this.#addBranch(mode);
    });
  }

  /** Begins an empty text in place of the active one. */
  renew(mode: Mode): void {
    const { branch } = this;
    if (branch === undefined) return;
    branch.session.dispose();
    this.branches.value = this.branches.value.filter(({ id }) => id !== branch.id);
    this.#addBranch(mode);
  }

  /** Writes after a prompt, from the beginning: a prompt of a completion is a whole text. */
  complete(prompt: string, options: GenerateOptions): Promise<void> {
    return this.#write(options, ({ session }) => {
      session.reset();
      this.#setTurns([
        { role: 'user', text: prompt },
        { role: 'assistant', text: '' },
      ]);
      return prompt;
    });
  }

  /** Writes on where the text ends: nothing of it is processed again. */
  continueText(options: GenerateOptions): Promise<void> {
    return this.#write(options, () => undefined);
  }

  /** Answers a message. Models without a chat template see a transcript, which {@link chatNote} tells. */
  answer(message: string, options: GenerateOptions): Promise<void> {
    const isTemplated = this.model.value?.chatTemplate.exists === true;
    const chatOptions = isTemplated ? options : { ...options, stop: [END_OF_TURN] };
    return this.#write(chatOptions, ({ session, turns }) => {
      this.#setTurns([...turns, { role: 'user', text: message }, { role: 'assistant', text: '' }]);
      if (isTemplated) return [{ role: 'user', content: message }];
      return `${session.length === 0 ? END_OF_TURN.trimStart() : END_OF_TURN} ${message}\nAssistant:`;
    });
  }

  stop(): void {
    this.#tasks.stop();
  }

  fork(): Promise<void> {
    return this.#tasks.start(() => {
      const { branch } = this;
      if (branch !== undefined) this.#addBranch(branch.mode, branch.session.fork(), branch.turns, branch.id);
      return Promise.resolve();
    });
  }

  show(id: number): void {
    this.active.value = id;
    this.run.value = undefined;
  }

  close(id: number): void {
    const left = this.branches.value.filter((branch) => branch.id !== id);
    this.branches.value.find((branch) => branch.id === id)?.session.dispose();
    this.branches.value = left;
    if (this.active.value === id) this.show(left.at(-1)?.id ?? 0);
  }

  /** The active text with its state, as a file. */
  save(): Promise<void> {
    return this.#tasks.start(async () => {
      const { branch } = this;
      if (branch === undefined) return;
      const bytes = writeConversation(branch.mode, branch.turns, await branch.session.save());
      const link = document.createElement('a');
      link.href = URL.createObjectURL(new Blob([bytes], { type: 'application/octet-stream' }));
      link.download = `${this.choice.value.replace(/[^\w.-]+/g, '-')}-${branch.session.length}.session`;
      link.click();
      // The download has begun by the time of the next task.
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
      this.status.value = `Saved ${branch.session.length} tokens with their state.`;
    });
  }

  restore(file: File): Promise<void> {
    return this.#tasks.start(async () => {
      const model = this.model.value;
      if (model === undefined) return;
      const { mode, turns, session } = readConversation(new Uint8Array(await file.arrayBuffer()));
      const restored = await model.restore(session);
      this.#addBranch(
        mode,
        restored,
        turns ?? [
          { role: 'user', text: model.tokenizer.decode(restored.tokens) },
          { role: 'assistant', text: '' },
        ],
      );
      this.status.value = `Restored ${restored.length} tokens with their state.`;
    });
  }

  #addBranch(mode: Mode, session = this.model.value?.session(), turns: readonly Turn[] = [], parent?: number): void {
    if (session === undefined) return;
    const id = (this.#lastId += 1);
    this.branches.value = [...this.branches.value, { id, parent, mode, session, turns }];
    this.show(id);
    this.status.value = '';
  }

  #leaveModel(): void {
    for (const { session } of this.branches.value) session.dispose();
    this.branches.value = [];
    this.model.value = undefined;
    this.run.value = undefined;
    this.status.value = '';
  }

  #setTurns(turns: readonly Turn[]): void {
    this.branches.value = this.branches.value.map((branch) =>
      branch.id === this.active.value ? { ...branch, turns } : branch,
    );
  }

  #write(options: GenerateOptions, begin: (branch: Branch) => Part): Promise<void> {
    return this.#tasks.start(async (signal) => {
      const { branch } = this;
      if (branch === undefined) return;
      let written = '';
      let latest: Run | undefined;
      const { id } = branch;
      const part = begin(branch);
      const before = this.branch?.turns ?? [];
      const draw = (): void => {
        const turns = before.map((turn, at) =>
          at === before.length - 1 ? { ...turn, text: turn.text + written } : turn,
        );
        this.branches.value = this.branches.value.map((other) => (other.id === id ? { ...other, turns } : other));
        this.run.value = latest && { ...latest };
      };
      const drawSoon = oncePerFrame(draw);
      this.status.value = 'Writing …';
      this.isWriting.value = true;
      try {
        const { finishReason } = await writeOn(branch.session, part, { ...options, signal }, (text, run) => {
          written += text;
          latest = run;
          drawSoon();
        });
        this.status.value = finishReason === 'stop' ? 'The model ended its text.' : 'All tokens are written.';
      } catch (error) {
        this.status.value = signal.aborted ? 'Stopped.' : 'The text was not finished.';
        throw error;
      } finally {
        draw();
        this.isWriting.value = false;
      }
    });
  }
}

/** What a user should know before chatting with this model. */
export function chatNote(model: Model | undefined): string {
  if (model === undefined || model.chatTemplate.exists) return '';
  return 'This model has no chat template: it was not made for conversations. It is given a transcript of “User:” and “Assistant:” lines.';
}
