// What a cache holds, counted in one pass over it: kept mass, entropy, entries, and what the bytes are spent on.
import { bitsFor, idBits } from './bits.js';
import type { TargetCache } from './reader.js';

/** How rows are spread: counts of bins of one width, the first from `from` on, and the usual figures. */
export interface Spread {
  from: number;
  width: number;
  bins: number[];
  mean: number;
  least: number;
  largest: number;
}

/** What `limbeck inspect --json` prints. */
export interface CacheSummary {
  rows: number;
  shards: number;
  unfinishedShards: number;
  kind: string;
  k: number;
  cols: number;
  bits: number;
  draws: number | null;
  temperature: number | null;
  inputHash: string | null;
  vocabularyHash: string | null;
  ranges: [number, number][];
  bytes: number;
  bytesPerRow: number;
  /** Of bytesPerRow: ids, values, what each row has once, and heads, checksums and indices. */
  spent: { ids: number; values: number; row: number; file: number };
  /** Rows of NaN, which are in no spread. */
  nanRows: number;
  /** Σp, or Σw, of each row. */
  keptMass: Spread;
  /** −Σ p ln p in nats, the tail counted as one column; of weights, those scaled to sum to 1. */
  entropy: Spread;
  /** Entries of each row. */
  entries: Spread;
}

const shownBins = 20;

/** Counts into many narrow bins, so that one pass is enough whatever the range turns out to be. */
class Counter {
  private readonly bins: Float64Array;
  private count = 0;
  private sum = 0;
  private least = Infinity;
  private largest = -Infinity;

  /** @param most what is above is counted in the last bin */
  constructor(
    private readonly step: number,
    most: number,
  ) {
    this.bins = new Float64Array(Math.max(1, Math.round(most / step)));
  }

  private binOf(value: number): number {
    return Math.min(Math.max(Math.floor(value / this.step), 0), this.bins.length - 1);
  }

  add(value: number): void {
    this.count++;
    this.sum += value;
    this.least = Math.min(this.least, value);
    this.largest = Math.max(this.largest, value);
    this.bins[this.binOf(value)]!++;
  }

  /** The bins in use, put together to at most 20 of a width that is 1, 2 or 5 times a power of ten steps. */
  spread(): Spread {
    const { count, step } = this;
    if (count === 0) return { from: 0, width: step, bins: [0], mean: 0, least: 0, largest: 0 };
    const [low, high] = [this.binOf(this.least), this.binOf(this.largest)];
    const widths = Array.from({ length: 24 }, (_, i) => [1, 2, 5][i % 3]! * 10 ** Math.floor(i / 3));
    const width = widths.find((each) => Math.floor(high / each) - Math.floor(low / each) < shownBins)!;
    const first = Math.floor(low / width);
    const bins = Array.from({ length: Math.floor(high / width) - first + 1 }, (_, i) =>
      this.bins.subarray((first + i) * width, (first + i + 1) * width).reduce((sum, bin) => sum + bin, 0),
    );
    return { from: first * width * step, width: width * step, bins, mean: this.sum / count, least: this.least, largest: this.largest };
  }
}

/** What rows of a sparse target keep. */
export interface KeptSpreads {
  /** 'log_probs', or else weights. */
  kind: string;
  keptMass: Spread;
  entropy: Spread;
  entries: Spread;
}

/** Counts rows one by one: their kept mass, entropy and entries. */
export class KeptCounter {
  /** Rows of NaN, which are in no spread. */
  nanRows = 0;
  private readonly isWeights: boolean;
  private readonly mass: Counter;
  private readonly entropy = new Counter(0.001, 17);
  private readonly entries: Counter;

  constructor(
    private readonly kind: string,
    private readonly k: number,
  ) {
    this.isWeights = kind !== 'log_probs';
    this.mass = new Counter(0.0005, this.isWeights ? 8 : 1);
    this.entries = new Counter(1, k + 1);
  }

  /**
   * Counts row `r` of [rows, k] ids (those from −1 on are empty) and values.
   *
   * @param tailLogMass of each row; null for weights
   * @returns the row's entries, or 0 for one of NaN
   */
  add(r: number, ids: ArrayLike<number>, values: ArrayLike<number>, tailLogMass: ArrayLike<number> | null): number {
    const { k, isWeights } = this;
    let n = 0;
    let kept = 0;
    let negative = 0;
    for (let j = r * k; j < (r + 1) * k && ids[j] !== -1; j++, n++) {
      const value = values[j]!;
      const p = isWeights ? value : Math.exp(value);
      kept += p;
      if (p > 0) negative += p * Math.log(p);
    }
    if (Number.isNaN(kept)) {
      this.nanRows++;
      return 0;
    }
    this.mass.add(kept);
    this.entries.add(n);
    const tail = tailLogMass === null ? 0 : Math.exp(tailLogMass[r]!);
    const total = isWeights ? kept : 1;
    this.entropy.add(total === 0 ? 0 : Math.max(0, -(negative + (tail > 0 ? tail * Math.log(tail) : 0)) / total + Math.log(total)));
    return n;
  }

  spreads(): KeptSpreads {
    return { kind: this.kind, keptMass: this.mass.spread(), entropy: this.entropy.spread(), entries: this.entries.spread() };
  }
}

/** Reads the whole cache. @param listen called after each block with the rows read so far */
export async function summarizeCache(cache: TargetCache, listen?: (rows: number) => void): Promise<CacheSummary> {
  const { kind, k, cols, bits, draws, temperature, inputHash, vocabularyHash, shards, size } = cache;
  const counter = new KeptCounter(kind, k);
  let idBitsAll = 0;
  let valueBitsAll = 0;
  let done = 0;
  for await (const { rows, out } of cache.blocks()) {
    for (let r = 0; r < rows; r++) {
      const nanRows = counter.nanRows;
      const n = counter.add(r, out.ids, out.values, out.tail);
      if (counter.nanRows > nanRows) continue;
      idBitsAll += idBits(n, cols);
      valueBitsAll += n * bits;
    }
    done += rows;
    listen?.(done);
  }
  const rowBits = bitsFor(k + 1) + (kind === 'log_probs' ? 64 + 16 : kind === 'weights' ? 16 : 0) + (temperature === null ? 32 : 0);
  const spent = { ids: idBitsAll / 8 / size, values: valueBitsAll / 8 / size, row: rowBits / 8, file: 0 };
  const bytesPerRow = cache.bytes / size;
  spent.file = bytesPerRow - spent.ids - spent.values - spent.row;
  return {
    rows: size,
    shards: shards.length,
    unfinishedShards: shards.filter(({ finished }) => !finished).length,
    k,
    cols,
    bits,
    draws,
    temperature,
    inputHash,
    vocabularyHash,
    ranges: cache.ranges,
    bytes: cache.bytes,
    bytesPerRow,
    spent,
    nanRows: counter.nanRows,
    ...counter.spreads(),
  };
}

/** The spreads that are shown, with their titles. */
export function spreadsOf(summary: KeptSpreads): { title: string; spread: Spread; digits: number }[] {
  const isWeights = summary.kind !== 'log_probs';
  return [
    { title: isWeights ? 'sum of weights' : 'kept mass', spread: summary.keptMass, digits: 3 },
    { title: isWeights ? 'entropy of what was drawn, nats' : 'entropy, the tail as one column, nats', spread: summary.entropy, digits: 3 },
    { title: 'entries of a row', spread: summary.entries, digits: 0 },
  ];
}
