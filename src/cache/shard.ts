// A shard file: a header, blocks that each carry their checksum, and at the end an index of them. Nothing of it is believed before it is checked.
import { readSync } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { crc32 } from 'node:zlib';
import { LimbeckError } from '../errors.js';
import { badFile, fileError, readAll } from '../safetensors.js';
import { mostRowBytes } from './encode.js';
import { isWhole, mostBlockRows, wrongSetting, type CacheSettings } from './settings.js';

export const formatName = 'limbeck target cache 1';
export const finishedName = /^shard-(\d{5,9})\.targets$/;
export const unfinishedName = /^shard-(\d{5,9})\.part$/;

export const finishedFile = (shard: number): string => `shard-${String(shard).padStart(5, '0')}.targets`;
export const unfinishedFile = (shard: number): string => `shard-${String(shard).padStart(5, '0')}.part`;

/** What a shard's header says. */
export interface ShardHeader {
  settings: CacheSettings;
  /** Number in the data set of the shard's first row. */
  firstRow: number;
  /** Rows of a full block. */
  blockRows: number;
  limbeck: string;
}

/** A block's place in its file. */
export interface BlockPlace {
  /** Of the block's own head. */
  offset: number;
  /** First row, counted from the shard's first. */
  firstRow: number;
  rows: number;
  /** Of the contents. */
  bytes: number;
  crc: number;
}

const magic = Buffer.from('LMBKTGT1', 'latin1');
const blockMagic = 0x4b4c424c;
const indexMagic = 0x5844494c;
const prefixBytes = 16;
/** Bytes before a block's contents. */
export const blockHeadBytes = 16;
const indexEntryBytes = 16;
const trailerBytes = 32;
const mostHeaderBytes = 1 << 20;

export function headerBytes({ settings, firstRow, blockRows, limbeck }: ShardHeader): Buffer {
  let text = JSON.stringify({ format: formatName, limbeck, ...settings, firstRow, blockRows });
  text += ' '.repeat((8 - (Buffer.byteLength(text) % 8)) % 8);
  const json = Buffer.from(text);
  const prefix = Buffer.alloc(prefixBytes);
  magic.copy(prefix);
  prefix.writeUInt32LE(json.length, 8);
  prefix.writeUInt32LE(crc32(json), 12);
  return Buffer.concat([prefix, json]);
}

/** A block with its head, in one piece. */
export function blockBytes(rows: number, parts: readonly Buffer[]): { bytes: Buffer; crc: number } {
  const head = Buffer.alloc(blockHeadBytes);
  const bytes = Buffer.concat([head, ...parts]);
  bytes.writeUInt32LE(blockMagic, 0);
  bytes.writeUInt32LE(rows, 4);
  bytes.writeUInt32LE(bytes.length - blockHeadBytes, 8);
  const crc = blockCrc(bytes);
  bytes.writeUInt32LE(crc, 12);
  return { bytes, crc };
}

/** Of the head without the checksum, and the contents. */
function blockCrc(block: Uint8Array): number {
  return crc32(block.subarray(blockHeadBytes), crc32(block.subarray(0, 12)));
}

/** The index and the trailer that ends a finished shard. */
export function indexBytes(places: readonly BlockPlace[], offset: number): Buffer {
  const index = Buffer.alloc(4 + places.length * indexEntryBytes);
  index.writeUInt32LE(indexMagic, 0);
  places.forEach((place, i) => {
    const at = 4 + i * indexEntryBytes;
    index.writeUInt32LE(place.offset % 2 ** 32, at);
    index.writeUInt32LE(Math.floor(place.offset / 2 ** 32), at + 4);
    index.writeUInt32LE(place.rows, at + 8);
    index.writeUInt32LE(place.crc, at + 12);
  });
  const trailer = Buffer.alloc(trailerBytes);
  trailer.writeUInt32LE(offset % 2 ** 32, 0);
  trailer.writeUInt32LE(Math.floor(offset / 2 ** 32), 4);
  trailer.writeUInt32LE(places.length, 8);
  trailer.writeUInt32LE(crc32(index), 12);
  magic.copy(trailer, 16);
  trailer.writeUInt32LE(crc32(trailer.subarray(0, 24)), 24);
  trailer.write('END\n', 28, 'latin1');
  return Buffer.concat([index, trailer]);
}

/** Opens a file of a cache; what the system says becomes a `bad_file`. */
export async function openFile(path: string, flags: string): Promise<FileHandle> {
  try {
    return await open(path, flags);
  } catch (error) {
    throw fileError(flags === 'r' ? 'read' : 'write', path, `the file must be ${flags === 'r' ? 'readable' : 'writable'}`, error);
  }
}

/** Bytes of a file; `bad_file` where it ends before them. */
export async function readBytes(path: string, file: FileHandle, position: number, length: number): Promise<Buffer> {
  const buffer = Buffer.allocUnsafeSlow(length);
  try {
    for (let done = 0; done < length;) {
      const { bytesRead } = await file.read(buffer, done, length - done, position + done);
      if (bytesRead === 0)
        throw badFile(path, `it must reach to byte ${position + length}`, `it ends at ${position + done}; it is truncated`);
      done += bytesRead;
    }
  } catch (error) {
    throw error instanceof LimbeckError ? error : fileError('read', path, 'the file must be readable', error);
  }
  return buffer;
}

/** As {@link readBytes}, on the spot. */
export function readBytesSync(path: string, file: FileHandle, position: number, length: number): Buffer {
  const buffer = Buffer.allocUnsafeSlow(length);
  try {
    for (let done = 0; done < length;) {
      const bytesRead = readSync(file.fd, buffer, done, length - done, position + done);
      if (bytesRead === 0)
        throw badFile(path, `it must reach to byte ${position + length}`, `it ends at ${position + done}; it is truncated`);
      done += bytesRead;
    }
  } catch (error) {
    throw error instanceof LimbeckError ? error : fileError('read', path, 'the file must be readable', error);
  }
  return buffer;
}

/** The header, and where the first block begins; null where the file ends before it is whole. */
export async function readHeader(path: string, file: FileHandle, size: number): Promise<{ header: ShardHeader; end: number } | null> {
  if (size < prefixBytes) return null;
  const prefix = await readBytes(path, file, 0, prefixBytes);
  if (!prefix.subarray(0, 8).equals(magic)) throw badFile(path, 'it must be a shard of a target cache', 'it begins with other bytes');
  const length = prefix.readUInt32LE(8);
  if (length > mostHeaderBytes) throw badFile(path, `its header must have at most ${mostHeaderBytes} bytes`, `it says ${length}`);
  if (size < prefixBytes + length) return null;
  const json = await readBytes(path, file, prefixBytes, length);
  if (crc32(json) !== prefix.readUInt32LE(12))
    throw badFile(path, 'its header must have its checksum', 'it has another one; the file is damaged');
  return { header: parseHeader(path, json), end: prefixBytes + length };
}

function parseHeader(path: string, json: Buffer): ShardHeader {
  let found: Record<string, unknown>;
  try {
    found = JSON.parse(json.toString('utf8')) as Record<string, unknown>;
    if (typeof found !== 'object' || found === null || Array.isArray(found)) throw new TypeError('it is no object');
  } catch (error) {
    throw badFile(path, 'its header must be a JSON object', 'it is not', error);
  }
  const { format, limbeck, kind, cols, k, bits, draws, temperature, vocabularyHash, inputHash, firstRow, blockRows } = found;
  if (format !== formatName)
    throw badFile(path, `its format must be '${formatName}'`, `it is '${String(format)}', of limbeck ${String(limbeck)}`);
  const settings = { kind, cols, k, bits, draws, temperature, vocabularyHash, inputHash };
  const wrong = wrongSetting(settings);
  if (wrong !== undefined) throw badFile(path, `its ${wrong} must be one that this version knows`, `it is ${JSON.stringify(found[wrong])}`);
  if (!fitsMemory(settings as CacheSettings, Number(blockRows)))
    throw badFile(path, 'a block of its must fit in memory', `blockRows is ${String(blockRows)} with k ${String(k)}`);
  if (!isWhole(firstRow, 0)) throw badFile(path, 'its firstRow must be a whole number', `it is ${JSON.stringify(firstRow)}`);
  if (!isWhole(blockRows, 1, mostBlockRows))
    throw badFile(path, `its blockRows must be in [1, ${mostBlockRows}]`, `it is ${JSON.stringify(blockRows)}`);
  return { settings: settings as CacheSettings, firstRow, blockRows, limbeck: String(limbeck) };
}

/** Whether whole blocks are small enough to be handled in one piece. */
export function fitsMemory(settings: CacheSettings, blockRows: number): boolean {
  return blockRows * mostRowBytes(settings) <= 2 ** 28;
}

function blockHead(head: Buffer): { rows: number; bytes: number; crc: number } {
  return { rows: head.readUInt32LE(4), bytes: head.readUInt32LE(8), crc: head.readUInt32LE(12) };
}

/** The blocks of a finished shard, from its index. */
export async function readIndex(path: string, file: FileHandle, size: number, header: ShardHeader, start: number): Promise<BlockPlace[]> {
  const damaged = (must: string, was: string): LimbeckError => badFile(path, must, `${was}; the file is damaged`);
  if (size < start + trailerBytes) throw badFile(path, 'it must end with its index', 'it ends before; it is truncated');
  const trailer = await readBytes(path, file, size - trailerBytes, trailerBytes);
  if (trailer.toString('latin1', 28) !== 'END\n' || !trailer.subarray(16, 24).equals(magic))
    throw badFile(path, 'it must end with its index', 'it ends with other bytes; it is truncated or damaged');
  if (crc32(trailer.subarray(0, 24)) !== trailer.readUInt32LE(24))
    throw damaged('its last bytes must have their checksum', 'they have another one');
  const offset = trailer.readUInt32LE(0) + trailer.readUInt32LE(4) * 2 ** 32;
  const count = trailer.readUInt32LE(8);
  const length = 4 + count * indexEntryBytes;
  if (offset + length !== size - trailerBytes)
    throw damaged('its index must reach to its last bytes', `it ends at ${offset + length} of ${size}`);
  const index = await readBytes(path, file, offset, length);
  if (crc32(index) !== trailer.readUInt32LE(12) || index.readUInt32LE(0) !== indexMagic)
    throw damaged('its index must have its checksum', 'it has another one');
  const places: BlockPlace[] = [];
  let rows = 0;
  for (let i = 0; i < count; i++) {
    const at = 4 + i * indexEntryBytes;
    const from = (place: number): number => index.readUInt32LE(place) + index.readUInt32LE(place + 4) * 2 ** 32;
    const next = i + 1 < count ? from(at + indexEntryBytes) : offset;
    const place = { offset: from(at), firstRow: rows, rows: index.readUInt32LE(at + 8), bytes: 0, crc: index.readUInt32LE(at + 12) };
    place.bytes = next - place.offset - blockHeadBytes;
    if ((i === 0 && place.offset !== start) || !isPossible(header, place))
      throw damaged('its index must follow its blocks', `block ${i} cannot lie at ${place.offset} with ${place.rows} rows`);
    places.push(place);
    rows += place.rows;
  }
  return places;
}

function isPossible({ settings, blockRows }: ShardHeader, { rows, bytes }: { rows: number; bytes: number }): boolean {
  return rows >= 1 && rows <= blockRows && bytes >= 1 && bytes <= rows * mostRowBytes(settings) + 64;
}

/** What is whole of an unfinished shard. */
export interface Scan {
  places: BlockPlace[];
  /** Where the next block goes. */
  end: number;
}

/**
 * Walks over the heads of an unfinished shard's blocks, from `from` on. A block cut off at the end of the file is left out; other
 * bytes where a head must be are an error, for what follows them would be lost.
 */
export function scanBlocks(path: string, file: FileHandle, size: number, header: ShardHeader, from: Scan): Scan {
  const places = [...from.places];
  let { end } = from;
  const last = places[places.length - 1];
  let rows = last === undefined ? 0 : last.firstRow + last.rows;
  const head = Buffer.alloc(blockHeadBytes);
  while (end + blockHeadBytes <= size) {
    // Many small reads: a turn of the loop for each would take longer than they do.
    readAll(path, file.fd, head, end);
    const { rows: count, bytes, crc } = blockHead(head);
    // An index without its end: the writer was stopped while it finished. Zeros: the machine was, before the block was on the disk.
    if (head.readUInt32LE(0) === indexMagic || head.every((byte) => byte === 0)) break;
    if (head.readUInt32LE(0) !== blockMagic || !isPossible(header, { rows: count, bytes }))
      throw badFile(path, `a block must begin at byte ${end}`, 'other bytes do; the file is damaged');
    const next = end + blockHeadBytes + bytes;
    if (next > size) break;
    places.push({ offset: end, firstRow: rows, rows: count, bytes, crc });
    rows += count;
    end = next;
  }
  return { places, end };
}

/** The contents of a block that came whole from its file; `bad_file` where its bytes are not those written. */
export function checkBlock(path: string, place: BlockPlace, block: Buffer): Buffer {
  const { rows, bytes, crc } = blockHead(block);
  const isIt = block.readUInt32LE(0) === blockMagic && rows === place.rows && bytes === place.bytes && crc === place.crc;
  if (!isIt || blockCrc(block) !== crc)
    throw badFile(
      path,
      `the block of rows ${place.firstRow} to ${place.firstRow + place.rows - 1} of the shard must have its checksum`,
      'it has another one; the file is damaged',
    );
  return block.subarray(blockHeadBytes);
}
