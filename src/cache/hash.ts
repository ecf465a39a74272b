// The hash by which a cache knows what it was captured from.
import { createHash } from 'node:crypto';
import { kindError, phrase } from '../errors.js';
import { hostCopy, Tensor } from '../tensor.js';

const action = 'hash inputs';

/** What {@link hashOf} takes: text, typed arrays, tensors, numbers, and arrays of those. */
export type Hashable = string | number | ArrayBufferView | Tensor | readonly Hashable[];

/**
 * SHA-256 of data, in the order given: the inputs a teacher saw, or a vocabulary's tokens. Kinds, lengths and shapes count, so
 * that ['ab', 'c'] and ['a', 'bc'] differ.
 *
 * @returns 'sha256:' and 64 hexadecimal digits
 * @throws TypeError for anything else
 *
 * @example
 * hashOf(tokenIds); // an Int32Array
 * hashOf(['<pad>', 'the', 'of']);
 */
export function hashOf(...data: Hashable[]): string {
  if (data.length === 0) throw kindError(action, 'data must be given', undefined);
  const hash = createHash('sha256');
  const add = (value: unknown, depth: number): void => {
    if (typeof value === 'string') {
      hash.update(`s${Buffer.byteLength(value)}:`).update(value);
    } else if (typeof value === 'number') {
      hash.update(`n${value};`);
    } else if (value instanceof Tensor) {
      hash.update(`t${value.dtype}[${value.shape.join()}]:`);
      addBytes(hostCopy(value, action));
    } else if (ArrayBuffer.isView(value)) {
      // A Buffer is bytes like any other.
      hash.update(`b${value instanceof Uint8Array ? 'Uint8Array' : value.constructor.name} ${value.byteLength}:`);
      addBytes(value);
    } else if (Array.isArray(value)) {
      // An array in itself has no end.
      if (depth > 1000) throw kindError(action, 'arrays must be nested at most 1000 deep', phrase('they are nested deeper'));
      hash.update(`a${value.length}:`);
      for (const each of value) add(each, depth + 1);
    } else {
      throw kindError(action, 'data must be text, numbers, typed arrays, tensors or arrays of those', value);
    }
  };
  const addBytes = (view: ArrayBufferView): void => {
    // OpenSSL takes at most 2 GiB at a time.
    for (let at = 0; at < view.byteLength; at += 1 << 30)
      hash.update(new Uint8Array(view.buffer, view.byteOffset + at, Math.min(1 << 30, view.byteLength - at)));
  };
  for (const each of data) add(each, 0);
  return `sha256:${hash.digest('hex')}`;
}
