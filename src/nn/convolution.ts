// Layers over images: convolution and pooling.
import { checkBoolean, checkOptions, checkWhole } from '../check.js';
import type { Device } from '../device.js';
import { freshSeed } from '../random.js';
import { avgPool2d, conv2d, globalAvgPool2d, maxPool2d } from '../ops/index.js';
import type { Tensor } from '../tensor.js';
import { Module } from './module.js';
import { uniformParameter } from './parameters.js';
import { deriveSeed } from './seed.js';

/** Options of {@link Conv2d}. */
export interface Conv2dLayerOptions {
  /** Side of the square window. Default 3. */
  size?: number;
  /** Steps between windows, both ways. Default 1. */
  stride?: number;
  /** Zeros around the image, less than the window. Default 0. */
  padding?: number;
  /** Default true. */
  bias?: boolean;
  /** Same seed, same weights, on every device. Default: a fresh one. */
  seed?: number;
  device?: Device;
}

/**
 * Cross-correlation as in {@link conv2d}: x [images, inputs, height, width], weight [outputs, inputs, size, size], bias [outputs].
 * Weights begin Kaiming-uniform over inputs·size².
 */
export class Conv2d extends Module {
  readonly weight: Tensor;
  readonly bias: Tensor | null;
  readonly stride: number;
  readonly padding: number;

  constructor(inputs: number, outputs: number, options?: Conv2dLayerOptions) {
    super();
    const action = 'make a Conv2d';
    const {
      size = 3,
      stride = 1,
      padding = 0,
      bias = true,
      seed = freshSeed(),
      device,
    } = checkOptions(action, options, ['size', 'stride', 'padding', 'bias', 'seed', 'device']);
    checkWhole(action, 'inputs', inputs, 1, 2 ** 31);
    checkWhole(action, 'outputs', outputs, 1, 2 ** 31);
    checkWhole(action, 'size', size, 1, 2 ** 15);
    this.stride = checkWhole(action, 'stride', stride, 1);
    this.padding = checkWhole(action, 'padding', padding, 0, size - 1);
    checkBoolean(action, 'bias', bias);
    const entries = inputs * size * size;
    this.weight = uniformParameter([outputs, inputs, size, size], Math.sqrt(6 / entries), deriveSeed(seed, 'weight'), device);
    this.bias = bias ? uniformParameter([outputs], 1 / Math.sqrt(entries), deriveSeed(seed, 'bias'), device) : null;
  }

  override forward(x: Tensor): Tensor {
    return conv2d(x, this.weight, this.bias, { stride: this.stride, padding: this.padding });
  }
}

abstract class Pool2d extends Module {
  readonly size: number;
  readonly stride: number;

  constructor(size: number, options?: { stride?: number }) {
    super();
    const action = `make a ${new.target.name}`;
    const { stride = size } = checkOptions(action, options, ['stride']);
    this.size = checkWhole(action, 'size', size, 1);
    this.stride = checkWhole(action, 'stride', stride, 1);
  }
}

/** The largest element of each square window of the side given. See {@link maxPool2d}. */
export class MaxPool2d extends Pool2d {
  override forward(x: Tensor): Tensor {
    return maxPool2d(x, { size: this.size, stride: this.stride });
  }
}

/** The mean of each square window of the side given. See {@link avgPool2d}. */
export class AvgPool2d extends Pool2d {
  override forward(x: Tensor): Tensor {
    return avgPool2d(x, { size: this.size, stride: this.stride });
  }
}

/** The mean of each channel: [images, channels, height, width] to [images, channels]. */
export class GlobalAvgPool2d extends Module {
  override forward(x: Tensor): Tensor {
    return globalAvgPool2d(x);
  }
}
