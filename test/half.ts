// The 16-bit floats as the tests know them: every value by its definition, and rounding by looking for the nearest one.
export type HalfType = 'float16' | 'bfloat16';
export const HALF_TYPES: readonly HalfType[] = ['float16', 'bfloat16'];

/** What a kernel takes for a tensor of a half type: Uint16Array is float16, Int16Array bfloat16. */
export type HalfBits = Uint16Array | Int16Array;

const formats = { float16: { fraction: 10, bias: 15 }, bfloat16: { fraction: 7, bias: 127 } } as const;

function value(bits: number, { fraction, bias }: { fraction: number; bias: number }): number {
  const sign = bits >= 0x8000 ? -1 : 1;
  const exponent = (bits & 0x7fff) >> fraction;
  const mantissa = (bits & ((1 << fraction) - 1)) / 2 ** fraction;
  if (exponent === 2 * bias + 1) return mantissa === 0 ? sign * Infinity : NaN;
  return exponent === 0 ? sign * mantissa * 2 ** (1 - bias) : sign * (1 + mantissa) * 2 ** (exponent - bias);
}

/** The number behind each of the 65536 patterns. */
export const halfValues: Readonly<Record<HalfType, Float64Array>> = {
  float16: Float64Array.from({ length: 65536 }, (_, bits) => value(bits, formats.float16)),
  bfloat16: Float64Array.from({ length: 65536 }, (_, bits) => value(bits, formats.bfloat16)),
};

/** Distance between neighbours at a value; the largest finite binade's beyond it. */
export function spacing(x: number, type: HalfType): number {
  const { fraction, bias } = formats[type];
  const exponent = x === 0 ? 1 - bias : Math.min(bias, Math.max(1 - bias, Math.floor(Math.log2(Math.abs(x)))));
  return 2 ** (exponent - fraction);
}

/** Nearest pattern, ties to even; infinity from half a step beyond the largest finite one. */
export function nearestBits(x: number, type: HalfType): number {
  const values = halfValues[type];
  const { fraction, bias } = formats[type];
  const infinity = (2 * bias + 1) << fraction;
  const sign = x < 0 || Object.is(x, -0) ? 0x8000 : 0;
  if (Number.isNaN(x)) return infinity | (1 << (fraction - 1));
  const size = Math.abs(x);
  // Patterns of positive numbers stand in order.
  let low = 0;
  let high = infinity;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if ((values[middle] as number) <= size) low = middle;
    else high = middle;
  }
  if (size === Infinity) return sign | infinity;
  const below = values[low] as number;
  const above = high === infinity ? 2 ** (bias + 1) : (values[high] as number);
  const up = size - below > above - size || (size - below === above - size && low % 2 === 1);
  return sign | (up ? high : low);
}

/** Numbers as a tensor of a half type. */
export function toBits(numbers: ArrayLike<number>, type: HalfType): HalfBits {
  const bits = new Uint16Array(numbers.length);
  for (let i = 0; i < bits.length; i++) bits[i] = nearestBits(numbers[i] as number, type);
  return type === 'float16' ? bits : new Int16Array(bits.buffer);
}

export function fromBits(bits: ArrayLike<number>, type: HalfType): Float32Array {
  const values = halfValues[type];
  const out = new Float32Array(bits.length);
  for (let i = 0; i < out.length; i++) out[i] = values[(bits[i] as number) & 0xffff] as number;
  return out;
}

/** Numbers moved to their nearest ones of a half type. */
export function rounded<A extends Float32Array | Float64Array>(numbers: A, type: HalfType): A {
  return numbers.map((x) => halfValues[type][nearestBits(x, type)] as number) as A;
}
