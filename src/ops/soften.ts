// Softening operators on probabilities: rank kept, entropy up with the temperature, nothing changed at 1.
import { tidy, wantsGradient } from '../autograd.js';
import { checkComputed, checkOneOf, checkOptions, checkRows, type RowsOf } from '../check.js';
import { phrase, valueError } from '../errors.js';
import { fromArray, hostCopy, ordinalOf, type Tensor } from '../tensor.js';
import { add, div, mul, sub } from './binary.js';
import { applyReduce, sum } from './reduce.js';
import { softmax } from './softmax.js';
import { checkTemperature } from './temperature.js';
import { addScalar, expm1, log, log1p, relu, scale } from './unary.js';

/** One family of softening operators S_T, as data. */
export interface SofteningOperator {
  readonly name: string;
  /** r = p / max p; outcomes of equal p are equal throughout. */
  readonly formula: string;
  /** Temperatures it is defined at, both ends included. */
  readonly temperatures: readonly [least: number, most: number];
  /** What S_T(p) tends to as T grows. */
  readonly hot: 'uniform on the support' | 'uniform on all outcomes';
  /** What it tends to as T falls, where it is defined below 1. */
  readonly cold: 'all mass on the largest' | null;
  readonly source: string;
}

/**
 * The families of {@link soften}. Each obeys the five axioms of the Sparse KD framework (arXiv 2601.03195), as this library
 * reads them (the body of the paper could not be read; the axioms' wording below and all but the power family are ours):
 * rank kept, continuous in p and T, entropy rising with T, S₁ = identity, and the limits named here.
 *
 * Why the entropy rises: each is S_T(p) ∝ f_T(p) with f_T growing, and f_{T'}/f_T falls in p wherever T' > T. Normalised rows
 * whose ratio falls along the ranks have smaller partial sums from the top, so S_{T'}(p) is majorised by S_T(p), and entropy is
 * Schur-concave. The ratio falls because the elasticity p·f'/f falls in T: 1/T (power), p/(p + (T−1)/V) (uniform_mix),
 * 1/(1 + (T−1)r) (odds), and u/((1+u)·ln(1+u)) with u = (T−1)r, below 1 u/(1 − e^(−u)) with u = −r·ln T (log_link).
 *
 * No two are the same up to a change of T: power, uniform_mix and odds are the geometric, arithmetic and harmonic path towards
 * the uniform distribution, log_link is none of these.
 */
export const softeningOperators = [
  {
    name: 'power',
    formula: 'p^(1/T) / Σ p^(1/T)',
    temperatures: [Number.MIN_VALUE, Number.MAX_VALUE],
    hot: 'uniform on the support',
    cold: 'all mass on the largest',
    source: 'Hinton et al. 2015 (arXiv 1503.02531): what a temperature does to logits; the example of arXiv 2601.03195',
  },
  {
    name: 'uniform_mix',
    formula: 'p/T + (1 − 1/T)/V',
    temperatures: [1, Number.MAX_VALUE],
    hot: 'uniform on all outcomes',
    cold: null,
    source: 'label smoothing (Szegedy et al. 2015, arXiv 1512.00567) of a whole row, ε = 1 − 1/T',
  },
  {
    name: 'odds',
    formula: 'w / Σ w, w = T·r / (1 − r + T·r): the odds w/(1 − w) are T·r/(1 − r)',
    temperatures: [1e-37, 1e37],
    hot: 'uniform on the support',
    cold: 'all mass on the largest',
    source: 'ours',
  },
  {
    name: 'log_link',
    formula: 'w / Σ w, w = ln(1 + (T−1)·r)/ln T for T > 1, (T^(−r) − 1)/(1/T − 1) for T < 1',
    temperatures: [1e-37, 1e37],
    hot: 'uniform on the support',
    cold: 'all mass on the largest',
    source: 'ours, after the μ-law of companding (ITU-T G.711)',
  },
] as const satisfies readonly SofteningOperator[];

/** Names of {@link softeningOperators}. */
export type SofteningOperatorName = (typeof softeningOperators)[number]['name'];

/** Options of {@link soften}. */
export interface SoftenOptions {
  /** Default 'power'. */
  operator?: SofteningOperatorName;
  /** A number in the operator's range, or a float32 Tensor with one for each row. Default 1. */
  temperature?: number | Tensor;
}

const operatorNames = softeningOperators.map(({ name }) => name);

/**
 * Softer probabilities from probabilities, sharper below temperature 1; at 1 as they are. Families, formulas and limits:
 * {@link softeningOperators}. Below the formulas r = p / max p.
 *
 * - `'power'`: p^{1/T} / Σ p^{1/T} = softmax(ln p / T).
 * - `'uniform_mix'`: p/T + (1 − 1/T)/V, T ≥ 1. The only one that gives mass to outcomes of probability 0.
 * - `'odds'`: w / Σ w with w = T·r / (1 − r + T·r).
 * - `'log_link'`: w / Σ w with w = ln(1 + (T − 1)·r) above T = 1, T^{−r} − 1 below; far slower than the others as T grows.
 *
 * All but `'uniform_mix'` normalise the row at T ≠ 1. A row with NaN, or without any probability, gives NaN.
 *
 * @param probs [..., V], float32, or float64 on the CPU
 * @throws RangeError for a temperature outside the operator's range
 *
 * @example
 * soften(tensor([[0.9, 0.1]]), { operator: 'uniform_mix', temperature: 2 }); // [[0.7, 0.3]]
 */
export function soften(probs: Tensor, options?: SoftenOptions): Tensor {
  const action = 'compute soften';
  checkComputed(action, 'probs', probs);
  const { operator = 'power', temperature: given = 1 } = checkOptions(action, options, ['operator', 'temperature']);
  checkOneOf(action, 'operator', operator, operatorNames);
  const rows = checkRows(action, 'probs', probs, 1);
  const { temperature, rowTemperature } = checkTemperature(action, given, rows.rows, rows.leading, probs);
  if (rowTemperature === null && (probs.dtype === 'float32' ? Math.fround(temperature) : temperature) === 1) return probs.clone();
  if (operator === 'power') return tidy(() => softmax(log(probs), { temperature: given }));
  // Few numbers, so they are read on a device too: then a temperature out of range is an error there as well.
  const temperatures = rowTemperature === null ? [temperature] : Array.from(hostCopy(rowTemperature, action));
  checkRange(action, operator, temperatures, rowTemperature !== null);
  const perRow = (f: (T: number) => number): number | Tensor => factors(action, probs, rows, temperatures, rowTemperature !== null, f);
  return tidy(() => {
    if (operator === 'uniform_mix')
      return add(
        mul(
          probs,
          perRow((T) => 1 / T),
        ),
        perRow((T) => (1 - 1 / T) / rows.cols),
      );
    const relative = div(probs, largest(action, probs, rows));
    const weights = operator === 'odds' ? oddsOf(relative, perRow) : logLinkOf(relative, temperatures, perRow);
    return div(weights, sum(weights, { axis: -1, keepDims: true }));
  });
}

type PerRow = (f: (T: number) => number) => number | Tensor;

/** w = T·r / ((1 − r) + T·r): no difference of near numbers, and never above 1. */
function oddsOf(relative: Tensor, perRow: PerRow): Tensor {
  const heated = mul(
    relative,
    perRow((T) => T),
  );
  return div(heated, add(sub(1, relative), heated));
}

/** ln(1 + c·r) with c = T − 1 where T > 1, e^{L·r} − 1 with L = −ln T where T < 1, r where T = 1, each scaled to 1 at r = 1. */
function logLinkOf(relative: Tensor, temperatures: readonly number[], perRow: PerRow): Tensor {
  const parts: Tensor[] = [];
  const part = (
    applies: (T: number) => boolean,
    shape: (T: number) => number,
    link: (x: Tensor) => Tensor,
    whole: (T: number) => number,
  ) => {
    if (!temperatures.some(applies)) return;
    const bent = link(
      mul(
        relative,
        perRow((T) => (applies(T) ? shape(T) : 0)),
      ),
    );
    parts.push(
      mul(
        bent,
        perRow((T) => (applies(T) ? 1 / whole(T) : 0)),
      ),
    );
  };
  part(
    (T) => T > 1,
    (T) => T - 1,
    log1p,
    (T) => Math.log1p(T - 1),
  );
  part(
    (T) => T < 1,
    (T) => -Math.log(T),
    expm1,
    (T) => Math.expm1(-Math.log(T)),
  );
  part(
    (T) => T === 1,
    () => 1,
    (x) => x,
    () => 1,
  );
  return parts.reduce((total, each) => add(total, each));
}

/** max p of each row as [..., 1]. For a gradient it is the mean of the entries that are the largest, which are held fixed. */
function largest(action: string, probs: Tensor, { rows, cols, leading }: RowsOf): Tensor {
  const shape = [...leading, 1];
  const most = applyReduce(action, 'max', probs, rows, cols, 1, shape);
  if (!wantsGradient(probs)) return most;
  // p/max is 1 for them and at most 1 − ulp for all others.
  const ulp = probs.dtype === 'float32' ? 2 ** -24 : 2 ** -53;
  const isLargest = scale(relu(addScalar(div(probs.detach(), most), ulp - 1)), 1 / ulp);
  return div(sum(mul(probs, isLargest), { axis: -1, keepDims: true }), sum(isLargest, { axis: -1, keepDims: true }));
}

function checkRange(action: string, operator: SofteningOperatorName, temperatures: readonly number[], isPerRow: boolean): void {
  const [least, most] = softeningOperators.find(({ name }) => name === operator)!.temperatures;
  const wrong = temperatures.findIndex((T) => !(T >= least && T <= most));
  if (wrong < 0) return;
  const range = most === Number.MAX_VALUE ? `at least ${least}` : `in [${least}, ${most}]`;
  throw valueError(
    action,
    `temperature must be ${range} for '${operator}'`,
    phrase(`it is ${temperatures[wrong]}${isPerRow ? ` in row ${wrong}` : ''}`),
  );
}

/** f(T) as a number, or as a column where each row has its own. */
function factors(
  action: string,
  probs: Tensor,
  { leading }: RowsOf,
  temperatures: readonly number[],
  isPerRow: boolean,
  f: (T: number) => number,
): number | Tensor {
  if (!isPerRow) return f(temperatures[0]!);
  const values = Float64Array.from(temperatures, f);
  const array = probs.dtype === 'float64' ? values : Float32Array.from(values);
  return fromArray(array, probs.dtype, [...leading, 1], ordinalOf(probs, action), action);
}
