// Target caches to and from Apache Parquet, which other programs read and write: a row of lists for each row of targets.
import { closeSync, fsyncSync, openSync, renameSync, rmSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { AsyncBuffer, FileMetaData, SchemaElement } from 'hyparquet';
import { checkOptions, checkPositive } from '../check.js';
import { kindError, LimbeckError, wording } from '../errors.js';
import { badFile, fileError } from '../safetensors.js';
import { sparseTarget } from '../targets/target.js';
import { tensor } from '../tensor.js';
import { TargetCache } from './reader.js';
import { wrongSetting, type CacheKind, type CacheSettings } from './settings.js';
import { TargetCacheWriter, writerOptionNames, type FinishedShard, type TargetCacheWriterOptions } from './writer.js';

const metadataKey = 'limbeck';
const groupRows = 8192;
const valueNames = { log_probs: 'log_probs', weights: 'weights', counts: 'weights' } as const satisfies Record<CacheKind, string>;

/** An optional package, or a word on how to get it. */
async function optional<T>(action: string, name: string, load: () => Promise<T>): Promise<T> {
  try {
    return await load();
  } catch (error) {
    throw new LimbeckError(
      'not_installed',
      wording(action, `the optional package ${name} must be installed`, `it is not (npm install ${name})`),
      {
        cause: error,
      },
    );
  }
}

function schemaOf({ kind, temperature }: { kind: CacheKind; temperature: number | null }): SchemaElement[] {
  const list = (name: string, type: 'INT32' | 'FLOAT'): SchemaElement[] => [
    { name, converted_type: 'LIST', repetition_type: 'REQUIRED', num_children: 1 },
    { name: 'list', repetition_type: 'REPEATED', num_children: 1 },
    { name: 'element', type, repetition_type: 'REQUIRED' },
  ];
  const float = (name: string): SchemaElement => ({ name, type: 'FLOAT', repetition_type: 'REQUIRED' });
  const fields = [
    [{ name: 'row', type: 'INT64', repetition_type: 'REQUIRED' } satisfies SchemaElement],
    list('ids', 'INT32'),
    list(valueNames[kind], 'FLOAT'),
    kind === 'log_probs' ? [float('tail_log_mass')] : [],
    temperature === null ? [float('temperature')] : [],
  ];
  return [{ name: 'root', num_children: fields.filter((field) => field.length > 0).length }, ...fields.flat()];
}

/**
 * Writes all rows of a cache to a Parquet file: `row` INT64, `ids` LIST of INT32, `log_probs` or `weights` LIST of FLOAT,
 * `tail_log_mass` FLOAT for log-probabilities, `temperature` FLOAT where each row has its own. What holds for all rows is JSON
 * under the key 'limbeck' of the file's metadata. The file is written beside and renamed.
 *
 * Needs the optional package `hyparquet-writer`.
 *
 * @throws LimbeckError `not_installed` without it; `bad_file` where the file cannot be written, or a block of the cache is damaged
 */
export async function exportParquet(cache: TargetCache, path: string): Promise<{ path: string; rows: number; bytes: number }> {
  const action = 'write a Parquet file';
  if (!(cache instanceof TargetCache)) throw kindError(action, 'cache must be a TargetCache', cache);
  if (typeof path !== 'string' || path === '') throw kindError(action, 'path must be a string', path);
  const { ParquetWriter, fileWriter } = await optional(action, 'hyparquet-writer', () => import('hyparquet-writer'));
  const { kind, k, cols, bits, draws, temperature, inputHash, vocabularyHash } = cache;
  const settings: CacheSettings = { kind, k, cols, bits, draws, temperature, vocabularyHash, inputHash };
  const beside = join(dirname(path), `.${basename(path)}.${process.pid}-${randomBytes(4).toString('hex')}.tmp`);
  try {
    const writer = new ParquetWriter({
      writer: fileWriter(beside),
      schema: schemaOf(settings),
      kvMetadata: [{ key: metadataKey, value: JSON.stringify(settings) }],
      createdBy: 'limbeck',
    });
    let group = new Group(settings);
    for await (const { firstRow, rows, out } of cache.blocks()) {
      for (let r = 0; r < rows; r++) group.add(firstRow + r, out, r);
      if (group.row.length < groupRows) continue;
      await writer.write({ columnData: group.columns(), rowGroupSize: group.row.length });
      group = new Group(settings);
    }
    if (group.row.length > 0) await writer.write({ columnData: group.columns(), rowGroupSize: group.row.length });
    await writer.finish();
    const file = openSync(beside, 'r+');
    fsyncSync(file);
    closeSync(file);
    renameSync(beside, path);
  } catch (error) {
    rmSync(beside, { force: true });
    throw error instanceof LimbeckError ? error : fileError('write', path, 'the file must be writable', error);
  }
  return { path, rows: cache.size, bytes: (await stat(path)).size };
}

/** Rows as the columns of a row group. */
class Group {
  readonly row: bigint[] = [];
  private readonly ids: number[][] = [];
  private readonly values: number[][] = [];
  private readonly tail: number[] = [];
  private readonly temperature: number[] = [];

  constructor(private readonly settings: CacheSettings) {}

  add(
    row: number,
    out: { ids: Int32Array; values: Float32Array; tail: Float32Array | null; temperature: Float32Array | null },
    r: number,
  ): void {
    const { k } = this.settings;
    const empty = out.ids.subarray(r * k, (r + 1) * k).indexOf(-1);
    const end = r * k + (empty < 0 ? k : empty);
    this.row.push(BigInt(row));
    this.ids.push([...out.ids.subarray(r * k, end)]);
    this.values.push([...out.values.subarray(r * k, end)]);
    if (out.tail !== null) this.tail.push(out.tail[r]!);
    if (out.temperature !== null) this.temperature.push(out.temperature[r]!);
  }

  columns() {
    const { kind, temperature } = this.settings;
    return [
      { name: 'row', data: this.row },
      { name: 'ids', data: this.ids },
      { name: valueNames[kind], data: this.values },
      ...(kind === 'log_probs' ? [{ name: 'tail_log_mass', data: this.tail }] : []),
      ...(temperature === null ? [{ name: 'temperature', data: this.temperature }] : []),
    ];
  }
}

/** Options of {@link importParquet}: those of the writer, and what the file may not say. */
export interface ImportParquetOptions extends Omit<TargetCacheWriterOptions, 'resume'> {
  /** What the probabilities were taken at, where neither a column nor the metadata says it. Default 1. */
  temperature?: number;
}

/**
 * Makes a shard of a cache from a Parquet file: one that {@link exportParquet} wrote, or another program's with the columns `ids`
 * (a list of integers), one of `log_probs`, `probs` and `weights` (lists of floats of the same lengths), and if there are `tail_log_mass`,
 * `temperature`, and `row` (numbers that follow one another). A file that does not say its columns needs `cols`. It is read a row
 * group at a time.
 *
 * Needs the optional package `hyparquet`, and `hyparquet-compressors` for compressions other than Snappy.
 *
 * @throws LimbeckError `not_installed` without them; `bad_file` where it is no Parquet file or has other columns; RangeError as
 *   `append` does. The shard is thrown away then.
 */
export async function importParquet(path: string, folder: string, options?: ImportParquetOptions): Promise<FinishedShard> {
  const action = 'read a Parquet file';
  if (typeof path !== 'string' || path === '') throw kindError(action, 'path must be a string', path);
  const given = checkOptions(action, options, [...writerOptionNames.filter((name) => name !== 'resume'), 'temperature']);
  if (given.temperature !== undefined) checkPositive(action, 'temperature', given.temperature);
  const source = await ParquetRows.open(action, path);
  const { temperature: _, ...rest } = given;
  const known = source.settings;
  const defaults =
    known === null
      ? {}
      : {
          cols: known.cols,
          k: known.k,
          ...(known.draws === null ? { bits: known.bits } : { draws: known.draws }),
          ...(known.inputHash === null ? {} : { inputHash: known.inputHash }),
          ...(known.vocabularyHash === null ? {} : { vocabularyHash: known.vocabularyHash }),
        };
  const cols = given.cols ?? known?.cols;
  if (cols === undefined) throw kindError(action, 'cols must be given where the file does not say its columns', undefined);
  if (rest.bits !== undefined || rest.draws !== undefined) {
    delete (defaults as TargetCacheWriterOptions).bits;
    delete (defaults as TargetCacheWriterOptions).draws;
  }
  const settings = { k: await source.longest(given.k ?? known?.k), ...defaults, ...rest, cols };
  const firstRow = given.firstRow ?? (await source.firstRow());
  const writer = await TargetCacheWriter.open(folder, { ...settings, firstRow });
  try {
    for (let group = 0; group < source.groups; group++)
      await writer.append(await source.target(group, settings.k!, cols, given.temperature ?? known?.temperature ?? 1));
    return await writer.finish();
  } catch (error) {
    await writer.discard();
    throw error;
  }
}

/** Rows of a Parquet file, a row group at a time. */
class ParquetRows {
  private rowsRead = 0;
  private start: number | null = null;

  private constructor(
    private readonly path: string,
    private readonly parquet: typeof import('hyparquet'),
    private readonly file: AsyncBuffer,
    private readonly metadata: FileMetaData,
    private readonly compressors: import('hyparquet').Compressors | undefined,
    private readonly columns: ReadonlySet<string>,
    private readonly valueName: 'log_probs' | 'probs' | 'weights',
    /** What limbeck wrote into the metadata; null for other programs' files. */
    readonly settings: CacheSettings | null,
  ) {}

  static async open(action: string, path: string): Promise<ParquetRows> {
    const parquet = await optional(action, 'hyparquet', () => import('hyparquet'));
    const compressors = await import('hyparquet-compressors').then(
      (found) => found.compressors,
      () => undefined,
    );
    let file: AsyncBuffer;
    try {
      file = await parquet.asyncBufferFromFile(path);
    } catch (error) {
      throw fileError('read', path, 'the file must be readable', error);
    }
    const metadata = await wrapped(path, () => parquet.parquetMetadataAsync(file));
    const names = new Set(parquet.parquetSchema(metadata).children.map(({ element }) => element.name));
    const values = (['log_probs', 'probs', 'weights'] as const).filter((name) => names.has(name));
    if (!names.has('ids') || values.length !== 1)
      throw badFile(path, 'its columns must be ids and one of log_probs, probs and weights', `they are ${[...names].join(', ')}`);
    return new ParquetRows(path, parquet, file, metadata, compressors, names, values[0]!, settingsIn(path, metadata));
  }

  get groups(): number {
    return this.metadata.row_groups.length;
  }

  private async read(group: number, columns: string[]): Promise<Record<string, unknown>[]> {
    const { path, parquet, file, metadata, compressors } = this;
    const counts = metadata.row_groups.map(({ num_rows }) => Number(num_rows));
    const rowStart = counts.slice(0, group).reduce((sum, count) => sum + count, 0);
    return wrapped(path, () =>
      parquet.parquetReadObjects({ file, metadata, compressors, columns, rowStart, rowEnd: rowStart + counts[group]! }),
    );
  }

  /** Slots that the longest row needs, unless somebody says it. */
  async longest(known: number | undefined): Promise<number> {
    if (known !== undefined) return known;
    let longest = 1;
    for (let group = 0; group < this.groups; group++)
      for (const { ids } of await this.read(group, ['ids']))
        longest = Math.max(longest, Array.isArray(ids) || ArrayBuffer.isView(ids) ? (ids as ArrayLike<unknown>).length : 0);
    return longest;
  }

  async firstRow(): Promise<number> {
    if (!this.columns.has('row') || this.groups === 0) return 0;
    const [first] = await this.read(0, ['row']);
    return this.whole(first?.row, 'row', 0);
  }

  private whole(value: unknown, column: string, row: number): number {
    const number = typeof value === 'bigint' ? Number(value) : value;
    if (typeof number !== 'number' || !Number.isSafeInteger(number))
      throw badFile(this.path, `column ${column} must hold whole numbers`, `row ${row} has ${String(value)}`);
    return number;
  }

  private float(value: unknown, column: string, row: number): number {
    const number = typeof value === 'bigint' ? Number(value) : value;
    if (typeof number !== 'number') throw badFile(this.path, `column ${column} must hold numbers`, `row ${row} has ${String(value)}`);
    return number;
  }

  private list(value: unknown, column: string, row: number): ArrayLike<unknown> {
    if (!Array.isArray(value) && !ArrayBuffer.isView(value))
      throw badFile(this.path, `column ${column} must hold lists`, `row ${row} has ${value == null ? 'none' : `a ${typeof value}`}`);
    return value as unknown as ArrayLike<unknown>;
  }

  async target(group: number, k: number, cols: number, temperature: number) {
    const has = (name: string) => this.columns.has(name);
    const { valueName } = this;
    const hasTail = has('tail_log_mass') && valueName !== 'weights';
    const wanted = ['ids', valueName, ...(hasTail ? ['tail_log_mass'] : []), ...['temperature', 'row'].filter(has)];
    const rows = await this.read(group, wanted);
    const ids = new Int32Array(rows.length * k).fill(-1);
    const values = new Float32Array(rows.length * k).fill(valueName === 'log_probs' ? -Infinity : 0);
    const tail = new Float32Array(rows.length);
    const temperatures = new Float32Array(rows.length);
    rows.forEach((found, r) => {
      const number = this.rowsRead++;
      const [rowIds, rowValues] = [this.list(found.ids, 'ids', number), this.list(found[valueName], valueName, number)];
      if (rowIds.length !== rowValues.length)
        throw badFile(
          this.path,
          `ids and ${valueName} must be of one length`,
          `those of row ${number} are ${rowIds.length} and ${rowValues.length}`,
        );
      if (rowIds.length > k) throw badFile(this.path, `rows must have at most ${k} ids`, `row ${number} has ${rowIds.length}`);
      for (let j = 0; j < rowIds.length; j++) {
        const id = this.whole(rowIds[j], 'ids', number);
        if (id < 0 || id >= cols) throw badFile(this.path, `ids must be in [0, ${cols})`, `row ${number} has ${id}`);
        ids[r * k + j] = id;
        values[r * k + j] = this.float(rowValues[j], valueName, number);
      }
      if (hasTail) tail[r] = this.float(found.tail_log_mass, 'tail_log_mass', number);
      if (has('temperature')) temperatures[r] = this.float(found.temperature, 'temperature', number);
      if (has('row')) {
        const row = this.whole(found.row, 'row', number);
        this.start ??= row;
        if (row !== this.start + number)
          throw badFile(this.path, 'the numbers of column row must follow one another', `row ${this.start + number} is followed by ${row}`);
      }
    });
    const shape = [rows.length, k];
    const made = tensor(values, { shape, device: 'cpu' });
    return sparseTarget({
      indices: tensor(ids, { shape, device: 'cpu' }),
      ...(valueName === 'log_probs' ? { logProbs: made } : valueName === 'probs' ? { probs: made } : { weights: made }),
      ...(hasTail ? { tailLogMass: tensor(tail, { device: 'cpu' }) } : {}),
      temperature: has('temperature') ? tensor(temperatures, { device: 'cpu' }) : temperature,
      cols,
    });
  }
}

async function wrapped<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const { message } = error as Error;
    const cure = /codec/.test(message) ? ' (npm install hyparquet-compressors)' : '';
    throw badFile(path, 'it must be a Parquet file', `${message}${cure}`, error);
  }
}

function settingsIn(path: string, metadata: FileMetaData): CacheSettings | null {
  const text = metadata.key_value_metadata?.find(({ key }) => key === metadataKey)?.value;
  if (text === undefined) return null;
  let settings: CacheSettings;
  try {
    settings = JSON.parse(text) as CacheSettings;
  } catch (error) {
    throw badFile(path, `its metadata '${metadataKey}' must be JSON`, 'it is not', error);
  }
  const wrong = typeof settings === 'object' && settings !== null ? wrongSetting(settings) : 'kind';
  if (wrong !== undefined) throw badFile(path, `${wrong} in its metadata must be one that this version knows`, 'it is not');
  return settings;
}
