// What is measured on a model's logits: accuracy, NLL, calibration error, agreement, sparsity; in double, from plain arrays.

import { checkWhole } from '../check.js';
import { kindError } from '../errors.js';

function checkNumbers(action: string, name: string, value: unknown): void {
  if (!Array.isArray(value) && !(ArrayBuffer.isView(value) && 'length' in value))
    throw kindError(action, `${name} must be an array of numbers`, value);
}

/** One bar of a reliability diagram. */
export interface ReliabilityBin {
  /** Rows whose confidence falls in this bin. */
  count: number;
  /** Mean confidence of those rows. */
  confidence: number;
  /** Share of those rows that are right. */
  accuracy: number;
}

/** What a classifier does on labelled rows. */
export interface Evaluation {
  accuracy: number;
  /** Mean of −ln q(label). */
  nll: number;
  /** Expected calibration error: Σ_bins (rows in bin / rows) · |accuracy − confidence|. */
  ece: number;
  bins: ReliabilityBin[];
}

/** The bins of the calibration error when not said otherwise. */
export const CALIBRATION_BINS = 15;

/** Class of the largest logit of each row, lowest class first on ties. */
export function predictions(logits: Float32Array, cols: number): Uint8Array | Int32Array {
  const rows = logits.length / cols;
  const classes = cols <= 256 ? new Uint8Array(rows) : new Int32Array(rows);
  for (let r = 0; r < rows; r++) {
    let best = 0;
    for (let c = 1; c < cols; c++) if (logits[r * cols + c]! > logits[r * cols + best]!) best = c;
    classes[r] = best;
  }
  return classes;
}

/** Probabilities of one row of logits. */
export function rowProbabilities(logits: Float32Array, row: number, cols: number): Float64Array {
  let max = -Infinity;
  for (let c = 0; c < cols; c++) max = Math.max(max, logits[row * cols + c]!);
  const p = new Float64Array(cols);
  let sum = 0;
  for (let c = 0; c < cols; c++) sum += p[c] = Math.exp(logits[row * cols + c]! - max);
  for (let c = 0; c < cols; c++) p[c]! /= sum;
  return p;
}

/** Accuracy, NLL and ECE of `[rows, cols]` logits against labels. */
export function evaluateLogits(logits: Float32Array, labels: ArrayLike<number>, cols: number, bins = CALIBRATION_BINS): Evaluation {
  const action = 'evaluate';
  checkNumbers(action, 'logits', logits);
  checkNumbers(action, 'labels', labels);
  checkWhole(action, 'cols', cols, 1);
  checkWhole(action, 'bins', bins, 1, 1e6);
  const rows = labels.length;
  if (logits.length !== rows * cols) {
    throw new RangeError(`Cannot evaluate: logits must hold ${rows} × ${cols} numbers: current length is ${logits.length}`);
  }
  const count = new Float64Array(bins);
  const confidence = new Float64Array(bins);
  const right = new Float64Array(bins);
  let nll = 0;
  let correct = 0;
  for (let r = 0; r < rows; r++) {
    let best = 0;
    for (let c = 1; c < cols; c++) if (logits[r * cols + c]! > logits[r * cols + best]!) best = c;
    const max = logits[r * cols + best]!;
    let sum = 0;
    for (let c = 0; c < cols; c++) sum += Math.exp(logits[r * cols + c]! - max);
    nll += Math.log(sum) - (logits[r * cols + labels[r]!]! - max);
    const isRight = best === labels[r] ? 1 : 0;
    correct += isRight;
    // Bins are (0, 1/n], …, (1 − 1/n, 1], as in Guo et al. 2017.
    const bin = Math.min(bins - 1, Math.max(0, Math.ceil(bins / sum) - 1));
    count[bin]! += 1;
    confidence[bin]! += 1 / sum;
    right[bin]! += isRight;
  }
  let ece = 0;
  const reliability: ReliabilityBin[] = [];
  for (let b = 0; b < bins; b++) {
    const n = count[b]!;
    ece += Math.abs(right[b]! - confidence[b]!) / rows;
    reliability.push({ count: n, confidence: n > 0 ? confidence[b]! / n : 0, accuracy: n > 0 ? right[b]! / n : 0 });
  }
  return { accuracy: correct / rows, nll: nll / rows, ece, bins: reliability };
}

/** Share of rows on which two models choose the same class. */
export function agreement(a: ArrayLike<number>, b: ArrayLike<number>): number {
  const action = 'compare predictions';
  checkNumbers(action, 'a', a);
  checkNumbers(action, 'b', b);
  if (a.length !== b.length) throw new RangeError(`Cannot compare predictions: they must have the same rows: ${a.length} and ${b.length}`);
  let same = 0;
  for (let r = 0; r < a.length; r++) if (a[r] === b[r]) same++;
  return same / a.length;
}

/** Mean and sample standard deviation (0 for a single value). */
export function meanAndDeviation(values: readonly number[]): { mean: number; deviation: number } {
  const mean = values.reduce((sum, v) => sum + v, 0) / values.length;
  if (values.length < 2) return { mean, deviation: 0 };
  const squares = values.reduce((sum, v) => sum + (v - mean) ** 2, 0);
  return { mean, deviation: Math.sqrt(squares / (values.length - 1)) };
}
