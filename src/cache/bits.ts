// Whole numbers packed into bits, lowest bit first, and ascending ids by the code of Elias and Fano.

/** Bits that hold 0 to `most`. */
export function bitsFor(most: number): number {
  return 32 - Math.clz32(most);
}

/** Packs into memory that must be zero, with four bytes to spare behind the last bit. */
export class BitWriter {
  /** Bits written. */
  at = 0;

  constructor(readonly bytes: Uint8Array) {}

  /** @param value below 2^width, width at most 24 */
  write(value: number, width: number): void {
    const { bytes } = this;
    const place = this.at >>> 3;
    const shifted = value << (this.at & 7);
    bytes[place]! |= shifted;
    bytes[place + 1]! |= shifted >>> 8;
    bytes[place + 2]! |= shifted >>> 16;
    bytes[place + 3]! |= shifted >>> 24;
    this.at += width;
  }

  /** Whole bytes in use. */
  get size(): number {
    return (this.at + 7) >>> 3;
  }

  /** Makes the memory zero again. */
  clear(): void {
    this.bytes.fill(0, 0, this.size);
    this.at = 0;
  }
}

/** A number of `width` bits, at most 24; the bytes must reach four further than its first. */
export function readBits(bytes: Uint8Array, at: number, width: number): number {
  const place = at >>> 3;
  const word = bytes[place]! | (bytes[place + 1]! << 8) | (bytes[place + 2]! << 16) | (bytes[place + 3]! << 24);
  return (word >>> (at & 7)) & ((1 << width) - 1);
}

/** Bits of each id that are written as they are; the rest is counted in unary. */
export function lowBits(count: number, cols: number): number {
  return count === 0 || count > cols ? 0 : 31 - Math.clz32(Math.floor(cols / count));
}

/** Bits of `count` ascending ids below `cols`: about 2 + log₂(cols/count) each, whatever the ids. */
export function idBits(count: number, cols: number): number {
  if (count === 0) return 0;
  const low = lowBits(count, cols);
  return count * low + count + ((cols - 1) >>> low);
}

/** @param ids ascending; the first `count` are written */
export function writeIds(into: BitWriter, ids: ArrayLike<number>, count: number, cols: number): void {
  if (count === 0) return;
  const low = lowBits(count, cols);
  const mask = (1 << low) - 1;
  for (let i = 0; i < count; i++) into.write(ids[i]! & mask, low);
  const { bytes, at } = into;
  for (let i = 0; i < count; i++) {
    const place = at + (ids[i]! >>> low) + i;
    bytes[place >>> 3]! |= 1 << (place & 7);
  }
  into.at = at + count + ((cols - 1) >>> low);
}

/** Reads what {@link writeIds} wrote; false where the bits are none of its. */
export function readIds(bytes: Uint8Array, at: number, into: Int32Array, count: number, cols: number): boolean {
  if (count === 0) return true;
  const low = lowBits(count, cols);
  const high = at + count * low;
  const end = high + count + ((cols - 1) >>> low);
  let place = high;
  for (let i = 0; i < count; i++) {
    while (place < end && ((bytes[place >>> 3]! >>> (place & 7)) & 1) === 0) place++;
    if (place >= end) return false;
    const id = ((place - high - i) << low) | (low === 0 ? 0 : readBits(bytes, at + i * low, low));
    if (id >= cols) return false;
    into[i] = id;
    place++;
  }
  return true;
}
