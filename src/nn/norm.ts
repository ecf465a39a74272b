// Normalisation layers over the last dimension.
import { checkBoolean, checkOptions, checkPositive, checkWhole } from '../check.js';
import type { Device } from '../device.js';
import { layerNorm, rmsNorm } from '../ops/index.js';
import type { Tensor } from '../tensor.js';
import { Module } from './module.js';
import { constantParameter } from './parameters.js';

/** (x − μ)/√(σ² + ε)·weight + bias over the last dimension, x [..., width]. The weight begins as 1, the bias as 0. See {@link layerNorm}. */
export class LayerNorm extends Module {
  readonly weight: Tensor;
  readonly bias: Tensor | null;
  readonly epsilon: number;

  constructor(width: number, options?: { epsilon?: number; bias?: boolean; device?: Device }) {
    super();
    const action = 'make a LayerNorm';
    const { epsilon = 1e-5, bias = true, device } = checkOptions(action, options, ['epsilon', 'bias', 'device']);
    checkWhole(action, 'width', width, 1, 2 ** 31);
    checkBoolean(action, 'bias', bias);
    this.epsilon = checkPositive(action, 'epsilon', epsilon);
    this.weight = constantParameter([width], 1, device);
    this.bias = bias ? constantParameter([width], 0, device) : null;
  }

  override forward(x: Tensor): Tensor {
    return layerNorm(x, this.weight, this.bias, { epsilon: this.epsilon });
  }
}

/** x/√(mean x² + ε)·weight over the last dimension, x [..., width]. The weight begins as 1. See {@link rmsNorm}. */
export class RMSNorm extends Module {
  readonly weight: Tensor;
  readonly epsilon: number;

  constructor(width: number, options?: { epsilon?: number; device?: Device }) {
    super();
    const action = 'make an RMSNorm';
    const { epsilon = 1e-6, device } = checkOptions(action, options, ['epsilon', 'device']);
    checkWhole(action, 'width', width, 1, 2 ** 31);
    this.epsilon = checkPositive(action, 'epsilon', epsilon);
    this.weight = constantParameter([width], 1, device);
  }

  override forward(x: Tensor): Tensor {
    return rmsNorm(x, this.weight, { epsilon: this.epsilon });
  }
}
