// Writes one shard of a target cache: rows are appended, blocks reach the file as they fill, and finish() gives the file its name.
import { mkdir, rename, rm, stat } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { checkBoolean, checkOptions, checkWhole } from '../check.js';
import { kindError, LimbeckError, phrase, valueError, wording } from '../errors.js';
import { packageVersion } from '../native.js';
import { fileError, syncFolder } from '../safetensors.js';
import { SparseTarget } from '../targets/target.js';
import { hostCopy, Tensor } from '../tensor.js';
import { bitsFor } from './bits.js';
import { BlockEncoder, checkRows, mostRowBytes, type HostRows } from './encode.js';
import { lock, unlock } from './lock.js';
import { differentSetting, leastBits, mostBits, mostBlockRows, mostCols, mostK, type CacheSettings } from './settings.js';
import {
  blockBytes,
  blockHeadBytes,
  checkBlock,
  finishedFile,
  fitsMemory,
  headerBytes,
  indexBytes,
  openFile,
  readBytes,
  readHeader,
  readIndex,
  scanBlocks,
  unfinishedFile,
  type BlockPlace,
  type ShardHeader,
} from './shard.js';

const action = 'write a target cache';

/** Options of {@link TargetCacheWriter.open}. */
export interface TargetCacheWriterOptions {
  /** Hash of the inputs the teacher saw ({@link hashOf}); a reader must then name the same. */
  inputHash?: string;
  /** Hash of the vocabulary, for the same purpose. */
  vocabularyHash?: string;
  /** Bits of each log-probability or weight, in [4, 16]. Default 8 for log-probabilities, 7 for weights. */
  bits?: number;
  /** N of targets whose weights are counts/N ('with_replacement'): they are then stored exactly, in log₂ N bits. */
  draws?: number;
  /** Slots of a row. Default: those of the first target. */
  k?: number;
  /** Columns of the teacher's rows, in [1, 2²⁴]. Default: what the first target says. */
  cols?: number;
  /** Number of this shard; each writer has its own. Default 0. */
  shard?: number;
  /** Number in the data set of the shard's first row. Default 0. */
  firstRow?: number;
  /** Rows of a block: what is checked, read and at most lost together, in [1, 65536]. Default 128, fewer where they would exceed 1 MiB. */
  blockRows?: number;
  /** Goes on with the shard if it is there, finished or not. Default false. */
  resume?: boolean;
  /** Throws an unfinished shard away, and replaces a finished one when this one is finished. Default false. */
  fresh?: boolean;
}

export const writerOptionNames = [
  'inputHash',
  'vocabularyHash',
  'bits',
  'draws',
  'k',
  'cols',
  'shard',
  'firstRow',
  'blockRows',
  'resume',
  'fresh',
] as const;

export function checkHash(action: string, name: string, value: unknown): string {
  if (typeof value !== 'string') throw kindError(action, `${name} must be a string`, value);
  if (value === '' || value.length > 256)
    throw valueError(action, `${name} must have 1 to 256 characters`, phrase(`it has ${value.length}`));
  return value;
}

/** What {@link TargetCacheWriter.finish} made. */
export interface FinishedShard {
  path: string;
  rows: number;
  bytes: number;
}

// Only open() makes one: what it checks comes first.
const OPEN = Symbol('open');

/**
 * One shard of a target cache being written. Rows are gathered in memory until a block is full; whole blocks are in the file
 * `shard-00000.part`, which `finish()` completes and renames. After a crash or kill −9 the blocks in it are whole, and a writer
 * with `resume: true` goes on behind them: the row to append next is `firstRow + rows`.
 */
export class TargetCacheWriter {
  /** Number of the shard. */
  readonly shard: number;
  /** Number in the data set of the shard's first row. */
  readonly firstRow: number;
  /** The shard was finished before; there is nothing to append. */
  readonly isFinished: boolean;
  readonly #folder: string;
  readonly #options: TargetCacheWriterOptions;
  #settings: CacheSettings | null = null;
  #encoder: BlockEncoder | null = null;
  #file: FileHandle | null = null;
  #places: BlockPlace[] = [];
  /** Rows in whole blocks on their way to the file. */
  #blockedRows = 0;
  #end = 0;
  #isHeaderDue = true;
  #isOpen = true;
  #failure: unknown = null;
  #work: Promise<unknown> = Promise.resolve();

  private constructor(by: typeof OPEN, folder: string, options: TargetCacheWriterOptions, isFinished: boolean) {
    if (by !== OPEN) throw kindError('write a target cache', 'it must be opened by TargetCacheWriter.open()');
    this.#folder = folder;
    this.#options = options;
    this.shard = options.shard ?? 0;
    this.firstRow = options.firstRow ?? 0;
    this.isFinished = isFinished;
  }

  /**
   * Opens a shard for writing; the folder is made where it is not there.
   *
   * @throws LimbeckError `unfinished_shard` or `finished_shard` where one is there and neither `resume` nor `fresh` says what of it;
   *   `in_use` where another writer is at it; `wrong_target` where the one to go on with was captured otherwise; `bad_file`
   *
   * @example
   * const writer = await TargetCacheWriter.open('targets', { inputHash: hashOf(inputs), resume: true });
   * for (let row = writer.rows; row < inputs.length; row += 256) await writer.append(captureTopK(teacherLogits(row), 64));
   * await writer.finish();
   */
  static async open(folder: string, options?: TargetCacheWriterOptions): Promise<TargetCacheWriter> {
    if (typeof folder !== 'string' || folder === '') throw kindError(action, 'folder must be a string', folder);
    const given = { ...checkOptions(action, options, writerOptionNames) };
    checkWriterOptions(given);
    const { shard = 0, resume = false, fresh = false } = given;
    try {
      await mkdir(folder, { recursive: true });
    } catch (error) {
      throw fileError('write', folder, 'the folder must be there or be made', error);
    }
    const part = join(folder, unfinishedFile(shard));
    const final = join(folder, finishedFile(shard));
    if (!fresh && (await isThere(final))) {
      if (!resume) throw left('finished_shard', final, `it must not be there yet: it is; resume leaves it as it is, fresh replaces it`);
      const writer = new TargetCacheWriter(OPEN, folder, given, true);
      await writer.#recall(final, true);
      return writer;
    }
    lock(`${part}.lock`);
    try {
      const isStarted = await isThere(part);
      if (isStarted && !resume && !fresh)
        throw left('unfinished_shard', part, 'it must not be there yet: it is; resume goes on with it, fresh starts over');
      const writer = new TargetCacheWriter(OPEN, folder, given, false);
      if (isStarted && !fresh) await writer.#recall(part, false);
      else writer.#file = await openFile(part, 'w');
      return writer;
    } catch (error) {
      unlock(`${part}.lock`);
      throw error;
    }
  }

  /** Rows of the shard so far, those not yet in the file included. */
  get rows(): number {
    return this.#blockedRows + (this.#encoder?.rows ?? 0);
  }

  /** Rows in whole blocks in the file: what a crash now would leave. */
  get safeRows(): number {
    const last = this.#places[this.#places.length - 1];
    return last === undefined ? 0 : last.firstRow + last.rows;
  }

  /**
   * Appends the rows of a target; all of them or, where it is refused, none. Resolves when the blocks they filled are in the file.
   *
   * @throws TypeError for what is no sparse target; LimbeckError `wrong_target` where kind, columns or temperature are not the
   *   shard's; RangeError for ids outside the columns, twice the same id among probabilities, or a mass above 1 + 1e-3
   */
  async append(target: SparseTarget): Promise<void> {
    this.#checkOpen();
    const settings = this.#settingsFor(target);
    const rows = checkRows(settings, hostRows(target));
    this.#settings ??= settings;
    const encoder = (this.#encoder ??= new BlockEncoder(settings, this.#blockRows));
    let last: Promise<void> | null = null;
    for (let r = 0; r < rows.rows; r++) {
      encoder.add(rows, r, this.firstRow + this.rows);
      if (encoder.isFull) last = this.#writeBlock(encoder);
    }
    await last;
  }

  /** Writes what is in memory as a block of its own and waits until the disk has everything. */
  async flush(): Promise<void> {
    this.#checkOpen();
    if (this.#encoder !== null && this.#encoder.rows > 0) void this.#writeBlock(this.#encoder).catch(() => undefined);
    await this.#enqueue(async () => this.#attempt(() => this.#file!.sync()));
  }

  /** Writes the rest and the index, waits for the disk, and renames the file: from then on it is a shard. */
  async finish(): Promise<FinishedShard> {
    this.#checkOpen();
    if (this.rows === 0) throw valueError('finish a target cache', 'rows must have been appended', phrase('there are none'));
    if (this.#encoder !== null && this.#encoder.rows > 0) void this.#writeBlock(this.#encoder).catch(() => undefined);
    return this.#enqueue(async () => {
      const final = join(this.#folder, finishedFile(this.shard));
      await this.#write(indexBytes(this.#places, this.#end));
      await this.#attempt(async () => {
        await this.#file!.sync();
        await this.#file!.close();
        this.#file = null;
        await rename(this.#part, final);
        syncFolder(this.#folder);
      });
      this.#isOpen = false;
      unlock(`${this.#part}.lock`);
      return { path: final, rows: this.#blockedRows, bytes: this.#end };
    });
  }

  /** Stops without finishing: what is in memory is written as a block, and a writer with `resume: true` goes on. */
  async close(): Promise<void> {
    if (!this.#isOpen || this.isFinished) return;
    try {
      if (this.#failure === null) await this.flush();
    } finally {
      this.#isOpen = false;
      await this.#file?.close();
      this.#file = null;
      unlock(`${this.#part}.lock`);
    }
  }

  /** Stops and removes the unfinished shard. */
  async discard(): Promise<void> {
    if (!this.#isOpen || this.isFinished) return;
    this.#isOpen = false;
    await this.#work.catch(() => undefined);
    await this.#file?.close();
    this.#file = null;
    await rm(this.#part, { force: true });
    unlock(`${this.#part}.lock`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  get #part(): string {
    return join(this.#folder, unfinishedFile(this.shard));
  }

  get #blockRows(): number {
    const fitting = Math.floor(2 ** 20 / mostRowBytes(this.#settings!));
    return this.#options.blockRows ?? Math.max(1, Math.min(128, fitting));
  }

  #checkOpen(): void {
    if (this.#failure !== null) throw this.#failure;
    if (this.isFinished || !this.#isOpen)
      throw kindError(action, 'the shard must not be finished', phrase(this.isFinished ? 'it was before it was opened' : 'it is closed'));
  }

  // ---- settings

  #settingsFor(target: SparseTarget): CacheSettings {
    if (!(target instanceof SparseTarget)) throw kindError(action, 'target must be a sparse target', target);
    const { bits, draws, k, cols, inputHash = null, vocabularyHash = null } = this.#options;
    const kind = target.logProbs !== null ? 'log_probs' : draws === undefined ? 'weights' : 'counts';
    if (kind === 'log_probs' && draws !== undefined)
      throw kindError(action, 'draws must be given for targets of weights alone', phrase('this one has log-probabilities'));
    const settings: CacheSettings = {
      kind,
      cols: this.#settings?.cols ?? cols ?? target.cols ?? missingCols(),
      k: this.#settings?.k ?? k ?? Math.max(1, target.k),
      bits: kind === 'counts' ? bitsFor(draws! - 1) : (bits ?? this.#settings?.bits ?? (kind === 'weights' ? 7 : 8)),
      draws: draws ?? null,
      temperature: typeof target.temperature === 'number' ? target.temperature : null,
      vocabularyHash,
      inputHash,
    };
    if (settings.cols > mostCols) throw valueError(action, `cols must be at most ${mostCols}`, settings.cols);
    if (settings.k > mostK) throw valueError(action, `k must be at most ${mostK}`, settings.k);
    if (!fitsMemory(settings, this.#options.blockRows ?? 1))
      throw valueError(
        action,
        'blockRows must be small enough for blocks of 256 MiB',
        phrase(`it is ${this.#options.blockRows} with k ${settings.k}`),
      );
    if (target.k > settings.k)
      throw valueError(action, `rows must have at most the shard's ${settings.k} slots`, phrase(`these have ${target.k}`));
    if (target.cols !== null && target.cols !== settings.cols)
      throw new LimbeckError('wrong_target', wording(action, `rows must be of ${settings.cols} columns`, `these are of ${target.cols}`));
    const difference = this.#settings === null ? undefined : differentSetting(this.#settings, settings);
    if (difference !== undefined)
      throw new LimbeckError('wrong_target', wording(action, 'every row must be of one kind', `in the shard and here ${difference}`));
    return settings;
  }

  /** What an earlier writer left. */
  async #recall(path: string, isWhole: boolean): Promise<void> {
    const file = await openFile(path, isWhole ? 'r' : 'r+');
    try {
      const { size } = await file.stat();
      const found = await readHeader(path, file, size);
      if (found === null) {
        if (!isWhole) await file.truncate(0);
      } else {
        const { header, end } = found;
        this.#compare(path, header);
        this.#settings = header.settings;
        this.#options.blockRows = header.blockRows;
        this.#isHeaderDue = false;
        if (isWhole) this.#places = await readIndex(path, file, size, header, end);
        else this.#end = await this.#recallBlocks(path, file, size, header, end);
        this.#blockedRows = this.safeRows;
      }
      if (!isWhole) this.#file = file;
    } finally {
      if (this.#file !== file) await file.close();
    }
  }

  async #recallBlocks(path: string, file: FileHandle, size: number, header: ShardHeader, start: number): Promise<number> {
    const { places, end } = scanBlocks(path, file, size, header, { places: [], end: start });
    this.#places = places;
    const last = places[places.length - 1];
    let whole = end;
    // Cut off by the machine's own end, its size may be there without its contents.
    if (last !== undefined && !(await isBlockWhole(path, file, last))) whole = places.pop()!.offset;
    await this.#attempt(() => file.truncate(whole));
    return whole;
  }

  #compare(path: string, { settings, firstRow }: ShardHeader): void {
    const { inputHash = null, vocabularyHash = null, draws = null, bits, k, cols } = this.#options;
    const expected = { ...settings, inputHash, vocabularyHash, draws, bits: draws === null ? (bits ?? settings.bits) : settings.bits };
    const difference =
      differentSetting(settings, { ...expected, k: k ?? settings.k, cols: cols ?? settings.cols }) ??
      (firstRow === this.firstRow ? undefined : `firstRow is ${firstRow} and ${this.firstRow}`);
    if (difference !== undefined)
      throw new LimbeckError(
        'wrong_target',
        wording(`go on with ${path}`, 'it must be of the same capture', `there and here ${difference}`),
      );
  }

  // ---- the file

  #writeBlock(encoder: BlockEncoder): Promise<void> {
    const { rows } = encoder;
    const { bytes, crc } = blockBytes(rows, encoder.take());
    const firstRow = this.#blockedRows;
    this.#blockedRows += rows;
    return this.#enqueue(async () => {
      if (this.#isHeaderDue) {
        const header = { settings: this.#settings!, firstRow: this.firstRow, blockRows: this.#blockRows, limbeck: packageVersion() };
        await this.#write(headerBytes(header));
        this.#isHeaderDue = false;
      }
      const offset = this.#end;
      await this.#write(bytes);
      this.#places.push({ offset, firstRow, rows, bytes: bytes.length - blockHeadBytes, crc });
    });
  }

  async #write(bytes: Buffer): Promise<void> {
    await this.#attempt(async () => {
      for (let done = 0; done < bytes.length;)
        done += (await this.#file!.write(bytes, done, bytes.length - done, this.#end + done)).bytesWritten;
    });
    this.#end += bytes.length;
  }

  async #attempt<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw fileError('write', this.#part, 'the file must be writable', error);
    }
  }

  /** One thing after the other; after a failure nothing more, for a block between would be missing. */
  #enqueue<T>(work: () => Promise<T>): Promise<T> {
    const next = this.#work.then(() => {
      if (this.#failure !== null) throw this.#failure;
      return work();
    });
    this.#work = next.catch((error: unknown) => void (this.#failure ??= error));
    return next;
  }
}

function missingCols(): never {
  throw kindError(action, 'cols must be given where the target does not say its columns', undefined);
}

function left(code: string, path: string, rest: string): LimbeckError {
  return new LimbeckError(code, `Cannot write ${path}: ${rest}`);
}

function checkWriterOptions(given: TargetCacheWriterOptions): void {
  const whole: [keyof TargetCacheWriterOptions, number, number][] = [
    ['bits', leastBits, mostBits],
    ['draws', 1, 2 ** 24],
    ['k', 1, mostK],
    ['cols', 1, mostCols],
    ['shard', 0, 999_999_999],
    ['firstRow', 0, Number.MAX_SAFE_INTEGER],
    ['blockRows', 1, mostBlockRows],
  ];
  for (const [name, least, most] of whole) if (given[name] !== undefined) checkWhole(action, name, given[name], least, most);
  for (const name of ['inputHash', 'vocabularyHash'] as const) if (given[name] !== undefined) checkHash(action, name, given[name]);
  for (const name of ['resume', 'fresh'] as const) if (given[name] !== undefined) checkBoolean(action, name, given[name]);
  if (given.resume === true && given.fresh === true) throw kindError(action, 'resume and fresh must not both be true', phrase('they are'));
  if (given.draws !== undefined && given.bits !== undefined)
    throw kindError(action, 'bits must not be given with draws, which say them', phrase('they are'));
}

async function isThere(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}

async function isBlockWhole(path: string, file: FileHandle, place: BlockPlace): Promise<boolean> {
  const block = await readBytes(path, file, place.offset, blockHeadBytes + place.bytes);
  try {
    checkBlock(path, place, block);
    return true;
  } catch {
    return false;
  }
}

function hostRows(target: SparseTarget): HostRows {
  const { indices, logProbs, weights, temperature, k } = target;
  const values = (logProbs ?? weights)!;
  const tail = logProbs === null ? null : target.tailLogMass;
  return {
    rows: indices.shape[0]!,
    k,
    ids: hostCopy(indices, action) as Int32Array,
    values: hostCopy(values, action) as Float32Array,
    tail: tail === null ? null : (hostCopy(tail, action) as Float32Array),
    temperature: temperature instanceof Tensor ? (hostCopy(temperature, action) as Float32Array) : null,
  };
}
