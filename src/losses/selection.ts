// Which rows to learn from, and how hot: scores of rows, masks over them, temperatures, all constants that losses take.
import { defineOp, noGrad, tidy, type Computed } from '../autograd.js';
import { checkComputed, checkFinite, checkFraction, checkOptions, checkPositive, checkRows, checkWhole } from '../check.js';
import { kindError, phrase, valueError } from '../errors.js';
import { add, applyBinary, div, isLess, sub } from '../ops/binary.js';
import { gather, scatter } from '../ops/gather.js';
import { applySoftmax } from '../ops/softmax.js';
import { argsort, sort } from '../ops/sort.js';
import { checkTemperature } from '../ops/temperature.js';
import { argmax, checkK, topK } from '../ops/top_k.js';
import { addScalar, applyUnary, exp, log, relu, scale, sqrt, tanh } from '../ops/unary.js';
import type { DenseTarget, SparseTarget } from '../targets/target.js';
import { emptyLike, stateOf, uniformLike, view, type Tensor } from '../tensor.js';
import { kdLoss, type KdLossOptions } from './kd_loss.js';
import { checkRowsOf, checkTeacher } from './row_loss.js';

/** Options of {@link rowEntropy} and {@link rowHellinger}. */
export interface RowScoreOptions {
  /** A positive number, or a float32 Tensor [rows]. Default 1. */
  temperature?: number | Tensor;
}

/**
 * Entropy of each row's softmax: H = −Σ p ln p with p = softmax(z/T), and its gradient ∂H/∂z_j = −p_j (ln p_j + H)/T.
 *
 * @param logits [..., cols], float32, or float64 on the CPU; −∞ is probability 0
 * @returns [...], in nats
 */
export const rowEntropy = defineOp({
  name: 'rowEntropy',
  run: (logits: Tensor, options?: RowScoreOptions): Computed => {
    const action = 'compute rowEntropy';
    const x = checkComputed(action, 'logits', logits);
    const { temperature: given = 1 } = checkOptions(action, options, ['temperature']);
    const { rows, cols, leading } = checkRows(action, 'logits', x, 1);
    const temperatures = checkTemperature(action, given, rows, leading, x);
    const { temperature, rowTemperature } = temperatures;
    // The entropy is the cross-entropy with oneself, which the loss kernel knows to its last digits.
    const constant = x.detach();
    const out = kdLoss(constant, constant, {
      divergence: 'soft_cross_entropy',
      temperature: given,
      temperatureSquared: false,
      reduction: 'none',
    });
    constant.dispose();
    return {
      out,
      inputs: [x],
      saved: rowTemperature === null ? [out] : [out, rowTemperature],
      backward: (gradient) => {
        const column = { rows, cols, how: 'column' } as const;
        const each = { rows: 1, cols: rows, how: 'same' } as const;
        const p = applySoftmax(action, x, temperatures, rows, cols, false, emptyLike(x, action));
        const logs = applySoftmax(action, x, temperatures, rows, cols, true, emptyLike(x, action));
        applyBinary(action, 'add', logs, out, column, logs);
        applyBinary(action, 'mul0', logs, p, { rows: 1, cols: x.size, how: 'same' }, logs);
        p.dispose();
        const factor = applyUnary(action, 'scale', gradient, -1 / temperature);
        if (rowTemperature !== null) applyBinary(action, 'div', factor, rowTemperature.cast(x.dtype), each, factor);
        applyBinary(action, 'mul', logs, factor, column, logs);
        factor.dispose();
        return [logs];
      },
    };
  },
});

/** A constant in float32, as losses take weights. */
function asWeights(x: Tensor): Tensor {
  return x.detach().cast('float32');
}

/**
 * Hellinger distance of each row's distributions: s = √(1 − Σ √(p·q)) = ‖√p − √q‖/√2 in [0, 1], AdaKD's difficulty of a token
 * (arXiv 2510.11615). A constant.
 *
 * @param student logits [..., cols]
 * @param teacher logits of the same shape
 * @returns float32 in the student's leading shape
 */
export function rowHellinger(student: Tensor, teacher: Tensor, options?: RowScoreOptions): Tensor {
  const action = 'compute rowHellinger';
  const { temperature = 1 } = checkOptions(action, options, ['temperature']);
  checkRowsOf(action, 'student', student);
  return tidy(() =>
    noGrad(() =>
      asWeights(
        sqrt(
          relu(kdLoss(student, teacher, { divergence: 'squared_hellinger', temperature, temperatureSquared: false, reduction: 'none' })),
        ),
      ),
    ),
  );
}

/**
 * How much further each row of the student is from the target than a reference model is: D(target, student) − D(target, reference).
 * AdaSPEC keeps the rows where it is largest (2025). A constant.
 *
 * @param student logits [..., cols]
 * @param reference logits of the same shape
 * @param target teacher logits or a target, as {@link kdLoss} takes it
 * @param options those of {@link kdLoss}; the reduction is 'none'
 * @returns float32 in the student's leading shape
 */
export function referenceGap(
  student: Tensor,
  reference: Tensor,
  target: Tensor | DenseTarget | SparseTarget,
  options?: Omit<KdLossOptions, 'reduction'>,
): Tensor {
  const action = 'compute referenceGap';
  const settings = { ...checkOptions<object>(action, options, Object.keys(options ?? {})), reduction: 'none' } as const;
  const part = checkRowsOf(action, 'student', student);
  return tidy(() => {
    checkTeacher(action, reference, part, 'reference');
    return noGrad(() => asWeights(sub(kdLoss(student, target, settings), kdLoss(reference, target, settings))));
  });
}

/** Scores as one row of numbers. */
function scoresOf(action: string, value: unknown): { scores: Tensor; shape: readonly number[]; count: number } {
  const given = checkComputed(action, 'scores', value);
  if (given.size === 0) throw valueError(action, 'scores must not be empty', phrase('there are none'));
  return { scores: view(given, [1, given.size]), shape: given.shape, count: given.size };
}

/**
 * 1 for the rows with the largest scores, 0 for the others: round(fraction · n) of them (halves up), but at least one where fraction is
 * above 0. Ties: the lowest row first, so that the count is always met. A score of NaN counts as the largest. Fit for `rowWeights`.
 *
 * @param scores any shape, one for each row
 * @param fraction in [0, 1]
 * @returns float32 of the scores' shape
 *
 * @example
 * topFractionMask(tensor([0.1, 0.9, 0.5, 0.9]), 0.5); // [0, 1, 0, 1]
 */
export function topFractionMask(scores: Tensor, fraction: number): Tensor {
  const action = 'compute topFractionMask';
  checkFraction(action, 'fraction', fraction);
  return tidy(() => {
    const { scores: row, shape, count } = scoresOf(action, scores);
    const kept = fraction === 0 ? 0 : Math.max(1, Math.round(fraction * count));
    const best = gather(
      argsort(row),
      Int32Array.from({ length: kept }, (_, i) => i),
    );
    return asWeights(scatter(uniformLike(row, 1, action, [1, kept]), best, count)).reshape(shape);
  });
}

/** The q-quantile of a sorted (rising) row, between neighbours by proportion: [1, 1]. */
function quantileOf(rising: Tensor, q: number, count: number): Tensor {
  const place = q * (count - 1);
  const low = Math.floor(place);
  const part = place - low;
  const at = gather(rising, [low]);
  return part === 0 ? at : add(scale(at, 1 - part), scale(gather(rising, [low + 1]), part));
}

/**
 * 1 for the rows whose score is at least the q-quantile of all, 0 for the others. The quantile lies between neighbours by proportion
 * (position q·(n − 1) of the sorted scores); rows equal to it are all kept. NaN counts as the largest, and is kept.
 *
 * @param scores any shape, one for each row
 * @param q in [0, 1]; 0 keeps all
 * @returns float32 of the scores' shape
 */
export function quantileMask(scores: Tensor, q: number): Tensor {
  const action = 'compute quantileMask';
  checkFraction(action, 'q', q);
  return tidy(() => {
    const { scores: row, shape, count } = scoresOf(action, scores);
    const threshold = quantileOf(sort(row.detach(), { descending: false }).values, q, count);
    return asWeights(sub(1, isLess(row, threshold))).reshape(shape);
  });
}

/** Options of {@link argmaxInTopK}. */
export interface ArgmaxInTopKOptions {
  /** The weight of the other rows, at least 0. Default 0. */
  otherwise?: number;
}

/**
 * 1 for the rows where the student's arg-max is among the teacher's k best, `otherwise` for the others: SelecTKD's verification, whose
 * weights are β + (1 − β)·1[...] with β = 0.01 and k = 5. Ties as in {@link topK}: the lowest column. A constant.
 *
 * @param student logits [..., cols], float32
 * @param teacher logits of the same shape
 * @param k at most cols
 * @returns float32 in the student's leading shape; its mean is the acceptance rate where `otherwise` is 0
 */
export function argmaxInTopK(student: Tensor, teacher: Tensor, k: number, options?: ArgmaxInTopKOptions): Tensor {
  const action = 'compute argmaxInTopK';
  const { otherwise = 0 } = checkOptions(action, options, ['otherwise']);
  if (!(checkFinite(action, 'otherwise', otherwise) >= 0)) throw valueError(action, 'otherwise must be at least 0', otherwise);
  const { tensor, rows, cols, leading } = checkRowsOf(action, 'student', student);
  checkK(action, checkWhole(action, 'k', k, 1), cols);
  return tidy(() => {
    const logits = checkTeacher(action, teacher, { tensor, rows, cols, leading });
    const isBest = scatter(uniformLike(logits, 1, action, [rows, k]), topK(logits, k).indices, cols);
    const accepted = gather(isBest, argmax(view(tensor, [rows, cols])).reshape([rows, 1]));
    return addScalar(scale(accepted, 1 - otherwise), otherwise).reshape(leading);
  });
}

/** Options of {@link adaptiveTemperatures}. */
export interface AdaptiveTemperatureOptions {
  /** T₀, the temperature of the median row. Default 1. */
  base?: number;
  /** c, at least 0: temperatures stay in [T₀·e^−c, T₀·e^c]. Default 0.5. */
  strength?: number;
}

/**
 * AdaKD's temperatures (arXiv 2510.11615): T_i = T₀ · e^{−c·tanh(ln(s_i/median s))}, low for hard rows and high for easy ones. The median
 * of an even number of scores is the mean of the two in the middle. A score of 0 gives T₀·e^c, or T₀ where the median is 0, too.
 * A constant, fit for the `temperature` of {@link kdLoss}.
 *
 * @param scores one for each row, finite and at least 0 (checked on the CPU), such as {@link rowHellinger}'s
 * @returns float32 of the scores' shape
 */
export function adaptiveTemperatures(scores: Tensor, options?: AdaptiveTemperatureOptions): Tensor {
  const action = 'compute adaptiveTemperatures';
  const { base = 1, strength = 0.5 } = checkOptions(action, options, ['base', 'strength']);
  checkPositive(action, 'base', base);
  if (!(checkFinite(action, 'strength', strength) >= 0)) throw valueError(action, 'strength must be at least 0', strength);
  return tidy(() => {
    const { scores: row, shape, count } = scoresOf(action, scores);
    const { array } = stateOf(row).storage!;
    const wrong = array === null ? -1 : array.findIndex((score: number) => !(score >= 0 && score < Infinity));
    if (wrong >= 0) throw valueError(action, 'scores must be finite and at least 0', phrase(`score ${wrong} is ${array![wrong]}`));
    // The smallest term keeps 0/0 away; it is below what a distance can resolve.
    const shifted = addScalar(row, 1e-30);
    const median = quantileOf(sort(shifted, { descending: false }).values, 0.5, count);
    const exponent = scale(tanh(log(div(shifted, median))), -strength);
    return asWeights(scale(exp(exponent), base)).reshape(shape);
  });
}

/** Options of {@link AdaptiveFraction}. */
export interface AdaptiveFractionOptions {
  /** The fraction to begin with, in (0, 1]. Default 1. */
  initial?: number;
  /** It never falls below this, in (0, 1]. Default 0.1. */
  least?: number;
  /** Of the moving average of the loss, in [0, 1). Default 0.99. */
  decay?: number;
  /** ε: by how much of itself the average must have moved. Default 0.1. */
  tolerance?: number;
  /** δ: the factor 1 ± δ of one change. Default 0.1. */
  step?: number;
  /** Losses seen before the reference is taken. Default 0: the first. */
  warmup?: number;
}

/**
 * AdaKD's feedback on how many rows to learn from (LATF, arXiv 2510.11615; constants of the authors' code): with m the moving average of
 * the loss and m₀ its value at the last change, r ← min(1, r·(1 + δ)) where m > m₀·(1 + ε), r ← max(least, r·(1 − δ)) where
 * m < m₀·(1 − ε), and m₀ ← m either time.
 *
 * @example
 * const focus = new AdaptiveFraction();
 * const rowWeights = topFractionMask(rowHellinger(student, teacher), focus.fraction);
 * focus.update(loss.item());
 */
export class AdaptiveFraction {
  readonly #options: Required<AdaptiveFractionOptions>;
  #fraction: number;
  #average: number | null = null;
  #reference: number | null = null;
  #seen = 0;

  constructor(options?: AdaptiveFractionOptions) {
    const action = 'make an AdaptiveFraction';
    const {
      initial = 1,
      least = 0.1,
      decay = 0.99,
      tolerance = 0.1,
      step = 0.1,
      warmup = 0,
    } = checkOptions(action, options, ['initial', 'least', 'decay', 'tolerance', 'step', 'warmup']);
    for (const [name, value] of Object.entries({ initial, least, decay, tolerance, step })) checkFraction(action, name, value);
    if (initial === 0 || least === 0) throw valueError(action, 'initial and least must be above 0', initial === 0 ? initial : least);
    if (initial < least) throw valueError(action, `initial must be at least least (${least})`, initial);
    if (decay === 1) throw valueError(action, 'decay must be below 1', decay);
    checkWhole(action, 'warmup', warmup);
    this.#options = { initial, least, decay, tolerance, step, warmup };
    this.#fraction = initial;
  }

  /** r: what part of the rows to learn from now. */
  get fraction(): number {
    return this.#fraction;
  }

  /** The moving average of the loss, or null before the first one. */
  get average(): number | null {
    return this.#average;
  }

  /** Takes a step's loss in, and gives the new fraction. A loss that is not finite is an error: it would stay in the average. */
  update(loss: number): number {
    const action = 'update an AdaptiveFraction';
    checkFinite(action, 'loss', loss);
    const { least, decay, tolerance, step, warmup } = this.#options;
    this.#average = this.#average === null ? loss : decay * this.#average + (1 - decay) * loss;
    this.#seen++;
    if (this.#reference === null) {
      if (this.#seen > warmup) this.#reference = this.#average;
      return this.#fraction;
    }
    const fallen = this.#reference - this.#average;
    const margin = tolerance * this.#reference;
    if (fallen < -margin) this.#fraction = Math.min(1, this.#fraction * (1 + step));
    else if (fallen > margin) this.#fraction = Math.max(least, this.#fraction * (1 - step));
    else return this.#fraction;
    this.#reference = this.#average;
    return this.#fraction;
  }

  /** All that update() depends on, for a checkpoint. */
  get state(): AdaptiveFractionState {
    return { fraction: this.#fraction, average: this.#average, reference: this.#reference, seen: this.#seen };
  }

  set state(state: AdaptiveFractionState) {
    const action = 'restore an AdaptiveFraction';
    if (state === null || typeof state !== 'object') throw kindError(action, 'state must be an object', state);
    const { fraction, average, reference, seen } = state;
    checkFraction(action, 'fraction', fraction);
    for (const [name, value] of Object.entries({ average, reference })) if (value !== null) checkFinite(action, name, value);
    checkWhole(action, 'seen', seen);
    this.#fraction = fraction;
    this.#average = average;
    this.#reference = reference;
    this.#seen = seen;
  }
}

/** What {@link AdaptiveFraction} remembers. */
export interface AdaptiveFractionState {
  fraction: number;
  average: number | null;
  reference: number | null;
  seen: number;
}
