// Pooling of images: the largest or the mean of each window, and the mean of a whole plane.
import { defineOp, type Computed } from '../autograd.js';
import { checkOptions, checkWhole } from '../check.js';
import { kindError, phrase, valueError } from '../errors.js';
import { findCode, kernel } from '../native.js';
import { empty, emptyLike, handleOf, handleOrNull, ordinalOf, type Tensor } from '../tensor.js';
import { checkImages } from './conv2d.js';
import { mean } from './reduce.js';

/** Options of {@link maxPool2d} and {@link avgPool2d}. */
export interface PoolOptions {
  /** Side of the square window, at least 1. */
  size: number;
  /** Steps between windows, both ways. Default: the size. */
  stride?: number;
}

function runPool(action: string, name: 'max' | 'mean', input: unknown, options: PoolOptions): Computed {
  const x = checkImages(action, input);
  if (options === undefined) throw kindError(action, 'options must give size', options);
  const { size, stride = size } = checkOptions(action, options, ['size', 'stride']);
  checkWhole(action, 'size', size, 1);
  checkWhole(action, 'stride', stride, 1);
  const [images, channels, height, width] = x.shape as [number, number, number, number];
  if (size > height || size > width)
    throw valueError(action, 'the window must fit the image', phrase(`the window is ${size} × ${size}, the image ${height} × ${width}`));
  const shape = [images, channels, Math.floor((height - size) / stride) + 1, Math.floor((width - size) / stride) + 1];
  const out = emptyLike(x, action, shape);
  const places = name === 'max' ? empty(shape, 'int32', ordinalOf(x, action), action) : null;
  const extents = [images * channels, height, width, size, stride, findCode('pool_function', name)] as const;
  if (out.size > 0) kernel('pool', action)(handleOf(x, action), handleOf(out, action), handleOrNull(places, action), ...extents);
  return {
    out,
    inputs: [x],
    saved: places === null ? [] : [places],
    backward: (gradient) => {
      const gradientX = emptyLike(x, action);
      if (x.size > 0)
        kernel('pool_backward', action)(handleOf(gradient, action), handleOrNull(places, action), handleOf(gradientX, action), ...extents);
      return [gradientX];
    },
  };
}

/**
 * The largest element of each window; the gradient goes to the first of equals. NaN is the largest.
 *
 * @param x [images, channels, height, width], float32, or float64 on the CPU
 * @returns [images, channels, ⌊(height − size)/stride⌋ + 1, the same of the width]
 * @throws RangeError where the window does not fit
 */
export const maxPool2d = defineOp({
  name: 'maxPool2d',
  run: (x: Tensor, options: PoolOptions) => runPool('compute maxPool2d', 'max', x, options),
});

/** The mean of each window. Shapes and errors as of {@link maxPool2d}. */
export const avgPool2d = defineOp({
  name: 'avgPool2d',
  run: (x: Tensor, options: PoolOptions) => runPool('compute avgPool2d', 'mean', x, options),
});

/**
 * The mean of each plane.
 *
 * @param x [images, channels, height, width], float32, or float64 on the CPU
 * @returns [images, channels]
 */
export function globalAvgPool2d(x: Tensor): Tensor {
  const [images, channels, height, width] = checkImages('compute globalAvgPool2d', x).shape as [number, number, number, number];
  return mean(x.reshape([images, channels, height * width]), { axis: -1 });
}
