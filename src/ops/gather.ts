// Columns of each row by index, and numbers added into columns: each is the other's gradient.
import { defineOp, wantsGradient, type Computed } from '../autograd.js';
import { checkComputed, checkDType, checkLive, checkRows, checkSameDevice, checkTensor, checkWhole, sameShape } from '../check.js';
import { kindError, phrase, shapeText, valueError } from '../errors.js';
import { kernel } from '../native.js';
import { emptyLike, fromArray, handleOf, ordinalOf, Tensor } from '../tensor.js';

/** Column numbers: an int32 Tensor [..., k] with the leading shape of the rows, or [k] (also an Int32Array or numbers) for all of them. */
export type ColumnIndices = Tensor | Int32Array | readonly number[];

interface Picked {
  indices: Tensor;
  /** Made here from an array. */
  isOurs: boolean;
  count: number;
  /** 0: the same columns for every row. */
  stride: number;
}

function checkIndices(action: string, given: unknown, leading: readonly number[], like: Tensor): Picked {
  if (given instanceof Int32Array || Array.isArray(given)) {
    const wrong = (given as readonly unknown[]).findIndex((index) => typeof index !== 'number' || (index | 0) !== index);
    if (wrong >= 0) throw valueError(action, 'indices must be whole numbers that fit int32', (given as readonly unknown[])[wrong]);
    const array = Int32Array.from(given as ArrayLike<number>);
    const indices = fromArray(array, 'int32', [array.length], ordinalOf(like, action), action);
    return { indices, isOurs: true, count: array.length, stride: 0 };
  }
  if (!(given instanceof Tensor)) throw kindError(action, 'indices must be an int32 Tensor, an Int32Array or numbers', given);
  checkLive(action, 'indices', given);
  checkDType(action, 'indices', given, 'int32');
  checkSameDevice(action, 'indices', given, 'x', like);
  const { shape } = given;
  if (shape.length > 0) {
    const count = shape[shape.length - 1]!;
    // A single row may have its indices as [k] too: it is the same row.
    if (sameShape(shape.slice(0, -1), leading)) return { indices: given, isOurs: false, count, stride: count };
    if (shape.length === 1) return { indices: given, isOurs: false, count, stride: 0 };
  }
  throw valueError(
    action,
    `indices must have shape [k], or x's ${shapeText(leading)} and one dimension more`,
    phrase(`their shape is ${shapeText(shape)}`),
  );
}

/** Picks outside the graph: x [rows, cols] → [rows, count] as `shape`. */
export function applyGather(action: string, x: Tensor, picked: Picked, rows: number, cols: number, shape: readonly number[]): Tensor {
  const out = emptyLike(x, action, shape);
  const { indices, count, stride } = picked;
  if (out.size > 0)
    kernel('gather_cols', action)(handleOf(x, action), handleOf(indices, action), handleOf(out, action), rows, cols, count, stride);
  return out;
}

function applyScatter(
  action: string,
  x: Tensor,
  picked: Picked,
  rows: number,
  cols: number,
  shape: readonly number[],
  distinct: boolean,
): Tensor {
  const out = emptyLike(x, action, shape);
  const { indices, count, stride } = picked;
  if (out.size > 0)
    kernel('scatter_cols', action)(
      handleOf(x, action),
      handleOf(indices, action),
      handleOf(out, action),
      rows,
      cols,
      count,
      stride,
      Number(distinct),
    );
  return out;
}

/** Indices made here that no backward will ask for. */
function letGo({ indices, isOurs }: Picked, x: Tensor): void {
  if (isOurs && !wantsGradient(x)) indices.dispose();
}

function runGather(action: string, input: Tensor, given: ColumnIndices, distinct: boolean): Computed {
  const x = checkTensor(action, 'x', input);
  checkDType(action, 'x', x, 'float32', 'int32', 'float64');
  const { rows, cols, leading } = checkRows(action, 'x', x);
  const picked = checkIndices(action, given, leading, x);
  const out = applyGather(action, x, picked, rows, cols, [...leading, picked.count]);
  letGo(picked, x);
  return {
    out,
    inputs: [x],
    saved: [picked.indices],
    backward: (gradient) => [applyScatter(action, gradient, picked, rows, cols, x.shape, distinct)],
  };
}

/**
 * x[..., indices]: the entries of each row that its indices name, in their order; a column may come twice. The gradient of an
 * entry is the sum over its uses, added in the order of the indices: the same bits every time.
 *
 * @param x [..., cols], float32, int32, or float64 on the CPU
 * @param indices column numbers in [0, cols)
 * @returns [..., k]
 * @throws RangeError for an index outside (on a CUDA device such an entry is NaN, and nothing is read)
 *
 * @example
 * gather(tensor([[1, 2, 3]]), [2, 0]); // [[3, 1]]
 */
export const gather = defineOp({
  name: 'gather',
  run: (x: Tensor, indices: ColumnIndices) => runGather('compute gather', x, indices, false),
});

/** As {@link gather}, for indices that are known to be distinct in each row: backward stores instead of adding. */
export const gatherDistinct = defineOp({
  name: 'gather',
  run: (x: Tensor, indices: ColumnIndices) => runGather('compute gather', x, indices, true),
});

/**
 * Rows of `cols` columns that are 0 but for x added at its indices, in their order. The opposite of {@link gather}, and its gradient.
 *
 * @param x [..., k], float32, or float64 on the CPU
 * @param indices column numbers in [0, cols)
 * @returns [..., cols]
 * @throws RangeError for an index outside (on a CUDA device such an entry is left out)
 *
 * @example
 * scatter(tensor([[3, 1, 2]]), [2, 0, 2], 4); // [[1, 0, 5, 0]]
 */
export const scatter = defineOp({
  name: 'scatter',
  run: (values: Tensor, given: ColumnIndices, cols: number): Computed => {
    const action = 'compute scatter';
    const x = checkComputed(action, 'x', values);
    checkWhole(action, 'cols', cols, 0, 2147483647);
    const { rows, cols: count, leading } = checkRows(action, 'x', x);
    const picked = checkIndices(action, given, leading, x);
    if (picked.count !== count)
      throw valueError(action, `there must be ${count} indices for each row of x`, phrase(`there are ${picked.count}`));
    const out = applyScatter(action, x, picked, rows, cols, [...leading, cols], false);
    letGo(picked, x);
    return {
      out,
      inputs: [x],
      saved: [picked.indices],
      backward: (gradient) => [applyGather(action, gradient, picked, rows, cols, x.shape)],
    };
  },
});
