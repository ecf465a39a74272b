// The element types: their arrays, their sizes, and exact conversions to and from the 16-bit floats.

/** Element types. float64 is for the CPU; half types are stored, and computed on in float32. */
export type DType = 'float32' | 'float16' | 'bfloat16' | 'float64' | 'int32' | 'uint8';

/** The arrays a tensor's elements live in; half types as their bits in a Uint16Array. */
export type TypedArray = Float32Array | Float64Array | Int32Array | Uint8Array | Uint16Array;

type Constructor<T> = {
  new (length: number): T;
  new (buffer: ArrayBufferLike, byteOffset?: number, length?: number): T;
  readonly BYTES_PER_ELEMENT: number;
};

export const arrayOf: Readonly<Record<DType, Constructor<TypedArray>>> = {
  float32: Float32Array,
  float16: Uint16Array,
  bfloat16: Uint16Array,
  float64: Float64Array,
  int32: Int32Array,
  uint8: Uint8Array,
};

export const dtypes = Object.keys(arrayOf) as DType[];

export function bytesPerElement(dtype: DType): number {
  return arrayOf[dtype].BYTES_PER_ELEMENT;
}

export function isDType(value: unknown): value is DType {
  return typeof value === 'string' && Object.hasOwn(arrayOf, value);
}

/** The 16-bit floats. */
export type HalfType = 'float16' | 'bfloat16';

export function isHalf(dtype: DType): dtype is HalfType {
  return dtype === 'float16' || dtype === 'bfloat16';
}

/** What row losses and masses of such elements are given in. */
export function computedIn(dtype: DType): 'float32' | 'float64' {
  return dtype === 'float64' ? 'float64' : 'float32';
}

export function isFloating(dtype: DType): boolean {
  return dtype === 'float32' || dtype === 'float64' || isHalf(dtype);
}

/** The dtype a typed array has by itself; Uint16Array needs to be told which half type it is. */
export function dtypeOfArray(array: ArrayBufferView): DType | undefined {
  if (array instanceof Float32Array) return 'float32';
  if (array instanceof Float64Array) return 'float64';
  if (array instanceof Int32Array) return 'int32';
  if (array instanceof Uint8Array) return 'uint8';
  return undefined;
}

interface HalfFormat {
  readonly mantissaBits: number;
  readonly bias: number;
}

const halfFormats: Partial<Record<DType, HalfFormat>> = {
  float16: { mantissaBits: 10, bias: 15 },
  bfloat16: { mantissaBits: 7, bias: 127 },
};

function roundHalfEven(x: number): number {
  const floor = Math.floor(x);
  const rest = x - floor;
  if (rest > 0.5 || (rest === 0.5 && floor % 2 === 1)) return floor + 1;
  return floor;
}

const scratch = new Float64Array(1);
const scratchWords = new Uint32Array(scratch.buffer);
// Which half of a float64 holds the exponent depends on the machine's byte order.
const highWord = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1 ? 1 : 0;

/** The bits of a number in a half format, rounded once (to nearest, ties to even) from float64. */
function encodeHalf(value: number, { mantissaBits, bias }: HalfFormat): number {
  scratch[0] = value;
  const high = scratchWords[highWord]!;
  const sign = high >>> 31 === 1 ? 0x8000 : 0;
  const infinity = (2 * bias + 1) << mantissaBits;
  if (value !== value) return sign | infinity | (1 << (mantissaBits - 1));
  const magnitude = Math.abs(value);
  if (magnitude === Infinity) return sign | infinity;
  // 1 - bias is the smallest normal exponent; below it the step stays the same.
  const exponent = Math.max(((high >>> 20) & 0x7ff) - 1023, 1 - bias);
  const scaled = roundHalfEven(magnitude * 2 ** (mantissaBits - exponent));
  const normal = scaled >= 2 ** mantissaBits;
  // A carry out of the mantissa moves into the exponent by itself.
  const bits = normal ? ((exponent + bias) << mantissaBits) + (scaled - 2 ** mantissaBits) : scaled;
  return sign | Math.min(bits, infinity);
}

function decodeHalf(bits: number, { mantissaBits, bias }: HalfFormat): number {
  const sign = (bits & 0x8000) === 0 ? 1 : -1;
  const exponent = (bits & 0x7fff) >>> mantissaBits;
  const mantissa = bits & ((1 << mantissaBits) - 1);
  if (exponent === 2 * bias + 1) return mantissa === 0 ? sign * Infinity : NaN;
  if (exponent === 0) return sign * mantissa * 2 ** (1 - bias - mantissaBits);
  return sign * (1 + mantissa / 2 ** mantissaBits) * 2 ** (exponent - bias);
}

/** One stored element as a number. */
export function decode(dtype: DType, stored: number): number {
  const half = halfFormats[dtype];
  return half === undefined ? stored : decodeHalf(stored, half);
}

/** One number as it is stored; undefined where an integer type has no such value. */
export function encode(dtype: DType, value: number): number | undefined {
  const half = halfFormats[dtype];
  if (half !== undefined) return encodeHalf(value, half);
  if (dtype === 'int32' || dtype === 'uint8') {
    const whole = Math.trunc(value);
    const [least, most] = dtype === 'int32' ? [-2147483648, 2147483647] : [0, 255];
    return whole >= least && whole <= most ? whole : undefined;
  }
  return value;
}

/**
 * Elements of one dtype as another: floats round to nearest, integers truncate toward zero.
 * Returns the position of the first element that an integer type cannot hold, or -1.
 */
export function convert(from: ArrayLike<number>, fromType: DType, to: TypedArray, toType: DType): number {
  const size = to.length;
  const decoder = halfFormats[fromType];
  const direct = decoder === undefined && halfFormats[toType] === undefined;
  if (fromType === toType || (direct && (toType === 'float32' || toType === 'float64'))) {
    to.set(from);
    return -1;
  }
  for (let i = 0; i < size; i++) {
    const value = decoder === undefined ? from[i]! : decodeHalf(from[i]!, decoder);
    const stored = encode(toType, value);
    if (stored === undefined) return i;
    to[i] = stored;
  }
  return -1;
}
