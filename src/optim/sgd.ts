// Stochastic gradient descent with momentum: v = momentum·v + g, p −= rate·v (Nesterov: g + momentum·v).
import { checkBoolean, checkOptions } from '../check.js';
import { kernel } from '../native.js';
import type { Tensor } from '../tensor.js';
import { checkDecay, checkShare, Optimizer, type Batch } from './optimizer.js';

const sgdKernel = kernel('sgd', 'step sgd');

export interface SGDOptions {
  learningRate: number;
  /** Default 0. */
  momentum?: number;
  /** Default false; needs momentum. */
  nesterov?: boolean;
  /** Adds weightDecay · p to the gradient. Default 0. */
  weightDecay?: number;
}

/**
 * Stochastic gradient descent.
 *
 * @example
 * const optimizer = new optim.SGD(model.parameters(), { learningRate: 0.1, momentum: 0.9 });
 */
export class SGD extends Optimizer {
  readonly momentum: number;
  readonly nesterov: boolean;
  readonly weightDecay: number;

  constructor(parameters: Iterable<Tensor>, options: SGDOptions) {
    const {
      learningRate,
      momentum = 0,
      nesterov = false,
      weightDecay = 0,
    } = checkOptions('make SGD', options, ['learningRate', 'momentum', 'nesterov', 'weightDecay']);
    checkShare('make SGD', 'momentum', momentum);
    checkDecay('make SGD', weightDecay);
    checkBoolean('make SGD', 'nesterov', nesterov);
    super(parameters, learningRate, momentum > 0 ? ['momentum'] : []);
    this.momentum = momentum;
    this.nesterov = nesterov;
    this.weightDecay = weightDecay;
  }

  protected update({ parameters, gradients, masks, sizes, buffers }: Batch, gradientScale: number): void {
    sgdKernel(
      parameters,
      gradients,
      buffers['momentum'] ?? parameters.map(() => null),
      masks,
      sizes,
      this.learningRate,
      this.momentum,
      this.weightDecay,
      this.nesterov ? 1 : 0,
      gradientScale,
    );
  }
}
