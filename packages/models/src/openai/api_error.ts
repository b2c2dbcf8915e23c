import { MambalabError } from '@mambalab/kernels';
import type { ErrorCode } from '@mambalab/kernels';

/** The `type` of an error. */
export type APIErrorType =
  | 'invalid_request_error'
  | 'authentication_error'
  | 'permission_error'
  | 'rate_limit_error'
  | 'server_error'
  | 'timeout_error';

/** The body of an answer that tells of an error. */
export interface APIErrorBody {
  error: { message: string; type: APIErrorType; param: string | null; code: string | null };
}

/** A request that fails, in OpenAI's terms; `cause` is the error of the library, where it was one. */
export class APIError extends Error {
  /** The status that a server answers with. */
  readonly status: number;
  readonly type: APIErrorType;
  /** The field of the request that is wrong. */
  readonly param: string | null;
  readonly code: string | null;

  constructor(
    status: number,
    type: APIErrorType,
    message: string,
    details: { readonly param?: string | undefined; readonly code?: string; readonly cause?: unknown } = {},
  ) {
    const { param = null, code = null, cause } = details;
    super(message, cause === undefined ? {} : { cause });
    this.name = 'APIError';
    this.status = status;
    this.type = type;
    this.param = param;
    this.code = code;
  }

  toJSON(): APIErrorBody {
    const { message, type, param, code } = this;
    return { error: { message, type, param, code } };
  }
}

/** A request whose field `param` is wrong. */
export function invalidRequest(param: string | undefined, message: string, code?: string): APIError {
  return new APIError(400, 'invalid_request_error', message, { param, ...(code !== undefined && { code }) });
}

/** What errors of the library are for whoever sent the request: theirs to mend, or the server's. */
const STATUS: Readonly<Partial<Record<ErrorCode, readonly [status: number, code: string]>>> = {
  argument: [400, 'invalid_value'],
  'context-length': [400, 'context_length_exceeded'],
  'unsupported-model': [400, 'unsupported_by_model'],
  'out-of-memory': [503, 'out_of_memory'],
  'device-lost': [503, 'device_lost'],
};

/** Options of the library whose field has another name than the same in snake case. */
const FIELDS: Readonly<Record<string, string>> = { responseFormat: 'response_format', maxTokens: 'max_tokens' };

/**
 * What went wrong as an {@link APIError}. The reason of an abort stays what it is.
 *
 * @param signal of the request
 */
export function apiErrorOf(error: unknown, signal: AbortSignal | undefined): unknown {
  if (error instanceof APIError || (signal?.aborted === true && error === signal.reason)) return error;
  const message = error instanceof Error ? error.message : String(error);
  if (!(error instanceof MambalabError)) return new APIError(500, 'server_error', message, { cause: error });
  const [status, code] = STATUS[error.code] ?? [500, error.code];
  if (status >= 500) return new APIError(status, 'server_error', message, { code, cause: error });
  const option = /^'(\w+)'/.exec(message)?.[1];
  const param =
    option === undefined ? undefined : (FIELDS[option] ?? option.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`));
  return new APIError(status, 'invalid_request_error', message, { param, code, cause: error });
}
