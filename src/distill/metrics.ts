// What is measured on a model's logits: accuracy, NLL, perplexity, calibration, Brier score, distance to a teacher; in double.
import { checkFloating, checkOptions, checkPositive, checkRows, checkWhole } from '../check.js';
import { decode, isHalf } from '../dtypes.js';
import { kindError, phrase, valueError } from '../errors.js';
import { hostCopy, Tensor } from '../tensor.js';

/** Logits [..., cols] of a classifier or language model: a Tensor of any floating dtype on any device, or its numbers row after row. */
export type Logits = Tensor | Float32Array | Float64Array;

/** Labels of the rows: a Tensor of int32, or numbers. */
export type MetricLabels = Tensor | ArrayLike<number>;

/** Options of the metrics that need labels. */
export interface LabelMetricOptions {
  /** Rows with this label are left out. Default −100. */
  ignoreIndex?: number;
}

/** Options of {@link ece}. */
export interface EceOptions extends LabelMetricOptions {
  /** Bars of equal width over the confidence. Default 15. */
  bins?: number;
}

/** Options of {@link bitsPerByte}. */
export interface BitsPerByteOptions extends LabelMetricOptions {
  /** Bytes of the text that all labels together stand for, > 0. */
  bytes: number;
}

/** Options of {@link topOneAgreement}. */
export interface AgreementOptions extends LabelMetricOptions {
  /** Classes; needed where neither side is a Tensor. */
  cols?: number;
  /** Labels, where rows are to be left out by `ignoreIndex`. */
  labels?: MetricLabels;
}

/** Options of {@link klToTeacher}. */
export interface KlToTeacherOptions extends AgreementOptions {
  /** Divides both sides' logits, > 0; the result is not multiplied by T². Default 1. */
  temperature?: number;
}

/** Options of {@link Evaluator} and {@link evaluateLogits}. */
export interface EvaluatorOptions extends LabelMetricOptions {
  /** Classes, or size of the vocabulary. */
  cols: number;
  /** Bars of the calibration error. Default 15. */
  bins?: number;
}

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

/** What a model does on labelled rows. */
export interface Evaluation {
  accuracy: number;
  /** Mean of −ln q(label). */
  nll: number;
  /** e^nll. Absent in runs of earlier versions. */
  perplexity?: number;
  /** Expected calibration error: Σ_bins (rows in bin / rows) · |accuracy − confidence|. */
  ece: number;
  /** Mean of Σ_c (q_c − 1[c = label])², in [0, 2]. Absent in runs of earlier versions. */
  brier?: number;
  /** Mean of KL(teacher ‖ model) at temperature 1; where a teacher was given. */
  klToTeacher?: number;
  /** Share of rows on which it chooses the teacher's class; where a teacher was given. */
  topOneAgreement?: number;
  /** Σ −ln q(label) / (bytes · ln 2); where the bytes were given. */
  bitsPerByte?: number;
  /** Rows that were not ignored. Absent in runs of earlier versions. */
  rows?: number;
  bins: ReliabilityBin[];
}

/** An evaluation of this version: all that needs no teacher is there. */
export type FullEvaluation = Evaluation & Required<Pick<Evaluation, 'perplexity' | 'brier' | 'rows'>>;

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

type Numbers = Float32Array | Float64Array;

/** The numbers of logits, their rows and columns. */
function readLogits(
  action: string,
  name: string,
  value: unknown,
  cols: number | undefined,
): { values: Numbers; rows: number; cols: number } {
  if (value instanceof Tensor) {
    const given = checkFloating(action, name, value);
    const { rows, cols: own } = checkRows(action, name, given, 1);
    if (cols !== undefined && cols !== own) throw valueError(action, `${name} must have ${cols} columns`, phrase(`it has ${own}`));
    const stored = hostCopy(given, action);
    const values = isHalf(given.dtype) ? Float32Array.from(stored, (bits) => decode(given.dtype, bits)) : (stored as Numbers);
    return { values, rows, cols: own };
  }
  if (!(value instanceof Float32Array || value instanceof Float64Array))
    throw kindError(action, `${name} must be a Tensor, a Float32Array or a Float64Array`, value);
  if (cols === undefined) throw kindError(action, `cols must be given where ${name} is no Tensor`, cols);
  checkWhole(action, 'cols', cols, 1);
  if (value.length % cols !== 0)
    throw valueError(action, `${name} must hold whole rows of ${cols}`, phrase(`it holds ${value.length} numbers`));
  return { values: value, rows: value.length / cols, cols };
}

function readLabels(action: string, value: unknown): ArrayLike<number> {
  if (value instanceof Tensor) {
    if (value.dtype !== 'int32') throw kindError(action, 'labels must be int32', phrase(`they are ${value.dtype}; cast() converts`));
    return hostCopy(value, action) as Int32Array;
  }
  checkNumbers(action, 'labels', value);
  return value as ArrayLike<number>;
}

/** One row of logits: its largest entry and where that is, e^{(z − max)/T} of all and their sum. */
interface Walked {
  best: number;
  max: number;
  /** NaN where the row holds NaN or +∞, or only −∞. */
  sum: number;
  terms: Float64Array;
}

function walkRow(values: Numbers, from: number, cols: number, inverse: number, terms: Float64Array): Walked {
  let best = 0;
  for (let c = 1; c < cols; c++) if (values[from + c]! > values[from + best]!) best = c;
  const max = values[from + best]!;
  let sum = 0;
  for (let c = 0; c < cols; c++) sum += terms[c] = Math.exp((values[from + c]! - max) * inverse);
  return { best, max, sum, terms };
}

/** e^d − 1 − d for |d| ≤ 0.1, to the last bit of a double: Σ_{n ≥ 2} dⁿ/n!. */
function smallExcess(d: number): number {
  let term = 1;
  for (let n = 11; n >= 3; n--) term = 1 + (term * d) / n;
  return 0.5 * d * d * term;
}

/** KL(p ‖ q) of two rows as Σ p·(e^d − 1 − d), d = ln q − ln p: never negative, and exact where the rows are nearly equal. */
function klOfRow(teacher: Numbers, p: Walked, student: Numbers, q: Walked, from: number, cols: number, inverse: number): number {
  const shift = (p.max - q.max) * inverse + Math.log(p.sum) - Math.log(q.sum);
  let total = 0;
  for (let c = 0; c < cols; c++) {
    const mass = p.terms[c]! / p.sum;
    const own = q.terms[c]! / q.sum;
    // A probability that is 0 has no part but its student's mass.
    if (mass === 0) total += own;
    else {
      const d = (student[from + c]! - teacher[from + c]!) * inverse + shift;
      total += Math.abs(d) <= 0.1 ? mass * smallExcess(d) : own - mass - mass * d;
    }
  }
  return total;
}

/**
 * Adds up what is measured, batch by batch: logits of a whole test set need not be in memory at once.
 *
 * A row with NaN or +∞, or with −∞ alone, counts as wrong and makes every mean but the accuracy NaN.
 *
 * @example
 * const evaluator = new distill.Evaluator({ cols: 10 });
 * evaluator.add(model.forward(x), labels);
 * const { accuracy, nll, ece } = evaluator.result();
 */
export class Evaluator {
  readonly #action = 'evaluate';
  readonly #cols: number;
  readonly #ignored: number;
  readonly #count: Float64Array;
  readonly #confidence: Float64Array;
  readonly #right: Float64Array;
  #rows = 0;
  #correct = 0;
  #nll = 0;
  #brier = 0;
  #broken = 0;
  #taughtRows = 0;
  #kl = 0;
  #same = 0;
  readonly #terms: readonly [Float64Array, Float64Array];

  constructor(options: EvaluatorOptions) {
    const making = 'make an Evaluator';
    const { cols, bins = CALIBRATION_BINS, ignoreIndex = -100 } = checkOptions(making, options, ['cols', 'bins', 'ignoreIndex']);
    checkWhole(making, 'cols', cols, 1);
    checkWhole(making, 'bins', bins, 1, 1e6);
    checkWhole(making, 'ignoreIndex', ignoreIndex, -(2 ** 31), 2 ** 31 - 1);
    this.#cols = cols;
    this.#ignored = ignoreIndex;
    this.#count = new Float64Array(bins);
    this.#confidence = new Float64Array(bins);
    this.#right = new Float64Array(bins);
    this.#terms = [new Float64Array(cols), new Float64Array(cols)];
  }

  /** Rows so far that were not ignored. */
  get rows(): number {
    return this.#rows;
  }

  /**
   * Takes in a batch of rows.
   *
   * @param logits [..., cols]
   * @param labels one for each row
   * @param teacher logits of the same rows, for `klToTeacher` and `topOneAgreement`
   * @throws RangeError where the rows do not fit the labels, or a label is no class; nothing is added then
   */
  add(logits: Logits, labels: MetricLabels, teacher?: Logits | null): void {
    const action = this.#action;
    const cols = this.#cols;
    const { values, rows } = readLogits(action, 'logits', logits, cols);
    const given = readLabels(action, labels);
    if (given.length !== rows)
      throw valueError(action, `logits must hold ${given.length} × ${cols} numbers`, phrase(`current length is ${values.length}`));
    const taught = teacher == null ? null : readLogits(action, 'teacher', teacher, cols);
    if (taught !== null && taught.rows !== rows)
      throw valueError(action, `teacher must have ${rows} rows like logits`, phrase(`it has ${taught.rows}`));
    for (let r = 0; r < rows; r++) checkLabel(action, given[r]!, cols, this.#ignored);
    const bins = this.#count.length;
    for (let r = 0; r < rows; r++) {
      const label = given[r]!;
      if (label === this.#ignored) continue;
      const from = r * cols;
      const own = walkRow(values, from, cols, 1, this.#terms[0]);
      const { best, max, sum, terms } = own;
      this.#rows++;
      if (taught !== null) this.#taughtRows++;
      if (!(sum < Infinity)) {
        this.#broken++;
        continue;
      }
      if (taught !== null) {
        const other = walkRow(taught.values, from, cols, 1, this.#terms[1]);
        this.#kl += klOfRow(taught.values, other, values, own, from, cols, 1);
        if (other.best === best && other.sum < Infinity) this.#same++;
      }
      this.#nll += Math.log(sum) - (values[from + label]! - max);
      let squares = 0;
      for (let c = 0; c < cols; c++) {
        const q = terms[c]! / sum;
        squares += c === label ? (1 - q) ** 2 : q * q;
      }
      this.#brier += squares;
      const isRight = best === label ? 1 : 0;
      this.#correct += isRight;
      // Bins are (0, 1/n], …, (1 − 1/n, 1], as in Guo et al. 2017.
      const bin = Math.min(bins - 1, Math.max(0, Math.ceil(bins / sum) - 1));
      this.#count[bin]! += 1;
      this.#confidence[bin]! += 1 / sum;
      this.#right[bin]! += isRight;
    }
  }

  /**
   * The means over all rows so far.
   *
   * @param options.bytes of the text that the labels stand for, for `bitsPerByte`
   * @throws RangeError where there was no row, or only some batches had a teacher
   */
  result(options?: { bytes?: number }): FullEvaluation {
    const action = this.#action;
    const { bytes } = checkOptions(action, options, ['bytes']);
    if (bytes !== undefined) checkPositive(action, 'bytes', bytes);
    const rows = this.#rows;
    if (rows === 0) throw valueError(action, 'there must be a row that is not ignored', phrase('there is none'));
    if (this.#taughtRows !== 0 && this.#taughtRows !== rows)
      throw valueError(action, `every batch must have a teacher, or none`, phrase(`${this.#taughtRows} of ${rows} rows have one`));
    let calibration = 0;
    const bins: ReliabilityBin[] = [];
    for (const [b, n] of this.#count.entries()) {
      calibration += Math.abs(this.#right[b]! - this.#confidence[b]!) / rows;
      bins.push({ count: n, confidence: n > 0 ? this.#confidence[b]! / n : 0, accuracy: n > 0 ? this.#right[b]! / n : 0 });
    }
    const spoilt = this.#broken > 0 ? NaN : 0;
    const nll = this.#nll / rows + spoilt;
    const found: FullEvaluation = {
      accuracy: this.#correct / rows,
      nll,
      perplexity: Math.exp(nll),
      ece: calibration + spoilt,
      brier: this.#brier / rows + spoilt,
      rows,
      bins,
    };
    if (this.#taughtRows > 0) {
      found.klToTeacher = this.#kl / rows + spoilt;
      found.topOneAgreement = this.#same / rows;
    }
    if (bytes !== undefined) found.bitsPerByte = (nll * rows) / (bytes * Math.LN2);
    return found;
  }
}

function checkLabel(action: string, label: number, cols: number, ignored: number): void {
  if (label !== ignored && !(Number.isInteger(label) && label >= 0 && label < cols))
    throw valueError(action, `every label must be a class below ${cols} or ${ignored}`, phrase(`one is ${label}`));
}

/**
 * All metrics of `[rows, cols]` logits against labels: accuracy, NLL, perplexity, ECE and Brier score; beside a teacher also the KL
 * divergence to it and the agreement with it, with the text's bytes also bits per byte.
 *
 * @param logits [..., cols]
 * @param labels one for each row; rows labelled −100 are left out
 * @param settings the number of bins of the ECE (15), or options
 */
export function evaluateLogits(
  logits: Logits,
  labels: MetricLabels,
  cols: number,
  settings: number | { bins?: number; ignoreIndex?: number; teacher?: Logits; bytes?: number } = {},
): FullEvaluation {
  const action = 'evaluate';
  const given = typeof settings === 'number' ? { bins: settings } : settings;
  const { teacher, bytes, ...rest } = checkOptions(action, given, ['bins', 'ignoreIndex', 'teacher', 'bytes']);
  checkWhole(action, 'cols', cols, 1);
  if (rest.bins !== undefined) checkWhole(action, 'bins', rest.bins, 1, 1e6);
  const evaluator = new Evaluator({ cols, ...rest });
  evaluator.add(logits, labels, teacher);
  return evaluator.result(bytes === undefined ? {} : { bytes });
}

function labelled(action: string, logits: Logits, labels: MetricLabels, options: EceOptions | undefined): FullEvaluation {
  const { bins, ignoreIndex } = checkOptions(action, options, ['bins', 'ignoreIndex', 'bytes']);
  const own = readLabels(action, labels);
  if (own.length === 0) throw valueError(action, 'there must be a label', phrase('there is none'));
  let cols: number | undefined;
  if (ArrayBuffer.isView(logits)) {
    cols = logits.length / own.length;
    if (!(Number.isInteger(cols) && cols > 0))
      throw valueError(action, `logits must hold ${own.length} rows, one for each label`, phrase(`they hold ${logits.length} numbers`));
  }
  const read = readLogits(action, 'logits', logits, cols);
  return evaluateLogits(read.values, own, read.cols, {
    ...(bins === undefined ? {} : { bins }),
    ...(ignoreIndex === undefined ? {} : { ignoreIndex }),
  });
}

/** Share of rows whose largest logit (the lowest class on ties) is the label's. In [0, 1]. */
export function accuracy(logits: Logits, labels: MetricLabels, options?: LabelMetricOptions): number {
  return labelled('measure accuracy', logits, labels, options).accuracy;
}

/** Mean negative log-likelihood of the labels, −ln q(label), in nats. */
export function nll(logits: Logits, labels: MetricLabels, options?: LabelMetricOptions): number {
  return labelled('measure nll', logits, labels, options).nll;
}

/** e to the mean negative log-likelihood of the labels; 1 for a model that is sure and right, cols for one that knows nothing. */
export function perplexity(logits: Logits, labels: MetricLabels, options?: LabelMetricOptions): number {
  return labelled('measure perplexity', logits, labels, options).perplexity;
}

/**
 * Expected calibration error (Guo et al. 2017, arXiv 1706.04599, equation 3): Σ_bins (rows in bin / rows) · |accuracy − confidence|,
 * bins of equal width over the largest probability. In [0, 1].
 */
export function ece(logits: Logits, labels: MetricLabels, options?: EceOptions): number {
  return labelled('measure ece', logits, labels, options).ece;
}

/** Brier score (Brier 1950): mean of Σ_c (q_c − 1[c = label])². In [0, 2]; 0 for a model that is sure and right. */
export function brier(logits: Logits, labels: MetricLabels, options?: LabelMetricOptions): number {
  return labelled('measure brier', logits, labels, options).brier;
}

/** Σ −ln q(label) / (bytes · ln 2): how many bits the model needs for each byte of text; compares models of different vocabularies. */
export function bitsPerByte(logits: Logits, labels: MetricLabels, options: BitsPerByteOptions): number {
  const action = 'measure bitsPerByte';
  const { bytes } = checkOptions(action, options, ['bytes', 'ignoreIndex']);
  checkPositive(action, 'bytes', bytes);
  const { nll: mean, rows } = labelled(action, logits, labels, options);
  return (mean * rows) / (bytes * Math.LN2);
}

/** Walks through the rows of two models that count. */
function compared(
  action: string,
  student: Logits,
  teacher: Logits,
  { cols: given, labels, ignoreIndex = -100 }: AgreementOptions,
  inverse: number,
  visit: (student: Numbers, teacher: Numbers, own: Walked, other: Walked, from: number, cols: number) => number,
): number {
  const known = given ?? (student instanceof Tensor ? student.shape.at(-1) : teacher instanceof Tensor ? teacher.shape.at(-1) : undefined);
  const q = readLogits(action, 'student', student, known);
  const p = readLogits(action, 'teacher', teacher, q.cols);
  if (p.rows !== q.rows) throw valueError(action, `teacher must have ${q.rows} rows like student`, phrase(`it has ${p.rows}`));
  const own = labels === undefined ? null : readLabels(action, labels);
  if (own !== null && own.length !== q.rows)
    throw valueError(action, `labels must be ${q.rows}, one for each row`, phrase(`there are ${own.length}`));
  const { cols } = q;
  const [mine, theirs] = [new Float64Array(cols), new Float64Array(cols)];
  let total = 0;
  let rows = 0;
  for (let r = 0; r < q.rows; r++) {
    if (own?.[r] === ignoreIndex) continue;
    const from = r * cols;
    const [walked, other] = [walkRow(q.values, from, cols, inverse, mine), walkRow(p.values, from, cols, inverse, theirs)];
    total += visit(q.values, p.values, walked, other, from, cols);
    rows++;
  }
  if (rows === 0) throw valueError(action, 'there must be a row that is not ignored', phrase('there is none'));
  return total / rows;
}

/**
 * Mean over the rows of KL(p ‖ q), p the teacher's and q the student's softmax at the temperature, in nats; without the factor T².
 * Computed as Σ p·(e^d − 1 − d), d = ln q − ln p: never negative, exact also where both are nearly equal.
 *
 * @param student logits [..., cols]
 * @param teacher logits of the same rows
 */
export function klToTeacher(student: Logits, teacher: Logits, options?: KlToTeacherOptions): number {
  const action = 'measure klToTeacher';
  const given = checkOptions(action, options, ['cols', 'labels', 'ignoreIndex', 'temperature']);
  const inverse = 1 / checkPositive(action, 'temperature', given.temperature ?? 1);
  return compared(action, student, teacher, given, inverse, (q, p, own, other, from, cols) =>
    klOfRow(p, other, q, own, from, cols, inverse),
  );
}

/** Share of rows on which student and teacher have their largest logit at the same class (the lowest on ties). In [0, 1]. */
export function topOneAgreement(student: Logits, teacher: Logits, options?: AgreementOptions): number {
  const action = 'measure topOneAgreement';
  const given = checkOptions(action, options, ['cols', 'labels', 'ignoreIndex']);
  return compared(action, student, teacher, given, 1, (_q, _p, own, other) =>
    own.best === other.best && own.sum < Infinity && other.sum < Infinity ? 1 : 0,
  );
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
  if (!Array.isArray(values) || !values.every((value) => typeof value === 'number'))
    throw kindError('compute meanAndDeviation', 'values must be an array of numbers', values);
  const mean = values.reduce((sum, v) => sum + v, 0) / values.length;
  if (values.length < 2) return { mean, deviation: 0 };
  const squares = values.reduce((sum, v) => sum + (v - mean) ** 2, 0);
  return { mean, deviation: Math.sqrt(squares / (values.length - 1)) };
}
