// Differences between all rows of a batch, their lengths and products, with gradients that stay finite where two rows are one.
import { defineOp, tidy, type Computed } from '../../autograd.js';
import { applyBinary, silenced } from '../../ops/binary.js';
import { productInto } from '../../ops/matmul.js';
import { applyReduce } from '../../ops/reduce.js';
import { applyUnary } from '../../ops/unary.js';
import { findCode, kernel } from '../../native.js';
import { emptyLike, handleOf, rowsView, uniformLike, view, type Tensor } from '../../tensor.js';
import { isNotZero } from '../row_loss.js';

/** 1/x, and 0 where x is 0; a constant of x's shape. */
export function inverseOrZero(action: string, x: Tensor): Tensor {
  const one = uniformLike(x, 1, action);
  return silenced(applyBinary(action, 'div', one, x, { rows: 1, cols: x.size, how: 'same' }), isNotZero(action, x));
}

/** Entry b of the first dimension, in the same memory. */
function blockOf(x: Tensor, b: number, action: string): Tensor {
  return view(rowsView(x, b, 1, action), x.shape.slice(1));
}

/** x_i − x_j for all rows of [n, width]: [n, n, width]. */
export const differences = defineOp({
  name: 'differences',
  run: (x: Tensor): Computed => {
    const action = 'compute differences';
    const [n, width] = x.shape as [number, number];
    const out = emptyLike(x, action, [n, n, width]);
    tidy(() => {
      // x − x_i for every i, then the sign.
      for (let i = 0; i < n; i++)
        applyBinary(action, 'sub', x, blockOf(x, i, action), { rows: n, cols: width, how: 'row' }, blockOf(out, i, action));
      applyUnary(action, 'neg', out, 0, out);
    });
    return {
      out,
      inputs: [x],
      // ∂x_i = Σ_j g_ij − Σ_j g_ji.
      backward: (gradient) => [
        tidy(() => {
          const columns = applyReduce(action, 'sum', gradient, n, n * width, 0, [n, width]);
          const rows = emptyLike(x, action);
          const code = findCode('reduce', 'sum');
          for (let i = 0; i < n; i++) {
            const [from, into] = [blockOf(gradient, i, action), blockOf(rows, i, action)];
            kernel('reduce', action)(handleOf(from, action), handleOf(into, action), n, width, code, 0);
          }
          return applyBinary(action, 'sub', rows, columns, { rows: 1, cols: x.size, how: 'same' }, rows);
        }),
      ],
    };
  },
});

/** ‖x‖ over the last dimension; the gradient of a row of zeros is 0. */
export const lengths = defineOp({
  name: 'lengths',
  run: (x: Tensor): Computed => {
    const action = 'compute lengths';
    const cols = x.shape.at(-1)!;
    const leading = x.shape.slice(0, -1);
    const rows = leading.reduce((product, extent) => product * extent, 1);
    const out = applyReduce(action, 'sum_squares', x, rows, cols, 1, leading);
    applyUnary(action, 'sqrt', out, 0, out);
    return {
      out,
      inputs: [x],
      saved: [out],
      backward: (gradient) => [
        tidy(() => {
          const factor = applyBinary(action, 'mul', gradient, inverseOrZero(action, out), { rows: 1, cols: rows, how: 'same' });
          return applyBinary(action, 'mul', x, factor, { rows, cols, how: 'column' });
        }),
      ],
    };
  },
});

/**
 * factor · A·Aᵀ of each block of [blocks, n, width]: [blocks, n, n]. `columns` [count, n], a constant, is added to every row of
 * block b from its row b mod count. The gradient is factor·(G + Gᵀ)A.
 */
export const selfProducts = defineOp({
  name: 'selfProducts',
  run: (x: Tensor, factor: number, columns?: Tensor): Computed => {
    const action = 'compute selfProducts';
    const [blocks, n, width] = x.shape as [number, number, number];
    const out = emptyLike(x, action, [blocks, n, n]);
    tidy(() => {
      for (let b = 0; b < blocks; b++) {
        const a = blockOf(x, b, action);
        productInto(action, a, a, blockOf(out, b, action), { m: n, n, k: width, transposeB: true });
      }
      applyUnary(action, 'scale', out, factor, out);
      for (let b = 0; columns !== undefined && b < blocks; b++) {
        const block = blockOf(out, b, action);
        applyBinary(action, 'add', block, blockOf(columns, b % columns.shape[0]!, action), { rows: n, cols: n, how: 'row' }, block);
      }
    });
    return {
      out,
      inputs: [x],
      backward: (gradient) => [
        tidy(() => {
          const back = emptyLike(x, action);
          for (let b = 0; b < blocks; b++) {
            const [a, g, into] = [blockOf(x, b, action), blockOf(gradient, b, action), blockOf(back, b, action)];
            productInto(action, g, a, into, { m: n, n: width, k: n });
            productInto(action, g, a, into, { m: n, n: width, k: n, transposeA: true }, true);
          }
          return applyUnary(action, 'scale', back, factor, back);
        }),
      ],
    };
  },
});
