/** Machine-readable kinds of {@link MambalabError}, one a class. */
export type ErrorCode =
  | 'webgpu-unavailable'
  | 'unsupported-model'
  | 'weight-format'
  | 'shape'
  | 'context-length'
  | 'out-of-memory'
  | 'device-lost'
  | 'integrity'
  | 'network'
  | 'storage-quota'
  | 'shader'
  | 'argument';

/** Names as data: a minifier changes those of classes. */
const NAMES: Readonly<Record<ErrorCode, string>> = {
  'webgpu-unavailable': 'WebGPUUnavailableError',
  'unsupported-model': 'UnsupportedModelError',
  'weight-format': 'WeightFormatError',
  shape: 'ShapeError',
  'context-length': 'ContextLengthError',
  'out-of-memory': 'OutOfMemoryError',
  'device-lost': 'DeviceLostError',
  integrity: 'IntegrityError',
  network: 'NetworkError',
  'storage-quota': 'StorageQuotaError',
  shader: 'ShaderError',
  argument: 'ArgumentError',
};

/** What every error of this library carries: a stable `code` and a `hint` that names what to do. */
export class MambalabError extends Error {
  readonly code: ErrorCode;
  readonly hint: string;

  constructor(code: ErrorCode, message: string, hint: string, options?: ErrorOptions) {
    super(`${message} ${hint}`, options);
    this.name = NAMES[code];
    this.code = code;
    this.hint = hint;
  }
}

/** There is no WebGPU here, or it offers no adapter, or the adapter lacks what a call asked for. */
export class WebGPUUnavailableError extends MambalabError {
  constructor(message: string, hint: string, options?: ErrorOptions) {
    super('webgpu-unavailable', message, hint, options);
  }
}

/** The model's family, configuration or storage type is not one that this version runs. */
export class UnsupportedModelError extends MambalabError {
  constructor(message: string, hint: string, options?: ErrorOptions) {
    super('unsupported-model', message, hint, options);
  }
}

/** A weight file is not what its format promises, or does not hold the tensors that the configuration calls for. */
export class WeightFormatError extends MambalabError {
  constructor(message: string, hint: string, options?: ErrorOptions) {
    super('weight-format', message, hint, options);
  }
}

/** A tensor has the wrong shape, layout or dtype for the place it is given to. */
export class ShapeError extends MambalabError {
  constructor(message: string, hint: string, options?: ErrorOptions) {
    super('shape', message, hint, options);
  }
}

/** An option or argument is outside what it may be. */
export class ArgumentError extends MambalabError {
  constructor(message: string, hint: string, options?: ErrorOptions) {
    super('argument', message, hint, options);
  }
}

/** The prompt and what it asks for do not fit in the context that the model was loaded with. */
export class ContextLengthError extends MambalabError {
  constructor(message: string, hint: string, options?: ErrorOptions) {
    super('context-length', message, hint, options);
  }
}

/** The device refused an allocation, or a limit of the device forbids it. */
export class OutOfMemoryError extends MambalabError {
  constructor(message: string, hint: string, options?: ErrorOptions) {
    super('out-of-memory', message, hint, options);
  }
}

/** The GPU device is gone: driver reset, tab in the background too long, or `dispose()`. */
export class DeviceLostError extends MambalabError {
  constructor(message: string, hint: string, options?: ErrorOptions) {
    super('device-lost', message, hint, options);
  }
}

/** Bytes or numbers that were checked are not what they should be (a checksum, a fingerprint, a NaN). */
export class IntegrityError extends MambalabError {
  constructor(message: string, hint: string, options?: ErrorOptions) {
    super('integrity', message, hint, options);
  }
}

/** A server cannot be reached, or is out of order, also after repetitions: what was asked for may work later. */
export class NetworkError extends MambalabError {
  constructor(message: string, hint: string, options?: ErrorOptions) {
    super('network', message, hint, options);
  }
}

/** The place where files are kept has no room for more. */
export class StorageQuotaError extends MambalabError {
  constructor(message: string, hint: string, options?: ErrorOptions) {
    super('storage-quota', message, hint, options);
  }
}

/** A shader did not compile or a GPU call failed validation: a defect of this library or of the driver. */
export class ShaderError extends MambalabError {
  constructor(message: string, hint: string, options?: ErrorOptions) {
    super('shader', message, hint, options);
  }
}
