// ln Σ e^x of each row, made of a maximum, exponentials and a sum.
import { defineOp, type Computed } from '../autograd.js';
import { checkBoolean, checkComputed, checkOptions, checkRows } from '../check.js';
import { emptyLike, type Tensor } from '../tensor.js';
import { applyBinary } from './binary.js';
import { applyReduce } from './reduce.js';
import { applySoftmax } from './softmax.js';
import { checkTemperature } from './temperature.js';
import { applyUnary } from './unary.js';

/** Options of {@link logSumExp}. */
export interface LogSumExpOptions {
  /** A positive number, or a float32 Tensor with one for each row. Default 1. */
  temperature?: number | Tensor;
  /** Keeps the last dimension with extent 1. Default false. */
  keepDims?: boolean;
}

/**
 * ln Σ e^{x/T} over the last dimension, with the maximum taken out: neither overflows nor underflows. A row of only −∞ gives −∞, one
 * with +∞ gives +∞, one with NaN gives NaN. Gradient: softmax(x/T)/T, NaN for those rows.
 *
 * @param x [..., cols], float32, or float64 on the CPU
 * @returns [...], or [..., 1] with keepDims
 *
 * @example
 * logSumExp(tensor([[0, 0]])); // [ln 2]
 */
export const logSumExp = defineOp({
  name: 'logSumExp',
  run: (input: Tensor, options?: LogSumExpOptions): Computed => {
    const action = 'compute logSumExp';
    const x = checkComputed(action, 'x', input);
    const { temperature: given = 1, keepDims = false } = checkOptions(action, options, ['temperature', 'keepDims']);
    checkBoolean(action, 'keepDims', keepDims);
    const { rows, cols, leading } = checkRows(action, 'x', x);
    const temperatures = checkTemperature(action, given, rows, leading, x);
    const { temperature, rowTemperature } = temperatures;
    const column = { rows, cols, how: 'column' } as const;
    const each = { rows: 1, cols: rows, how: 'same' } as const;
    const perRow = rowTemperature === null || rowTemperature.dtype === x.dtype ? rowTemperature : rowTemperature.cast(x.dtype);
    const divided = (values: Tensor, plan: typeof column | typeof each): Tensor =>
      perRow !== null
        ? applyBinary(action, 'div', values, perRow, plan, values)
        : temperature === 1
          ? values
          : applyUnary(action, 'scale', values, 1 / temperature, values);
    const max = applyReduce(action, 'max', x, rows, cols, 1, keepDims ? [...leading, 1] : leading);
    // An infinite maximum is not taken out: the sum is then 0 or infinite by itself.
    applyUnary(action, 'finite_or_zero', max, 0, max);
    const terms = divided(applyBinary(action, 'sub', x, max, column), column);
    applyUnary(action, 'exp', terms, 0, terms);
    const out = applyReduce(action, 'sum', terms, rows, cols, 1, max.shape);
    terms.dispose();
    applyUnary(action, 'log', out, 0, out);
    applyBinary(action, 'add', out, divided(max, each), each, out);
    max.dispose();
    return {
      out,
      inputs: [x],
      saved: rowTemperature === null ? [] : [rowTemperature],
      backward: (gradient) => {
        const shares = applySoftmax(action, x, temperatures, rows, cols, false, emptyLike(x, action));
        const scaled = divided(applyBinary(action, 'mul', shares, gradient, column, shares), column);
        return [scaled];
      },
    };
  },
});
