// What sampleTarget must draw, to the last bit: native/ops/sample_target/math.h once more, in BigInt, floats and doubles with exact fused multiply-adds.
import { philox } from './reference.js';

export type SampleMethod = 'with_replacement' | 'race' | 'head_tail';
export const SAMPLE_METHODS: SampleMethod[] = ['with_replacement', 'race', 'head_tail'];

// ---- the fused multiply-add (Boldo and Melquiond 2008): an error-free sum whose small part is rounded to odd

const double = new Float64Array(1);
const bits = new BigInt64Array(double.buffer);

function twoSum(a: number, b: number): [number, number] {
  const s = a + b;
  const from = s - a;
  return [s, a - (s - from) + (b - from)];
}

function split(a: number): [number, number] {
  const c = 134217729 * a;
  const high = c - (c - a);
  return [high, a - high];
}

function twoProduct(a: number, b: number): [number, number] {
  const p = a * b;
  const [ah, al] = split(a);
  const [bh, bl] = split(b);
  return [p, al * bl - (p - ah * bh - al * bh - ah * bl)];
}

function roundToOdd(a: number, b: number): number {
  const [s, error] = twoSum(a, b);
  double[0] = s;
  if (error !== 0 && (bits[0]! & 1n) === 0n) bits[0]! += error > 0 === s > 0 ? 1n : -1n;
  return double[0];
}

/** a·b + c with one rounding; no overflow or underflow on the way. */
export function fma(a: number, b: number, c: number): number {
  const [uh, ul] = twoProduct(a, b);
  const [th, tl] = twoSum(c, ul);
  const [vh, vl] = twoSum(uh, th);
  return vh + roundToOdd(tl, vl);
}

/** The same of floats: their product is exact in double. */
export function fmaFloat(a: number, b: number, c: number): number {
  return Math.fround(roundToOdd(a * b, c));
}

function horner(x: number, coefficients: number[]): number {
  return coefficients.slice(1).reduce((p, c) => fma(p, x, c), coefficients[0] as number);
}

// ---- weights and masses

const float = Math.fround;
const FLOAT_SERIES = [
  0x141fbba / 2 ** 37,
  0x15f3e54 / 2 ** 34,
  0x13b2d4c / 2 ** 31,
  0x1c6aee8 / 2 ** 29,
  0x1ebfbdc / 2 ** 27,
  0x162e43 / 2 ** 21,
];
const ROUND = 1.5 * 2 ** 23;

/** Bits that a mass has after the point. */
export function massBits(cols: number): number {
  let k = 62;
  while (k > 32 && 2 ** (63 - k) < cols) k--;
  return k;
}

/** Of logits of a row: e^((x − max)/T) as a float, and the same times 2^k as an integer. */
export function scaleOf(max: number, temperature: number, k: number): { weight(x: number): number; mass(x: number): bigint } {
  const scale = Math.min(1.4426950408889634 / temperature, 2 ** 126);
  const high = float(scale);
  const low = float(scale - high);
  const least = (power: number): number => Math.max(float(-power / high), -3.4028234663852886e38);
  const fraction = (d: number, one: number): { p: number; n: number } => {
    const n = fmaFloat(d, high, ROUND) - ROUND;
    const f = fmaFloat(d, low, fmaFloat(d, high, -n));
    return { p: [...FLOAT_SERIES, one].reduce((p, c) => fmaFloat(p, f, c)), n };
  };
  return {
    weight(x) {
      const d = float(x - max);
      if (!(d >= least(125))) return 0;
      const { p, n } = fraction(d, 1);
      return p * 2 ** n;
    },
    mass(x) {
      const d = float(x - max);
      if (!(d >= least(k + 1))) return 0n;
      const { p, n } = fraction(d, 3);
      return BigInt((p - 2) * 2 ** 62) >> BigInt(62 - k - n);
    },
  };
}

// ---- functions

const factorial = (n: number): number => (n < 2 ? 1 : n * factorial(n - 1));
const descending = (from: number, to: number): number[] => Array.from({ length: from - to + 1 }, (_, i) => from - i);
const exponentialSeries = descending(13, 0).map((n) => 1 / factorial(n));
const inclusionSeries = descending(15, 1).map((n) => 1 / factorial(n));
const artanhSeries = descending(16, 0).map((n) => 1 / (2 * n + 1));

const LOG2_E = 1.4426950408889634;
const LN_2 = 0.6931471805599453;
const LN_2_REST = 2.3190468138462996e-17;
const MAGIC = 6755399441055744;

export function exponential(z: number): number {
  if (z < -690) return 0;
  const n = fma(z, LOG2_E, MAGIC) - MAGIC;
  const r = fma(-n, LN_2_REST, fma(-n, LN_2, z));
  return horner(r, exponentialSeries) * 2 ** n;
}

/** 1 − e^−y. */
export function inclusion(y: number): number {
  return y < 0.5 ? y * horner(-y, inclusionSeries) : 1 - exponential(-y);
}

function artanh2(s: number): number {
  return 2 * s * horner(s * s, artanhSeries);
}

/** −ln(1 − (r + ½)/2^64). */
export function exponentialDraw(r: bigint): number {
  if (r < 1n << 63n) {
    const v = (Number(r) + 0.5) * 2 ** -64;
    return artanh2(v / (2 - v));
  }
  let f = (Number((1n << 64n) - 1n - r) + 0.5) * 2 ** -64;
  let exponent = 0;
  while (f < 1) [f, exponent] = [f * 2, exponent - 1];
  if (f > 1.5) [f, exponent] = [f / 2, exponent + 1];
  return fma(-exponent, LN_2, -artanh2((f - 1) / (f + 1)));
}

function words(counter: number, row: number, method: SampleMethod, seed: number, lower = false): number[] {
  const high = Math.floor(row / 2 ** 32) + (SAMPLE_METHODS.indexOf(method) + 1) * 2 ** 24;
  return [...philox([counter >>> 0, lower ? 2 ** 29 : 0, row >>> 0, high >>> 0], [seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0])];
}

/** 64 bits of draw `index` of a row; of a race, of column `index`. */
export function randomBits(index: number, row: number, method: SampleMethod, seed: number): bigint {
  if (method === 'race') {
    const of = (lower: boolean): bigint => BigInt(words(Math.floor(index / 4), row, method, seed, lower)[index % 4] as number);
    return (of(false) << 32n) | of(true);
  }
  const pair = words(Math.floor(index / 2), row, method, seed);
  const at = 2 * (index % 2);
  return BigInt(pair[at] as number) | (BigInt(pair[at + 1] as number) << 32n);
}

// ---- a row

export interface SampledRow {
  ids: Int32Array;
  weights: Float32Array;
  /** Of the race: the key after the last kept one, in units where the largest entry has rate 1; +∞ where all are kept. */
  tau: number;
}

const sumOf = (masses: bigint[]): bigint => masses.reduce((sum, mass) => sum + mass, 0n);

export function sampleRow(
  x: ArrayLike<number>,
  temperature: number,
  draws: number,
  method: SampleMethod,
  seed: number,
  row: number,
): SampledRow {
  const cols = x.length;
  const slots = Math.min(draws, cols);
  const out: SampledRow = { ids: new Int32Array(slots).fill(-1), weights: new Float32Array(slots), tau: Infinity };
  let max = -Infinity;
  for (let i = 0; i < cols; i++) max = Number.isNaN(x[i]) || Number.isNaN(max) ? NaN : Math.max(max, x[i] as number);
  if (!Number.isFinite(max)) {
    out.ids[0] = 0;
    out.weights[0] = NaN;
    return out;
  }
  const k = massBits(cols);
  const scale = scaleOf(max, temperature, k);
  const masses = Array.from(x, (value) => scale.mass(value));
  const total = sumOf(masses);
  const kept: [number, number][] = [];
  if (method === 'race') {
    const e = Array.from(x, (value) => scale.weight(value));
    const probability = (i: number): number => (exponential(((x[i] as number) - max) / temperature) * 2 ** k) / Number(total);
    const runners = e.flatMap((rate, i) => (rate > 0 ? [{ i, key: exponentialDraw(randomBits(i, row, method, seed)) / rate }] : []));
    if (runners.length <= draws) {
      for (const { i } of runners) kept.push([i, probability(i)]);
    } else {
      runners.sort((a, b) => a.key - b.key || a.i - b.i);
      out.tau = (runners[draws] as { key: number }).key;
      for (const { i } of runners.slice(0, draws)) kept.push([i, probability(i) / inclusion((e[i] as number) * out.tau)]);
    }
  } else {
    const isHead = masses.map((mass) => method === 'head_tail' && mass * BigInt(draws) >= total);
    const tail = sumOf(masses.filter((_, i) => !isHead[i]));
    const left = tail === 0n ? 0 : draws - isHead.filter(Boolean).length;
    const counts = new Map<number, number>();
    const ends: bigint[] = [];
    masses.reduce((end, mass, i) => (ends[i] = isHead[i] ? end : end + mass), 0n);
    for (let j = 0; j < left; j++) {
      const position = (randomBits(j, row, method, seed) * tail) >> 64n;
      let [low, high] = [0, cols - 1];
      while (low < high) {
        const middle = (low + high) >> 1;
        if ((ends[middle] as bigint) > position) high = middle;
        else low = middle + 1;
      }
      counts.set(low, (counts.get(low) ?? 0) + 1);
    }
    isHead.forEach((head, i) => head && kept.push([i, Number(masses[i]) / Number(total)]));
    for (const [i, count] of counts) kept.push([i, (count * (Number(tail) / Number(total))) / left]);
  }
  kept.sort((a, b) => a[0] - b[0]);
  kept.forEach(([i, weight], slot) => {
    out.ids[slot] = i;
    out.weights[slot] = weight;
  });
  return out;
}

/** FNV-1a over the bytes, 32 bits. */
export function hash(...arrays: ArrayBufferView[]): string {
  let h = 0x811c9dc5;
  for (const array of arrays)
    for (const byte of new Uint8Array(array.buffer, array.byteOffset, array.byteLength)) h = Math.imul(h ^ byte, 0x01000193);
  return (h >>> 0).toString(16).padStart(8, '0');
}
