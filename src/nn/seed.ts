// Seeds for the parts of a whole: one number from a base seed and what it is for.
import { kindError } from '../errors.js';

/** A seed below 2^53 that depends on every part, numbers and words, and on their order. */
export function deriveSeed(...parts: readonly (number | string)[]): number {
  for (const part of parts) {
    if (typeof part !== 'number' && typeof part !== 'string')
      throw kindError('derive a seed', 'every part must be a number or a string', part);
  }
  let a = 0x9e3779b9;
  let b = 0x85ebca6b;
  for (const byte of new TextEncoder().encode(JSON.stringify(parts))) {
    a = mix(a ^ byte, 0xcc9e2d51);
    b = mix(b + byte, 0x1b873593);
  }
  return (mix(a, 0xc2b2ae35) >>> 11) * 2 ** 32 + (mix(b ^ a, 0x27d4eb2f) >>> 0);
}

function mix(x: number, multiplier: number): number {
  x = Math.imul(x ^ (x >>> 16), multiplier);
  return x ^ (x >>> 13);
}
