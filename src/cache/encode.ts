// Rows of a sparse target as the bytes of a block: checked whole first, so that a refused target leaves nothing behind.
import { phrase, valueError } from '../errors.js';
import { BitWriter, bitsFor, writeIds } from './bits.js';
import type { CacheSettings } from './settings.js';

const action = 'append to a target cache';

/** Rows on the host. */
export interface HostRows {
  rows: number;
  /** Slots of a row here; at most those of the cache. */
  k: number;
  ids: Int32Array;
  values: Float32Array;
  /** [rows]; null for weights. */
  tail: Float32Array | null;
  /** [rows]; null where all rows have the cache's own. */
  temperature: Float32Array | null;
}

/** Rows that can be written: their slots in the order of the ids, and what the packing of each row needs. */
export interface CheckedRows extends HostRows {
  /** Entries of each row; −1 for a row of NaN. */
  counts: Int32Array;
  /** Slots of a row's entries, ids ascending. */
  slots: Int32Array;
  /** ln Σp of each row. */
  mass: Float32Array;
  /** 16 bits of each row: the range of its log-probabilities, or of the logarithms of its weights. */
  scale: Uint16Array;
}

const word = new Float32Array(1);
const wordBits = new Uint32Array(word.buffer);

/** The upper half of the least float32 whose lower half is zero and which is not below x ≥ 0. */
function roundedUp(x: number): number {
  word[0] = x;
  const bits = wordBits[0]!;
  return (bits >>> 16) + ((bits & 0xffff) !== 0 || word[0] < x ? 1 : 0);
}

/** The range that {@link CheckedRows.scale} says. */
export function rangeOf(scale: number): number {
  wordBits[0] = scale << 16;
  return word[0]!;
}

/** Highest weight's and lowest weight's octave: weights are 2^(high − span·code/most). */
export function weightScale(scale: number): { high: number; span: number } {
  return { high: ((scale << 24) >> 24) / 2, span: (scale >>> 8) / 4 };
}

/** Slots of a row. */
export const slotsPerKey = 2 ** 24;

/** @throws RangeError for what the cache cannot hold, naming the row */
export function checkRows(settings: CacheSettings, from: HostRows): CheckedRows {
  const { cols, kind } = settings;
  const { rows, k, ids, values, tail } = from;
  const counts = new Int32Array(rows);
  const slots = new Int32Array(rows * k);
  const mass = new Float32Array(rows);
  const scale = new Uint16Array(rows);
  const keys = new Float64Array(k);
  for (let r = 0; r < rows; r++) {
    let n = 0;
    let isSorted = true;
    let isNaNRow = tail !== null && Number.isNaN(tail[r]!);
    for (let j = 0; j < k; j++) {
      const id = ids[r * k + j]!;
      if (id === -1) continue;
      if (!(id >= 0 && id < cols)) throw valueError(action, `ids must be in [0, ${cols})`, phrase(`row ${r} has ${id}`));
      const value = values[r * k + j]!;
      if (Number.isNaN(value)) isNaNRow = true;
      if (kind !== 'log_probs' && value === 0) continue;
      keys[n] = id * slotsPerKey + j;
      if (n > 0 && keys[n]! < keys[n - 1]!) isSorted = false;
      n++;
    }
    if (isNaNRow) {
      if (kind === 'counts') throw valueError(action, 'weights must be counts of draws', phrase(`they are NaN in row ${r}`));
      counts[r] = -1;
      continue;
    }
    if (!isSorted) keys.subarray(0, n).sort();
    for (let i = 0; i < n; i++) slots[r * k + i] = keys[i]! % slotsPerKey;
    counts[r] = n;
    if (kind === 'log_probs') {
      mass[r] = checkLogProbs(from, r, n, slots);
      scale[r] = logScale(from, r, n, slots);
    } else if (kind === 'weights') {
      scale[r] = n === 0 ? 0 : checkWeights(from, r, n, slots);
    } else {
      checkCounts(from, r, n, slots, settings.draws!);
    }
  }
  return { ...from, counts, slots, mass, scale };
}

function checkLogProbs({ k, ids, values, tail }: HostRows, r: number, n: number, slots: Int32Array): number {
  let max = -Infinity;
  for (let i = 0; i < n; i++) {
    const at = r * k + slots[r * k + i]!;
    if (i > 0 && ids[at] === ids[r * k + slots[r * k + i - 1]!]!)
      throw valueError(action, 'ids of a row of probabilities must differ', phrase(`row ${r} has ${ids[at]} twice`));
    max = Math.max(max, values[at]!);
  }
  let sum = 0;
  if (max > -Infinity) for (let i = 0; i < n; i++) sum += Math.exp(values[r * k + slots[r * k + i]!]! - max);
  const mass = sum === 0 ? -Infinity : max + Math.log(sum);
  const whole = Math.exp(mass) + Math.exp(tail![r]!);
  if (!(whole <= 1 + 1e-3))
    throw valueError(action, 'the mass of a row with its tail must be at most 1', phrase(`it is ${whole} in row ${r}`));
  return mass;
}

function logScale({ k, values }: HostRows, r: number, n: number, slots: Int32Array): number {
  let max = -Infinity;
  let min = Infinity;
  for (let i = 0; i < n; i++) {
    const value = values[r * k + slots[r * k + i]!]!;
    max = Math.max(max, value);
    if (value !== -Infinity) min = Math.min(min, value);
  }
  return max === -Infinity ? 0 : roundedUp(max - min);
}

function checkWeights({ k, values }: HostRows, r: number, n: number, slots: Int32Array): number {
  let max = 0;
  let min = Infinity;
  for (let i = 0; i < n; i++) {
    const value = values[r * k + slots[r * k + i]!]!;
    max = Math.max(max, value);
    min = Math.min(min, value);
  }
  if (!(min > 0 && max < Infinity))
    throw valueError(action, 'weights must be finite and not negative', phrase(`row ${r} has ${min > 0 ? max : min}`));
  const high = Math.ceil(2 * Math.log2(max));
  const span = Math.ceil(4 * (high / 2 - Math.log2(min)));
  if (high < -128 || high > 127 || span > 255)
    throw valueError(
      action,
      'weights of a row must be within 2^63 of 1 and 2^63 of each other',
      phrase(`those of row ${r} are from ${min} to ${max}`),
    );
  return (high & 255) | (span << 8);
}

function checkCounts({ k, values }: HostRows, r: number, n: number, slots: Int32Array, draws: number): void {
  for (let i = 0; i < n; i++) {
    const value = values[r * k + slots[r * k + i]!]!;
    const count = Math.round(value * draws);
    if (!(count >= 1 && count <= draws && Math.fround(count / draws) === value))
      throw valueError(action, `weights must be counts of ${draws} draws (count/${draws})`, phrase(`row ${r} has ${value}`));
  }
}

/** A number in [0, 1) for each entry, of which the same row has always the same. */
function ditherOf(row: number, id: number, value: number): number {
  word[0] = value;
  let h = (wordBits[0]! ^ Math.imul(id, 0x9e3779b1)) >>> 0;
  for (const more of [row >>> 0, Math.floor(row / 2 ** 32)]) {
    h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
    h = Math.imul(h ^ (h >>> 13) ^ more, 0xc2b2ae35);
  }
  h = Math.imul(h ^ (h >>> 16), 0x7feb352d);
  h = Math.imul(h ^ (h >>> 15), 0x846ca68b);
  return ((h ^ (h >>> 16)) >>> 0) / 2 ** 32;
}

/** Bytes that a row takes at most, beside those of the block. */
export function mostRowBytes({ k, bits }: CacheSettings): number {
  return 4 * k + Math.ceil((k * bits) / 8) + 20;
}

/** Gathers rows until the block is taken. */
export class BlockEncoder {
  rows = 0;
  private readonly counts: BitWriter;
  private readonly ids: BitWriter;
  private readonly values: BitWriter;
  private readonly mass: Float32Array;
  private readonly tail: Float32Array;
  private readonly scale: Uint16Array;
  private readonly temperature: Float32Array;
  private readonly rowIds: Int32Array;

  constructor(
    private readonly settings: CacheSettings,
    readonly blockRows: number,
  ) {
    const { k, bits } = settings;
    this.counts = new BitWriter(new Uint8Array(4 * blockRows + 8));
    this.ids = new BitWriter(new Uint8Array(4 * k * blockRows + 8));
    this.values = new BitWriter(new Uint8Array(Math.ceil((k * blockRows * bits) / 8) + 8));
    this.mass = new Float32Array(blockRows);
    this.tail = new Float32Array(blockRows);
    this.scale = new Uint16Array(blockRows);
    this.temperature = new Float32Array(blockRows);
    this.rowIds = new Int32Array(k);
  }

  get isFull(): boolean {
    return this.rows === this.blockRows;
  }

  /** @param number the row's number in the whole data set */
  add(from: CheckedRows, r: number, number: number): void {
    const { settings, rows, rowIds } = this;
    const { k, ids, slots } = from;
    const n = from.counts[r]!;
    this.counts.write(n < 0 ? settings.k + 1 : n, bitsFor(settings.k + 1));
    this.scale[rows] = from.scale[r]!;
    this.mass[rows] = from.mass[r]!;
    this.tail[rows] = from.tail === null ? 0 : n < 0 ? NaN : from.tail[r]!;
    this.temperature[rows] = from.temperature === null ? 0 : from.temperature[r]!;
    this.rows++;
    if (n <= 0) return;
    for (let i = 0; i < n; i++) rowIds[i] = ids[r * k + slots[r * k + i]!]!;
    writeIds(this.ids, rowIds, n, settings.cols);
    if (settings.kind === 'log_probs') this.addLogProbs(from, r, n);
    else if (settings.kind === 'weights') this.addWeights(from, r, n, number);
    else
      for (let i = 0; i < n; i++)
        this.values.write(Math.round(from.values[r * k + slots[r * k + i]!]! * settings.draws!) - 1, settings.bits);
  }

  private addLogProbs({ k, values, slots, scale }: CheckedRows, r: number, n: number): void {
    const { bits } = this.settings;
    const none = 2 ** bits - 1;
    const step = rangeOf(scale[r]!) / (none - 1);
    let max = -Infinity;
    for (let i = 0; i < n; i++) max = Math.max(max, values[r * k + slots[r * k + i]!]!);
    for (let i = 0; i < n; i++) {
      const value = values[r * k + slots[r * k + i]!]!;
      this.values.write(value === -Infinity ? none : step === 0 ? 0 : Math.round((max - value) / step), bits);
    }
  }

  // Rounded to the level above or below at random, so that the level's expectation is the weight.
  private addWeights({ k, ids, values, slots, scale }: CheckedRows, r: number, n: number, number: number): void {
    const { bits } = this.settings;
    const most = 2 ** bits - 1;
    const { high, span } = weightScale(scale[r]!);
    for (let i = 0; i < n; i++) {
      const slot = r * k + slots[r * k + i]!;
      const value = values[slot]!;
      let code = 0;
      if (span > 0) {
        const place = Math.min(Math.max(((high - Math.log2(value)) * most) / span, 0), most);
        code = Math.min(Math.floor(place), most - 1);
        const above = 2 ** (high - (span * code) / most);
        const below = 2 ** (high - (span * (code + 1)) / most);
        if (ditherOf(number, ids[slot]!, value) * (above - below) < above - value) code++;
      }
      this.values.write(code, bits);
    }
  }

  /** The block's contents, and an empty block from here on. */
  take(): Buffer[] {
    const { settings, rows } = this;
    const bytesOf = (array: Float32Array | Uint16Array): Buffer => Buffer.from(littleEndian(array.slice(0, rows)).buffer);
    const parts: Buffer[] = [Buffer.from(this.counts.bytes.slice(0, this.counts.size))];
    if (settings.kind === 'log_probs') parts.push(bytesOf(this.mass), bytesOf(this.tail));
    if (settings.kind !== 'counts') parts.push(bytesOf(this.scale));
    if (settings.temperature === null) parts.push(bytesOf(this.temperature));
    for (const bits of [this.ids, this.values]) parts.push(Buffer.from(bits.bytes.slice(0, bits.size)));
    for (const bits of [this.counts, this.ids, this.values]) bits.clear();
    this.rows = 0;
    return parts;
  }
}

const isLittle = new Uint8Array(new Uint16Array([1]).buffer)[0] === 1;

/** Numbers in the byte order of the file; a machine of the other order turns them round. */
export function littleEndian<T extends Float32Array | Uint16Array>(array: T): T {
  if (isLittle) return array;
  const bytes = Buffer.from(array.buffer, array.byteOffset, array.byteLength);
  if (array.BYTES_PER_ELEMENT === 2) bytes.swap16();
  else bytes.swap32();
  return array;
}
