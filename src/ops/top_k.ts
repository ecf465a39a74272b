// The k largest of each row, in order, with their columns.
import { checkFloat32OrHalf, checkRows, checkTensor, checkWhole } from '../check.js';
import { phrase, valueError } from '../errors.js';
import { kernel } from '../native.js';
import { empty, emptyLike, handleOf, ordinalOf, view, type Tensor } from '../tensor.js';

/** What {@link topK} gives back. */
export interface TopK {
  /** [..., k] of the dtype of x, largest first. */
  values: Tensor;
  /** int32 [..., k]: the columns. */
  indices: Tensor;
}

/** k, checked against the columns there are. */
export function checkK(action: string, k: unknown, cols: number): number {
  const count = checkWhole(action, 'k', k);
  if (count > cols) throw valueError(action, `k must be at most the number of columns (${cols})`, phrase(`it is ${count}`));
  return count;
}

/**
 * The k largest entries of each row. Ties: lowest index first; −0 equals +0; NaN sorts above everything.
 * Not differentiable: the result is a constant.
 *
 * @param x float32, float16 or bfloat16 [..., cols]
 * @param k at most cols
 * @throws RangeError where k is larger than cols
 *
 * @example
 * const { values, indices } = topK(tensor([[1, 3, 2]]), 2); // [[3, 2]], [[1, 2]]
 */
export function topK(x: Tensor, k: number): TopK {
  const action = 'compute topK';
  checkFloat32OrHalf(action, 'x', x);
  const { rows, cols, leading } = checkRows(action, 'x', x);
  checkK(action, k, cols);
  const shape = [...leading, k];
  const values = emptyLike(x, action, shape);
  const indices = empty(shape, 'int32', ordinalOf(x, action), action);
  if (values.size > 0) kernel('top_k', action)(handleOf(x, action), handleOf(values, action), handleOf(indices, action), rows, cols, k);
  return { values, indices };
}

/**
 * The column of the largest entry of each row, the lowest where several are.
 *
 * @param x float32, float16 or bfloat16 [..., cols], cols >= 1
 * @returns int32 [...]
 */
export function argmax(x: Tensor): Tensor {
  const action = 'compute argmax';
  checkTensor(action, 'x', x);
  const { leading } = checkRows(action, 'x', x, 1);
  const { values, indices } = topK(x, 1);
  values.dispose();
  const flat = view(indices, leading);
  indices.dispose();
  return flat;
}
