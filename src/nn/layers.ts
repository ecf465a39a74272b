// The layers of a perceptron: Linear, ReLU, Dropout, Sequential.
import { keep } from '../autograd.js';
import { checkBoolean, checkOptions, checkWhole } from '../check.js';
import type { Device } from '../device.js';
import { kindError, phrase, valueError } from '../errors.js';
import { fillUniform, freshSeed } from '../random.js';
import { tensor, type Tensor } from '../tensor.js';
import { dropout, linear, relu } from '../ops/index.js';
import { Module } from './module.js';
import { deriveSeed } from './seed.js';

export interface LinearOptions {
  /** Default true. */
  bias?: boolean;
  /** Same seed, same weights, on every device. Default: a fresh one. */
  seed?: number;
  device?: Device;
}

/** y = x·Wᵀ + b, W [outputs, inputs]; Kaiming-uniform weights: U(−√(6/inputs), √(6/inputs)), b = U(−1/√inputs, 1/√inputs). */
export class Linear extends Module {
  readonly weight: Tensor;
  readonly bias: Tensor | null;

  constructor(inputs: number, outputs: number, options?: LinearOptions) {
    super();
    const action = 'make a Linear';
    const { bias = true, seed = freshSeed(), device } = checkOptions(action, options, ['bias', 'seed', 'device']);
    checkWhole(action, 'inputs', inputs, 1, 2 ** 31);
    checkWhole(action, 'outputs', outputs, 1, 2 ** 31);
    checkBoolean(action, 'bias', bias);
    this.weight = uniformParameter([outputs, inputs], Math.sqrt(6 / inputs), deriveSeed(seed, 'weight'), device);
    this.bias = bias ? uniformParameter([outputs], 1 / Math.sqrt(inputs), deriveSeed(seed, 'bias'), device) : null;
  }

  override forward(x: Tensor): Tensor {
    return linear(x, this.weight, this.bias);
  }
}

function uniformParameter(shape: readonly number[], bound: number, seed: number, device: Device | undefined): Tensor {
  const values = new Float32Array(shape.reduce((product, extent) => product * extent, 1));
  fillUniform(values, seed);
  for (let i = 0; i < values.length; i++) values[i] = (2 * values[i]! - 1) * bound;
  return keep(tensor(values, { shape, device, requiresGrad: true }));
}

/** max(x, 0). */
export class ReLU extends Module {
  override forward(x: Tensor): Tensor {
    return relu(x);
  }
}

/** In training, each element becomes 0 with the probability given, the rest grow by 1 / (1 − probability). */
export class Dropout extends Module {
  readonly probability: number;
  readonly seed: number;
  /** Where the next call's random numbers begin; saved with the training state so that a resumed run drops the same elements. */
  offset = 0;

  constructor(probability: number, options?: { seed?: number }) {
    super();
    const action = 'make a Dropout';
    const { seed = freshSeed() } = checkOptions(action, options, ['seed']);
    if (typeof probability !== 'number') throw kindError(action, 'probability must be a number', probability);
    if (!(probability >= 0 && probability < 1)) throw valueError(action, 'probability must be in [0, 1)', probability);
    checkWhole(action, 'seed', seed, 0, Number.MAX_SAFE_INTEGER);
    this.probability = probability;
    this.seed = seed;
  }

  override forward(x: Tensor): Tensor {
    if (!this.training || this.probability === 0) return x;
    const { offset } = this;
    this.offset += x.size;
    return dropout(x, this.probability, { seed: this.seed, offset });
  }
}

/** Modules one after the other. */
export class Sequential extends Module {
  readonly layers: readonly Module[];

  constructor(...layers: Module[]) {
    super();
    layers.forEach((layer, i) => {
      if (!(layer instanceof Module)) throw kindError('make a Sequential', `layer ${i} must be a Module`, phrase('it is not'));
    });
    this.layers = layers;
  }

  override forward(x: Tensor): Tensor {
    return this.layers.reduce((value, layer) => layer.forward(value), x);
  }
}
