// Stochastic gradient descent with momentum: v = momentum·v + g, p −= rate·v (Nesterov: g + momentum·v).
import { checkOptions } from '../check.js';
import { kernel } from '../native.js';
import { handleOf, handleOrNull, type Tensor } from '../tensor.js';
import { checkDecay, checkShare, Optimizer, type Slot } from './optimizer.js';

const action = 'step sgd';
const sgdKernel = kernel('sgd', action);

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
    super(parameters, learningRate, momentum > 0 ? ['momentum'] : []);
    this.momentum = momentum;
    this.nesterov = nesterov;
    this.weightDecay = weightDecay;
  }

  protected update({ parameter, mask, buffers }: Slot, gradient: Tensor, gradientScale: number): void {
    sgdKernel(
      handleOf(parameter, action),
      handleOf(gradient, action),
      handleOrNull(buffers['momentum'], action),
      handleOrNull(mask, action),
      parameter.size,
      this.learningRate,
      this.momentum,
      this.weightDecay,
      this.nesterov ? 1 : 0,
      gradientScale,
    );
  }
}
