import { WeightFormatError } from '@mambalab/kernels';
import { readPickle } from './pickle.ts';
import { describePickle, entriesOf } from './pickle_values.ts';
import type { PickleDict, PickleValue } from './pickle_values.ts';
import { readTensor } from './safetensors.ts';
import { SOURCE_DTYPE_BITS } from './source.ts';
import type { ByteFile, TensorInfo, TensorSource } from './source.ts';
import { allowsTorchGlobal, isTorchTensor, readTorchTensor } from './torch_pickle.ts';
import type { TorchTensor } from './torch_pickle.ts';
import { dataOffset, listZip } from './zip_entries.ts';
import type { ZipEntry } from './zip_entries.ts';

/** A file of `torch.save`, opened: its structure is in memory, the values of its tensors are not. */
export interface TorchFile {
  readonly file: ByteFile;
  /** What was saved. Tensors in it are descriptions. */
  readonly root: PickleValue;
  /**
   * Where tensors of the file lie, under the names given to them.
   *
   * @throws WeightFormatError naming the tensor if it is not contiguous or its values are not where they should be;
   *   UnsupportedModelError for an element type that has no name here
   */
  locate(tensors: ReadonlyMap<string, PickleValue>, signal?: AbortSignal): Promise<ReadonlyMap<string, TensorInfo>>;
}

/** Above this it is no structure of a checkpoint. */
const MAX_STRUCTURE_BYTES = 64 * 2 ** 20;
/** Local headers that are read at a time: over HTTP each is a request. */
const PARALLEL_READS = 16;

/**
 * Opens a file that `torch.save` wrote (`.bin`, `.pt`): a zip container that holds a pickle and the tensors' values.
 * The pickle is read as data (see {@link readPickle}); no code in it can run.
 *
 * @throws WeightFormatError if it is no such file, is of PyTorch's format from before version 1.6, was written on a
 *   big-endian machine, is damaged, or names a global that is neither a tensor nor plain data
 */
export async function openTorchFile(file: ByteFile, signal?: AbortSignal): Promise<TorchFile> {
  await checkSignature(file, signal);
  const entries = await listZip(file, signal);
  const [structure, ...others] = [...entries.values()].filter(({ name }) => /^[^/]+\/data\.pkl$/.test(name));
  if (structure === undefined || others.length > 0) {
    throw new WeightFormatError(
      `${file.name} is a zip container with ${others.length + (structure === undefined ? 0 : 1)} entries 'data.pkl', expected one.`,
      'Give a file that `torch.save` wrote.',
    );
  }
  const folder = structure.name.slice(0, -'data.pkl'.length);
  if (entries.has(`${folder}constants.pkl`)) {
    throw new WeightFormatError(
      `${file.name} is a TorchScript program, not a checkpoint.`,
      'Save the state dictionary of the model with `torch.save`, or as safetensors.',
    );
  }
  await checkByteOrder(file, entries.get(`${folder}byteorder`), signal);
  if (structure.size > MAX_STRUCTURE_BYTES) {
    throw new WeightFormatError(
      `The structure of ${file.name} has ${structure.size} bytes, more than ${MAX_STRUCTURE_BYTES}.`,
      'Save the weights alone, without the state of the optimizer.',
    );
  }
  const start = await dataOffset(file, structure, signal);
  const bytes = await file.read(start, start + structure.size, signal);
  return {
    file,
    root: readPickle(bytes, { file: file.name, allows: allowsTorchGlobal }),
    locate: (tensors, locateSignal) => locate(file, entries, folder, tensors, locateSignal),
  };
}

/** Keys under which training programs save the weights beside other things. */
const WRAPPERS = ['state_dict', 'model'];

/**
 * Opens a state dictionary that `torch.save` wrote, bare or under the key `state_dict` or `model`, as a source.
 *
 * @throws WeightFormatError if the file holds no dictionary from names to tensors; see also {@link openTorchFile}
 */
export async function openTorchWeights(file: ByteFile, signal?: AbortSignal): Promise<TensorSource> {
  const opened = await openTorchFile(file, signal);
  const tensors = await opened.locate(stateOf(opened), signal);
  return {
    tensors,
    read: (name, start, end, readSignal) => readTensor(file, tensors.get(name), name, start, end, readSignal),
    dispose: () => Promise.resolve(),
  };
}

function stateOf({ file, root }: TorchFile): ReadonlyMap<string, PickleValue> {
  const outer = entriesOf(root);
  const inner = WRAPPERS.map((key) => entriesOf(outer?.get(key))).find((dict) => dict !== undefined);
  const dict: PickleDict | undefined = inner ?? outer;
  const state = new Map<string, PickleValue>();
  for (const [key, value] of dict ?? []) {
    if (typeof key !== 'string' || !isTorchTensor(value)) {
      throw new WeightFormatError(
        `${file.name} holds ${describePickle(value)} under the key ${describePickle(key)}, expected tensors under names.`,
        'Give the state dictionary of a model.',
      );
    }
    state.set(key, value);
  }
  if (dict === undefined || state.size === 0) {
    throw new WeightFormatError(
      `${file.name} holds ${describePickle(root)}, expected a dictionary from names to tensors.`,
      'Give the state dictionary of a model.',
    );
  }
  return state;
}

async function locate(
  file: ByteFile,
  entries: ReadonlyMap<string, ZipEntry>,
  folder: string,
  values: ReadonlyMap<string, PickleValue>,
  signal: AbortSignal | undefined,
): Promise<ReadonlyMap<string, TensorInfo>> {
  const tensors = [...values].map(([name, value]) => ({ name, tensor: readTorchTensor(value, name, file.name) }));
  const needed = new Map<string, ZipEntry>();
  for (const { name, tensor } of tensors) {
    const entry = entries.get(`${folder}data/${tensor.storage}`);
    if (entry === undefined) {
      throw new WeightFormatError(
        `Tensor '${name}' in ${file.name} has its values in '${tensor.storage.slice(0, 40)}', which the file lacks.`,
        'Download or export the file again.',
      );
    }
    checkStorage(file, name, tensor, entry);
    needed.set(tensor.storage, entry);
  }
  const starts = new Map<string, number>();
  const waiting = [...needed];
  const work = async (): Promise<void> => {
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      starts.set(next[0], await dataOffset(file, next[1], signal));
    }
  };
  try {
    await Promise.all(Array.from({ length: PARALLEL_READS }, work));
  } finally {
    // After a failure the others stop, too.
    waiting.length = 0;
  }
  const located = new Map<string, TensorInfo>();
  for (const { name, tensor } of tensors) {
    const { dtype, shape, storage } = tensor;
    const { start, byteLength } = rangeOf(tensor);
    const byteOffset = (starts.get(storage) ?? 0) + start;
    located.set(name, { name, dtype, shape, byteLength, file: file.name, byteOffset });
  }
  return located;
}

/** Bytes of a tensor in its storage. */
function rangeOf({ dtype, shape, offset }: TorchTensor): { start: number; byteLength: number } {
  const width = SOURCE_DTYPE_BITS[dtype] / 8;
  return { start: offset * width, byteLength: shape.reduce((product, size) => product * size, width) };
}

function checkStorage(file: ByteFile, name: string, tensor: TorchTensor, entry: ZipEntry): void {
  const { start, byteLength } = rangeOf(tensor);
  const declared = tensor.storageLength * (tensor.untyped ? 1 : SOURCE_DTYPE_BITS[tensor.dtype] / 8);
  const problem =
    declared !== entry.size
      ? `says that its storage has ${declared} bytes, but there are ${entry.size}`
      : start + byteLength > entry.size
        ? `takes bytes ${start} to ${start + byteLength} of a storage of ${entry.size}`
        : undefined;
  if (problem === undefined) return;
  throw new WeightFormatError(
    `Tensor '${name}' in ${file.name} (${tensor.dtype} [${tensor.shape.join(', ')}]) ${problem}.`,
    'The file is damaged: download or export it again.',
  );
}

async function checkSignature(file: ByteFile, signal: AbortSignal | undefined): Promise<void> {
  const size = await file.size(signal);
  const [first, second] = await file.read(0, Math.min(size, 2), signal);
  if (first === 0x50 && second === 0x4b) return;
  // Before version 1.6 a file was a series of pickles, each of which begins with its protocol.
  const old = first === 0x80;
  throw new WeightFormatError(
    old
      ? `${file.name} is in the format of PyTorch before version 1.6, which cannot be read in parts.`
      : `${file.name} is no file of PyTorch.`,
    old
      ? 'Load it with a current PyTorch and save it again with `torch.save`, or as safetensors.'
      : 'Download or export the file again.',
  );
}

async function checkByteOrder(
  file: ByteFile,
  entry: ZipEntry | undefined,
  signal: AbortSignal | undefined,
): Promise<void> {
  // Written since PyTorch 2.1, and until then on little-endian machines alone.
  if (entry === undefined) return;
  const start = await dataOffset(file, entry, signal);
  const order = new TextDecoder().decode(await file.read(start, start + Math.min(entry.size, 16), signal));
  if (order === 'little') return;
  throw new WeightFormatError(
    `${file.name} holds its values in the byte order ${JSON.stringify(order)}, expected "little".`,
    'Load it with PyTorch and save it again on a little-endian machine, or as safetensors.',
  );
}
