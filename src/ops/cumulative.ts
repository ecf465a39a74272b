// Running sums and running ln Σ e^x along each row.
import { defineOp, type Computed } from '../autograd.js';
import { checkBoolean, checkComputed, checkOptions, checkRows } from '../check.js';
import { findCode, kernel } from '../native.js';
import { emptyLike, handleOf, type Tensor } from '../tensor.js';

/** Options of {@link cumulativeSum}. */
export interface CumulativeOptions {
  /** From the last column to the first: each entry then stands for itself and all that follow. Default false. */
  reverse?: boolean;
}

/** Options of {@link cumulativeLogSumExp}. */
export interface CumulativeLogSumExpOptions extends CumulativeOptions {
  /** Subtracts the entry itself, without the rounding of a difference: y = ln Σ e^{x_j − x_i} ≥ 0. Default false. */
  relative?: boolean;
}

type Scan = 'sum' | 'log_sum_exp' | 'log_sum_exp_relative';

function applyScan(action: string, name: Scan, x: Tensor, rows: number, cols: number, reverse: boolean): Tensor {
  const out = emptyLike(x, action);
  if (x.size > 0) kernel('scan', action)(handleOf(x, action), handleOf(out, action), rows, cols, findCode('scan', name), Number(reverse));
  return out;
}

/**
 * y_i = Σ_{j ≤ i} x_j over the last dimension (j ≥ i with `reverse`), added in double.
 *
 * @param x [..., cols], float32, or float64 on the CPU
 * @returns the same shape
 *
 * @example
 * cumulativeSum(tensor([[1, 2, 3]])); // [[1, 3, 6]]
 */
export const cumulativeSum = defineOp({
  name: 'cumulativeSum',
  run: (input: Tensor, options?: CumulativeOptions): Computed => {
    const action = 'compute cumulativeSum';
    const x = checkComputed(action, 'x', input);
    const { reverse = false } = checkOptions(action, options, ['reverse']);
    checkBoolean(action, 'reverse', reverse);
    const { rows, cols } = checkRows(action, 'x', x);
    return {
      out: applyScan(action, 'sum', x, rows, cols, reverse),
      inputs: [x],
      backward: (gradient) => [applyScan(action, 'sum', gradient, rows, cols, !reverse)],
    };
  },
});

/**
 * y_i = ln Σ_{j ≤ i} e^{x_j} over the last dimension (j ≥ i with `reverse`), with `relative` less x_i. Neither overflows nor cancels:
 * the maximum so far is taken out, and the relative form is never a difference. −∞ adds nothing (and is +∞ relative to itself);
 * NaN and +∞ make everything from there on NaN.
 *
 * Gradient: ∂y_i/∂x_j = e^{x_j − ln Σ_i}, less 1 at j = i where relative.
 *
 * @param x [..., cols], float32, or float64 on the CPU
 * @returns the same shape
 *
 * @example
 * cumulativeLogSumExp(tensor([[0, 0, 0]]), { reverse: true }); // [[ln 3, ln 2, 0]]
 */
export const cumulativeLogSumExp = defineOp({
  name: 'cumulativeLogSumExp',
  run: (input: Tensor, options?: CumulativeLogSumExpOptions): Computed => {
    const action = 'compute cumulativeLogSumExp';
    const x = checkComputed(action, 'x', input);
    const { reverse = false, relative = false } = checkOptions(action, options, ['reverse', 'relative']);
    checkBoolean(action, 'reverse', reverse);
    checkBoolean(action, 'relative', relative);
    const { rows, cols } = checkRows(action, 'x', x);
    const out = applyScan(action, relative ? 'log_sum_exp_relative' : 'log_sum_exp', x, rows, cols, reverse);
    return {
      out,
      inputs: [x],
      saved: [out],
      backward: (gradient) => {
        // The shares come from the relative form: of the other one their digits are gone.
        const shares = relative ? out : applyScan(action, 'log_sum_exp_relative', x, rows, cols, reverse);
        const gradientX = emptyLike(x, action);
        if (x.size > 0) {
          kernel('scan_backward', action)(
            handleOf(shares, action),
            handleOf(gradient, action),
            handleOf(gradientX, action),
            rows,
            cols,
            Number(relative),
            Number(reverse),
          );
        }
        if (!relative) shares.dispose();
        return [gradientX];
      },
    };
  },
});
