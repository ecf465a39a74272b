// The memory behind tensors: V8-owned and pooled on the CPU, device buffers on CUDA, and the count of what is live.
import { totalmem } from 'node:os';
import { arrayOf, bytesPerElement, decode, encode, isHalf, type DType, type TypedArray } from './dtypes.js';
import { LimbeckError, valueError, wording } from './errors.js';
import { attempt, kernel, type DeviceBuffer, type Handle } from './native.js';

/** -1 is the CPU, otherwise the CUDA ordinal. */
export type Ordinal = number;

/** What is live on one device. */
export interface Usage {
  tensors: number;
  bytes: number;
  peakBytes: number;
}

const usages = new Map<Ordinal, Usage>();

export function usageOf(ordinal: Ordinal): Usage {
  let usage = usages.get(ordinal);
  if (usage === undefined) usages.set(ordinal, (usage = { tensors: 0, bytes: 0, peakBytes: 0 }));
  return usage;
}

/** The bookkeeping of one piece of memory; holds no memory itself, so that a finaliser may keep it. */
export interface Share {
  readonly ordinal: Ordinal;
  readonly bytes: number;
  references: number;
}

export function retain(share: Share): void {
  const usage = usageOf(share.ordinal);
  usage.tensors++;
  if (share.references++ === 0) {
    usage.bytes += share.bytes;
    if (usage.bytes > usage.peakBytes) usage.peakBytes = usage.bytes;
  }
}

/** True when nobody uses the memory any more. */
export function release(share: Share): boolean {
  const usage = usageOf(share.ordinal);
  usage.tensors--;
  if (--share.references > 0) return false;
  usage.bytes -= share.bytes;
  return true;
}

// ---- CPU pools: fresh pages cost more than the kernels that fill them. Keyed by exact length: training repeats its shapes.

const poolLimit = Math.min(4 * 2 ** 30, totalmem() / 8);

class Pool<Item> {
  bytes = 0;
  readonly #items = new Map<number, Item[]>();

  take(bytes: number): Item | undefined {
    const item = this.#items.get(bytes)?.pop();
    if (item !== undefined) this.bytes -= bytes;
    return item;
  }

  give(bytes: number, item: Item): void {
    if (bytes === 0 || bytes > poolLimit) return;
    const list = this.#items.get(bytes);
    if (list === undefined) this.#items.set(bytes, [item]);
    else list.push(item);
    this.bytes += bytes;
    for (const [length, items] of this.#items) {
      if (this.bytes <= poolLimit) break;
      this.bytes -= length * items.length;
      this.#items.delete(length);
    }
  }

  clear(): void {
    this.#items.clear();
    this.bytes = 0;
  }
}

interface Place {
  readonly buffer: ArrayBuffer;
  readonly offset: number;
}

const pool = new Pool<Place>();

// Memory that calls on other threads work on when what they were given is not shared: of one length as many as ran at once.
const sharedPool = new Pool<SharedArrayBuffer>();

export function pooledCpuBytes(): number {
  return pool.bytes + sharedPool.bytes;
}

/** Gives pooled CPU memory back to the engine. */
export function trimCpu(): void {
  pool.clear();
  sharedPool.clear();
}

/** What a vector load never splits: a line of the cache. */
const LINE = 64;

/** Large memory starts at a line and lies on large pages; of small memory a few bytes in front would show more than the lines do. */
const LARGE = 2 ** 20;

function freshPlace(bytes: number): Place {
  if (bytes < LARGE) return { buffer: new ArrayBuffer(bytes), offset: 0 };
  const buffer = new ArrayBuffer(bytes + LINE);
  const bytesOf = new Uint8Array(buffer);
  const past = attempt('allocate memory', (addon) => {
    addon.preferLargePages(bytesOf);
    return Number(addon.address(bytesOf) % BigInt(LINE));
  });
  return { buffer, offset: past === 0 ? 0 : LINE - past };
}

export function takeShared(action: string, bytes: number): SharedArrayBuffer {
  try {
    return sharedPool.take(bytes) ?? new SharedArrayBuffer(bytes);
  } catch (error) {
    throw new LimbeckError(
      'out_of_memory',
      wording(action, `${bytes} bytes of shared memory are needed for a copy`, (error as Error).message),
      { cause: error },
    );
  }
}

export function giveShared(buffer: SharedArrayBuffer): void {
  sharedPool.give(buffer.byteLength, buffer);
}

const fillKernel = kernel('fill', 'fill a tensor');

/** One piece of memory; tensors that are views of each other share it. */
export class Storage {
  readonly share: Share;
  /** Set where someone outside holds the array: it then never goes to the pool. */
  handedOut = false;
  readonly #array: TypedArray | null;
  readonly #buffer: DeviceBuffer | null;
  #bits: Int16Array | undefined;
  #pending: number | null = null;

  constructor(
    readonly dtype: DType,
    readonly size: number,
    readonly ordinal: Ordinal,
    array: TypedArray | null,
    buffer: DeviceBuffer | null,
    bytes: number = size * bytesPerElement(dtype),
  ) {
    this.#array = array;
    this.#buffer = buffer;
    this.share = { ordinal, bytes, references: 0 };
  }

  /** The elements on the CPU, null on a device. */
  get array(): TypedArray | null {
    if (this.#pending !== null) this.#fill();
    return this.#array;
  }

  /** The memory on a device, null on the CPU. */
  get buffer(): DeviceBuffer | null {
    if (this.#pending !== null) this.#fill();
    return this.#buffer;
  }

  /** Elements there are now: the owner of an array may have transferred or shrunk it. */
  get lengthNow(): number {
    return this.#array === null ? this.size : this.#array.length;
  }

  /** What a kernel takes for this memory. */
  get handle(): Handle {
    if (this.#pending !== null) this.#fill();
    if (this.#buffer !== null) return this.#buffer;
    const array = this.#array!;
    if (this.dtype !== 'bfloat16') return array;
    return (this.#bits ??= new Int16Array(array.buffer, array.byteOffset, array.length));
  }

  /** Sets every element, once someone looks: an upstream gradient of 1 is seldom read. */
  fillLater(value: number): void {
    this.#pending = value;
  }

  #fill(): void {
    const value = this.#pending!;
    this.#pending = null;
    fillStorage(this, value, 'fill a tensor');
  }

  free(): void {
    if (this.#buffer !== null) this.#buffer.free();
    else if (!this.handedOut) {
      const { buffer, byteOffset, byteLength } = this.#array!;
      pool.give(byteLength, { buffer: buffer as ArrayBuffer, offset: byteOffset });
    }
  }
}

/** Sets every element. @throws RangeError where an integer type has no such value */
export function fillStorage(storage: Storage, value: number, action: string): void {
  const { dtype, size, array, buffer } = storage;
  const stored = encode(dtype, value);
  if (stored === undefined) throw valueError(action, `value must fit ${dtype}`, value);
  if (array !== null) array.fill(stored);
  else if (dtype === 'float32' || dtype === 'int32' || isHalf(dtype)) fillKernel(buffer!, size, decode(dtype, stored));
  else {
    const host = new arrayOf[dtype](size).fill(stored);
    attempt(action, (addon) => addon.upload(buffer!, host));
  }
}

/** Memory with unspecified contents. @throws LimbeckError `out_of_memory` */
export function allocate(action: string, dtype: DType, size: number, ordinal: Ordinal): Storage {
  if (ordinal >= 0)
    return new Storage(
      dtype,
      size,
      ordinal,
      null,
      attempt(action, (addon) => addon.allocate(ordinal, dtype, size)),
    );
  const bytes = size * bytesPerElement(dtype);
  let place: Place;
  try {
    place = pool.take(bytes) ?? freshPlace(bytes);
  } catch (error) {
    const { tensors, bytes: live } = usageOf(-1);
    throw new LimbeckError(
      'out_of_memory',
      wording(
        action,
        `${bytes} bytes of memory are needed`,
        `${tensors} tensors hold ${live} bytes, the pool ${pool.bytes}; dispose() or tidy() frees what is done with`,
      ),
      { cause: error },
    );
  }
  return new Storage(dtype, size, ordinal, new arrayOf[dtype](place.buffer, place.offset, size), null);
}

/** A user's own array as memory, without a copy. */
export function adopt(dtype: DType, array: TypedArray): Storage {
  const storage = new Storage(dtype, array.length, -1, array, null);
  storage.handedOut = true;
  return storage;
}

/** Elements [start, start + size) of memory that must outlive what comes back; they count as no memory of their own. */
export function partOf(storage: Storage, start: number, size: number, action: string): Storage {
  return memoryOf(storage, storage.dtype, start * bytesPerElement(storage.dtype), size, action);
}

/** The same from a byte on, as elements of any dtype. */
export function memoryOf(storage: Storage, dtype: DType, start: number, size: number, action: string): Storage {
  const { ordinal, array, buffer } = storage;
  if (array !== null) {
    const own = new arrayOf[dtype](array.buffer as ArrayBuffer, array.byteOffset + start, size);
    const part = new Storage(dtype, size, ordinal, own, null, 0);
    part.handedOut = true;
    return part;
  }
  const borrowed = attempt(action, (addon) => addon.borrow(ordinal, dtype, size, addon.address(buffer!) + BigInt(start)));
  return new Storage(dtype, size, ordinal, null, borrowed, 0);
}
