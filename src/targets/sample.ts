// Unbiased sampled targets: a few drawn entries of each row whose weights are, in expectation, the teacher's probabilities.
import { checkConstant, checkFloat32OrHalf, checkOneOf, checkOptions, checkRows, checkWhole } from '../check.js';
import { phrase, valueError } from '../errors.js';
import { findCode, kernel } from '../native.js';
import { checkTemperature } from '../ops/temperature.js';
import { freshSeed } from '../random.js';
import { empty, emptyLike, handleOf, handleOrNull, ordinalOf, view, type Tensor } from '../tensor.js';
import { SparseTarget } from './target.js';

const methods = ['with_replacement', 'race', 'head_tail'] as const;

/** How {@link sampleTarget} draws. */
export type SampleMethod = (typeof methods)[number];

/** Options of {@link sampleTarget}. */
export interface SampleOptions {
  /** A positive number, or a float32 Tensor with one for each row. Default 1. */
  temperature?: number | Tensor;
  /** Default 'with_replacement'. */
  method?: SampleMethod;
  /** Same seed and row, same ids, on every device. Default: a fresh one. */
  seed?: number;
  /** The number of the first row in the whole data set, so that batches draw what one call over all rows would. Default 0. */
  rowOffset?: number;
}

/**
 * Draws a sparse target of weights w with E[w] = p = softmax(x/T) (random sampling KD, arXiv 2503.16870), so that the
 * expected gradient Σw·q − w of soft cross-entropy is q − p. A top-k target at the same size is biased for good.
 *
 * - `'with_replacement'`: N = draws ids from p, w = count/N. Σw = 1; the variance of wᵢ is pᵢ(1 − pᵢ)/N.
 * - `'race'`: N ids without replacement, those with the smallest keys Eᵢ/pᵢ, E exponential; w = p/(1 − e^(−pτ)), τ the
 *   next smallest key. Σw is 1 only in expectation; normalising it would bring a bias back. Where no more than N ids have
 *   any probability, w = p for all of them.
 * - `'head_tail'`: ids with N·p ≥ 1 are kept with w = p; the other n draws sample the rest with replacement, each worth
 *   (mass of the rest)/n. Σw = 1; the variance of a tail id is (mass of the rest)·pᵢ/n at most, that of the head 0.
 *
 * Bias: none but that of the arithmetic. With replacement and for head and tail each p is as if its e = e^((x − max)/T) were off by at
 * most 2⁻²² + 2⁻²⁴·ln(1/e) of itself (a polynomial in float of x − max rounded to float) and truncated to a multiple of 2⁻ᵏ,
 * k = 63 − ⌈log₂ cols⌉ (46 for 128,256 columns), 62 at most: ids below 2⁻ᵏ of the largest are never drawn. The race's weights correct for the
 * error of what they were drawn by, so only the sum over the row has it; ids below 2⁻¹²⁵ of the largest take no part. Ids and weights are
 * equal bit for bit on every device, instruction set and batch split: masses are integers, random numbers come from (seed, rowOffset + row,
 * draw or token).
 *
 * A row has min(draws, cols) slots, ids ascending, empty slots (id −1, weight 0) last. −∞ logits are never drawn. A row with
 * NaN or +∞, or of −∞ alone, has the one entry id 0 with weight NaN, which makes its loss NaN.
 *
 * @param teacherLogits float32, float16 or bfloat16 [..., cols]; the weights are float32
 * @param draws N, in [1, 2²⁴]; may be above cols
 * @throws RangeError for draws outside that range or a temperature that is not positive and finite; TypeError where the logits require grad
 *
 * @example
 * const target = sampleTarget(teacherLogits, 50, { method: 'head_tail', seed: 1, rowOffset: firstRow });
 */
export function sampleTarget(teacherLogits: Tensor, draws: number, options?: SampleOptions): SparseTarget {
  const action = 'sample a target';
  const logits = checkFloat32OrHalf(action, 'teacherLogits', teacherLogits);
  checkConstant(action, 'teacherLogits', logits);
  checkWhole(action, 'draws', draws, 1, 2 ** 24);
  const {
    temperature: given = 1,
    method = 'with_replacement',
    seed = freshSeed(),
    rowOffset = 0,
  } = checkOptions(action, options, ['temperature', 'method', 'seed', 'rowOffset']);
  checkOneOf(action, 'method', method, methods);
  checkWhole(action, 'seed', seed);
  checkWhole(action, 'rowOffset', rowOffset);
  const { rows, cols, leading } = checkRows(action, 'teacherLogits', logits, 1);
  if (!Number.isSafeInteger(rowOffset + rows))
    throw valueError(action, 'rowOffset + rows must be at most 2^53 − 1', phrase(`rowOffset is ${rowOffset}`));
  const { temperature, rowTemperature } = checkTemperature(action, given, rows, leading, logits);
  const k = Math.min(draws, cols);
  const indices = empty([rows, k], 'int32', ordinalOf(logits, action), action);
  const weights = emptyLike(logits, action, [rows, k], 'float32');
  kernel('sample_target', action)(
    handleOf(logits, action),
    handleOrNull(rowTemperature, action),
    handleOf(indices, action),
    handleOf(weights, action),
    rows,
    cols,
    draws,
    findCode('sample_method', method),
    temperature,
    seed,
    rowOffset,
  );
  return new SparseTarget({
    indices,
    logProbs: null,
    weights,
    tailLogMass: null,
    temperature: rowTemperature === null ? temperature : view(rowTemperature, [rows]),
    cols,
  });
}
