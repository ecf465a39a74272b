// Rows or columns brought to mean 0 and standard deviation 1, with the gradient in closed form.
import { defineOp, type Computed } from '../autograd.js';
import { checkComputed, checkNumber, checkOneOf, checkOptions, checkRows } from '../check.js';
import { valueError } from '../errors.js';
import { emptyLike, uniformLike, type Tensor } from '../tensor.js';
import { applyBinary } from './binary.js';
import { applyReduce } from './reduce.js';
import { applyUnary } from './unary.js';

/** Options of {@link standardize}. */
export interface StandardizeOptions {
  /** Added to the standard deviation, at least 0. Default 1e-7. */
  epsilon?: number;
  /** 'row': over the last dimension; 'column': over all rows, each column by itself. Default 'row'. */
  along?: 'row' | 'column';
}

/**
 * (x − mean) / (σ + ε), σ² = mean (x − mean)²: logits without their offset and scale (Sun et al., CVPR 2024, arXiv 2403.01427).
 * Where all entries are equal the result and its gradient are 0.
 *
 * @param x [..., cols] of finite numbers, float32, or float64 on the CPU; an infinite entry makes its row (or column) NaN
 * @returns the same shape
 */
export const standardize = defineOp({
  name: 'standardize',
  run: (input: Tensor, options?: StandardizeOptions): Computed => {
    const action = 'compute standardize';
    const x = checkComputed(action, 'x', input);
    const { epsilon = 1e-7, along = 'row' } = checkOptions(action, options, ['epsilon', 'along']);
    if (!(checkNumber(action, 'epsilon', epsilon) >= 0 && epsilon < Infinity))
      throw valueError(action, 'epsilon must be at least 0 and finite', epsilon);
    checkOneOf(action, 'along', along, ['row', 'column']);
    const { rows, cols } = checkRows(action, 'x', x);
    const axis = along === 'row' ? 1 : 0;
    const plan = { rows, cols, how: along === 'row' ? 'column' : 'row' } as const;
    const count = along === 'row' ? rows : cols;
    const each = { rows: 1, cols: count, how: 'same' } as const;
    const reduced = (name: string, values: Tensor): Tensor => applyReduce(action, name, values, rows, cols, axis, [count]);
    if (x.size === 0) return { out: emptyLike(x, action), inputs: [x], backward: (gradient) => [gradient] };

    // The maximum first: equal entries then are exactly 0, whatever their mean would round to.
    const max = reduced('max', x);
    const y = applyBinary(action, 'sub', x, max, plan);
    max.dispose();
    const mean = reduced('mean', y);
    applyBinary(action, 'sub', y, mean, plan, y);
    mean.dispose();
    const squares = applyUnary(action, 'square', y);
    const deviation = reduced('mean', squares);
    squares.dispose();
    applyUnary(action, 'sqrt', deviation, 0, deviation);
    const shifted = applyUnary(action, 'add_scalar', deviation, epsilon);
    // 1/(σ + ε) and (σ + ε)/σ, 0 where σ is 0.
    const isSpread = applyBinary(action, 'less', applyUnary(action, 'neg', deviation), deviation, each);
    const inverse = applyBinary(action, 'div', uniformLike(deviation, 1, action), shifted, each);
    const ratio = applyBinary(action, 'div', shifted, deviation, each, shifted);
    for (const factor of [inverse, ratio]) applyBinary(action, 'mul0', factor, isSpread, each, factor);
    isSpread.dispose();
    deviation.dispose();
    applyBinary(action, 'mul', y, inverse, plan, y);
    return {
      out: y,
      inputs: [x],
      saved: [y, inverse, ratio],
      backward: (gradient) => {
        // ∂x = (g − mean g − u·mean(g·y))/(σ + ε), u = (x − mean)/σ.
        const products = applyBinary(action, 'mul', gradient, y, { rows: 1, cols: x.size, how: 'same' });
        const share = reduced('mean', products);
        applyBinary(action, 'mul', share, ratio, each, share);
        applyBinary(action, 'mul', y, share, plan, products);
        share.dispose();
        const average = reduced('mean', gradient);
        const out = applyBinary(action, 'sub', gradient, average, plan);
        average.dispose();
        applyBinary(action, 'sub', out, products, { rows: 1, cols: x.size, how: 'same' }, out);
        products.dispose();
        return [applyBinary(action, 'mul', out, inverse, plan, out)];
      },
    };
  },
});
