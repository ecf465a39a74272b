// Sums and means over everything or over the first or last dimension.
import { defineOp, type Computed } from '../autograd.js';
import { checkBoolean, checkComputed, checkOptions, checkRows, checkWhole } from '../check.js';
import { phrase, shapeText, valueError } from '../errors.js';
import { findCode, kernel } from '../native.js';
import { emptyLike, handleOf, stateOf, type Tensor } from '../tensor.js';
import { spread } from './binary.js';
import { scaled, uniformProduct } from './unary.js';

/** Options of {@link sum} and {@link mean}. */
export interface ReduceOptions {
  /** The first (0) or the last (-1) dimension; left out: every element. */
  axis?: number;
  /** Keeps the dimension with extent 1. Default false. */
  keepDims?: boolean;
}

/** Reduces [rows, cols] along axis 0 to [cols] or along axis 1 to [rows], outside the graph. */
export function applyReduce(
  action: string,
  name: string,
  x: Tensor,
  rows: number,
  cols: number,
  axis: 0 | 1,
  shape: readonly number[],
): Tensor {
  const out = emptyLike(x, action, shape);
  kernel('reduce', action)(handleOf(x, action), handleOf(out, action), rows, cols, findCode('reduce', name), axis);
  return out;
}

interface Reduction {
  rows: number;
  cols: number;
  axis: 0 | 1;
  shape: readonly number[];
  /** How the gradient spreads back. */
  how: 'row' | 'column' | 'scalar';
}

function planOf(action: string, x: Tensor, options: ReduceOptions | undefined): Reduction {
  const { axis, keepDims = false } = checkOptions(action, options, ['axis', 'keepDims']);
  checkBoolean(action, 'keepDims', keepDims);
  const { shape } = x;
  if (axis === undefined) return { rows: 1, cols: x.size, axis: 1, shape: keepDims ? shape.map(() => 1) : [], how: 'scalar' };
  checkWhole(action, 'axis', axis, -shape.length, shape.length - 1);
  const at = axis < 0 ? axis + shape.length : axis;
  if (at !== 0 && at !== shape.length - 1) {
    throw valueError(action, 'axis must be the first or the last dimension', phrase(`it is ${axis} of shape ${shapeText(shape)}`));
  }
  const kept = keepDims ? shape.map((extent, i) => (i === at ? 1 : extent)) : shape.filter((_, i) => i !== at);
  if (at === shape.length - 1) {
    const { rows, cols } = checkRows(action, 'x', x);
    return { rows, cols, axis: 1, shape: kept, how: 'column' };
  }
  const cols = shape.slice(1).reduce((product, extent) => product * extent, 1);
  return { rows: shape[0]!, cols, axis: 0, shape: kept, how: 'row' };
}

function runReduce(action: string, name: 'sum' | 'mean', input: unknown, options: ReduceOptions | undefined): Computed {
  const x = checkComputed(action, 'x', input);
  const { rows, cols, axis, shape, how } = planOf(action, x, options);
  const out = applyReduce(action, name, x, rows, cols, axis, shape);
  return {
    out,
    inputs: [x],
    backward: (gradient) => {
      const factor = name === 'sum' ? 1 : 1 / (axis === 0 ? rows : cols);
      const { uniform } = stateOf(gradient);
      if (uniform !== null) return [uniformProduct(action, x, uniform, factor)];
      if (factor === 1) return [spread(action, gradient, x.shape, rows, cols, how)];
      const small = scaled(action, gradient, factor);
      const large = spread(action, small, x.shape, rows, cols, how);
      small.dispose();
      return [large];
    },
  };
}

/**
 * Σ x, over all elements (shape []) or along the first or last dimension. float32 partial sums, then a fixed tree: the same
 * bits whatever the thread count.
 *
 * @throws RangeError for a dimension in the middle
 */
export const sum = defineOp({ name: 'sum', run: (x: Tensor, options?: ReduceOptions) => runReduce('compute sum', 'sum', x, options) });

/** The mean, over all elements (shape []) or along the first or last dimension. */
export const mean = defineOp({ name: 'mean', run: (x: Tensor, options?: ReduceOptions) => runReduce('compute mean', 'mean', x, options) });
