// Rows brought to length 1, with the gradient in closed form.
import { defineOp, type Computed } from '../autograd.js';
import { checkComputed, checkRows } from '../check.js';
import { uniformLike, type Tensor } from '../tensor.js';
import { applyBinary } from './binary.js';
import { applyReduce } from './reduce.js';
import { applyUnary } from './unary.js';

/**
 * x / ‖x‖ over the last dimension (Euclidean). A row of zeros stays 0, with gradient 0.
 *
 * @param x [..., cols], float32, or float64 on the CPU
 * @returns the same shape
 */
export const normalize = defineOp({
  name: 'normalize',
  run: (input: Tensor): Computed => {
    const action = 'compute normalize';
    const x = checkComputed(action, 'x', input);
    const { rows, cols } = checkRows(action, 'x', x);
    const column = { rows, cols, how: 'column' } as const;
    const each = { rows: 1, cols: rows, how: 'same' } as const;
    const length = applyReduce(action, 'sum_squares', x, rows, cols, 1, [rows]);
    applyUnary(action, 'sqrt', length, 0, length);
    const isThere = applyBinary(action, 'less', applyUnary(action, 'neg', length), length, each);
    const inverse = applyBinary(action, 'div', uniformLike(length, 1, action), length, each);
    applyBinary(action, 'mul0', inverse, isThere, each, inverse);
    isThere.dispose();
    length.dispose();
    const out = applyBinary(action, 'mul', x, inverse, column);
    return {
      out,
      inputs: [x],
      saved: [out, inverse],
      backward: (gradient) => {
        // ∂x = (g − y·Σ g·y)/‖x‖.
        const products = applyBinary(action, 'mul', gradient, out, { rows: 1, cols: x.size, how: 'same' });
        const share = applyReduce(action, 'sum', products, rows, cols, 1, [rows]);
        applyBinary(action, 'mul', out, share, column, products);
        share.dispose();
        applyBinary(action, 'sub', gradient, products, { rows: 1, cols: x.size, how: 'same' }, products);
        return [applyBinary(action, 'mul', products, inverse, column, products)];
      },
    };
  },
});
