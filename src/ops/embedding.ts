// Rows of a table by id, ids of any shape.
import { checkDType, checkRows, checkTensor } from '../check.js';
import { phrase, shapeText, valueError } from '../errors.js';
import { Tensor } from '../tensor.js';
import { gatherRows, type RowIndices } from './gather_rows.js';

/**
 * weight[ids[...]]: the row of each id. The gradient of a row is the sum over its uses, in order: the same bits every time.
 *
 * @param weight [rows, width], float32, float16, bfloat16, or float64 on the CPU
 * @param ids int32 Tensor of any shape, Int32Array or numbers, in [0, rows)
 * @returns [...ids, width]
 * @throws RangeError for an id outside (on CUDA: a row of NaN)
 */
export function embedding(weight: Tensor, ids: RowIndices): Tensor {
  const action = 'compute embedding';
  checkTensor(action, 'weight', weight);
  checkRows(action, 'weight', weight);
  if (weight.shape.length !== 2)
    throw valueError(action, 'weight must have shape [rows, width]', phrase(`it has ${shapeText(weight.shape)}`));
  if (!(ids instanceof Tensor)) return gatherRows(weight, ids);
  checkTensor(action, 'ids', ids);
  checkDType(action, 'ids', ids, 'int32');
  if (ids.shape.length === 1) return gatherRows(weight, ids);
  const flat = ids.reshape([ids.size]);
  return gatherRows(weight, flat).reshape([...ids.shape, weight.shape[1]!]);
}
