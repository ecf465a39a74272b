// Two-dimensional convolution: windows as lines, one matrix product, and the lines turned back into images.
import { defineOp, type Computed } from '../autograd.js';
import { checkComputed, checkOptions, checkSameDevice, checkSameDType, checkShapeIs, checkWhole } from '../check.js';
import { phrase, shapeText, valueError } from '../errors.js';
import { kernel } from '../native.js';
import { emptyLike, handleOf, type Tensor } from '../tensor.js';
import { applyBinary } from './binary.js';
import { productInto } from './matmul.js';
import { applyReduce } from './reduce.js';
import { applyTranspose } from './transpose.js';

/** Options of {@link conv2d}. */
export interface Conv2dOptions {
  /** Steps between windows, both ways. Default 1. */
  stride?: number;
  /** Zeros around the image, less than the window. Default 0. */
  padding?: number;
}

/** A tensor of images, or an error that names it. */
export function checkImages(action: string, value: unknown): Tensor {
  const x = checkComputed(action, 'x', value);
  if (x.shape.length !== 4)
    throw valueError(action, 'x must have shape [images, channels, height, width]', phrase(`it has ${shapeText(x.shape)}`));
  return x;
}

/**
 * y[n, o, i, j] = bias[o] + Σ weight[o, c, a, b]·x[n, c, i·stride + a − padding, j·stride + b − padding], 0 outside the image
 * (cross-correlation, as in PyTorch).
 *
 * @param x [images, channels, height, width], float32, or float64 on the CPU
 * @param weight [outputs, channels, window height, window width]
 * @param bias [outputs], or null
 * @returns [images, outputs, ⌊(height + 2·padding − window height)/stride⌋ + 1, the same of the width]
 * @throws RangeError where the window does not fit
 */
export const conv2d = defineOp({
  name: 'conv2d',
  run: (input: Tensor, weights: Tensor, biases?: Tensor | null, options?: Conv2dOptions): Computed => {
    const action = 'compute conv2d';
    const x = checkImages(action, input);
    const weight = checkComputed(action, 'weight', weights);
    checkSameDType(action, 'weight', weight, 'x', x);
    checkSameDevice(action, 'weight', weight, 'x', x);
    const { stride = 1, padding = 0 } = checkOptions(action, options, ['stride', 'padding']);
    checkWhole(action, 'stride', stride, 1);
    checkWhole(action, 'padding', padding, 0);
    const [images, channels, height, width] = x.shape as [number, number, number, number];
    const [outputs, inputs, kernelHeight, kernelWidth] = weight.shape as [number, number, number, number];
    if (weight.shape.length !== 4 || inputs !== channels || weight.size === 0)
      throw valueError(
        action,
        `weight must have shape [outputs, ${channels}, window height, window width] for x ${shapeText(x.shape)}`,
        phrase(`it has ${shapeText(weight.shape)}`),
      );
    const fits = (extent: number, window: number): boolean => window <= extent + 2 * padding && padding < window;
    if (!fits(height, kernelHeight) || !fits(width, kernelWidth))
      throw valueError(
        action,
        'the window must fit the padded image, and the padding must be smaller than the window',
        phrase(`the window is ${kernelHeight} × ${kernelWidth}, the image ${height} × ${width}, the padding ${padding}`),
      );
    const bias = biases == null ? null : checkComputed(action, 'bias', biases);
    if (bias !== null) {
      checkSameDType(action, 'bias', bias, 'x', x);
      checkSameDevice(action, 'bias', bias, 'x', x);
      checkShapeIs(action, 'bias', bias, [outputs], 'like the outputs');
    }
    const outHeight = Math.floor((height + 2 * padding - kernelHeight) / stride) + 1;
    const outWidth = Math.floor((width + 2 * padding - kernelWidth) / stride) + 1;
    const places = outHeight * outWidth;
    const lines = images * places;
    const entries = channels * kernelHeight * kernelWidth;
    const extents = [images, channels, height, width, kernelHeight, kernelWidth, stride, padding] as const;

    const columns = emptyLike(x, action, [lines, entries]);
    if (columns.size > 0) kernel('im2col', action)(handleOf(x, action), handleOf(columns, action), ...extents);
    const product = productInto(action, columns, weight, emptyLike(x, action, [lines, outputs]), {
      m: lines,
      n: outputs,
      k: entries,
      transposeB: true,
    });
    if (bias !== null) applyBinary(action, 'add', product, bias, { rows: lines, cols: outputs, how: 'row' }, product);
    const out = applyTranspose(action, product, images, places, outputs, [images, outputs, outHeight, outWidth]);
    product.dispose();
    return {
      out,
      inputs: bias === null ? [x, weight] : [x, weight, bias],
      saved: [columns],
      backward: (gradient, { needs }) => {
        const turned = applyTranspose(action, gradient, images, outputs, places, [lines, outputs]);
        let gradientX: Tensor | null = null;
        if (needs[0]) {
          const gradientColumns = productInto(action, turned, weight, emptyLike(x, action, [lines, entries]), {
            m: lines,
            n: entries,
            k: outputs,
          });
          gradientX = emptyLike(x, action);
          if (x.size > 0) kernel('col2im', action)(handleOf(gradientColumns, action), handleOf(gradientX, action), ...extents);
          gradientColumns.dispose();
        }
        const gradientWeight = needs[1]
          ? productInto(action, turned, columns, emptyLike(weight, action), { m: outputs, n: entries, k: lines, transposeA: true })
          : null;
        const gradientBias = needs[2] ? applyReduce(action, 'sum', turned, lines, outputs, 0, [outputs]) : null;
        turned.dispose();
        return bias === null ? [gradientX, gradientWeight] : [gradientX, gradientWeight, gradientBias];
      },
    };
  },
});
