// Counter-based random numbers (Philox4x32-10, Salmon et al. 2011): a pure function of seed and position.
import { randomInt } from 'node:crypto';

const multiplierA = 0xd2511f53;
const multiplierB = 0xcd9e8d57;
const weylA = 0x9e3779b9;
const weylB = 0xbb67ae85;

// The upper 32 bits of a 32 × 32 bit product.
function multiplyHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  const middle = aHigh * bLow + ((aLow * bLow) >>> 16);
  const carry = aLow * bHigh + (middle & 0xffff);
  return (aHigh * bHigh + Math.floor(middle / 0x10000) + Math.floor(carry / 0x10000)) >>> 0;
}

/** Four 32-bit words for one counter, written to `out`. Seed and counter are whole numbers below 2^53. */
export function philox(seed: number, counter: number, stream: number, out: Uint32Array): void {
  let c0 = counter >>> 0;
  let c1 = Math.floor(counter / 2 ** 32) >>> 0;
  let c2 = stream >>> 0;
  let c3 = 0;
  let k0 = seed >>> 0;
  let k1 = Math.floor(seed / 2 ** 32) >>> 0;
  for (let round = 0; round < 10; round++) {
    const highA = multiplyHigh(multiplierA, c0);
    const lowA = Math.imul(multiplierA, c0);
    const highB = multiplyHigh(multiplierB, c2);
    const lowB = Math.imul(multiplierB, c2);
    c0 = (highB ^ c1 ^ k0) >>> 0;
    c1 = lowB >>> 0;
    c2 = (highA ^ c3 ^ k1) >>> 0;
    c3 = lowA >>> 0;
    k0 = (k0 + weylA) >>> 0;
    k1 = (k1 + weylB) >>> 0;
  }
  out[0] = c0;
  out[1] = c1;
  out[2] = c2;
  out[3] = c3;
}

// Streams keep the uses of one seed apart.
const uniformStream = 1;
const normalStream = 2;
const orderStream = 3;

/** Uniform numbers in [0, 1) with 24 bits. */
export function fillUniform(into: Float32Array, seed: number): void {
  const words = new Uint32Array(4);
  for (let i = 0; i < into.length; i++) {
    if (i % 4 === 0) philox(seed, i / 4, uniformStream, words);
    into[i] = (words[i % 4]! >>> 8) / 2 ** 24;
  }
}

/** Standard normal numbers by Box and Muller's transform. */
export function fillNormal(into: Float32Array, seed: number): void {
  const words = new Uint32Array(4);
  const { length } = into;
  for (let i = 0; i < length; i += 4) {
    philox(seed, i / 4, normalStream, words);
    for (let pair = 0; pair < 4 && i + pair < length; pair += 2) {
      // (0, 1]: the logarithm stays finite.
      const radius = Math.sqrt(-2 * Math.log((words[pair]! + 1) / 2 ** 32));
      const angle = 2 * Math.PI * (words[pair + 1]! / 2 ** 32);
      into[i + pair] = radius * Math.cos(angle);
      if (i + pair + 1 < length) into[i + pair + 1] = radius * Math.sin(angle);
    }
  }
}

/** The numbers 0 ... size - 1 in an order fixed by the seed (Fisher and Yates). */
export function shuffledOrder(size: number, seed: number): Int32Array {
  const order = new Int32Array(size);
  for (let i = 0; i < size; i++) order[i] = i;
  const words = new Uint32Array(4);
  for (let i = size - 1; i > 0; i--) {
    philox(seed, i, orderStream, words);
    // 53 bits make the bias of the multiplication smaller than anything that could be measured.
    const pick = Math.floor((((words[0]! >>> 5) * 2 ** 26 + (words[1]! >>> 6)) / 2 ** 53) * (i + 1));
    const held = order[i]!;
    order[i] = order[pick]!;
    order[pick] = held;
  }
  return order;
}

/** A seed nobody chose. */
export function freshSeed(): number {
  return randomInt(2 ** 47);
}
