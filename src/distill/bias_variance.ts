// What of the distance between students and teacher is common to all seeds (bias), and what differs between them (variance).
import { checkWhole } from '../check.js';
import { kindError, phrase, valueError } from '../errors.js';
import { rowProbabilities } from './metrics.js';

/** What {@link biasVariance} gives back; every number is a mean over rows. */
export interface BiasVariance {
  /** Students that were compared. */
  seeds: number;
  /** Mean over seeds of Σ (q − p)²: `squaredBias` + `variance`. */
  squaredError: number;
  /** Unbiased estimate of Σ (E q − p)²: how far the mean student is from the teacher. */
  squaredBias: number;
  /** Unbiased estimate of E Σ (q − E q)²: how far students are from their mean. */
  variance: number;
  /** Mean over seeds of KL(p ‖ q): `klBias` + `klVariance`. */
  kl: number;
  /** KL(p ‖ q̄), q̄ the normalised geometric mean of the students. */
  klBias: number;
  /** Mean over seeds of KL(q̄ ‖ q), which does not depend on p. */
  klVariance: number;
}

/**
 * Bias and variance of students that differ in their seed alone, against one teacher, in squared error and in KL
 * (Heskes 1998, "Bias/variance decompositions for likelihood-based estimators", eq. 5).
 *
 * @param teacher logits [rows, cols]
 * @param students logits [rows, cols] of at least two students; finite, the teacher's may be −∞
 */
export function biasVariance(teacher: Float32Array, students: readonly Float32Array[], cols: number): BiasVariance {
  const action = 'compute bias and variance';
  if (!(teacher instanceof Float32Array)) throw kindError(action, 'teacher must be a Float32Array', teacher);
  if (!Array.isArray(students) || !students.every((each) => each instanceof Float32Array))
    throw kindError(action, 'students must be an array of Float32Arrays', students);
  checkWhole(action, 'cols', cols, 1);
  const seeds = students.length;
  if (seeds < 2) throw valueError(action, 'there must be at least two students', phrase(`there is ${seeds === 0 ? 'none' : 'one'}`));
  for (const [i, logits] of students.entries()) {
    if (logits.length !== teacher.length || logits.length % cols !== 0 || logits.length === 0) {
      throw valueError(
        action,
        `all logits must have the same rows of ${cols}`,
        phrase(`the teacher's are ${teacher.length} numbers, those of student ${i} ${logits.length}`),
      );
    }
  }
  const rows = teacher.length / cols;
  const sums = { plainBias: 0, spread: 0, kl: 0, klVariance: 0 };
  for (let row = 0; row < rows; row++) {
    const p = rowProbabilities(teacher, row, cols);
    const mean = new Float64Array(cols);
    const meanLog = new Float64Array(cols);
    const all = students.map((logits) => rowProbabilities(logits, row, cols));
    students.forEach((logits, s) => {
      const offset = logOf(logits, row, cols);
      for (let c = 0; c < cols; c++) {
        const logQ = logits[row * cols + c]! - offset;
        mean[c]! += all[s]![c]! / seeds;
        meanLog[c]! += logQ / seeds;
        if (p[c]! > 0) sums.kl += (p[c]! * (Math.log(p[c]!) - logQ)) / seeds;
      }
    });
    let mass = 0;
    for (let c = 0; c < cols; c++) {
      sums.plainBias += (mean[c]! - p[c]!) ** 2;
      for (const q of all) sums.spread += (q[c]! - mean[c]!) ** 2 / seeds;
      mass += Math.exp(meanLog[c]!);
    }
    // ln q̄ = mean ln q − ln mass, so that the mean of KL(p ‖ q) is KL(p ‖ q̄) − ln mass for every p.
    sums.klVariance -= Math.log(mass);
  }
  const spread = sums.spread / rows;
  const variance = (spread * seeds) / (seeds - 1);
  const squaredBias = sums.plainBias / rows - variance / seeds;
  const kl = sums.kl / rows;
  const klVariance = sums.klVariance / rows;
  return { seeds, squaredError: squaredBias + variance, squaredBias, variance, kl, klBias: kl - klVariance, klVariance };
}

/** ln Σ exp of one row. */
function logOf(logits: Float32Array, row: number, cols: number): number {
  let max = -Infinity;
  for (let c = 0; c < cols; c++) max = Math.max(max, logits[row * cols + c]!);
  let sum = 0;
  for (let c = 0; c < cols; c++) sum += Math.exp(logits[row * cols + c]! - max);
  return max + Math.log(sum);
}
