// Rows of logits from a file, a piece at a time: a tensor of a safetensors file, or NumPy's .npy.
import { closeSync, fstatSync, openSync } from 'node:fs';
import { arrayOf, bytesPerElement, type DType, type TypedArray } from '../dtypes.js';
import { LimbeckError } from '../errors.js';
import { badFile, bytesOf, fileError, readAll, readSafetensorsHeader } from '../safetensors.js';
import { fromArray, type Tensor } from '../tensor.js';

/** What logits are captured from. */
export interface LogitsSource {
  rows: number;
  cols: number;
  /** Rows begin to end − 1, until the next are read. */
  read(begin: number, end: number): Tensor;
  close(): void;
}

interface Place {
  dtype: DType;
  shape: readonly number[];
  /** First byte. */
  start: number;
}

const action = 'read logits';

/**
 * Opens a file of logits [..., cols]; leading dimensions become rows.
 *
 * @param name the tensor of a safetensors file; may be left out where there is one of two dimensions or more
 * @throws LimbeckError `bad_file`
 */
export function openLogits(path: string, name?: string): LogitsSource {
  let file: number;
  try {
    file = openSync(path, 'r');
  } catch (error) {
    throw fileError('read', path, 'the file must be readable', error);
  }
  try {
    const info = fstatSync(file);
    if (!info.isFile()) throw badFile(path, 'it must be a regular file', 'it is not');
    let held: TypedArray | null = null;
    const place = path.endsWith('.npy') ? npyPlace(path, file, info.size) : tensorPlace(path, file, info.size, name);
    const { dtype, shape, start } = place;
    const cols = shape[shape.length - 1] ?? 0;
    const rows = shape.slice(0, -1).reduce((product, extent) => product * extent, 1);
    if (shape.length < 2 || rows * cols === 0)
      throw badFile(path, 'logits must have rows and columns', `their shape is [${shape.join(', ')}]`);
    return {
      rows,
      cols,
      read: (begin, end) => {
        const size = (end - begin) * cols;
        // Fresh pages for every piece would cost more than reading it.
        if (held === null || held.length < size) held = new arrayOf[dtype](size);
        const data = held.subarray(0, size);
        readAll(path, file, bytesOf(data), start + begin * cols * bytesPerElement(dtype));
        const isWide = dtype === 'float64';
        return fromArray(isWide ? Float32Array.from(data) : data, isWide ? 'float32' : dtype, [end - begin, cols], -1, action, isWide);
      },
      close: () => closeSync(file),
    };
  } catch (error) {
    closeSync(file);
    throw error instanceof LimbeckError ? error : fileError('read', path, 'the file must be readable', error);
  }
}

function tensorPlace(path: string, file: number, size: number, name: string | undefined): Place {
  const { places } = readSafetensorsHeader(path, file, size);
  const matrices = places.filter(({ shape, dtype }) => shape.length >= 2 && dtype !== 'int32' && dtype !== 'uint8');
  const names = places.map((each) => each.name).join(', ');
  const found = name === undefined ? matrices[0] : matrices.find((each) => each.name === name);
  if (found === undefined || (name === undefined && matrices.length > 1))
    throw badFile(
      path,
      name === undefined
        ? 'it must hold one tensor of logits, or --tensor must name it'
        : `it must hold a tensor '${name}' of floats with rows and columns`,
      `it holds ${names || 'none'}`,
    );
  return found;
}

const npyTypes: Readonly<Record<string, DType>> = { '<f2': 'float16', '<f4': 'float32', '<f8': 'float64' };

/** The .npy header: magic, version, length, and a Python dict of descr, fortran_order and shape. */
function npyPlace(path: string, file: number, size: number): Place {
  const bad = (must: string, was: string): LimbeckError => badFile(path, must, was);
  if (size < 12) throw bad('it must be a .npy file', `it has ${size} bytes`);
  const prefix = Buffer.alloc(12);
  readAll(path, file, prefix, 0);
  if (prefix.toString('latin1', 0, 6) !== '\x93NUMPY') throw bad('it must be a .npy file', 'it begins with other bytes');
  const isLong = prefix[6]! >= 2;
  const start = isLong ? 12 : 10;
  const length = isLong ? prefix.readUInt32LE(8) : prefix.readUInt16LE(8);
  if (start + length > size) throw bad('its header must lie inside the file', 'it does not; the file is truncated');
  const header = Buffer.alloc(length);
  readAll(path, file, header, start);
  const text = header.toString('latin1');
  const descr = /'descr':\s*'([^']*)'/.exec(text)?.[1];
  const order = /'fortran_order':\s*(True|False)/.exec(text)?.[1];
  const extents = /'shape':\s*\(([\d,\s]*)\)/.exec(text)?.[1];
  const dtype = npyTypes[descr ?? ''];
  if (dtype === undefined)
    throw bad('its numbers must be float16, float32 or float64, lowest byte first', `they are ${descr ?? 'not said'}`);
  if (order !== 'False')
    throw bad(
      'its rows must lie one after the other (C order)',
      order === undefined ? 'its order is not said' : 'they are in Fortran order',
    );
  if (extents === undefined) throw bad('its header must say its shape', 'it does not');
  const shape = extents
    .split(',')
    .map((extent) => extent.trim())
    .filter((extent) => extent !== '')
    .map(Number);
  const bytes = shape.reduce((product, extent) => product * extent, 1) * bytesPerElement(dtype);
  if (start + length + bytes !== size)
    throw bad(`it must hold ${bytes} bytes of numbers`, `it holds ${size - start - length}; the file is truncated`);
  return { dtype, shape, start: start + length };
}
