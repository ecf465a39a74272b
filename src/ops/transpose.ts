// The last two dimensions exchanged.
import { defineOp, type Computed } from '../autograd.js';
import { checkComputed } from '../check.js';
import { phrase, shapeText, valueError } from '../errors.js';
import { kernel } from '../native.js';
import { emptyLike, handleOf, type Tensor } from '../tensor.js';

/** [batch, rows, cols] as [batch, cols, rows], outside the graph. */
export function applyTranspose(action: string, x: Tensor, batch: number, rows: number, cols: number, shape: readonly number[]): Tensor {
  const out = emptyLike(x, action, shape);
  if (out.size > 0) kernel('transpose', action)(handleOf(x, action), handleOf(out, action), batch, rows, cols);
  return out;
}

/**
 * The last two dimensions exchanged, as a new tensor.
 *
 * @param x [..., rows, cols], float32, or float64 on the CPU
 * @returns [..., cols, rows]
 */
export const transpose = defineOp({
  name: 'transpose',
  run: (input: Tensor): Computed => {
    const action = 'compute transpose';
    const x = checkComputed(action, 'x', input);
    if (x.shape.length < 2) throw valueError(action, 'x must have at least two dimensions', phrase(`its shape is ${shapeText(x.shape)}`));
    const leading = x.shape.slice(0, -2);
    const [rows, cols] = x.shape.slice(-2) as [number, number];
    const batch = leading.reduce((product, extent) => product * extent, 1);
    return {
      out: applyTranspose(action, x, batch, rows, cols, [...leading, cols, rows]),
      inputs: [x],
      backward: (gradient) => [applyTranspose(action, gradient, batch, cols, rows, x.shape)],
    };
  },
});
