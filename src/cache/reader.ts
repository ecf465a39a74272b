// Reads a target cache: rows by number from any number of shards, each block checked when it is read and kept for the next time.
import { readdir } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { checkBoolean, checkOptions, checkWhole } from '../check.js';
import { parseDevice, type Device } from '../device.js';
import { kindError, LimbeckError, phrase, valueError, wording } from '../errors.js';
import { badFile, fileError } from '../safetensors.js';
import { SparseTarget } from '../targets/target.js';
import { fromArray } from '../tensor.js';
import { Block, emptyRows, type RowsOut } from './decode.js';
import { differentSetting, type CacheKind, type CacheSettings } from './settings.js';
import {
  blockHeadBytes,
  checkBlock,
  finishedName,
  openFile,
  readBytes,
  readBytesSync,
  readHeader,
  readIndex,
  scanBlocks,
  unfinishedName,
  type BlockPlace,
  type ShardHeader,
} from './shard.js';
import { checkHash } from './writer.js';

const action = 'read a target cache';
const readTogether = 1 << 20;
const blockCost = 256;

/** Options of {@link TargetCache.open}. */
export interface TargetCacheOptions {
  /** Hash of the inputs to be trained on: must be the one captured from. null: not compared, for looking at it only. */
  inputHash?: string | null;
  /** Hash of the student's vocabulary: must be the one captured from. null: not compared. */
  vocabularyHash?: string | null;
  /** Whether whole blocks of shards that are being written are there too. Default false. */
  unfinished?: boolean;
  /** Memory for blocks that were read, in bytes. Default 64 MiB. */
  cacheBytes?: number;
}

/** Options of reading rows. */
export interface CacheRowsOptions {
  /** Default: the one of {@link setDevice}. */
  device?: Device;
}

/** One file of a cache. */
export interface ShardInfo {
  path: string;
  /** Number in the data set of its first row. */
  firstRow: number;
  rows: number;
  blocks: number;
  bytes: number;
  finished: boolean;
}

interface Shard extends ShardInfo {
  name: string;
  file: FileHandle;
  header: ShardHeader;
  places: BlockPlace[];
  /** End of the last whole block. */
  end: number;
}

/** A row's place: shard, block in it, row in that. */
interface Place {
  shard: Shard;
  block: number;
  row: number;
}

// Only open() makes one: what it checks comes first.
const OPEN = Symbol('open');

/** Targets on disk, read by row number. Any number of readers may be at a cache, and a writer too. */
export class TargetCache {
  /** Of the rows that are read; the newest stay. */
  readonly #blocks = new Map<string, Block>();
  readonly #folder: string;
  readonly #options: TargetCacheOptions;
  #shards: Shard[] = [];
  #settings!: CacheSettings;
  #heldBytes = 0;
  #isOpen = true;

  private constructor(by: typeof OPEN, folder: string, options: TargetCacheOptions) {
    if (by !== OPEN) throw kindError('read a target cache', 'it must be opened by TargetCache.open()');
    this.#folder = folder;
    this.#options = options;
  }

  /**
   * Opens a cache. What was captured with a hash is opened with the same hash, so that nobody trains on other data by mistake.
   *
   * @throws LimbeckError `wrong_target` where a hash is another one, or is not given; `bad_file` where the folder has no shards, or one of
   *   them is truncated or damaged, or two hold the same row
   *
   * @example
   * const cache = await TargetCache.open('targets', { inputHash: hashOf(inputs) });
   * const loss = kdLoss(student, await cache.gather(batch), { residual: 'tail_bucket' });
   */
  static async open(folder: string, options?: TargetCacheOptions): Promise<TargetCache> {
    if (typeof folder !== 'string' || folder === '') throw kindError(action, 'folder must be a string', folder);
    const given = { ...checkOptions(action, options, ['inputHash', 'vocabularyHash', 'unfinished', 'cacheBytes']) };
    for (const name of ['inputHash', 'vocabularyHash'] as const) if (given[name] != null) checkHash(action, name, given[name]);
    if (given.unfinished !== undefined) checkBoolean(action, 'unfinished', given.unfinished);
    if (given.cacheBytes !== undefined) checkWhole(action, 'cacheBytes', given.cacheBytes, 0);
    const cache = new TargetCache(OPEN, folder, given);
    try {
      await cache.refresh();
      for (const name of ['inputHash', 'vocabularyHash'] as const) checkSame(folder, name, given[name], cache.#settings[name]);
    } catch (error) {
      await cache.close();
      throw error;
    }
    return cache;
  }

  /** Rows in all. */
  get size(): number {
    return this.#shards.reduce((sum, shard) => sum + shard.rows, 0);
  }

  /** The rows there are, as [first, end), in order; one range where no shard is missing. */
  get ranges(): [number, number][] {
    const ranges: [number, number][] = [];
    for (const { firstRow, rows } of this.#shards) {
      const last = ranges[ranges.length - 1];
      if (last !== undefined && last[1] === firstRow) last[1] += rows;
      else if (rows > 0) ranges.push([firstRow, firstRow + rows]);
    }
    return ranges;
  }

  get kind(): CacheKind {
    return this.#settings.kind;
  }

  get k(): number {
    return this.#settings.k;
  }

  get cols(): number {
    return this.#settings.cols;
  }

  /** Of each log-probability, weight or count. */
  get bits(): number {
    return this.#settings.bits;
  }

  /** N where weights are counts/N. */
  get draws(): number | null {
    return this.#settings.draws;
  }

  /** null where each row has its own. */
  get temperature(): number | null {
    return this.#settings.temperature;
  }

  get inputHash(): string | null {
    return this.#settings.inputHash;
  }

  get vocabularyHash(): string | null {
    return this.#settings.vocabularyHash;
  }

  /** Bytes of all files. */
  get bytes(): number {
    return this.#shards.reduce((sum, shard) => sum + shard.bytes, 0);
  }

  /** The files, by their first rows. */
  get shards(): ShardInfo[] {
    return this.#shards.map(({ path, firstRow, rows, blocks, bytes, finished }) => ({ path, firstRow, rows, blocks, bytes, finished }));
  }

  /** Looks for shards and blocks that came since. */
  async refresh(): Promise<void> {
    this.#checkOpen();
    return this.#refresh(5);
  }

  /** @param again how often the folder may change under the eyes */
  async #refresh(again: number): Promise<void> {
    const known = new Map(this.#shards.map((shard) => [shard.name, shard]));
    const found: Shard[] = [];
    const opened: FileHandle[] = [];
    try {
      for (const name of await this.#names()) {
        const earlier = known.get(name);
        const shard = earlier?.finished ? earlier : earlier ? await this.#grown(earlier) : await this.#opened(name, opened);
        if (shard === 'renamed') return await this.#refreshAgain(opened, again);
        if (shard !== null) found.push(shard);
      }
      found.sort((a, b) => a.firstRow - b.firstRow);
      this.#checkShards(found);
    } catch (error) {
      for (const file of opened) await file.close();
      throw error;
    }
    for (const shard of this.#shards) if (!found.some(({ file }) => file === shard.file)) await this.#drop(shard);
    this.#shards = found;
    this.#settings = found[0]!.header.settings;
  }

  async #refreshAgain(opened: FileHandle[], again: number): Promise<void> {
    for (const file of opened.splice(0)) await file.close();
    if (again === 0) throw badFile(this.#folder, 'it must hold still while it is opened', 'its shards are renamed all the time');
    return this.#refresh(again - 1);
  }

  /**
   * Rows begin to end − 1 of the data set.
   *
   * @throws RangeError for rows that no shard holds; LimbeckError `bad_file` where a block is damaged
   */
  async rows(begin: number, end: number, options?: CacheRowsOptions): Promise<SparseTarget> {
    checkWhole(action, 'begin', begin);
    checkWhole(action, 'end', end, begin);
    return this.#read(
      Array.from({ length: end - begin }, (_, i) => begin + i),
      options,
    );
  }

  /**
   * The rows of a mini-batch, in the order asked for; a row may come twice.
   *
   * @param rowIds numbers in the data set
   * @throws RangeError for rows that no shard holds; LimbeckError `bad_file` where a block is damaged
   */
  async gather(rowIds: ArrayLike<number>, options?: CacheRowsOptions): Promise<SparseTarget> {
    if (!Array.isArray(rowIds) && (!ArrayBuffer.isView(rowIds) || rowIds instanceof DataView))
      throw kindError(action, 'rowIds must be numbers', rowIds);
    return this.#read(rowIds, options);
  }

  /**
   * Reads everything and checks every checksum and every row.
   *
   * @param listen called after each block with the rows checked so far
   * @throws LimbeckError `bad_file` naming the file and the place of the first damage
   */
  async verify(listen?: (rows: number) => void): Promise<{ rows: number; blocks: number; bytes: number }> {
    let rows = 0;
    let blocks = 0;
    for await (const block of this.blocks()) {
      rows += block.rows;
      blocks++;
      listen?.(rows);
    }
    return { rows, blocks, bytes: this.bytes };
  }

  /** @internal All rows in order, a block at a time; the arrays are used again. */
  async *blocks(): AsyncGenerator<{ firstRow: number; rows: number; out: RowsOut }> {
    this.#checkOpen();
    for (const shard of this.#shards) {
      const out = emptyRows(this.#settings, Math.min(shard.header.blockRows, shard.rows));
      for (const [index, place] of shard.places.entries()) {
        const [block] = await this.#load(shard, [index]);
        out.ids.fill(-1);
        out.values.fill(this.kind === 'log_probs' ? -Infinity : 0);
        for (let r = 0; r < place.rows; r++) decode(shard, block!, place, r, out, r);
        yield { firstRow: shard.firstRow + place.firstRow, rows: place.rows, out };
      }
    }
  }

  /** Closes the files. */
  async close(): Promise<void> {
    this.#isOpen = false;
    this.#blocks.clear();
    for (const { file } of this.#shards) await file.close();
    this.#shards = [];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #checkOpen(): void {
    if (!this.#isOpen) throw kindError(action, 'the cache must be open', phrase('it is closed'));
  }

  // ---- shards

  async #names(): Promise<string[]> {
    let names: string[];
    try {
      names = await readdir(this.#folder);
    } catch (error) {
      throw fileError('read', this.#folder, 'the folder must be readable', error);
    }
    const finished = names.filter((name) => finishedName.test(name));
    // A shard that is written anew is read as it was.
    const unfinished = names.filter((name) => unfinishedName.test(name) && !finished.includes(name.replace(/part$/, 'targets')));
    if (finished.length + (this.#options.unfinished ? unfinished.length : 0) === 0)
      throw badFile(
        this.#folder,
        'it must hold shards of a target cache',
        unfinished.length > 0 ? 'they are all unfinished; unfinished: true reads their whole blocks' : 'there is none',
      );
    return this.#options.unfinished ? [...finished, ...unfinished] : finished;
  }

  async #opened(name: string, opened: FileHandle[]): Promise<Shard | null | 'renamed'> {
    const path = join(this.#folder, name);
    const finished = finishedName.test(name);
    let file: FileHandle;
    try {
      file = await openFile(path, 'r');
    } catch (error) {
      // Finished since the folder was listed.
      if (!finished && ((error as Error).cause as NodeJS.ErrnoException | undefined)?.code === 'ENOENT') return 'renamed';
      throw error;
    }
    opened.push(file);
    const { size } = await file.stat();
    const found = await readHeader(path, file, size);
    if (found === null) {
      if (finished) throw badFile(path, 'it must hold its whole header', `it ends at byte ${size}; it is truncated`);
      opened.pop();
      await file.close();
      return null;
    }
    const { header, end } = found;
    const scan = finished
      ? { places: await readIndex(path, file, size, header, end), end: size }
      : scanBlocks(path, file, size, header, { places: [], end });
    return { name, path, file, header, finished, firstRow: header.firstRow, ...counted(scan) };
  }

  async #grown(shard: Shard): Promise<Shard> {
    const { path, file, header } = shard;
    const { size } = await file.stat();
    return { ...shard, ...counted(scanBlocks(path, file, size, header, shard)) };
  }

  #checkShards(shards: readonly Shard[]): void {
    const [first] = shards;
    if (first === undefined) throw badFile(this.#folder, 'it must hold shards with rows', 'there is none yet');
    shards.forEach((shard, i) => {
      const difference = differentSetting(first.header.settings, shard.header.settings);
      if (difference !== undefined)
        throw badFile(shard.path, `it must be of the same capture as ${first.name}`, `there and here ${difference}`);
      const before = shards[i - 1];
      if (before !== undefined && before.firstRow + before.rows > shard.firstRow)
        throw badFile(
          shard.path,
          `its rows must not be in ${before.name} too`,
          `that holds rows ${before.firstRow} to ${before.firstRow + before.rows - 1}, and this begins at ${shard.firstRow}`,
        );
    });
  }

  async #drop(shard: Shard): Promise<void> {
    for (const key of [...this.#blocks.keys()]) if (key.startsWith(`${shard.name} `)) this.#forget(key);
    await shard.file.close();
  }

  // ---- rows

  async #read(rowIds: ArrayLike<number>, options: CacheRowsOptions | undefined): Promise<SparseTarget> {
    const ordinal = this.#ordinal(options);
    const wanted = this.#wanted(rowIds);
    const out = emptyRows(this.#settings, rowIds.length);
    for (const [shard, blocks] of wanted) {
      const order = [...blocks.keys()].sort((a, b) => a - b);
      for (let at = 0; at < order.length;) {
        const together = this.#together(shard, order, at);
        decodeAll(shard, together, await this.#load(shard, together), blocks, out);
        at += together.length;
      }
    }
    return this.#target(out, rowIds.length, ordinal);
  }

  /** @internal As {@link gather}, on the spot: for loops that may not wait between two steps. */
  gatherSync(rowIds: ArrayLike<number>, options?: CacheRowsOptions): SparseTarget {
    const ordinal = this.#ordinal(options);
    const wanted = this.#wanted(rowIds);
    const out = emptyRows(this.#settings, rowIds.length);
    for (const [shard, blocks] of wanted) {
      const order = [...blocks.keys()].sort((a, b) => a - b);
      for (let at = 0; at < order.length;) {
        const together = this.#together(shard, order, at);
        const held = this.#held(shard, together);
        const { start, length } = extentOf(shard, together);
        const loaded = held ?? this.#blocksOf(shard, together, readBytesSync(shard.path, shard.file, start, length));
        decodeAll(shard, together, loaded, blocks, out);
        at += together.length;
      }
    }
    return this.#target(out, rowIds.length, ordinal);
  }

  #ordinal(options: CacheRowsOptions | undefined): number {
    this.#checkOpen();
    const { device } = checkOptions(action, options, ['device']);
    return parseDevice(action, device);
  }

  /** Which rows of which blocks go where. */
  #wanted(rowIds: ArrayLike<number>): Map<Shard, Wanted> {
    const wanted = new Map<Shard, Wanted>();
    for (let i = 0; i < rowIds.length; i++) {
      const { shard, block, row } = this.#find(rowIds[i], i);
      let blocks = wanted.get(shard);
      if (blocks === undefined) wanted.set(shard, (blocks = new Map()));
      const rows = blocks.get(block);
      if (rows === undefined) blocks.set(block, [{ row, to: i }]);
      else rows.push({ row, to: i });
    }
    return wanted;
  }

  #target(out: RowsOut, count: number, ordinal: number): SparseTarget {
    const settings = this.#settings;
    const made = (array: Float32Array, shape: number[]) => fromArray(array, 'float32', Object.freeze(shape), ordinal, action);
    const { k, kind } = settings;
    const values = made(out.values, [count, k]);
    return new SparseTarget({
      indices: fromArray(out.ids, 'int32', Object.freeze([count, k]), ordinal, action),
      logProbs: kind === 'log_probs' ? values : null,
      weights: kind === 'log_probs' ? null : values,
      tailLogMass: out.tail === null ? null : made(out.tail, [count]),
      temperature: settings.temperature ?? made(out.temperature!, [count]),
      cols: settings.cols,
    });
  }

  #find(rowId: unknown, i: number): Place {
    if (typeof rowId !== 'number') throw kindError(action, 'rowIds must be numbers', rowId);
    const shard = lastBefore(this.#shards, rowId, (each) => each.firstRow);
    const inside = shard === undefined ? -1 : rowId - shard.firstRow;
    if (shard === undefined || !Number.isInteger(rowId) || inside >= shard.rows) {
      const ranges = this.ranges.map(([begin, end]) => `${begin} to ${end - 1}`);
      throw valueError(action, `rows must be among ${ranges.join(', ')}`, phrase(`number ${i} is ${rowId}`));
    }
    // All blocks but those that were flushed are full: the guess is nearly always right.
    const guess = shard.places[Math.floor(inside / shard.header.blockRows)];
    const place =
      guess !== undefined && guess.firstRow <= inside && inside < guess.firstRow + guess.rows
        ? guess
        : lastBefore(shard.places, inside, (each) => each.firstRow)!;
    const block = place === guess ? Math.floor(inside / shard.header.blockRows) : shard.places.indexOf(place);
    return { shard, block, row: inside - place.firstRow };
  }

  /** Blocks from `order[at]` on that lie side by side, are not in memory, and are not too much at once. */
  #together(shard: Shard, order: readonly number[], at: number): number[] {
    const group = [order[at]!];
    if (this.#blocks.has(keyOf(shard, order[at]!))) return group;
    const start = shard.places[order[at]!]!.offset;
    for (let i = at + 1; i < order.length; i++) {
      const index = order[i]!;
      const { offset, bytes } = shard.places[index]!;
      if (index !== order[i - 1]! + 1 || offset + bytes - start > readTogether || this.#blocks.has(keyOf(shard, index))) break;
      group.push(index);
    }
    return group;
  }

  /** Blocks that lie side by side, from memory or the file. */
  async #load(shard: Shard, indices: readonly number[]): Promise<Block[]> {
    const held = this.#held(shard, indices);
    if (held !== null) return held;
    const { start, length } = extentOf(shard, indices);
    return this.#blocksOf(shard, indices, await readBytes(shard.path, shard.file, start, length));
  }

  #held(shard: Shard, indices: readonly number[]): Block[] | null {
    const key = keyOf(shard, indices[0]!);
    const held = indices.length === 1 ? this.#blocks.get(key) : undefined;
    if (held === undefined) return null;
    this.#blocks.delete(key);
    this.#blocks.set(key, held);
    return [held];
  }

  #blocksOf(shard: Shard, indices: readonly number[], bytes: Buffer): Block[] {
    const places = indices.map((index) => shard.places[index]!);
    const start = places[0]!.offset;
    return places.map((place, i) => {
      const from = place.offset - start;
      const contents = checkBlock(shard.path, place, bytes.subarray(from, from + blockHeadBytes + place.bytes));
      const block = asDamaged(shard, place, () => new Block(shard.header.settings, place.rows, contents));
      this.#keep(keyOf(shard, indices[i]!), block);
      return block;
    });
  }

  #keep(key: string, block: Block): void {
    if (!this.#isOpen || this.#blocks.has(key)) return;
    this.#blocks.set(key, block);
    this.#heldBytes += costOf(block);
    const most = this.#options.cacheBytes ?? 64 * 2 ** 20;
    for (const oldest of this.#blocks.keys()) {
      if (this.#heldBytes <= most) break;
      this.#forget(oldest);
    }
  }

  #forget(key: string): void {
    this.#heldBytes -= costOf(this.#blocks.get(key)!);
    this.#blocks.delete(key);
  }
}

/** By block: its rows, and where they go. */
type Wanted = Map<number, { row: number; to: number }[]>;

/** Where blocks that lie side by side begin, and their bytes. */
function extentOf(shard: Shard, indices: readonly number[]): { start: number; length: number } {
  const start = shard.places[indices[0]!]!.offset;
  const last = shard.places[indices[indices.length - 1]!]!;
  return { start, length: last.offset + blockHeadBytes + last.bytes - start };
}

function decodeAll(shard: Shard, indices: readonly number[], loaded: readonly Block[], wanted: Wanted, out: RowsOut): void {
  indices.forEach((index, i) => {
    for (const { row, to } of wanted.get(index)!) decode(shard, loaded[i]!, shard.places[index]!, row, out, to);
  });
}

const keyOf = (shard: Shard, block: number): string => `${shard.name} ${block}`;

const costOf = (block: Block): number => block.bytes.length + 32 * block.rows + blockCost;

function counted({ places, end }: { places: BlockPlace[]; end: number }): Pick<Shard, 'places' | 'end' | 'rows' | 'blocks' | 'bytes'> {
  const last = places[places.length - 1];
  return { places, end, rows: last === undefined ? 0 : last.firstRow + last.rows, blocks: places.length, bytes: end };
}

/** The last of what is sorted whose number is at most `value`. */
function lastBefore<T>(sorted: readonly T[], value: number, numberOf: (each: T) => number): T | undefined {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (numberOf(sorted[middle]!) <= value) low = middle + 1;
    else high = middle;
  }
  return sorted[low - 1];
}

function asDamaged<T>(shard: Shard, place: BlockPlace, work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw badFile(
      shard.path,
      `the block of rows ${place.firstRow} to ${place.firstRow + place.rows - 1} of the shard must hold rows`,
      (error as Error).message,
      error,
    );
  }
}

function decode(shard: Shard, block: Block, place: BlockPlace, row: number, out: RowsOut, to: number): void {
  asDamaged(shard, place, () => block.read(row, out, to));
}

function checkSame(folder: string, name: 'inputHash' | 'vocabularyHash', given: string | null | undefined, captured: string | null): void {
  const what = name === 'inputHash' ? 'inputs' : 'vocabulary';
  if (given === null || (given ?? null) === captured) return;
  throw new LimbeckError(
    'wrong_target',
    given === undefined
      ? wording(
          `read ${folder}`,
          `${name} must be given, for it was captured with that of its ${what}`,
          'it is missing; null looks at it without comparing',
        )
      : wording(
          `read ${folder}`,
          `its ${what} must be those of ${name} ${given}`,
          captured === null ? 'it was captured without a hash' : `they were ${captured}`,
        ),
  );
}
