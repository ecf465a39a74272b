// The schedule of TAID's interpolation: how far the target has moved from the student to the teacher, sped up while the loss falls.
import { checkBoolean, checkFraction, checkNumber, checkOptions, checkWhole } from '../check.js';
import { kindError, phrase, valueError } from '../errors.js';
import { Tensor } from '../tensor.js';

/** Options of {@link TaidScheduler}. */
export interface TaidOptions {
  /** Steps of the whole training, at least 1. */
  steps: number;
  /** t at the first step, in [0, 1). Default 0.4. */
  tStart?: number;
  /** t at the end, in (0, 1] and at least tStart. Default 1. */
  tEnd?: number;
  /** α in [0, 1], the largest share of the way to 1 that one step may add. Default 5e-4. */
  alpha?: number;
  /** β in [0, 1], the memory of the relative change. Default 0.99. */
  beta?: number;
  /** Whether the loss matters; without it t is the straight line from tStart to tEnd. Default true. */
  adaptive?: boolean;
}

/** What a checkpoint keeps of a {@link TaidScheduler}: plain numbers. */
export interface TaidState {
  /** Calls of update() so far. */
  step: number;
  t: number;
  momentum: number;
  /** The loss of the last call; null before the first. */
  previousLoss: number | null;
}

/**
 * The adaptive schedule of TAID (Shing et al. 2025, arXiv 2501.16937) for the t of {@link interpolateTarget}: the target is
 * softmax((1 − t)·z + t·u), z the student's logits held fixed and u the teacher's. After each step
 *
 * m ← β·m + (1 − β)·(ℓ_previous − ℓ)/ℓ_previous,  t ← min(tEnd, max(line, t + α·σ(m)·(1 − t))),
 *
 * where the line goes from tStart to tEnd over `steps`. t never falls. The first loss only sets what later ones are compared with.
 *
 * ℓ must be the soft cross-entropy −Σ p_t·ln q of the step, as in the published code, and not the KL divergence: they
 * differ by the entropy of the target, which t itself changes, so the relative change would be another.
 *
 * @throws RangeError for a value outside its range
 *
 * @example
 * const taid = new TaidScheduler({ steps: 1000 });
 * const loss = kdLoss(student, interpolateTarget(student, teacher, { t: taid.t }), { divergence: 'soft_cross_entropy' });
 * loss.backward();
 * taid.update(loss);
 */
export class TaidScheduler {
  readonly #options: Required<TaidOptions>;
  #state: TaidState;

  constructor(options: TaidOptions) {
    const action = 'make a TAID schedule';
    const given = checkOptions(action, options, ['steps', 'tStart', 'tEnd', 'alpha', 'beta', 'adaptive']);
    const { steps, tStart = 0.4, tEnd = 1, alpha = 5e-4, beta = 0.99, adaptive = true } = given;
    checkWhole(action, 'steps', steps, 1);
    checkFraction(action, 'tStart', tStart);
    if (tStart === 1) throw valueError(action, 'tStart must be in [0, 1)', tStart);
    checkFraction(action, 'tEnd', tEnd);
    if (tEnd === 0 || tEnd < tStart) throw valueError(action, `tEnd must be above 0 and at least tStart (${tStart})`, tEnd);
    checkFraction(action, 'alpha', alpha);
    checkFraction(action, 'beta', beta);
    checkBoolean(action, 'adaptive', adaptive);
    this.#options = { steps, tStart, tEnd, alpha, beta, adaptive };
    this.#state = { step: 0, t: tStart, momentum: 0, previousLoss: null };
  }

  /** The share of the teacher in the target of the coming step, in [tStart, tEnd]. */
  get t(): number {
    return this.#state.t;
  }

  /**
   * Takes the loss of a step and moves t. Call it once for each step, after the loss was computed with the old t.
   *
   * @param loss the soft cross-entropy: a number, or a Tensor of one element, which is waited for
   * @returns the t of the next step
   * @throws RangeError for a loss that is not finite and at least 0
   */
  update(loss: number | Tensor): number {
    const action = 'update a TAID schedule';
    const value = loss instanceof Tensor ? loss.item() : loss;
    if (typeof value !== 'number') throw kindError(action, 'loss must be a number or a Tensor', loss);
    if (!(value >= 0 && value < Infinity)) throw valueError(action, 'loss must be finite and at least 0', value);
    const { steps, tStart, tEnd, alpha, beta, adaptive } = this.#options;
    const { step, t, momentum, previousLoss } = this.#state;
    const next: TaidState = { step: step + 1, t, momentum, previousLoss: value };
    if (previousLoss !== null) {
      // The published code guards a loss of 0 in this way.
      const change = (previousLoss - value) / (previousLoss + 1e-15);
      next.momentum = beta * momentum + (1 - beta) * change;
      const line = tStart + (tEnd - tStart) * Math.min(1, step / steps);
      const faster = t + (alpha * (1 - t)) / (1 + Math.exp(-next.momentum));
      next.t = adaptive ? Math.min(tEnd, Math.max(line, faster)) : line;
    }
    this.#state = next;
    return next.t;
  }

  /** What {@link load} needs to go on from here. */
  state(): TaidState {
    return { ...this.#state };
  }

  /**
   * Goes on from a state of a schedule with the same options.
   *
   * @throws RangeError where it cannot be one
   */
  load(state: TaidState): void {
    const action = 'load a TAID schedule';
    if (state === undefined) throw kindError(action, 'state must be an object', state);
    const { step, t, momentum, previousLoss } = checkOptions(action, state, ['step', 't', 'momentum', 'previousLoss']);
    const { tStart, tEnd } = this.#options;
    checkWhole(action, 'step', step);
    if (!(checkNumber(action, 't', t) >= tStart && t <= tEnd)) throw valueError(action, `t must be in [${tStart}, ${tEnd}]`, t);
    if (!Number.isFinite(checkNumber(action, 'momentum', momentum))) throw valueError(action, 'momentum must be finite', momentum);
    if ((previousLoss === null) !== (step === 0))
      throw valueError(
        action,
        'previousLoss must be null at step 0 and a number after it',
        phrase(`it is ${previousLoss} at step ${step}`),
      );
    if (previousLoss !== null && !(checkNumber(action, 'previousLoss', previousLoss) >= 0 && previousLoss < Infinity))
      throw valueError(action, 'previousLoss must be finite and at least 0', previousLoss);
    this.#state = { step, t, momentum, previousLoss };
  }
}
