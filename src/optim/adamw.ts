// Adam with decoupled weight decay (Loshchilov and Hutter 2019): p −= rate·(m̂ / (√v̂ + ε) + decay·p).
import { checkOptions } from '../check.js';
import { kindError, valueError } from '../errors.js';
import { kernel } from '../native.js';
import type { Tensor } from '../tensor.js';
import { checkDecay, checkShare, Optimizer, type Batch } from './optimizer.js';

const adamwKernel = kernel('adamw', 'step adamw');

export interface AdamWOptions {
  learningRate: number;
  /** Default 0.9. */
  beta1?: number;
  /** Default 0.999. */
  beta2?: number;
  /** Default 1e-8. */
  epsilon?: number;
  /** Default 0.01. */
  weightDecay?: number;
}

/**
 * AdamW.
 *
 * @example
 * const optimizer = new optim.AdamW(model.parameters(), { learningRate: 1e-3 });
 */
export class AdamW extends Optimizer {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  readonly weightDecay: number;

  constructor(parameters: Iterable<Tensor>, options: AdamWOptions) {
    const making = 'make AdamW';
    const {
      learningRate,
      beta1 = 0.9,
      beta2 = 0.999,
      epsilon = 1e-8,
      weightDecay = 0.01,
    } = checkOptions(making, options, ['learningRate', 'beta1', 'beta2', 'epsilon', 'weightDecay']);
    checkShare(making, 'beta1', beta1);
    checkShare(making, 'beta2', beta2);
    checkDecay(making, weightDecay);
    if (typeof epsilon !== 'number') throw kindError(making, 'epsilon must be a number', epsilon);
    if (!(epsilon > 0 && epsilon < Infinity)) throw valueError(making, 'epsilon must be a finite number > 0', epsilon);
    super(parameters, learningRate, ['first_moment', 'second_moment']);
    this.beta1 = beta1;
    this.beta2 = beta2;
    this.epsilon = epsilon;
    this.weightDecay = weightDecay;
  }

  protected update({ parameters, gradients, masks, sizes, buffers }: Batch, gradientScale: number): void {
    adamwKernel(
      parameters,
      gradients,
      buffers['first_moment']!,
      buffers['second_moment']!,
      masks,
      sizes,
      this.learningRate,
      this.beta1,
      this.beta2,
      this.epsilon,
      this.weightDecay,
      this.steps,
      gradientScale,
    );
  }
}
