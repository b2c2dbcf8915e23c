/** What a worker of the cache tests is to load. */
export interface LoadOrder {
  readonly folder: string;
  readonly file: string;
}

/** What it got. */
export interface LoadReport {
  /** SHA-256 of the bytes. */
  readonly digest: readonly number[];
  /** Requests for the file. */
  readonly requests: number;
  readonly error?: string;
}
