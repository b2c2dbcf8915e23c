import { ArgumentError, NetworkError } from '@mambalab/kernels';
import { recall, remember } from './cached_file.ts';
import { HttpFile } from './http_file.ts';
import type { HttpFileOptions, OpenedFile } from './http_file.ts';
import { encodePath, parseFolderUrl } from './http_folder.ts';
import { firstHeader } from './http_headers.ts';
import type { HttpAnswer } from './http_request.ts';
import { RemoteFolder } from './remote_folder.ts';
import type { Located, RemoteOptions, RemotePlace } from './remote_folder.ts';
import type { Folder } from './source.ts';

/** Where models are found by name. */
export interface HubOptions extends RemoteOptions {
  /** Branch, tag or commit. Default `main`. */
  readonly revision?: string | undefined;
  /** Sent to the endpoint, and to no other host. */
  readonly token?: string | undefined;
  /** Address of the hub or a mirror of it. Default `https://huggingface.co`. */
  readonly endpoint?: string | URL | undefined;
  /** Where else the id was looked for, to be added to hints. */
  readonly note?: string | undefined;
}

const ENDPOINT = 'https://huggingface.co';
const TOKEN = '`token`, or HF_TOKEN in Node';
/** The file that every model has, asked for first to learn the commit. */
const FIRST_FILE = 'config.json';

/** Whether a text is the id of a model on a hub: `org/name`. */
export function isHubId(text: string): boolean {
  const parts = text.split('/');
  const isName = (part: string): boolean => /^\w(?:[\w.-]*\w)?$/.test(part) && !/--|\.\.|\.git$/.test(part);
  return parts.length === 2 && text.length <= 96 && parts.every(isName);
}

/**
 * A model of the Hugging Face hub or a mirror with the same addresses, `ENDPOINT/ID/resolve/REVISION/FILE`. All files
 * are of the commit that the first answer names; where the server names none, of whatever `revision` is at the time.
 *
 * @throws ArgumentError for what is no id or revision. Reading: ArgumentError with a hint for a model, revision or
 * access that is missing; IntegrityError if a file is of another commit; and as {@link openHttpFolder}
 */
export function openHubFolder(id: string, options: HubOptions = {}): Folder {
  return new RemoteFolder(new Hub(id, options), options);
}

/** What the hub says about a revision. */
interface Pin {
  readonly commit: string | undefined;
  readonly opened?: OpenedFile;
}

class Hub implements RemotePlace {
  readonly label: string;
  readonly source: string;
  readonly http: HttpFileOptions;
  readonly #id: string;
  readonly #revision: string;
  readonly #endpoint: URL;
  readonly #options: HubOptions;
  #pinned: Promise<Pin> | undefined;

  constructor(id: string, options: HubOptions) {
    const { revision = 'main', token, endpoint = ENDPOINT } = options;
    if (!isHubId(id)) throw new ArgumentError(`'${id}' is no id of a model.`, "Give it as 'org/name'.");
    if (!/^[\w][\w./-]*$/.test(revision) || revision.split('/').some((part) => /^\.*$/.test(part))) {
      throw new ArgumentError(`'revision' is '${revision}'.`, 'Give the name of a branch or tag, or a commit.');
    }
    this.label = `${id} (${revision})`;
    this.source = id;
    this.http = {
      ...options,
      bypassHttpCache: options.cache !== undefined,
      headers: { ...options.headers, ...(token !== undefined && { authorization: `Bearer ${token}` }) },
      explain: (answer) => this.#explain(answer),
    };
    this.#id = id;
    this.#revision = revision;
    this.#endpoint = parseFolderUrl(endpoint);
    this.#options = options;
  }

  async locate(name: string, signal: AbortSignal): Promise<Located> {
    const { commit, opened } = await this.#pin(signal);
    const located = {
      url: this.#address(name, commit ?? this.#revision),
      identity: new URL(`${this.#id}/${encodePath(name)}`, this.#endpoint).href,
      fixed: commit !== undefined,
      ...(commit !== undefined && { commit }),
    };
    if (name === FIRST_FILE && opened !== undefined) return { ...located, opened };
    return located;
  }

  #address(name: string, revision: string): URL {
    const url = new URL(this.#endpoint);
    url.pathname += `${this.#id}/resolve/${encodeURIComponent(revision)}/${encodePath(name)}`;
    return url;
  }

  #pin(signal: AbortSignal): Promise<Pin> {
    if (/^[0-9a-f]{40}$/.test(this.#revision)) return Promise.resolve({ commit: this.#revision });
    if (this.#pinned === undefined) {
      this.#pinned = this.#findCommit(signal);
      // A failure is not kept: the next call may have better luck, or another signal.
      this.#pinned.catch(() => (this.#pinned = undefined));
    }
    return this.#pinned;
  }

  async #findCommit(signal: AbortSignal): Promise<Pin> {
    const { cache } = this.#options;
    const url = this.#address(FIRST_FILE, this.#revision);
    let opened: OpenedFile;
    try {
      opened = await HttpFile.open(FIRST_FILE, url, this.http, signal);
    } catch (error) {
      if (!(error instanceof NetworkError) || cache === undefined) throw error;
      // Without the server, the commit that was there the last time serves.
      const commit = (await recall(cache, url.href))?.commit;
      if (commit === undefined) throw error;
      return { commit };
    }
    const { file, commit } = opened;
    if (file === undefined && commit === undefined) {
      throw this.#refused(`has no model '${this.#id}', or no ${FIRST_FILE} in its revision '${this.#revision}'`);
    }
    if (cache !== undefined && commit !== undefined) await remember(cache, url.href, { source: this.#id, commit });
    return { commit, opened };
  }

  /** What a refusal means; undefined where a file is merely not there. */
  #explain(answer: HttpAnswer): Error | undefined {
    const code = firstHeader(answer, 'x-error-code');
    const { status } = answer;
    if (code === 'EntryNotFound') return undefined;
    if (code === 'RevisionNotFound') {
      return new ArgumentError(
        `${this.#id} has no revision '${this.#revision}'.`,
        `See its branches and tags at ${this.#page}.`,
      );
    }
    if (code === 'GatedRepo') {
      const token = this.#hasToken ? 'with the account of the token' : `and give a token of that account (${TOKEN})`;
      return new ArgumentError(`${this.#id} is gated.`, `Accept its terms at ${this.#page}, ${token}.`);
    }
    if (status === 401 && this.#hasToken && code !== 'RepoNotFound') return this.#refused('does not accept the token');
    // The hub answers so for models that are not there, too, so that private names do not show.
    if (code === 'RepoNotFound' || status === 401) {
      return this.#refused(`has no model '${this.#id}', or does not show it to everyone`);
    }
    return status === 403 ? this.#refused(`refuses access to '${this.#id}'`) : undefined;
  }

  #refused(problem: string): ArgumentError {
    const { note } = this.#options;
    const token = this.#hasToken ? 'that the token may read it' : `give a token if it is private or gated (${TOKEN})`;
    return new ArgumentError(
      `${this.#endpoint.host} ${problem}.`,
      `Check the spelling and the revision, and ${token}: ${this.#page}${note === undefined ? '' : ` (${note})`}`,
    );
  }

  get #page(): string {
    return new URL(this.#id, this.#endpoint).href;
  }

  get #hasToken(): boolean {
    return this.#options.token !== undefined;
  }
}
