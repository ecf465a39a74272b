// Tensors: a shape over shared memory on one device, with a gradient where one is asked for.
import { fill, copyInto } from './arithmetic.js';
import { enterScope, runBackward, record, type Node } from './autograd.js';
import { checkBoolean, checkDTypeName, checkNumber, checkOptions, checkShape, checkShapeIs, checkWhole, sizeOf } from './check.js';
import { deviceName, parseDevice, type Device } from './device.js';
import { arrayOf, convert, decode, dtypeOfArray, isDType, isFloating, isHalf, type DType, type TypedArray } from './dtypes.js';
import { kindError, phrase, shapeText, valueError } from './errors.js';
import { attempt, findCode, kernel, reword, type Handle } from './native.js';
import { fillNormal, fillUniform, freshSeed } from './random.js';
import { adopt, allocate, memoryOf, partOf, release, retain, Storage, type Ordinal, type Share } from './storage.js';

if (Symbol.dispose === undefined) Object.defineProperty(Symbol, 'dispose', { value: Symbol('Symbol.dispose') });

/** Nested numbers, such as `[[1, 2], [3, 4]]`. */
export type NestedNumbers = number | readonly NestedNumbers[];

/** Options of {@link tensor}. */
export interface TensorOptions {
  /** Default: the data's own shape. */
  shape?: readonly number[];
  /** Default: that of the typed array, float32 for numbers. */
  dtype?: DType;
  /** Default: the one of {@link setDevice}, at first `'cpu'`. */
  device?: Device;
  /** Whether `backward()` fills `grad`. Default false. */
  requiresGrad?: boolean;
}

/** Options of {@link zeros}, {@link ones} and {@link full}. */
export type FillOptions = Omit<TensorOptions, 'shape'>;

/** Options of {@link randn} and {@link rand}. */
export interface RandomOptions extends FillOptions {
  /** A whole number; the same seed gives the same numbers on every device. Default: a fresh one. */
  seed?: number;
}

/** What modules inside the library see of a tensor. */
export interface State {
  /** Null once disposed. */
  storage: Storage | null;
  requiresGrad: boolean;
  /** How it was computed; null for leaves and constants. */
  node: Node | null;
  grad: Tensor | null;
  /** Someone outside has seen `grad`: zeroGrad then lets go of it instead of disposing it. */
  gradSeen: boolean;
  /** The leaf this tensor is the gradient of. */
  gradOf: Tensor | null;
  /** The value of every element where it is known without reading the device. */
  uniform: number | null;
  /** Outlives every tidy(). */
  kept: boolean;
  /** Counted off when it is collected undisposed. In a tidy() nothing is collected: what leaves it is counted then. */
  watched: boolean;
}

let stateOf: (tensor: Tensor) => State;
let create: (storage: Storage, shape: readonly number[]) => Tensor;

// Only the count of what is live depends on this: a tensor nobody disposed leaves it some time after it was collected.
const collected = new FinalizationRegistry<Share>((share) => void release(share));

/** Counts a tensor off when it is collected undisposed. */
export function watch(tensor: Tensor): void {
  const state = stateOf(tensor);
  if (state.watched || state.storage === null) return;
  state.watched = true;
  collected.register(tensor, state.storage.share, tensor);
}

/**
 * Numbers of one dtype and shape on one device. Made by {@link tensor}, {@link zeros} and the operations.
 *
 * Memory on a CUDA device is freed by `dispose()`, `using` or {@link tidy}; on the CPU those let it be reused.
 */
export class Tensor {
  readonly shape: readonly number[];
  readonly dtype: DType;
  readonly device: Device;
  /** Number of elements. */
  readonly size: number;
  readonly #state: State;

  /** @internal Only what a constructor made is a tensor: an object with this prototype alone has no memory. */
  static [Symbol.hasInstance](value: unknown): value is Tensor {
    return typeof value === 'object' && value !== null && #state in value;
  }

  static {
    stateOf = (tensor) => tensor.#state;
    create = (storage, shape) => new Tensor(storage, shape);
  }

  private constructor(storage: Storage, shape: readonly number[]) {
    if (!(storage instanceof Storage)) throw kindError('construct a Tensor', 'tensor(...) must be used', phrase('new Tensor was'));
    this.shape = shape;
    this.dtype = storage.dtype;
    this.device = deviceName(storage.ordinal);
    this.size = storage.size;
    this.#state = {
      storage,
      requiresGrad: false,
      node: null,
      grad: null,
      gradSeen: false,
      gradOf: null,
      uniform: null,
      kept: false,
      watched: false,
    };
    retain(storage.share);
    enterScope(this);
  }

  /** Whether `backward()` carries a gradient to this tensor. */
  get requiresGrad(): boolean {
    return this.#state.requiresGrad;
  }

  set requiresGrad(value: boolean) {
    const action = 'set requiresGrad';
    checkBoolean(action, 'requiresGrad', value);
    if (this.#state.node !== null && !value)
      throw kindError(action, 'the tensor must not be computed from others', phrase('it is; detach() gives a constant'));
    if (value && !isFloating(this.dtype)) throw kindError(action, 'the tensor must be of a floating dtype', this.dtype);
    this.#state.requiresGrad = value;
  }

  /** The gradient `backward()` added up, of this tensor's dtype, or null. */
  get grad(): Tensor | null {
    const state = this.#state;
    if (state.grad !== null) state.gradSeen = true;
    return state.grad;
  }

  /**
   * The live elements, without a copy: what is written here is what the tensor holds. CPU only. Half types come as their
   * bits in a Uint16Array.
   *
   * @throws TypeError on a CUDA device, where `await tensor.read()` is the way
   */
  get data(): TypedArray {
    const storage = live(this, 'get data');
    if (storage.array === null)
      throw kindError('get data', 'the tensor must be on the cpu', phrase(`it is on ${this.device}; use await tensor.read()`));
    storage.handedOut = true;
    return storage.array;
  }

  /**
   * A copy of the elements, from any device.
   *
   * @param options.as converts, for example half types to `'float32'`
   */
  async read(options?: { as?: DType }): Promise<TypedArray> {
    const action = 'read a tensor';
    const { as } = checkOptions(action, options, ['as']);
    if (as !== undefined) checkDTypeName(action, as);
    const storage = live(this, action);
    let copy: TypedArray;
    if (storage.array !== null) {
      copy = storage.array.slice();
    } else {
      copy = new arrayOf[this.dtype](this.size);
      const pending = attempt(action, (addon) => addon.downloadAsync(storage.buffer!, asHandle(this.dtype, copy)));
      try {
        await pending;
      } catch (error) {
        throw reword(error, action);
      }
    }
    return as === undefined || as === this.dtype ? copy : converted(action, copy, this.dtype, as);
  }

  /** The only element of a tensor of size 1; waits for the device. */
  item(): number {
    const action = 'get an item';
    live(this, action);
    if (this.size !== 1) throw valueError(action, 'the tensor must have one element', phrase(`its shape is ${shapeText(this.shape)}`));
    return decode(this.dtype, hostCopy(this, action)[0]!);
  }

  /** The same elements on a device; on the same one, a view. The gradient travels back. */
  to(device: Device): Tensor {
    const action = 'move a tensor';
    if (device === undefined) throw kindError(action, "device must be 'cpu', 'cuda' or 'cuda:<number>'", device);
    const ordinal = parseDevice(action, device);
    const out = moved(this, ordinal, action);
    const home = live(this, action).ordinal;
    return record('to', out, [this], (gradient) => [moved(gradient, home, action)]);
  }

  /**
   * The elements as another dtype: floats round to nearest, integers truncate. The same dtype gives a view. Between floating
   * dtypes the gradient travels back: float32 parameters of a bfloat16 student get a float32 gradient.
   */
  cast(dtype: DType): Tensor {
    const action = 'cast a tensor';
    checkDTypeName(action, dtype);
    const out = castTo(this, dtype, action);
    if (!isFloating(dtype) || !isFloating(this.dtype)) return out;
    return record('cast', out, [this], (gradient) => [castTo(gradient, this.dtype, action)]);
  }

  /** The same memory under another shape; one extent may be -1. */
  reshape(shape: readonly number[]): Tensor {
    const action = 'reshape';
    const storage = live(this, action);
    if (!Array.isArray(shape)) throw kindError(action, 'shape must be an array of whole numbers', shape);
    const unknown = shape.indexOf(-1);
    let wanted: readonly number[] = shape;
    if (unknown >= 0) {
      const rest = shape.reduce((product: number, extent, i) => (i === unknown ? product : product * extent), 1);
      const extent = rest === 0 ? 0 : this.size / rest;
      wanted = shape.map((value, i) => (i === unknown ? extent : value));
      if (!Number.isInteger(extent)) throw valueError(action, `shape must hold ${this.size} elements`, phrase(`it is ${shapeText(shape)}`));
    }
    wanted = checkShape(action, wanted);
    if (sizeOf(action, wanted) !== this.size)
      throw valueError(action, `shape must hold ${this.size} elements`, phrase(`it is ${shapeText(shape)}`));
    return record('reshape', create(storage, wanted), [this], (gradient) => [view(gradient, this.shape)]);
  }

  /** The same memory without the history: no gradient goes through. */
  detach(): Tensor {
    return create(live(this, 'detach'), this.shape);
  }

  /** A copy in memory of its own. The gradient travels back. */
  clone(): Tensor {
    return record('clone', cloned(this, 'clone'), [this], (gradient) => [view(gradient, gradient.shape)]);
  }

  /**
   * Adds the gradient of this tensor to the `grad` of every leaf it was computed from, and frees the graph.
   *
   * @param grad upstream gradient, of this tensor's shape; may be left out for a single element
   * @param options.retainGraph keeps the graph for another call
   */
  backward(grad?: Tensor | null, options?: { retainGraph?: boolean }): void {
    const action = 'run backward';
    const { retainGraph = false } = checkOptions(action, options, ['retainGraph']);
    checkBoolean(action, 'retainGraph', retainGraph);
    live(this, action);
    if (!this.#state.requiresGrad) throw kindError(action, 'the tensor must depend on one that requires grad', phrase('it does not'));
    let upstream: Tensor;
    if (grad == null) {
      if (this.size !== 1)
        throw valueError(
          action,
          'grad must be given for a tensor of more than one element',
          phrase(`its shape is ${shapeText(this.shape)}`),
        );
      upstream = uniformLike(this, 1, action);
    } else {
      if (!(grad instanceof Tensor)) throw kindError(action, 'grad must be a Tensor', grad);
      live(grad, action);
      if (grad.dtype !== this.dtype || grad.device !== this.device) {
        throw kindError(
          action,
          `grad must be ${this.dtype} on ${this.device} like the tensor`,
          phrase(`it is ${grad.dtype} on ${grad.device}`),
        );
      }
      checkShapeIs(action, 'grad', grad, this.shape, 'like the tensor');
      upstream = view(grad, this.shape);
    }
    runBackward(this, upstream, retainGraph);
  }

  /** Forgets the gradient; the next `backward()` starts from zero. */
  zeroGrad(): void {
    const state = this.#state;
    const { grad, gradSeen } = state;
    state.grad = null;
    state.gradSeen = false;
    if (grad === null) return;
    stateOf(grad).gradOf = null;
    if (!gradSeen) grad.dispose();
    else enterScope(grad);
  }

  /** Gives the memory back. The tensor cannot be used afterwards; doing it twice is harmless. */
  dispose(): void {
    const state = this.#state;
    const { storage } = state;
    if (storage === null) return;
    state.storage = null;
    if (state.grad !== null) {
      stateOf(state.grad).gradOf = null;
      if (!state.gradSeen) state.grad.dispose();
      state.grad = null;
    }
    if (state.watched) collected.unregister(this);
    if (release(storage.share)) storage.free();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  toString(): string {
    const gone = this.#state.storage === null ? ', disposed' : '';
    return `Tensor(${shapeText(this.shape)}, ${this.dtype}, ${this.device}${gone})`;
  }

  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return this.toString();
  }
}

export { stateOf };

// ---- what the rest of the library builds tensors with

function live(tensor: Tensor, action: string): Storage {
  const { storage } = stateOf(tensor);
  if (storage === null) throw kindError(action, 'the tensor must not be disposed', phrase('it is'));
  if (storage.lengthNow !== storage.size) {
    throw valueError(
      action,
      `the tensor's array must still hold its ${storage.size} elements`,
      phrase(`it holds ${storage.lengthNow}; was its buffer transferred?`),
    );
  }
  return storage;
}

export function ordinalOf(tensor: Tensor, action: string): Ordinal {
  return live(tensor, action).ordinal;
}

/** What a kernel takes for a tensor. */
export function handleOf(tensor: Tensor, action: string): Handle {
  return live(tensor, action).handle;
}

export function handleOrNull(tensor: Tensor | null | undefined, action: string): Handle | null {
  return tensor == null ? null : handleOf(tensor, action);
}

/** A tensor on memory that is there. */
export function tensorOf(storage: Storage, shape: readonly number[]): Tensor {
  return create(storage, shape);
}

/** A tensor with unspecified contents. */
export function empty(shape: readonly number[], dtype: DType, ordinal: Ordinal, action: string): Tensor {
  return create(allocate(action, dtype, sizeOf(action, shape), ordinal), shape);
}

/** A tensor with unspecified contents, on the device and of the dtype of another. */
export function emptyLike(like: Tensor, action: string, shape: readonly number[] = like.shape, dtype: DType = like.dtype): Tensor {
  return empty(shape, dtype, live(like, action).ordinal, action);
}

/** The same memory under another shape of the same size, without history. */
export function view(of: Tensor, shape: readonly number[] = of.shape): Tensor {
  const out = create(live(of, 'view a tensor'), shape);
  stateOf(out).uniform = stateOf(of).uniform;
  return out;
}

/** `count` of the rows of [rows, ...] from `start` on, in the same memory, without history. Must not outlive `of`. */
export function rowsView(of: Tensor, start: number, count: number, action: string): Tensor {
  const shape = [count, ...of.shape.slice(1)];
  const width = shape.slice(1).reduce((product, extent) => product * extent, 1);
  return create(partOf(live(of, action), start * width, count * width, action), shape);
}

/** Memory of `of` from a byte on as another dtype and shape, without history. Must not outlive `of`; the byte must suit the dtype. */
export function memoryView(of: Tensor, dtype: DType, start: number, shape: readonly number[], action: string): Tensor {
  return create(memoryOf(live(of, action), dtype, start, sizeOf(action, shape), action), shape);
}

/** A tensor whose elements are all `value`, and known to be. */
export function uniformLike(like: Tensor, value: number, action: string, shape: readonly number[] = like.shape): Tensor {
  const out = emptyLike(like, action, shape);
  stateOf(out).storage!.fillLater(value);
  stateOf(out).uniform = value;
  return out;
}

/** Elements in an array of the right dtype as a tensor; copied where the device is not the CPU. A user's own array is not ours. */
export function fromArray(
  array: TypedArray,
  dtype: DType,
  shape: readonly number[],
  ordinal: Ordinal,
  action: string,
  isOurs = true,
): Tensor {
  if (ordinal < 0) {
    const storage = adopt(dtype, array);
    storage.handedOut = !isOurs;
    return create(storage, shape);
  }
  const out = empty(shape, dtype, ordinal, action);
  attempt(action, (addon) => addon.upload(stateOf(out).storage!.buffer!, asHandle(dtype, array)));
  return out;
}

function asHandle(dtype: DType, array: TypedArray): Handle {
  return dtype === 'bfloat16' ? new Int16Array(array.buffer, array.byteOffset, array.length) : array;
}

/** The gradient for the library's own use: looking at it does not make it outlive zeroGrad(). */
export function gradientOf(tensor: Tensor): Tensor | null {
  return stateOf(tensor).grad;
}

/** The elements on the host: the live array on the CPU, otherwise a copy. Waits for the device. For reading only. */
export function hostCopy(tensor: Tensor, action: string): TypedArray {
  const storage = live(tensor, action);
  if (storage.array !== null) return storage.array;
  const copy = new arrayOf[tensor.dtype](tensor.size);
  attempt(action, (addon) => addon.download(storage.buffer!, asHandle(tensor.dtype, copy)));
  return copy;
}

function moved(tensor: Tensor, ordinal: Ordinal, action: string): Tensor {
  const storage = live(tensor, action);
  if (storage.ordinal === ordinal) return create(storage, tensor.shape);
  const host = hostCopy(tensor, action);
  return fromArray(host, tensor.dtype, tensor.shape, ordinal, action);
}

function converted(action: string, from: TypedArray, fromType: DType, toType: DType): TypedArray {
  const to = new arrayOf[toType](from.length);
  const refused = convert(from, fromType, to, toType);
  if (refused >= 0)
    throw valueError(action, `every element must fit ${toType}`, phrase(`element ${refused} is ${decode(fromType, from[refused]!)}`));
  return to;
}

const unaryKernel = kernel('unary', 'cast a tensor');

// Converted where it lies. float64 is not: through a float32 it would be rounded twice.
function isShortFloat(dtype: DType): boolean {
  return dtype === 'float32' || isHalf(dtype);
}

function castTo(tensor: Tensor, dtype: DType, action: string): Tensor {
  const storage = live(tensor, action);
  if (dtype === tensor.dtype) return create(storage, tensor.shape);
  if (isShortFloat(dtype) && isShortFloat(tensor.dtype)) {
    const out = emptyLike(tensor, action, tensor.shape, dtype);
    if (out.size > 0) unaryKernel(handleOf(tensor, action), handleOf(out, action), out.size, findCode('unary', 'copy'), 0);
    return out;
  }
  return fromArray(converted(action, hostCopy(tensor, action), tensor.dtype, dtype), dtype, tensor.shape, storage.ordinal, action);
}

/** A copy without history. */
export function cloned(tensor: Tensor, action: string): Tensor {
  const out = emptyLike(tensor, action);
  copyInto(out, tensor, action);
  return out;
}

// ---- constructors

const optionNames = ['shape', 'dtype', 'device', 'requiresGrad'] as const;

function finish(out: Tensor, requiresGrad: boolean | undefined): Tensor {
  if (requiresGrad !== undefined) out.requiresGrad = requiresGrad;
  return out;
}

/**
 * A tensor from a typed array or nested numbers. On the CPU a typed array of the right dtype is used as it is, without a
 * copy: what either side writes, both see.
 *
 * @param data Float32Array, Float64Array, Int32Array, Uint8Array, a Uint16Array of bits with `dtype: 'float16'` or
 *   `'bfloat16'`, a number, or nested arrays of numbers
 * @throws TypeError for data of another kind, RangeError where the shape does not fit or nested arrays are ragged
 *
 * @example
 * const logits = tensor([[1, 2, 3], [3, 2, 1]], { requiresGrad: true });
 */
export function tensor(data: TypedArray | NestedNumbers, options?: TensorOptions): Tensor {
  const action = 'make a tensor';
  const { shape: givenShape, dtype, device, requiresGrad } = checkOptions(action, options, optionNames);
  if (dtype !== undefined) checkDTypeName(action, dtype);
  if (requiresGrad !== undefined) {
    checkBoolean(action, 'requiresGrad', requiresGrad);
    if (requiresGrad && dtype !== undefined && !isFloating(dtype))
      throw kindError(action, 'dtype must be a floating one where requiresGrad is set', dtype);
  }
  let array: TypedArray;
  let type: DType;
  let shape: readonly number[];
  let isOurs = true;
  if (ArrayBuffer.isView(data)) {
    const own = dtypeOfArray(data) ?? (data instanceof Uint16Array && (dtype === 'float16' || dtype === 'bfloat16') ? dtype : undefined);
    if (own === undefined) {
      const hint =
        data instanceof Uint16Array
          ? "a Uint16Array needs dtype 'float16' or 'bfloat16'"
          : 'data must be a Float32Array, Float64Array, Int32Array, Uint8Array or Uint16Array';
      throw kindError(action, hint, data);
    }
    type = dtype ?? own;
    isOurs = own !== type;
    array = isOurs ? converted(action, data as TypedArray, own, type) : (data as TypedArray);
    shape = givenShape === undefined ? Object.freeze([data.length]) : checkShape(action, givenShape);
  } else {
    type = dtype ?? 'float32';
    const own = shapeOfNested(action, data);
    const values = new Float64Array(sizeOf(action, own));
    flatten(action, data, own, 0, values, 0);
    array = type === 'float64' ? values : converted(action, values, 'float64', type);
    shape = givenShape === undefined ? Object.freeze(own) : checkShape(action, givenShape);
  }
  if (sizeOf(action, shape) !== array.length) {
    throw valueError(
      action,
      `shape ${shapeText(shape)} must hold as many elements as the data (${array.length})`,
      phrase(`it holds ${sizeOf(action, shape)}`),
    );
  }
  return finish(fromArray(array, type, shape, parseDevice(action, device), action, isOurs), requiresGrad);
}

function shapeOfNested(action: string, data: unknown): number[] {
  const shape: number[] = [];
  for (let at = data; Array.isArray(at); at = at[0]) {
    shape.push(at.length);
    if (shape.length > 32) throw valueError(action, 'data must be nested at most 32 deep', phrase('it is deeper'));
    if (at.length === 0) break;
  }
  if (shape.length === 0 && typeof data !== 'number')
    throw kindError(action, 'data must be a typed array, a number or nested arrays of numbers', data);
  return shape;
}

function flatten(action: string, data: unknown, shape: readonly number[], depth: number, into: Float64Array, at: number): number {
  if (depth === shape.length) {
    if (typeof data !== 'number') {
      if (Array.isArray(data)) throw valueError(action, 'nested arrays must have equal lengths', phrase('they are ragged'));
      throw kindError(action, 'data must hold numbers', data);
    }
    into[at] = data;
    return at + 1;
  }
  if (!Array.isArray(data)) throw valueError(action, 'nested arrays must have equal depths', phrase('they are ragged'));
  if (data.length !== shape[depth]) {
    throw valueError(action, 'nested arrays must have equal lengths', phrase(`one has ${data.length} entries, another ${shape[depth]}`));
  }
  for (let i = 0; i < data.length; i++) at = flatten(action, data[i], shape, depth + 1, into, at);
  return at;
}

const fillNames = ['dtype', 'device', 'requiresGrad'] as const;

function filled(action: string, shape: readonly number[], value: number, options: FillOptions | undefined): Tensor {
  const { dtype = 'float32', device, requiresGrad } = checkOptions(action, options, fillNames);
  checkDTypeName(action, dtype);
  const extents = checkShape(action, shape);
  const out = empty(extents, dtype, parseDevice(action, device), action);
  fill(out, value, action);
  return finish(out, requiresGrad);
}

/** A tensor of zeros. */
export function zeros(shape: readonly number[], options?: FillOptions): Tensor {
  return filled('make zeros', shape, 0, options);
}

/** A tensor of ones. */
export function ones(shape: readonly number[], options?: FillOptions): Tensor {
  return filled('make ones', shape, 1, options);
}

/** A tensor whose elements are all `value`. */
export function full(shape: readonly number[], value: number, options?: FillOptions): Tensor {
  const action = 'make a full tensor';
  return filled(action, shape, checkNumber(action, 'value', value), options);
}

/** The numbers 0, 1, ..., size - 1. dtype: int32 by default. */
export function arange(size: number, options?: FillOptions): Tensor {
  const action = 'make a range';
  const { dtype = 'int32', device, requiresGrad } = checkOptions(action, options, fillNames);
  checkDTypeName(action, dtype);
  checkWhole(action, 'size', size);
  const values = allocate(action, 'float64', size, -1).array!;
  for (let i = 0; i < size; i++) values[i] = i;
  const array = converted(action, values, 'float64', dtype);
  return finish(fromArray(array, dtype, Object.freeze([size]), parseDevice(action, device), action), requiresGrad);
}

function random(
  action: string,
  shape: readonly number[],
  options: RandomOptions | undefined,
  generate: (into: Float32Array, seed: number) => void,
): Tensor {
  const { dtype = 'float32', device, requiresGrad, seed } = checkOptions(action, options, [...fillNames, 'seed']);
  checkDTypeName(action, dtype);
  if (!isFloating(dtype)) throw kindError(action, 'dtype must be a floating one', dtype);
  if (seed !== undefined) checkWhole(action, 'seed', seed);
  const extents = checkShape(action, shape);
  const ordinal = parseDevice(action, device);
  const host = allocate(action, 'float32', sizeOf(action, extents), -1).array as Float32Array;
  generate(host, seed ?? freshSeed());
  const array = dtype === 'float32' ? host : converted(action, host, 'float32', dtype);
  return finish(fromArray(array, dtype, extents, ordinal, action), requiresGrad);
}

/** Standard normal numbers from a counter-based generator: element i depends on the seed and i alone. */
export function randn(shape: readonly number[], options?: RandomOptions): Tensor {
  return random('make normal numbers', shape, options, fillNormal);
}

/** Uniform numbers in [0, 1) from the same generator. */
export function rand(shape: readonly number[], options?: RandomOptions): Tensor {
  return random('make uniform numbers', shape, options, fillUniform);
}

export function isTensor(value: unknown): value is Tensor {
  return value instanceof Tensor;
}

export { isDType };
