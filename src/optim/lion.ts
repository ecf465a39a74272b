// Lion (Chen et al. 2023): the sign of an interpolated momentum, with decoupled weight decay.
import { addInto } from '../arithmetic.js';
import { tidy } from '../autograd.js';
import { checkOptions } from '../check.js';
import { applyBinary, type Plan } from '../ops/binary.js';
import { applyUnary } from '../ops/unary.js';
import type { Tensor } from '../tensor.js';
import { checkDecay, checkShare, Optimizer, type Slot } from './optimizer.js';

const action = 'step lion';

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

  protected update({ parameter, mask, buffers }: Slot, gradient: Tensor, gradientScale: number): void {
    if (parameter.size === 0) return;
    const plan: Plan = { rows: 1, cols: parameter.size, how: 'same' };
    const momentum = buffers['momentum']!;
    tidy(() => {
      const own = applyUnary(action, 'scale', gradient, gradientScale);
      const direction = applyUnary(action, 'scale', momentum, this.beta1);
      addInto(direction, direction, applyUnary(action, 'scale', own, 1 - this.beta1));
      const opposite = applyUnary(action, 'neg', direction);
      const sign = applyBinary(action, 'less', opposite, direction, plan);
      applyBinary(action, 'sub', sign, applyBinary(action, 'less', direction, opposite, plan), plan, sign);
      // Neither is less than the other where it is NaN: what is not finite must show.
      addInto(sign, sign, applyBinary(action, 'sub', direction, direction, plan, opposite));
      if (this.weightDecay > 0) addInto(sign, sign, applyUnary(action, 'scale', parameter, this.weightDecay));
      addInto(parameter, parameter, applyUnary(action, 'scale', sign, -this.learningRate, sign));
      applyUnary(action, 'scale', momentum, this.beta2, momentum);
      addInto(momentum, momentum, applyUnary(action, 'scale', own, 1 - this.beta2, own));
      if (mask !== null) for (const each of [parameter, momentum]) applyBinary(action, 'mul0', each, mask, plan, each);
    });
  }
}
