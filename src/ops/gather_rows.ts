// Rows of a matrix by index: mini-batches and embeddings.
import { defineOp, wantsGradient, type Computed } from '../autograd.js';
import { checkDType, checkLive, checkRows, checkSameDevice, checkTensor } from '../check.js';
import { computedIn, isHalf } from '../dtypes.js';
import { kindError, phrase, shapeText, valueError } from '../errors.js';
import { kernel } from '../native.js';
import { cloned, emptyLike, fromArray, handleOf, ordinalOf, stateOf, Tensor, view } from '../tensor.js';

/** Row numbers: an int32 Tensor [count], an Int32Array or numbers. */
export type RowIndices = Tensor | Int32Array | readonly number[];

/** Row numbers as an int32 tensor on the device of `x`; `isOurs` says who disposes it. */
function indexTensor(action: string, indices: unknown, rows: number, x: Tensor): { tensor: Tensor; isOurs: boolean } {
  if (indices instanceof Tensor) {
    checkLive(action, 'indices', indices);
    checkDType(action, 'indices', indices, 'int32');
    if (indices.shape.length !== 1)
      throw valueError(action, 'indices must have one dimension', phrase(`their shape is ${shapeText(indices.shape)}`));
    checkSameDevice(action, 'indices', indices, 'x', x);
    const { array } = stateOf(indices).storage!;
    if (array !== null) checkIndices(action, array, rows);
    return { tensor: indices, isOurs: false };
  }
  if (!(indices instanceof Int32Array) && !Array.isArray(indices))
    throw kindError(action, 'indices must be an int32 Tensor, an Int32Array or numbers', indices);
  checkIndices(action, indices as ArrayLike<unknown>, rows);
  const array = indices instanceof Int32Array ? indices : Int32Array.from(indices as number[]);
  return { tensor: fromArray(array, 'int32', [array.length], ordinalOf(x, action), action, array !== indices), isOurs: true };
}

function checkIndices(action: string, indices: ArrayLike<unknown>, rows: number): void {
  for (let i = 0; i < indices.length; i++) {
    const index = indices[i];
    if (typeof index !== 'number') throw kindError(action, 'indices must be numbers', index);
    if (!Number.isInteger(index) || index < 0 || index >= rows)
      throw valueError(action, `indices must be in [0, ${rows})`, phrase(`index ${i} is ${index}`));
  }
}

/**
 * Rows x[indices[i], ...], in the order asked for; a row may come twice. The gradient of a row is the sum over its uses.
 *
 * @param x [rows, ...], float32, float16, bfloat16, int32, or float64 on the CPU
 * @param indices row numbers in [0, rows)
 * @returns [count, ...]
 * @throws RangeError for an index outside
 */
export const gatherRows = defineOp({
  name: 'gatherRows',
  run: (x: Tensor, indices: RowIndices): Computed => {
    const action = 'compute gatherRows';
    checkTensor(action, 'x', x);
    checkDType(action, 'x', x, 'float32', 'float16', 'bfloat16', 'int32', 'float64');
    checkRows(action, 'x', x);
    const rows = x.shape[0]!;
    const cols = x.shape.slice(1).reduce((product, extent) => product * extent, 1);
    const { tensor: chosen, isOurs } = indexTensor(action, indices, rows, x);
    const count = chosen.size;
    const out = emptyLike(x, action, [count, ...x.shape.slice(1)]);
    if (out.size > 0)
      kernel('gather_rows', action)(handleOf(x, action), handleOf(chosen, action), handleOf(out, action), rows, cols, count);
    // Kept for backward: the caller may change or dispose its own meanwhile.
    const order = wantsGradient(x) ? cloned(chosen, action) : null;
    if (isOurs) chosen.dispose();
    return {
      out,
      inputs: [x],
      saved: order === null ? [] : [order],
      backward: (gradient) => {
        // Half types are added as float32 and rounded once.
        const own = isHalf(x.dtype) ? gradient.cast('float32') : view(gradient);
        const sums = emptyLike(x, action, x.shape, computedIn(x.dtype));
        if (sums.size > 0)
          kernel('add_rows', action)(handleOf(own, action), handleOf(order!, action), handleOf(sums, action), rows, cols, count);
        own.dispose();
        if (!isHalf(x.dtype)) return [sums];
        const rounded = sums.cast(x.dtype);
        sums.dispose();
        return [rounded];
      },
    };
  },
});
