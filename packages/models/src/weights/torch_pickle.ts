import { UnsupportedModelError, WeightFormatError } from '@mambalab/kernels';
import { describePickle, PickleGlobal, PickleObject, PickleReference } from './pickle_values.ts';
import type { PickleValue } from './pickle_values.ts';
import type { SourceDtype } from './source.ts';

/** Element types of PyTorch's typed storages. */
const STORAGES: ReadonlyMap<string, SourceDtype> = new Map([
  ['torch.FloatStorage', 'F32'],
  ['torch.HalfStorage', 'F16'],
  ['torch.BFloat16Storage', 'BF16'],
  ['torch.DoubleStorage', 'F64'],
  ['torch.LongStorage', 'I64'],
  ['torch.IntStorage', 'I32'],
  ['torch.ShortStorage', 'I16'],
  ['torch.CharStorage', 'I8'],
  ['torch.ByteStorage', 'U8'],
  ['torch.BoolStorage', 'BOOL'],
  ['torch.ComplexFloatStorage', 'C64'],
]);

const DTYPES: ReadonlyMap<string, SourceDtype> = new Map([
  ['torch.float32', 'F32'],
  ['torch.float16', 'F16'],
  ['torch.bfloat16', 'BF16'],
  ['torch.float64', 'F64'],
  ['torch.int64', 'I64'],
  ['torch.int32', 'I32'],
  ['torch.int16', 'I16'],
  ['torch.int8', 'I8'],
  ['torch.uint64', 'U64'],
  ['torch.uint32', 'U32'],
  ['torch.uint16', 'U16'],
  ['torch.uint8', 'U8'],
  ['torch.bool', 'BOOL'],
  ['torch.complex64', 'C64'],
  ['torch.float8_e4m3fn', 'F8_E4M3'],
  ['torch.float8_e5m2', 'F8_E5M2'],
]);

const TENSOR = 'torch._utils._rebuild_tensor_v2';
/** As version 2, with the element type beside a storage of bytes. */
const UNTYPED_TENSOR = 'torch._utils._rebuild_tensor_v3';
const PARAMETER = 'torch._utils._rebuild_parameter';
const PARAMETER_WITH_STATE = 'torch._utils._rebuild_parameter_with_state';
/** A tensor with attributes of its own. */
const TYPED_TENSOR = 'torch._tensor._rebuild_from_type_v2';
const TENSORS: ReadonlySet<string> = new Set([TENSOR, UNTYPED_TENSOR, PARAMETER, PARAMETER_WITH_STATE, TYPED_TENSOR]);
const TENSOR_TYPES: ReadonlySet<string> = new Set(['torch.Tensor', 'torch.nn.parameter.Parameter']);

/** Beside tensors: what training programs, Megatron before all, save with them. It is kept as data and never made. */
const DATA: ReadonlySet<string> = new Set([
  'torch.Size',
  'torch.device',
  'torch.UntypedStorage',
  'torch.storage.UntypedStorage',
  'collections.OrderedDict',
  'collections.defaultdict',
  'argparse.Namespace',
  'types.SimpleNamespace',
  'pathlib.PosixPath',
  'signal.Signals',
  // Protocol 2 writes bytes and sets as calls.
  '_codecs.encode',
  '__builtin__.bytes',
  'builtins.bytes',
  '__builtin__.set',
  'builtins.set',
  // `_extra_state` of Transformer Engine.
  '_io.BytesIO',
  'io.BytesIO',
  // The state of NumPy's random generator, and single numbers.
  'numpy.core.multiarray._reconstruct',
  'numpy._core.multiarray._reconstruct',
  'numpy.core.multiarray.scalar',
  'numpy._core.multiarray.scalar',
  'numpy.ndarray',
  'numpy.dtype',
  'numpy.dtypes.UInt32DType',
]);
/** Enumerations and records of Megatron, such as `megatron.core.enums.ModelType`: classes, never functions. */
const MEGATRON_CLASS = /^megatron\.(?:[a-z_][a-z0-9_]*\.)*[A-Z][A-Za-z0-9]*$/;

/** Whether a checkpoint of PyTorch may name this global: tensors, and plain data beside them. */
export function allowsTorchGlobal(name: string): boolean {
  const known = [STORAGES, DTYPES, TENSORS, TENSOR_TYPES, DATA].some((names) => names.has(name));
  return known || MEGATRON_CLASS.test(name);
}

/** A tensor as a checkpoint describes it. */
export interface TorchTensor {
  readonly dtype: SourceDtype;
  readonly shape: readonly number[];
  /** Index of its first element in the storage. */
  readonly offset: number;
  /** Which storage holds its values. */
  readonly storage: string;
  /** Elements in the storage; bytes of a storage without a type. */
  readonly storageLength: number;
  readonly untyped: boolean;
}

/** Whether a value of a pickle is a tensor. */
export function isTorchTensor(value: PickleValue | undefined): boolean {
  return value instanceof PickleObject && TENSORS.has(value.global);
}

/**
 * Reads the description of a tensor.
 *
 * @param name the tensor's name in the checkpoint, for messages
 * @throws WeightFormatError naming the tensor if it is damaged, a view that is not contiguous, or of a kind of its own
 */
export function readTorchTensor(value: PickleValue | undefined, name: string, file: string): TorchTensor {
  const fail = (problem: string, hint = 'The file is damaged: download or export it again.'): never => {
    throw new WeightFormatError(`Tensor '${name}' in ${file} ${problem}.`, hint);
  };
  const call = unwrap(value, fail);
  const [reference, offset, sizes, strides] = call.args;
  const dtypeAt = call.global === UNTYPED_TENSOR ? 6 : -1;
  const metadata = call.args[dtypeAt < 0 ? 6 : 7];
  if (!isSize(offset)) return fail(`begins at element ${describePickle(offset)} of its storage`);
  const shape = sizesOf(sizes) ?? fail(`has the shape ${describePickle(sizes)}`);
  const steps = sizesOf(strides) ?? fail(`has the strides ${describePickle(strides)}`);
  if (!Number.isSafeInteger(shape.reduce((product, size) => product * size, 1))) fail(`has the shape (${shape})`);
  if (!isContiguous(shape, steps)) {
    fail(
      `is a view of shape (${shape.join(', ')}) with strides (${steps.join(', ')}), whose values do not follow each other`,
      'Save the checkpoint again with contiguous tensors (`.contiguous()` before `torch.save`), or as safetensors.',
    );
  }
  if (metadata instanceof Map && metadata.size > 0) {
    fail('is a conjugated or negated view', 'Save the checkpoint again after `.resolve_conj().resolve_neg()`.');
  }
  const storage = readStorage(reference, fail);
  const typeName = dtypeAt < 0 ? storage.type : globalName(call.args[dtypeAt]);
  const dtype = (dtypeAt < 0 ? STORAGES : DTYPES).get(typeName);
  if (dtype === undefined) {
    throw new UnsupportedModelError(
      `Tensor '${name}' in ${file} is stored as ${typeName || describePickle(call.args[dtypeAt])}.`,
      'Use a checkpoint in float32, float16, bfloat16 or float64.',
    );
  }
  const { key, length, untyped } = storage;
  return { dtype, shape, offset, storage: key, storageLength: length, untyped };
}

type Fail = (problem: string, hint?: string) => never;

/** The call that makes the plain tensor inside a parameter or a tensor with attributes. */
function unwrap(value: PickleValue | undefined, fail: Fail): PickleObject {
  let current = value;
  for (let level = 0; level < 4; level++) {
    if (!(current instanceof PickleObject) || !TENSORS.has(current.global)) break;
    const { global, args } = current;
    if (global === TENSOR || global === UNTYPED_TENSOR) return current;
    if (global === TYPED_TENSOR) {
      const [make, type, inner] = args;
      const known = TENSORS.has(globalName(make)) && TENSOR_TYPES.has(globalName(type)) && Array.isArray(inner);
      if (!known) fail(`is of the type ${describePickle(type)}`, 'Save plain tensors (`.data`).');
      current = new PickleObject(globalName(make), Array.isArray(inner) ? inner : []);
    } else {
      current = args[0];
    }
  }
  return fail(`is ${describePickle(current)}, expected a tensor`);
}

function readStorage(
  reference: PickleValue | undefined,
  fail: Fail,
): { type: string; key: string; length: number; untyped: boolean } {
  const id = reference instanceof PickleReference ? reference.id : undefined;
  const [tag, type, key, , length] = Array.isArray(id) ? (id as readonly PickleValue[]) : [];
  if (tag !== 'storage' || typeof key !== 'string' || !isSize(length)) {
    return fail(`has no storage but ${describePickle(reference)}`);
  }
  const name = globalName(type);
  return { type: name, key, length, untyped: !STORAGES.has(name) };
}

const globalName = (value: PickleValue | undefined): string => (value instanceof PickleGlobal ? value.name : '');

const isSize = (value: PickleValue | undefined): value is number => Number.isSafeInteger(value) && Number(value) >= 0;

function sizesOf(value: PickleValue | undefined): readonly number[] | undefined {
  const list = value instanceof PickleObject && value.global === 'torch.Size' ? value.args[0] : value;
  return Array.isArray(list) && list.every(isSize) ? list : undefined;
}

/** Whether the elements follow each other, the last dimension fastest. Steps of dimensions of size 1 do not matter. */
function isContiguous(shape: readonly number[], strides: readonly number[]): boolean {
  if (shape.length !== strides.length) return false;
  if (shape.includes(0)) return true;
  let expected = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    const size = shape[axis] ?? 1;
    if (size > 1 && strides[axis] !== expected) return false;
    expected *= size;
  }
  return true;
}
