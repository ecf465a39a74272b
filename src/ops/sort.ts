// Rows in the order of their values.
import { checkBoolean, checkComputed, checkOptions, checkRows } from '../check.js';
import { kernel } from '../native.js';
import { empty, handleOf, ordinalOf, type Tensor } from '../tensor.js';
import { gatherDistinct } from './gather.js';

/** Options of {@link sort} and {@link argsort}. */
export interface SortOptions {
  /** The largest first, as {@link topK} has it; false: the smallest first. Default true. */
  descending?: boolean;
}

/** What {@link sort} gives back. */
export interface Sorted {
  /** [..., cols] in order; the gradient travels back to where each came from. */
  values: Tensor;
  /** int32 [..., cols]: the columns they came from. */
  indices: Tensor;
}

/**
 * The columns of each row in the order of its values. Stable: of equal values the lowest column comes first in either direction;
 * −0 equals +0; NaN counts as larger than everything. The same on every device.
 *
 * @param x [..., cols], float32, or float64 on the CPU
 * @returns int32 of the same shape
 *
 * @example
 * argsort(tensor([[1, 3, 2]])); // [[1, 2, 0]]
 */
export function argsort(x: Tensor, options?: SortOptions): Tensor {
  const action = 'compute argsort';
  checkComputed(action, 'x', x);
  const { descending = true } = checkOptions(action, options, ['descending']);
  checkBoolean(action, 'descending', descending);
  const { rows, cols } = checkRows(action, 'x', x);
  const indices = empty(x.shape, 'int32', ordinalOf(x, action), action);
  if (x.size > 0) kernel('argsort', action)(handleOf(x, action), handleOf(indices, action), rows, cols, Number(descending));
  return indices;
}

/** The values of each row in order, and where they came from. Order as {@link argsort}. */
export function sort(x: Tensor, options?: SortOptions): Sorted {
  const indices = argsort(x, options);
  return { values: gatherDistinct(x, indices), indices };
}
