// Reads IDX files (the MNIST format), plain or gzipped.
import { readFile } from 'node:fs/promises';
import { gunzipSync } from 'node:zlib';
import { kindError, LimbeckError } from '../errors.js';

/** The content of an IDX file of bytes. */
export interface IdxArray {
  shape: number[];
  data: Uint8Array;
}

/** Reads an IDX file of unsigned bytes; where it is absent, the same name with `.gz`. */
export async function readIdx(path: string): Promise<IdxArray> {
  if (typeof path !== 'string' || path === '') throw kindError('read an IDX file', 'path must be a string', path);
  let bytes: Buffer;
  try {
    bytes = await readFile(path).catch(async (error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
      return gunzipSync(await readFile(`${path}.gz`));
    });
  } catch (error) {
    throw new LimbeckError('bad_file', `Cannot read ${path}: the file must be readable: ${(error as Error).message}`, { cause: error });
  }
  return parseIdx(bytes, path);
}

/** Parses the bytes of an IDX file; `name` is for the error text. */
export function parseIdx(bytes: Uint8Array, name = 'IDX data'): IdxArray {
  const bad = (must: string, was: string) => new LimbeckError('bad_file', `Cannot read ${name}: ${must}: ${was}`);
  if (bytes.length < 4) throw bad('an IDX file starts with 4 bytes of magic number', `it has ${bytes.length} bytes`);
  if (bytes[0] !== 0 || bytes[1] !== 0 || bytes[2] !== 8) {
    throw bad('the magic number must be 00 00 08 (unsigned bytes)', `it is ${Buffer.from(bytes.subarray(0, 3)).toString('hex')}`);
  }
  const dimensions = bytes[3]!;
  const header = 4 + 4 * dimensions;
  if (dimensions === 0 || bytes.length < header) throw bad('the header must hold every dimension', `the file has ${bytes.length} bytes`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const shape = Array.from({ length: dimensions }, (_, i) => view.getUint32(4 + 4 * i));
  const size = shape.reduce((product, n) => product * n, 1);
  if (bytes.length !== header + size) {
    throw bad(`a file of shape [${shape.join(', ')}] must have ${header + size} bytes`, `it has ${bytes.length}`);
  }
  return { shape, data: bytes.subarray(header) };
}
