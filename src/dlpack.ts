// DLPack-style descriptors: the memory of other native addons, on the CPU or a CUDA device, read and written where it lies.
import { parseDevice, synchronize, deviceName } from './device.js';
import { arrayOf, bytesPerElement, type DType, type TypedArray } from './dtypes.js';
import { kindError, phrase, shapeText, valueError } from './errors.js';
import { checkBoolean, checkOptions, checkShape, checkTensor, sizeOf } from './check.js';
import { attempt } from './native.js';
import { Storage } from './storage.js';
import { fromArray, handleOf, ordinalOf, tensorOf, type Tensor } from './tensor.js';

/** A tensor as [DLPack](https://dmlc.github.io/dlpack/latest/) describes one. The memory stays its owner's, who keeps it while it is used. */
export interface DLPack {
  /** Where it begins: an address, or on the CPU the memory itself. */
  data: bigint | ArrayBufferLike | ArrayBufferView;
  shape: readonly number[];
  /** Elements from one index to the next, for each dimension. Left out or null: rows follow each other. */
  strides?: readonly number[] | null;
  /** code 0 is int, 1 uint, 2 float, 4 bfloat; lanes 1. */
  dtype: { code: number; bits: number; lanes?: number };
  /** type 1 is the CPU, 2 CUDA, 3 pinned memory of the CPU, 13 managed memory of CUDA. */
  device: { type: number; id: number };
  /** Bytes from `data` to the first element. Default 0. */
  byteOffset?: number | bigint;
}

/** Rows in memory of the CPU. */
export interface HostRows {
  array: TypedArray;
  dtype: DType;
  rows: number;
  cols: number;
  /** Elements from one row to the next. */
  stride: number;
}

const codes: Readonly<Record<string, DType>> = {
  '2/32': 'float32',
  '2/16': 'float16',
  '4/16': 'bfloat16',
  '2/64': 'float64',
  '0/32': 'int32',
  '1/8': 'uint8',
};

const hostTypes: readonly unknown[] = [1, 3];
const cudaTypes: readonly unknown[] = [2, 13];

export function isDLPack(value: unknown): value is DLPack {
  return (
    typeof value === 'object' && value !== null && !ArrayBuffer.isView(value) && 'data' in value && 'dtype' in value && 'device' in value
  );
}

/** Whether the memory is on a CUDA device. @throws TypeError where it is neither there nor on the CPU */
export function isOnCuda(action: string, name: string, { device }: DLPack): boolean {
  const type = (device as Partial<DLPack['device']> | null)?.type;
  if (!hostTypes.includes(type) && !cudaTypes.includes(type))
    throw kindError(action, `${name}.device.type must be 1 (CPU), 2 (CUDA), 3 (pinned) or 13 (managed)`, type);
  return cudaTypes.includes(type);
}

/** What a descriptor says, checked. */
function described(
  action: string,
  name: string,
  { dtype, shape, strides, byteOffset = 0 }: DLPack,
): { dtype: DType; shape: readonly number[]; stride: number; offset: number } {
  const { code, bits, lanes = 1 } = (dtype as Partial<DLPack['dtype']> | null) ?? {};
  const own = lanes === 1 ? codes[`${code}/${bits}`] : undefined;
  if (own === undefined)
    throw kindError(
      action,
      `${name}.dtype must be float of 16, 32 or 64 bits, bfloat of 16, int of 32 or uint of 8, of one lane`,
      phrase(`it is code ${code}, ${bits} bits, ${lanes} lanes`),
    );
  const extents = checkShape(`${action}: ${name}`, [...shape]);
  if (extents.length === 0) throw valueError(action, `${name} must have at least one dimension`, phrase('it is a single number'));
  const offset = Number(byteOffset);
  if (!Number.isSafeInteger(offset) || offset < 0) throw valueError(action, `${name}.byteOffset must be a whole number`, byteOffset);
  return { dtype: own, shape: extents, stride: rowStride(action, name, extents, strides ?? null), offset };
}

/** Rows one after the other with any space between: all that the kernels walk. */
function rowStride(action: string, name: string, shape: readonly number[], strides: readonly number[] | null): number {
  const cols = shape[shape.length - 1]!;
  if (strides === null || sizeOf(action, shape) === 0) return cols;
  const refuse = (): RangeError =>
    valueError(
      action,
      `${name}.strides must be those of rows that follow each other (shape ${shapeText(shape)})`,
      phrase(`they are ${shapeText(strides)}`),
    );
  if (strides.length !== shape.length || !strides.every(Number.isSafeInteger)) throw refuse();
  if (cols > 1 && strides[strides.length - 1] !== 1) throw refuse();
  // An extent of 1 may have any stride.
  let stride: number | null = null;
  let rows = 1;
  for (let i = shape.length - 2; i >= 0; i--) {
    if (shape[i] !== 1) {
      stride ??= strides[i]!;
      if (strides[i] !== stride * rows) throw refuse();
    }
    rows *= shape[i]!;
  }
  stride ??= cols;
  if (stride < cols) throw refuse();
  return stride;
}

function checkAddress(action: string, name: string, data: unknown, offset: number, bytes: number): bigint {
  if (typeof data !== 'bigint') throw kindError(action, `${name}.data must be an address (bigint)`, data);
  const begin = data + BigInt(offset);
  if (begin <= 0n || begin >= 1n << 64n) throw valueError(action, `${name}.data must be an address`, data);
  if (begin % BigInt(bytes) !== 0n) throw valueError(action, `${name}.data must be aligned to ${bytes} bytes`, data);
  return begin;
}

/** Rows of the CPU's memory as a typed array, without a copy. */
export function hostRows(action: string, name: string, from: DLPack): HostRows {
  if (isOnCuda(action, name, from)) throw kindError(action, `${name} must be on the CPU`, phrase('it is on a CUDA device'));
  const { dtype, shape, stride, offset } = described(action, name, from);
  const cols = shape[shape.length - 1]!;
  const rows = shape.slice(0, -1).reduce((product, extent) => product * extent, 1);
  const length = rows === 0 ? 0 : (rows - 1) * stride + cols;
  const width = bytesPerElement(dtype);
  const { data } = from;
  const type = arrayOf[dtype];
  if (length === 0) return { array: new type(0), dtype, rows, cols, stride };
  if (typeof data === 'bigint') {
    const begin = checkAddress(action, name, data, offset, width);
    const memory = attempt(action, (addon) => addon.hostMemory(begin, length * width));
    return { array: new type(memory), dtype, rows, cols, stride };
  }
  const isView = ArrayBuffer.isView(data);
  if (!isView && !(data instanceof ArrayBuffer) && !(data instanceof SharedArrayBuffer))
    throw kindError(action, `${name}.data must be an address (bigint), an ArrayBuffer or a view of one`, data);
  const buffer = isView ? data.buffer : data;
  const begin = (isView ? data.byteOffset : 0) + offset;
  const most = (isView ? data.byteOffset : 0) + data.byteLength;
  if (begin % width !== 0) throw valueError(action, `${name} must be aligned to ${width} bytes`, phrase(`it begins at byte ${begin}`));
  if (begin + length * width > most)
    throw valueError(
      action,
      `${name}.data must hold ${length * width} bytes from byteOffset ${offset}`,
      phrase(`it holds ${Math.max(0, most - begin)}`),
    );
  return { array: new type(buffer, begin, length), dtype, rows, cols, stride };
}

/**
 * A descriptor as a tensor of limbeck on the same memory. The tensor does not own it: its owner keeps it alive, and on CUDA has finished
 * writing to it, before the tensor is used.
 *
 * @throws TypeError for types and devices limbeck does not have, RangeError where rows do not follow each other without space
 *
 * @example
 * const logits = fromDLPack({ data: pointer, shape: [8, 32000], dtype: { code: 2, bits: 32 }, device: { type: 2, id: 0 } });
 */
export function fromDLPack(from: DLPack): Tensor {
  const action = 'make a tensor from DLPack';
  if (!isDLPack(from)) throw kindError(action, 'the descriptor must give data, shape, dtype and device', from);
  return borrowed(action, 'descriptor', from);
}

export function borrowed(action: string, name: string, from: DLPack): Tensor {
  const { dtype, shape, stride, offset } = described(action, name, from);
  const size = sizeOf(action, shape);
  if (stride !== shape[shape.length - 1])
    throw valueError(action, `${name} must have no space between its rows`, phrase(`its strides are ${shapeText(from.strides!)}`));
  if (!isOnCuda(action, name, from)) return fromArray(hostRows(action, name, from).array, dtype, shape, -1, action, false);
  const device = deviceName(from.device.id);
  const ordinal = parseDevice(action, device);
  const address = checkAddress(action, name, from.data, offset, bytesPerElement(dtype));
  const buffer = attempt(action, (addon) => addon.borrow(ordinal, dtype, size, address));
  return tensorOf(new Storage(dtype, size, ordinal, null, buffer), shape);
}

/**
 * A tensor as a descriptor for another native addon, on the same memory. Waits until the device has written it. The tensor must be kept, and
 * not disposed, while the descriptor is used.
 *
 * @param options.address on the CPU too, `data` is an address, for an addon that takes nothing else; by default it is the typed array
 */
export function toDLPack(tensor: Tensor, options?: { address?: boolean }): DLPack {
  const action = 'describe a tensor by DLPack';
  const { address = false } = checkOptions(action, options, ['address']);
  checkBoolean(action, 'address', address);
  checkTensor(action, 'tensor', tensor);
  const ordinal = ordinalOf(tensor, action);
  const { dtype, shape } = tensor;
  const [key] = Object.entries(codes).find(([, name]) => name === dtype)!;
  const [code, bits] = key.split('/').map(Number) as [number, number];
  if (ordinal >= 0) synchronize(tensor.device);
  // On the CPU the memory is handed out either way: it never goes back to the pool.
  const array = ordinal < 0 ? tensor.data : null;
  return {
    data: array !== null && !address ? array : attempt(action, (addon) => addon.address(handleOf(tensor, action))),
    shape,
    strides: null,
    dtype: { code, bits, lanes: 1 },
    device: ordinal < 0 ? { type: 1, id: 0 } : { type: 2, id: ordinal },
    byteOffset: 0,
  };
}
