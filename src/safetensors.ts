// The safetensors file format: whole files written beside and renamed, and a reader that trusts no header.
import { randomBytes } from 'node:crypto';
import { closeSync, fstatSync, fsyncSync, openSync, readSync, renameSync, unlinkSync, writeSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { arrayOf, bytesPerElement, isDType, type DType, type TypedArray } from './dtypes.js';
import { describe, kindError, LimbeckError, phrase, valueError, wording } from './errors.js';

/** One tensor of a file. */
export interface StoredTensor {
  dtype: DType;
  shape: readonly number[];
  /** Half types as their bits in a Uint16Array. */
  data: TypedArray;
}

/** What {@link readSafetensors} gives back. */
export interface SafetensorsFile {
  tensors: Map<string, StoredTensor>;
  metadata: Record<string, string>;
}

const fileNames: Readonly<Record<DType, string>> = {
  float32: 'F32',
  float16: 'F16',
  bfloat16: 'BF16',
  float64: 'F64',
  int32: 'I32',
  uint8: 'U8',
};
const dtypeOfName = new Map(Object.entries(fileNames).map(([dtype, name]) => [name, dtype as DType]));
const maxHeaderBytes = 100_000_000;
const metadataKey = '__metadata__';
// One read or write call moves at most this much: Linux stops at 2 GiB by itself.
const maxChunkBytes = 1 << 30;

export function bytesOf(array: TypedArray): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

/**
 * Writes tensors to a safetensors file: beside it first, then on the disk (fsync), then renamed, so that a crash or a
 * full disk leaves the old file whole.
 *
 * @throws LimbeckError `bad_file` naming the path where it cannot be written
 */
export function writeSafetensors(
  path: string,
  tensors: Iterable<readonly [string, StoredTensor]> | Record<string, StoredTensor>,
  metadata: Record<string, string> = {},
): void {
  if (typeof path !== 'string' || path === '') throw kindError('write a safetensors file', 'path must be a string', path);
  if (tensors === null || typeof tensors !== 'object') throw kindError(`write ${path}`, 'tensors must be an object or a Map', tensors);
  const entries = [...((Symbol.iterator in tensors ? tensors : Object.entries(tensors)) as Iterable<readonly [string, StoredTensor]>)];
  if (metadata === null || typeof metadata !== 'object' || Object.values(metadata).some((value) => typeof value !== 'string')) {
    throw kindError(`write ${path}`, 'metadata must be an object of strings', metadata);
  }
  for (const entry of entries) checkEntry(path, entry);
  // Wider elements first keeps each tensor aligned to its own size.
  entries.sort(([a, x], [b, y]) => bytesPerElement(y.dtype) - bytesPerElement(x.dtype) || (a < b ? -1 : a > b ? 1 : 0));
  const header: [string, unknown][] = [];
  if (Object.keys(metadata).length > 0) header.push([metadataKey, metadata]);
  let offset = 0;
  for (const [name, { dtype, shape, data }] of entries) {
    const size = shape.reduce((product, extent) => product * extent, 1);
    if (name === metadataKey || data.length !== size || !(data instanceof arrayOf[dtype])) {
      throw valueError(`write ${path}`, `tensor '${name}' must hold ${size} elements of ${dtype}`, phrase(`it holds ${data.length}`));
    }
    header.push([name, { dtype: fileNames[dtype], shape: [...shape], data_offsets: [offset, offset + data.byteLength] }]);
    offset += data.byteLength;
  }
  let text = `{${header.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join(',')}}`;
  text += ' '.repeat((8 - (Buffer.byteLength(text) % 8)) % 8);
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(Buffer.byteLength(text)));

  const beside = join(dirname(path), `.${basename(path)}.${process.pid}-${randomBytes(4).toString('hex')}.tmp`);
  let file: number | undefined;
  try {
    file = openSync(beside, 'wx');
    writeAll(file, prefix);
    writeAll(file, Buffer.from(text));
    for (const [, { data }] of entries) writeAll(file, bytesOf(data));
    fsyncSync(file);
    closeSync(file);
    file = undefined;
    renameSync(beside, path);
    syncFolder(dirname(path));
  } catch (error) {
    if (file !== undefined) closeSync(file);
    try {
      unlinkSync(beside);
    } catch {
      // It was never made, or is already renamed.
    }
    throw fileError('write', path, 'the file must be writable', error);
  }
}

function checkEntry(path: string, entry: unknown): void {
  const [name, stored] = Array.isArray(entry) ? (entry as [unknown, Partial<StoredTensor> | null | undefined]) : [undefined, null];
  const isStored = typeof name === 'string' && isDType(stored?.dtype) && isWholeNumbers(stored.shape) && ArrayBuffer.isView(stored.data);
  if (!isStored)
    throw kindError(
      `write ${path}`,
      'each tensor must be { dtype, shape, data } under a name',
      phrase(`${describe(name)}: ${describe(stored)}`),
    );
}

/**
 * Reads a safetensors file. Every size and offset of the header is checked against the file before anything is allocated.
 *
 * @throws LimbeckError `bad_file` naming the path where it is missing, truncated or not safetensors
 */
export function readSafetensors(path: string): SafetensorsFile {
  return readFile(path);
}

/** The same for files of others: tensors of a dtype that there is none of here (whole numbers of 64 bits, truth values) are named alone. */
export function readForeignSafetensors(path: string): SafetensorsFile & { skipped: string[] } {
  const skipped: string[] = [];
  return { ...readFile(path, skipped), skipped };
}

function readFile(path: string, skipped?: string[]): SafetensorsFile {
  if (typeof path !== 'string' || path === '') throw kindError('read a safetensors file', 'path must be a string', path);
  let file: number | undefined;
  try {
    file = openSync(path, 'r');
    const info = fstatSync(file);
    if (!info.isFile()) throw badFile(path, 'it must be a regular file', 'it is not');
    return readOpen(path, file, info.size, skipped);
  } catch (error) {
    if (error instanceof LimbeckError) throw error;
    throw fileError('read', path, 'the file must be readable', error);
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/** A tensor's place in a file; `start` and `end` count from the file's beginning. */
export interface TensorPlace {
  name: string;
  dtype: DType;
  shape: readonly number[];
  size: number;
  start: number;
  end: number;
}

/**
 * What a file's header says, checked against the file's size: nothing in it points outside. Tensors of a dtype that there is
 * none of here are an error, or left out and named in `skipped`.
 */
export function readSafetensorsHeader(
  path: string,
  file: number,
  fileBytes: number,
  skipped?: string[],
): { places: TensorPlace[]; metadata: Record<string, string> } {
  if (fileBytes < 10) throw badFile(path, 'it must be a whole safetensors file', `it has ${fileBytes} bytes`);
  const prefix = new Uint8Array(8);
  readAll(path, file, prefix, 0);
  const headerBytes = new DataView(prefix.buffer).getBigUint64(0, true);
  if (headerBytes < 2n || headerBytes > BigInt(maxHeaderBytes) || headerBytes > BigInt(fileBytes - 8)) {
    throw badFile(
      path,
      `its header must fit the file's ${fileBytes} bytes`,
      `it says ${headerBytes} bytes; the file is truncated or not safetensors`,
    );
  }
  const headerData = new Uint8Array(Number(headerBytes));
  readAll(path, file, headerData, 8);
  let header: unknown;
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(headerData));
  } catch (error) {
    throw badFile(path, 'its header must be JSON', 'it is not; the file is not safetensors', error);
  }
  if (typeof header !== 'object' || header === null || Array.isArray(header))
    throw badFile(path, 'its header must be an object', 'it is not');

  const dataStart = 8 + Number(headerBytes);
  const dataBytes = fileBytes - dataStart;
  const metadata: Record<string, string> = {};
  const found: TensorPlace[] = [];
  const foreign: { name: string; start: number; end: number }[] = [];
  for (const [name, entry] of Object.entries(header as Record<string, unknown>)) {
    if (typeof entry !== 'object' || entry === null || Array.isArray(entry))
      throw badFile(path, `entry '${name}' must be an object`, 'it is not');
    if (name === metadataKey) {
      for (const [key, value] of Object.entries(entry)) {
        if (typeof value !== 'string') throw badFile(path, `metadata '${key}' must be a string`, 'it is not');
        Object.defineProperty(metadata, key, { value, enumerable: true, writable: true, configurable: true });
      }
      continue;
    }
    const { dtype: dtypeName, shape, data_offsets: offsets } = entry as { dtype?: unknown; shape?: unknown; data_offsets?: unknown };
    const dtype = dtypeOfName.get(String(dtypeName));
    if (dtype === undefined && skipped === undefined)
      throw badFile(
        path,
        `tensor '${name}' must be of a dtype limbeck knows (${[...dtypeOfName.keys()].join(', ')})`,
        `it is ${String(dtypeName)}`,
      );
    if (!isWholeNumbers(shape)) throw badFile(path, `tensor '${name}' must have a shape of whole numbers`, 'it has not');
    if (!isWholeNumbers(offsets) || offsets.length !== 2) throw badFile(path, `tensor '${name}' must have two data offsets`, 'it has not');
    const size = shape.reduce((product, extent) => product * extent, 1);
    const [start, end] = offsets as [number, number];
    if (end > dataBytes)
      throw badFile(path, `tensor '${name}' must lie inside the file`, `it ends ${end - dataBytes} bytes past it; the file is truncated`);
    if (dtype === undefined) {
      if (end < start) throw badFile(path, `tensor '${name}' must end where it starts or after`, `it ends at ${end}`);
      foreign.push({ name, start, end });
      continue;
    }
    if (!Number.isSafeInteger(size) || end - start !== size * bytesPerElement(dtype)) {
      throw badFile(path, `tensor '${name}' must hold as many bytes as its shape says`, `it holds ${end - start}`);
    }
    found.push({ name, dtype, shape, size, start, end });
  }
  // The format asks for tensors without holes or overlaps; that also makes the last end the end of the file.
  let expected = 0;
  for (const { name, start, end } of [...found, ...foreign].sort((a, b) => a.start - b.start || a.end - b.end)) {
    if (start !== expected)
      throw badFile(path, `tensor '${name}' must start where the one before it ends (${expected})`, `it starts at ${start}`);
    expected = end;
  }
  if (expected !== dataBytes) throw badFile(path, `its tensors must fill the file's ${dataBytes} bytes of data`, `they fill ${expected}`);
  skipped?.push(...foreign.map(({ name }) => name));
  const places = found.map((place) => ({ ...place, start: dataStart + place.start, end: dataStart + place.end }));
  return { places, metadata };
}

function readOpen(path: string, file: number, fileBytes: number, skipped?: string[]): SafetensorsFile {
  const { places, metadata } = readSafetensorsHeader(path, file, fileBytes, skipped);
  const tensors = new Map<string, StoredTensor>();
  for (const { name, dtype, shape, size, start } of places) {
    const data = new arrayOf[dtype](size);
    readAll(path, file, bytesOf(data), start);
    tensors.set(name, { dtype, shape, data });
  }
  return { tensors, metadata };
}

function isWholeNumbers(value: unknown): value is readonly number[] {
  return Array.isArray(value) && value.length <= 32 && value.every((entry) => Number.isSafeInteger(entry) && entry >= 0);
}

/** Fills `into` from a position of a file; `bad_file` where it ends before. */
export function readAll(path: string, file: number, into: Uint8Array, position: number): void {
  for (let done = 0; done < into.length;) {
    const count = readSync(file, into, done, Math.min(into.length - done, maxChunkBytes), position + done);
    if (count === 0) throw badFile(path, 'it must not change while it is read', `it ended at byte ${position + done}`);
    done += count;
  }
}

function writeAll(file: number, from: Uint8Array): void {
  for (let done = 0; done < from.length;) done += writeSync(file, from, done, Math.min(from.length - done, maxChunkBytes));
}

// Makes the rename itself durable; some file systems refuse, and then the rename is as durable as they offer.
export function syncFolder(folder: string): void {
  let handle: number | undefined;
  try {
    handle = openSync(folder, 'r');
    fsyncSync(handle);
  } catch {
    return;
  } finally {
    if (handle !== undefined) closeSync(handle);
  }
}

export function badFile(path: string, mustHold: string, was: string, cause?: unknown): LimbeckError {
  return new LimbeckError('bad_file', wording(`read ${path}`, mustHold, was), cause === undefined ? undefined : { cause });
}

export function fileError(verb: string, path: string, mustHold: string, error: unknown): unknown {
  const code = (error as NodeJS.ErrnoException | null)?.code;
  if (typeof code !== 'string') return error;
  const words: Record<string, string> = {
    ENOENT: verb === 'read' ? 'there is no such file' : 'there is no such folder',
    ENOSPC: 'the disk is full (ENOSPC)',
    EDQUOT: 'the disk quota is used up (EDQUOT)',
    EFBIG: 'the file is too large for this file system (EFBIG)',
    EACCES: 'permission is denied (EACCES)',
    EROFS: 'the file system is read-only (EROFS)',
    EISDIR: 'it is a folder (EISDIR)',
  };
  return new LimbeckError('bad_file', wording(`${verb} ${path}`, mustHold, words[code] ?? (error as Error).message), { cause: error });
}
