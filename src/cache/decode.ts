// The bytes of a block as rows again.
import { bitsFor, idBits, readBits, readIds } from './bits.js';
import { littleEndian, rangeOf, weightScale } from './encode.js';
import type { CacheSettings } from './settings.js';

/** Rows to be filled, with empty slots (id −1) everywhere. */
export interface RowsOut {
  ids: Int32Array;
  values: Float32Array;
  tail: Float32Array | null;
  temperature: Float32Array | null;
}

export function emptyRows({ k, kind, temperature }: CacheSettings, rows: number): RowsOut {
  return {
    ids: new Int32Array(rows * k).fill(-1),
    values: new Float32Array(rows * k).fill(kind === 'log_probs' ? -Infinity : 0),
    tail: kind === 'log_probs' ? new Float32Array(rows) : null,
    temperature: temperature === null ? new Float32Array(rows) : null,
  };
}

/** A block whose sections are found; its rows can be read in any order. */
export class Block {
  private readonly counts: Int32Array;
  /** First bit of each row's ids and values. */
  private readonly idsAt: Float64Array;
  private readonly valuesAt: Float64Array;
  private readonly mass: Float32Array | null = null;
  private readonly tail: Float32Array | null = null;
  private readonly scale: Uint16Array | null = null;
  private readonly temperature: Float32Array | null = null;
  private readonly keys: Float64Array;

  /** @throws a plain Error where the sections do not fill the bytes */
  constructor(
    private readonly settings: CacheSettings,
    readonly rows: number,
    readonly bytes: Uint8Array,
  ) {
    const { k, kind, cols, bits } = settings;
    const countBits = bitsFor(k + 1);
    let place = Math.ceil((rows * countBits) / 8);
    const floats = (): Float32Array => {
      const section = littleEndian(new Float32Array(this.copied(place, 4 * rows)));
      place += 4 * rows;
      return section;
    };
    if (kind === 'log_probs') {
      this.mass = floats();
      this.tail = floats();
    }
    if (kind !== 'counts') {
      this.scale = littleEndian(new Uint16Array(this.copied(place, 2 * rows)));
      place += 2 * rows;
    }
    if (settings.temperature === null) this.temperature = floats();
    this.counts = new Int32Array(rows);
    this.idsAt = new Float64Array(rows);
    this.valuesAt = new Float64Array(rows);
    let idsAt = 0;
    let valuesAt = 0;
    for (let r = 0; r < rows; r++) {
      const code = readBits(bytes, r * countBits, countBits);
      if (code > k + 1) throw new Error(`row ${r} has ${code} entries`);
      const n = code > k ? -1 : code;
      this.counts[r] = n;
      this.idsAt[r] = idsAt;
      this.valuesAt[r] = valuesAt;
      if (n < 0) continue;
      idsAt += idBits(n, cols);
      valuesAt += n * bits;
    }
    const valuesStart = place + Math.ceil(idsAt / 8);
    if (valuesStart + Math.ceil(valuesAt / 8) !== bytes.length)
      throw new Error(`its rows take ${valuesStart + Math.ceil(valuesAt / 8)} bytes of ${bytes.length}`);
    for (let r = 0; r < rows; r++) {
      this.idsAt[r]! += place * 8;
      this.valuesAt[r]! += valuesStart * 8;
    }
    this.keys = new Float64Array(k);
  }

  private copied(start: number, length: number): ArrayBuffer {
    if (start + length > this.bytes.length) throw new Error(`its sections end at ${start + length} of ${this.bytes.length} bytes`);
    return Uint8Array.prototype.slice.call(this.bytes, start, start + length).buffer as ArrayBuffer;
  }

  /** Reads row r into row `to`; throws a plain Error where its ids are none. */
  read(r: number, out: RowsOut, to: number): void {
    const { k, kind, cols, bits, draws } = this.settings;
    const n = this.counts[r]!;
    const at = to * k;
    if (out.temperature !== null) out.temperature[to] = this.temperature![r]!;
    if (out.tail !== null) out.tail[to] = this.tail![r]!;
    if (n < 0) {
      out.ids[at] = 0;
      out.values[at] = NaN;
      return;
    }
    const { ids, values } = out;
    const rowIds = ids.subarray(at, at + n);
    if (!readIds(this.bytes, this.idsAt[r]!, rowIds, n, cols)) throw new Error(`the ids of row ${r} are none`);
    const from = this.valuesAt[r]!;
    if (kind === 'log_probs') {
      this.readLogProbs(r, n, from, rowIds, values, at);
    } else if (kind === 'weights') {
      const { high, span } = weightScale(this.scale![r]!);
      const step = span / (2 ** bits - 1);
      for (let i = 0; i < n; i++) values[at + i] = 2 ** (high - step * readBits(this.bytes, from + i * bits, bits));
    } else {
      for (let i = 0; i < n; i++) values[at + i] = (readBits(this.bytes, from + i * bits, bits) + 1) / draws!;
    }
  }

  // Highest first, equal ones by id, as captureTopK has them; scaled to the mass that the row had.
  private readLogProbs(r: number, n: number, from: number, ids: Int32Array, values: Float32Array, at: number): void {
    const { bits } = this.settings;
    const { bytes } = this;
    const none = 2 ** bits - 1;
    const step = rangeOf(this.scale![r]!) / (none - 1);
    const keys = this.keys.subarray(0, n);
    let sum = 0;
    for (let i = 0; i < n; i++) {
      const code = readBits(bytes, from + i * bits, bits);
      keys[i] = code * 2 ** 24 + ids[i]!;
      if (code !== none) sum += Math.exp(-step * code);
    }
    keys.sort();
    const offset = this.mass![r]! - Math.log(sum);
    for (let i = 0; i < n; i++) {
      const key = keys[i]!;
      const code = Math.floor(key / 2 ** 24);
      ids[i] = key % 2 ** 24;
      values[at + i] = code === none ? -Infinity : offset - step * code;
    }
  }
}
