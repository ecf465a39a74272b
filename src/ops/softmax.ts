// Softmax and its logarithm over the last dimension, at a temperature.
import { defineOp, type Computed } from '../autograd.js';
import { checkFloating, checkOptions, checkRows } from '../check.js';
import { kernel } from '../native.js';
import { emptyLike, handleOf, handleOrNull, type Tensor } from '../tensor.js';
import { checkTemperature } from './temperature.js';

/** Options of {@link softmax} and {@link logSoftmax}. */
export interface SoftmaxOptions {
  /** A positive number, or a float32 Tensor with one for each row. Default 1. */
  temperature?: number | Tensor;
}

function runSoftmax(name: string, isLog: number, input: unknown, options: SoftmaxOptions | undefined): Computed {
  const action = `compute ${name}`;
  const x = checkFloating(action, 'x', input);
  const { temperature: given = 1 } = checkOptions(action, options, ['temperature']);
  const { rows, cols, leading } = checkRows(action, 'x', x);
  const { temperature, rowTemperature } = checkTemperature(action, given, rows, leading, x);
  const out = emptyLike(x, action);
  const perRow = (): ReturnType<typeof handleOrNull> => handleOrNull(rowTemperature, action);
  if (x.size > 0) kernel('softmax', action)(handleOf(x, action), perRow(), handleOf(out, action), rows, cols, temperature, isLog);
  return {
    out,
    inputs: [x],
    saved: rowTemperature === null ? [out] : [out, rowTemperature],
    backward: (gradient) => {
      const gradientX = emptyLike(x, action);
      if (x.size > 0) {
        kernel('softmax_backward', action)(
          handleOf(out, action),
          handleOf(gradient, action),
          perRow(),
          handleOf(gradientX, action),
          rows,
          cols,
          temperature,
          isLog,
        );
      }
      return [gradientX];
    },
  };
}

/**
 * e^{x/T} / Σ e^{x/T} over the last dimension. −∞ gives 0; a row with NaN, +∞ or only −∞ gives NaN.
 *
 * @param x logits [..., cols], float32, float16, bfloat16, or float64 on the CPU
 * @returns probabilities of the same shape and dtype
 * @throws RangeError for a temperature that is not positive and finite
 *
 * @example
 * softmax(tensor([[1, 2, 3]]), { temperature: 2 });
 */
export const softmax = defineOp({ name: 'softmax', run: (x: Tensor, options?: SoftmaxOptions) => runSoftmax('softmax', 0, x, options) });

/** x/T − ln Σ e^{x/T} over the last dimension; exact where softmax would underflow. Shapes and errors as {@link softmax}. */
export const logSoftmax = defineOp({
  name: 'logSoftmax',
  run: (x: Tensor, options?: SoftmaxOptions) => runSoftmax('logSoftmax', 1, x, options),
});
