// Lion (Chen et al. 2023): the sign of an interpolated momentum, with decoupled weight decay.
import { checkOptions } from '../check.js';
import { kernel } from '../native.js';
import type { Tensor } from '../tensor.js';
import { checkDecay, checkShare, Optimizer, type Batch } from './optimizer.js';

const lionKernel = kernel('lion', 'step lion');

export interface LionOptions {
  /** A third to a tenth of AdamW's is usual: every step moves every weight by as much. */
  learningRate: number;
  /** β₁ of the step's direction, in [0, 1). Default 0.9. */
  beta1?: number;
  /** β₂ of the momentum, in [0, 1). Default 0.99. */
  beta2?: number;
  /** At least 0; three to ten times AdamW's is usual. Default 0. */
  weightDecay?: number;
}

/**
 * Lion (arXiv 2302.06675, algorithm 2): p −= rate·(sign(β₁·m + (1 − β₁)·g) + decay·p), then m = β₂·m + (1 − β₂)·g. One buffer where AdamW has two.
 * A gradient that is not finite makes its weight NaN, as in the other optimisers.
 *
 * @example
 * const optimizer = new optim.Lion(model.parameters(), { learningRate: 1e-4, weightDecay: 0.1 });
 */
export class Lion extends Optimizer {
  readonly beta1: number;
  readonly beta2: number;
  readonly weightDecay: number;

  constructor(parameters: Iterable<Tensor>, options: LionOptions) {
    const making = 'make Lion';
    const {
      learningRate,
      beta1 = 0.9,
      beta2 = 0.99,
      weightDecay = 0,
    } = checkOptions(making, options, ['learningRate', 'beta1', 'beta2', 'weightDecay']);
    checkShare(making, 'beta1', beta1);
    checkShare(making, 'beta2', beta2);
    checkDecay(making, weightDecay);
    super(parameters, learningRate, ['momentum']);
    this.beta1 = beta1;
    this.beta2 = beta2;
    this.weightDecay = weightDecay;
  }

  protected update({ parameters, gradients, masks, sizes, buffers }: Batch, gradientScale: number): void {
    lionKernel(
      parameters,
      gradients,
      buffers['momentum']!,
      masks,
      sizes,
      this.learningRate,
      this.beta1,
      this.beta2,
      this.weightDecay,
      gradientScale,
    );
  }
}
