// Argument checks: what holds, said in one form, before anything reaches native code.
import { dtypes, isDType, isFloating, type DType } from './dtypes.js';
import { kindError, LimbeckError, nearest, phrase, shapeText, valueError, wording } from './errors.js';
import { Tensor, stateOf } from './tensor.js';

/** 2^53 elements: sizes stay exact as numbers. */
const maxElements = Number.MAX_SAFE_INTEGER;
const maxDimensions = 32;

/** An options object without names that nobody reads. */
export function checkOptions<T extends object>(action: string, value: T | undefined, names: readonly string[]): T {
  if (value === undefined) return {} as T;
  if (value === null || typeof value !== 'object' || Array.isArray(value) || ArrayBuffer.isView(value) || value instanceof Tensor) {
    throw kindError(action, 'options must be an object', value);
  }
  // A promise or a map has no names to look at; one's own class of options has.
  const prototype = Object.getPrototypeOf(value) as object | null;
  const isPlain = prototype === null || Object.getPrototypeOf(prototype) === null;
  if (!isPlain && !names.some((name) => name in value))
    throw kindError(action, 'options must be an object that holds them', phrase(`it is a ${prototype.constructor.name}`));
  for (const key in value) {
    if (names.includes(key)) continue;
    const near = nearest(key, names);
    throw kindError(
      action,
      `options must be among ${names.join(', ')}`,
      phrase(`'${key}' is not${near === undefined ? '' : `; did you mean '${near}'?`}`),
    );
  }
  return value;
}

export function checkTensor(action: string, name: string, value: unknown): Tensor {
  if (!(value instanceof Tensor)) throw kindError(action, `${name} must be a Tensor`, value);
  checkLive(action, name, value);
  return value;
}

export function checkLive(action: string, name: string, tensor: Tensor): void {
  if (stateOf(tensor).storage === null) throw kindError(action, `${name} must not be disposed`, phrase('it is'));
}

export function checkDType(action: string, name: string, tensor: Tensor, ...allowed: DType[]): void {
  if (!allowed.includes(tensor.dtype)) {
    const hint = isFloating(tensor.dtype) ? `it is ${tensor.dtype}; cast() converts` : `it is ${tensor.dtype}`;
    const names = allowed.length > 2 ? `${allowed.slice(0, -1).join(', ')} or ${allowed[allowed.length - 1]}` : allowed.join(' or ');
    throw kindError(action, `${name} must be ${names}`, phrase(hint));
  }
}

/** Tensors from anything that can be walked through. */
export function checkTensors(action: string, name: string, value: unknown): Tensor[] {
  const isList = typeof value === 'object' && value !== null && !ArrayBuffer.isView(value) && Symbol.iterator in value;
  if (!isList) throw kindError(action, `${name} must be an array of Tensors`, value);
  return Array.from(value as Iterable<unknown>, (entry, i) => checkTensor(action, `${name}[${i}]`, entry));
}

/** float32 anywhere, float64 on the CPU: what the kernels compute in. */
export function checkComputed(action: string, name: string, value: unknown): Tensor {
  const tensor = checkTensor(action, name, value);
  checkDType(action, name, tensor, 'float32', 'float64');
  if (tensor.dtype === 'float64' && tensor.device !== 'cpu') {
    throw kindError(action, `${name} must be float32 on ${tensor.device}`, phrase('it is float64; cast() converts'));
  }
  return tensor;
}

/** Any floating dtype, float64 on the CPU alone: what losses and softmax read. Half types are computed on in float32. */
export function checkFloating(action: string, name: string, value: unknown): Tensor {
  const tensor = checkTensor(action, name, value);
  checkDType(action, name, tensor, 'float32', 'float16', 'bfloat16', ...(tensor.device === 'cpu' ? (['float64'] as const) : []));
  return tensor;
}

/** What selections read: as above without float64. */
export function checkFloat32OrHalf(action: string, name: string, value: unknown): Tensor {
  const tensor = checkTensor(action, name, value);
  checkDType(action, name, tensor, 'float32', 'float16', 'bfloat16');
  return tensor;
}

export function checkSameDevice(action: string, name: string, tensor: Tensor, otherName: string, other: Tensor): void {
  if (tensor.device !== other.device) {
    throw new LimbeckError(
      'wrong_device',
      wording(action, `${name} must be on ${other.device} like ${otherName}`, `it is on ${tensor.device}; to('${other.device}') moves it`),
    );
  }
}

export function checkSameDType(action: string, name: string, tensor: Tensor, otherName: string, other: Tensor): void {
  if (tensor.dtype !== other.dtype) {
    throw kindError(action, `${name} must be ${other.dtype} like ${otherName}`, phrase(`it is ${tensor.dtype}; cast() converts`));
  }
}

/** Targets and weights are constants: a gradient asked of them would be lost in silence. */
export function checkConstant(action: string, name: string, tensor: Tensor): void {
  if (tensor.requiresGrad) throw kindError(action, `${name} must not require grad`, phrase('it does; pass it through detach()'));
}

export function checkNumber(action: string, name: string, value: unknown): number {
  if (typeof value !== 'number') throw kindError(action, `${name} must be a number`, value);
  return value;
}

export function checkPositive(action: string, name: string, value: unknown): number {
  const number = checkNumber(action, name, value);
  if (!(number > 0 && number < Infinity)) throw valueError(action, `${name} must be positive and finite`, number);
  return number;
}

export function checkFraction(action: string, name: string, value: unknown): number {
  const number = checkNumber(action, name, value);
  if (!(number >= 0 && number <= 1)) throw valueError(action, `${name} must be in [0, 1]`, number);
  return number;
}

export function checkFinite(action: string, name: string, value: unknown): number {
  const number = checkNumber(action, name, value);
  if (!Number.isFinite(number)) throw valueError(action, `${name} must be finite`, number);
  return number;
}

export function checkWhole(action: string, name: string, value: unknown, least = 0, most = maxElements): number {
  const number = checkNumber(action, name, value);
  if (!Number.isSafeInteger(number) || number < least || number > most) {
    throw valueError(
      action,
      `${name} must be a whole number ${most === maxElements ? `of at least ${least}` : `in [${least}, ${most}]`}`,
      number,
    );
  }
  return number;
}

export function checkBoolean(action: string, name: string, value: unknown): boolean {
  if (typeof value !== 'boolean') throw kindError(action, `${name} must be true or false`, value);
  return value;
}

/** One of the names, which are known at compile time. */
export function checkOneOf<T extends string>(action: string, name: string, value: unknown, names: readonly T[]): T {
  if (typeof value !== 'string') throw kindError(action, `${name} must be ${listOf(names)}`, value);
  if (!names.includes(value as T)) {
    const near = nearest(value, names);
    throw valueError(
      action,
      `${name} must be ${listOf(names)}`,
      phrase(`it is '${value.slice(0, 60)}'${near === undefined ? '' : `; did you mean '${near}'?`}`),
    );
  }
  return value as T;
}

function listOf(names: readonly string[]): string {
  const quoted = names.map((name) => `'${name}'`);
  return quoted.length === 1 ? quoted[0]! : `${quoted.slice(0, -1).join(', ')} or ${quoted[quoted.length - 1]!}`;
}

export function checkDTypeName(action: string, value: unknown): DType {
  if (!isDType(value)) {
    if (typeof value !== 'string') throw kindError(action, `dtype must be ${listOf(dtypes)}`, value);
    throw valueError(action, `dtype must be ${listOf(dtypes)}`, value);
  }
  return value;
}

/** The product of a shape. @throws RangeError where it does not fit 2^53 */
export function sizeOf(action: string, shape: readonly number[]): number {
  let size = 1;
  for (const extent of shape) size *= extent;
  if (size <= maxElements) return size;
  throw valueError(action, 'shape must hold at most 2^53 elements', phrase(`it is ${shapeText(shape)}`));
}

/** A shape as a frozen copy. */
export function checkShape(action: string, value: unknown): readonly number[] {
  if (!Array.isArray(value)) throw kindError(action, 'shape must be an array of whole numbers', value);
  if (value.length > maxDimensions)
    throw valueError(action, `shape must have at most ${maxDimensions} dimensions`, phrase(`it has ${value.length}`));
  const shape = Array.from(value as unknown[], (extent, i) => checkWhole(action, `shape[${i}]`, extent));
  sizeOf(action, shape);
  return Object.freeze(shape);
}

export function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((extent, i) => extent === b[i]);
}

export function checkShapeIs(action: string, name: string, tensor: Tensor, shape: readonly number[], like: string): void {
  if (!sameShape(tensor.shape, shape)) {
    throw valueError(action, `${name} must have shape ${shapeText(shape)} ${like}`, phrase(`it has ${shapeText(tensor.shape)}`));
  }
}

/** Leading dimensions as rows, the last as columns; a vector is one row. */
export interface RowsOf {
  rows: number;
  cols: number;
  /** The shape without its last dimension. */
  leading: readonly number[];
}

export function checkRows(action: string, name: string, tensor: Tensor, leastCols = 0): RowsOf {
  const { shape } = tensor;
  if (shape.length === 0) throw valueError(action, `${name} must have at least one dimension`, phrase('it is a single number'));
  const cols = shape[shape.length - 1]!;
  if (cols < leastCols)
    throw valueError(
      action,
      `${name} must have at least ${leastCols} column${leastCols === 1 ? '' : 's'}`,
      phrase(`its shape is ${shapeText(shape)}`),
    );
  const leading = shape.slice(0, -1);
  return { rows: leading.reduce((product, extent) => product * extent, 1), cols, leading };
}
