import type { ErrorCode } from '@mambalab/kernels';
import {
  ArgumentError,
  ContextLengthError,
  DeviceLostError,
  IntegrityError,
  MambalabError,
  NetworkError,
  OutOfMemoryError,
  ShaderError,
  ShapeError,
  StorageQuotaError,
  UnsupportedModelError,
  WebGPUUnavailableError,
  WeightFormatError,
} from '@mambalab/kernels';

/** An error as a message: structured cloning keeps neither classes nor their fields. */
export interface ErrorRecord {
  readonly name: string;
  readonly message: string;
  readonly stack?: string;
  readonly cause?: ErrorRecord;
  /** Of errors of the library. */
  readonly code?: ErrorCode;
  readonly hint?: string;
}

type LibraryError = new (message: string, hint: string, options?: ErrorOptions) => MambalabError;

const CLASSES: Readonly<Record<ErrorCode, LibraryError>> = {
  'webgpu-unavailable': WebGPUUnavailableError,
  'unsupported-model': UnsupportedModelError,
  'weight-format': WeightFormatError,
  shape: ShapeError,
  'context-length': ContextLengthError,
  'out-of-memory': OutOfMemoryError,
  'device-lost': DeviceLostError,
  integrity: IntegrityError,
  network: NetworkError,
  'storage-quota': StorageQuotaError,
  shader: ShaderError,
  argument: ArgumentError,
};

const BUILT_IN: Readonly<Record<string, new (message: string, options?: ErrorOptions) => Error>> = {
  TypeError,
  RangeError,
  SyntaxError,
  ReferenceError,
};

/** Causes that are sent along. */
const DEEPEST = 4;

export function errorRecord(error: unknown, depth = 0): ErrorRecord {
  if (!(error instanceof Error)) return { name: 'Error', message: String(error) };
  const { name, message, stack, cause } = error;
  return {
    name,
    message,
    ...(stack !== undefined && { stack }),
    ...(cause !== undefined && depth < DEEPEST && { cause: errorRecord(cause, depth + 1) }),
    ...(error instanceof MambalabError && { code: error.code, hint: error.hint }),
  };
}

/** The error that a record is of: of the same class, with its code, hint and stack. */
export function errorOf(record: ErrorRecord): Error {
  const { name, message, stack, cause } = record;
  const error = construct(record, cause === undefined ? {} : { cause: errorOf(cause) });
  if (error.message !== message) error.message = message;
  if (error.name !== name) Object.defineProperty(error, 'name', { value: name, configurable: true });
  // Where it happened, not where it was put together again.
  if (stack !== undefined) Object.defineProperty(error, 'stack', { value: stack, configurable: true, writable: true });
  return error;
}

function construct({ name, message, code, hint = '' }: ErrorRecord, options: ErrorOptions): Error {
  if (code !== undefined) return new CLASSES[code](message, hint, options);
  if (/^(Abort|Timeout|Data|NotFound|Quota)\w*Error$/.test(name)) return new DOMException(message, name);
  return new (BUILT_IN[name] ?? Error)(message, options);
}
