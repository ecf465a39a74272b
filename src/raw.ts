// limbeck/raw: the kernels on plain typed arrays of the CPU, synchronous, into memory of the caller's own. No tensors, no autograd.
import { checkOptions, checkPositive, checkWhole } from './check.js';
import { kindError, phrase, valueError } from './errors.js';
import { noTeacher, runRowLoss, type SoftNumbers, type StudentPart, type TeacherPart } from './losses/kernel.js';
import { labelArray, type LabelNumbers } from './losses/labels.js';
import { massError, wrongRows } from './losses/masses.js';
import { divergenceEntry } from './losses/divergences.js';
import {
  checkLabelled,
  hardOnly,
  isRenormalizing,
  rowLossNames,
  rowLossSettings,
  softNames,
  softSettings,
  type RowLossOptions,
  type SoftOptions,
} from './losses/settings.js';
import { kernel } from './native.js';
import { checkTemperatures } from './ops/temperature.js';
import { checkK } from './ops/top_k.js';
import { rowMasses } from './targets/target.js';

export { LimbeckError } from './errors.js';
export { setThreads } from './device.js';
export type { Divergence, DivergenceName } from './losses/divergences.js';
export type { Denominator, Reduction, Residual } from './losses/settings.js';
export type { LabelNumbers } from './losses/labels.js';

/** Rows of float32 or float64. */
export type Floats = Float32Array | Float64Array;

/** A sparse target on typed arrays. */
export interface RawSparse {
  /** [rows · k] column numbers, −1 for an empty slot. */
  indices: Int32Array;
  /** [rows · k] log-probabilities at `temperature`; this or `weights`. */
  logProbs?: Float32Array;
  /** [rows · k] weights of a sampled target, at least 0; an id may stand more than once. */
  weights?: Float32Array;
  /** [rows] log of the mass outside; left out, it is what is missing to 1. */
  tailLogMass?: Float32Array;
  /** Default: indices.length / rows. */
  k?: number;
  /** What the log-probabilities were taken at. Default: the temperature of the call. */
  temperature?: number;
}

/** What the teacher says: logits, probabilities, log-probabilities or a sparse target. */
export type RawTeacher = Floats | { logits: Floats } | { probs: Floats } | { logProbs: Floats } | RawSparse;

/** Where a loss is written. */
export interface LossOut {
  /** 'mean' and 'sum': at least one element. 'none': one for each row. Made where it is left out. */
  loss?: Floats;
  /** Not computed where it is left out. May be the student's own memory. */
  gradient?: Floats;
}

/** What a loss gives back: the arrays of `out`, or new ones. */
export interface LossResult {
  loss: Floats;
  gradient?: Floats;
}

interface Sizes {
  rows: number;
  cols: number;
}

/** Options of {@link crossEntropy}. */
export interface RawCrossEntropyOptions extends RowLossOptions, Sizes {
  /** Elements from one row of the student to the next. Default: cols. */
  rowStride?: number;
  /** The same for the gradient. Default: rowStride. Elements between the rows are not written. */
  gradientRowStride?: number;
  rowWeights?: Float32Array;
  out?: LossOut;
}

/** Options of {@link kdLoss}. */
export interface RawKdLossOptions extends RawCrossEntropyOptions, SoftOptions {
  /** The stride of a dense teacher. Default: rowStride. */
  teacherRowStride?: number;
  /** A positive number or one for each row. Default: 1, or what a sparse target says. */
  temperature?: number | Float32Array;
  labels?: LabelNumbers;
}

const crossEntropyNames = [...rowLossNames, 'rows', 'cols', 'rowStride', 'gradientRowStride', 'rowWeights', 'out'] as const;
const kdLossNames = [...crossEntropyNames, ...softNames, 'teacherRowStride', 'temperature', 'labels'] as const;

type ArrayType<T> = { new (length: number): T; readonly name: string };

function checkArray<T extends ArrayLike<number>>(action: string, name: string, value: unknown, type: ArrayType<T>, least: number): T {
  if (!(value instanceof type)) throw kindError(action, `${name} must be a ${type.name}`, value);
  const array = value as T;
  if (array.length < least) throw valueError(action, `${name} must hold ${least} elements`, phrase(`it holds ${array.length}`));
  return array;
}

function checkFloats(action: string, name: string, value: unknown): Floats {
  if (!(value instanceof Float32Array) && !(value instanceof Float64Array))
    throw kindError(action, `${name} must be a Float32Array or Float64Array`, value);
  return value;
}

function sizes(action: string, options: Sizes): void {
  checkWhole(action, 'rows', options.rows);
  checkWhole(action, 'cols', options.cols, 1, 2 ** 31 - 1);
}

/** The elements that rows with a stride reach over. */
function reach(action: string, name: string, stride: unknown, rows: number, cols: number): number {
  checkWhole(action, name, stride, cols);
  const size = rows === 0 ? 0 : (rows - 1) * (stride as number) + cols;
  if (!Number.isSafeInteger(size)) throw valueError(action, `rows · ${name} must stay below 2^53`, phrase(`it is ${size}`));
  return size;
}

// The row losses nobody asked for: kept between calls, so that a call allocates nothing.
const spare = new Map<ArrayType<Floats>, Floats>();

function scratch(type: ArrayType<Floats>, rows: number): Floats {
  let array = spare.get(type);
  if (array === undefined || array.length < rows) spare.set(type, (array = new type(Math.max(rows, 64))));
  return array;
}

function rowLoss(
  action: string,
  student: Floats,
  options: RawCrossEntropyOptions,
  labels: Int32Array | null,
  teacher: TeacherPart,
  soft: SoftNumbers,
): LossResult {
  const { rows, cols, rowStride = cols, gradientRowStride = rowStride, rowWeights, out } = options;
  const settings = rowLossSettings(action, options);
  const type = student.constructor as ArrayType<Floats>;
  const given = checkOptions(action, out, ['loss', 'gradient']);
  const isWhole = settings.reduction !== 'none';
  const loss =
    given.loss === undefined ? new type(isWhole ? 1 : rows) : checkArray(action, 'out.loss', given.loss, type, isWhole ? 1 : rows);
  const gradient =
    given.gradient === undefined
      ? null
      : checkArray(action, 'out.gradient', given.gradient, type, reach(action, 'gradientRowStride', gradientRowStride, rows, cols));
  if (rowWeights !== undefined) checkArray(action, 'rowWeights', rowWeights, Float32Array, rows);
  const part: StudentPart = {
    student,
    labels,
    rowWeights: rowWeights ?? null,
    rowLoss: isWhole ? scratch(type, rows) : loss,
    loss: isWhole ? loss : null,
    gradient,
    rows,
    cols,
    studentStride: rowStride,
    gradientStride: gradientRowStride,
  };
  runRowLoss(action, part, teacher, soft, settings);
  return gradient === null ? { loss } : { loss, gradient };
}

function checkStudent(action: string, value: unknown, { rows, cols, rowStride = cols }: RawCrossEntropyOptions): Floats {
  const student = checkFloats(action, 'student', value);
  return checkArray(
    action,
    'student',
    student,
    student.constructor as ArrayType<Floats>,
    reach(action, 'rowStride', rowStride, rows, cols),
  );
}

/**
 * The distillation loss and its gradient on typed arrays; formulas and options as `kdLoss` of the main module.
 *
 * @param student logits [rows, cols], rows `rowStride` apart
 * @param teacher logits of the same layout, `{ probs }`, `{ logProbs }`, or a sparse target
 * @returns the arrays of `out`
 *
 * @example
 * kdLoss(student, teacher, { rows: 8, cols: 1000, temperature: 2, out: { loss, gradient } });
 */
export function kdLoss(student: Floats, teacher: RawTeacher, options: RawKdLossOptions): LossResult {
  const action = 'compute raw.kdLoss';
  if (options === undefined) throw kindError(action, 'options must give rows and cols', options);
  checkOptions(action, options, kdLossNames);
  sizes(action, options);
  const { rows, cols, rowStride = cols, temperature: given, labels: givenLabels } = options;
  const floats = checkStudent(action, student, options);
  if (given !== undefined && typeof given !== 'number')
    checkTemperatures(action, checkArray(action, 'temperature', given, Float32Array, rows).subarray(0, rows));
  else if (given !== undefined) checkPositive(action, 'temperature', given);
  const isDense = ArrayBuffer.isView(teacher) || (typeof teacher === 'object' && teacher !== null && !('indices' in teacher));
  const soft = softSettings(action, options, isDense ? 'dense' : hasWeights(teacher) ? 'sparse_weights' : 'sparse_log_probs');
  checkLabelled(action, soft, options);
  let part: TeacherPart;
  if (isDense) {
    const [target, values] = denseTeacher(action, teacher as Exclude<RawTeacher, RawSparse>);
    const { teacherRowStride = rowStride } = options;
    const type = floats.constructor as ArrayType<Floats>;
    checkArray(action, 'teacher', values, type, reach(action, 'teacherRowStride', teacherRowStride, rows, cols));
    part = {
      target,
      teacher: values,
      teacherStride: teacherRowStride,
      indices: null,
      values: null,
      tailLogMass: null,
      k: 0,
      logProbScale: 1,
      temperature: 1,
      rowTemperature: null,
    };
    if (target !== 'logits' && soft.hardWeight < 1 && ((given ?? 1) !== 1 || divergenceEntry(soft.divergence).anyMass !== true)) {
      checkRowMasses(action, rowMasses(values, target, rows, cols, teacherRowStride), options);
    }
  } else {
    part = sparseTeacher(action, teacher, options, soft.residual);
  }
  const labels = givenLabels === undefined ? null : labelArray(action, givenLabels, rows, [rows]);
  if (typeof given === 'number') part.temperature = given;
  else if (given !== undefined) part.rowTemperature = given;
  return rowLoss(action, floats, options, labels, part, soft);
}

function hasWeights(teacher: RawTeacher): boolean {
  return typeof teacher === 'object' && teacher !== null && (teacher as RawSparse).weights !== undefined;
}

function denseTeacher(action: string, teacher: Exclude<RawTeacher, RawSparse>): ['logits' | 'probs' | 'log_probs', Floats] {
  if (ArrayBuffer.isView(teacher)) return ['logits', checkFloats(action, 'teacher', teacher)];
  const parts = checkOptions(action, teacher as { logits?: Floats; probs?: Floats; logProbs?: Floats }, ['logits', 'probs', 'logProbs']);
  if (Object.keys(parts).length !== 1)
    throw kindError(action, 'teacher must give one of logits, probs, logProbs, or indices with logProbs', teacher);
  if (parts.logits !== undefined) return ['logits', checkFloats(action, 'teacher.logits', parts.logits)];
  if (parts.probs !== undefined) return ['probs', checkFloats(action, 'teacher.probs', parts.probs)];
  return ['log_probs', checkFloats(action, 'teacher.logProbs', parts.logProbs)];
}

function sparseTeacher(action: string, teacher: RawTeacher, options: RawKdLossOptions, residual: string): TeacherPart {
  if (teacher === null || typeof teacher !== 'object') throw kindError(action, 'teacher must be typed arrays', teacher);
  const sparse = checkOptions(action, teacher as RawSparse, ['indices', 'logProbs', 'weights', 'tailLogMass', 'k', 'temperature']);
  const { rows, cols, temperature: given } = options;
  checkArray(action, 'teacher.indices', sparse.indices, Int32Array, 0);
  const k = sparse.k ?? (rows === 0 ? 0 : sparse.indices.length / rows);
  if (!Number.isInteger(k))
    throw valueError(action, `teacher.indices must hold k entries for each of ${rows} rows`, phrase(`it holds ${sparse.indices.length}`));
  checkWhole(action, 'teacher.k', k, 0, cols);
  checkArray(action, 'teacher.indices', sparse.indices, Int32Array, rows * k);
  if (sparse.weights !== undefined && sparse.logProbs !== undefined)
    throw kindError(action, 'teacher must give one of logProbs and weights', phrase('it gives both'));
  const values =
    sparse.weights === undefined
      ? checkArray(action, 'teacher.logProbs', sparse.logProbs, Float32Array, rows * k)
      : checkArray(action, 'teacher.weights', sparse.weights, Float32Array, rows * k);
  if (sparse.tailLogMass !== undefined) checkArray(action, 'teacher.tailLogMass', sparse.tailLogMass, Float32Array, rows);
  let logProbScale = 1;
  const { temperature: captured } = sparse;
  if (captured !== undefined) {
    checkPositive(action, 'teacher.temperature', captured);
    const isSame =
      given === undefined ||
      given === captured ||
      (typeof given !== 'number' && given.subarray(0, rows).every((T) => T === Math.fround(captured)));
    if (!isSame) {
      if (!isRenormalizing(residual as 'renormalize') || typeof given !== 'number') {
        throw valueError(action, `temperature must be ${captured}, which the target was captured at, with residual '${residual}'`, given);
      }
      logProbScale = captured / given;
    }
  }
  return {
    target: sparse.weights === undefined ? 'sparse_log_probs' : 'sparse_weights',
    teacher: null,
    teacherStride: 0,
    indices: sparse.indices,
    values,
    tailLogMass: sparse.tailLogMass ?? null,
    k,
    logProbScale,
    temperature: captured ?? 1,
    rowTemperature: null,
  };
}

function checkRowMasses(
  action: string,
  masses: Float64Array,
  { temperature, labels, ignoreIndex = -100, rowWeights, rows }: RawKdLossOptions,
): void {
  const wrong = wrongRows(masses);
  if (wrong.length === 0) return;
  const array = labels === undefined ? null : labelArray(action, labels, rows, [rows]);
  for (const r of wrong) {
    if (temperature instanceof Float32Array && temperature[r] === 1) continue;
    if (array?.[r] !== ignoreIndex && rowWeights?.[r] !== 0) throw massError(action, masses[r]!, r);
  }
}

/** Cross-entropy and its gradient on typed arrays; formulas and options as `crossEntropy` of the main module. */
export function crossEntropy(student: Floats, labels: LabelNumbers, options: RawCrossEntropyOptions): LossResult {
  const action = 'compute raw.crossEntropy';
  if (options === undefined) throw kindError(action, 'options must give rows and cols', options);
  checkOptions(action, options, crossEntropyNames);
  sizes(action, options);
  const floats = checkStudent(action, student, options);
  return rowLoss(action, floats, options, labelArray(action, labels, options.rows, [options.rows]), noTeacher, hardOnly());
}

/** Options of {@link softmax}. */
export interface RawSoftmaxOptions extends Sizes {
  /** A positive number or one for each row. Default 1. */
  temperature?: number | Float32Array;
  /** The logarithm instead. Default false. */
  log?: boolean;
  /** Where the result is written; may be x itself. Made where it is left out. */
  out?: Floats;
}

/** Softmax, or its logarithm, of [rows, cols]. */
export function softmax(x: Floats, options: RawSoftmaxOptions): Floats {
  const action = 'compute raw.softmax';
  if (options === undefined) throw kindError(action, 'options must give rows and cols', options);
  const { rows, cols, temperature = 1, log = false, out } = checkOptions(action, options, ['rows', 'cols', 'temperature', 'log', 'out']);
  sizes(action, options);
  const size = reach(action, 'cols', cols, rows, cols);
  const floats = checkFloats(action, 'x', x);
  const type = floats.constructor as ArrayType<Floats>;
  checkArray(action, 'x', x, type, size);
  const y = out === undefined ? new type(size) : checkArray(action, 'out', out, type, size);
  const [value, perRow] = temperatures(action, temperature, rows);
  kernel('softmax', action)(x, perRow, y, rows, cols, value, log ? 1 : 0);
  return y;
}

function temperatures(action: string, temperature: number | Float32Array, rows: number): [number, Float32Array | null] {
  if (typeof temperature === 'number') return [checkPositive(action, 'temperature', temperature), null];
  checkTemperatures(action, checkArray(action, 'temperature', temperature, Float32Array, rows).subarray(0, rows));
  return [1, temperature];
}

/** What {@link topK} gives back. */
export interface RawTopK {
  values: Float32Array;
  indices: Int32Array;
}

/** The k largest entries of each row of [rows, cols], largest first, with their columns. Ties: lowest index first. */
export function topK(x: Float32Array, k: number, options: Sizes & { out?: Partial<RawTopK> }): RawTopK {
  const action = 'compute raw.topK';
  if (options === undefined) throw kindError(action, 'options must give rows and cols', options);
  const { rows, cols, out } = checkOptions(action, options, ['rows', 'cols', 'out']);
  sizes(action, options);
  checkK(action, k, cols);
  checkArray(action, 'x', x, Float32Array, reach(action, 'cols', cols, rows, cols));
  const given = checkOptions(action, out, ['values', 'indices']);
  const values =
    given.values === undefined ? new Float32Array(rows * k) : checkArray(action, 'out.values', given.values, Float32Array, rows * k);
  const indices =
    given.indices === undefined ? new Int32Array(rows * k) : checkArray(action, 'out.indices', given.indices, Int32Array, rows * k);
  kernel('top_k', action)(x, values, indices, rows, cols, k);
  return { values, indices };
}

/** What {@link captureTopK} gives back. */
export interface RawCapture {
  indices: Int32Array;
  logProbs: Float32Array;
  tailLogMass: Float32Array;
  /** [rows] ln Σ e^{x/T}; only where `out` has it. */
  logSumExp?: Float32Array;
}

/** The k most probable entries of each row of [rows, cols] with exact log-probabilities, and the log-mass of all the others. */
export function captureTopK(
  logits: Float32Array,
  k: number,
  options: Sizes & { temperature?: number | Float32Array; out?: Partial<RawCapture> },
): RawCapture {
  const action = 'compute raw.captureTopK';
  if (options === undefined) throw kindError(action, 'options must give rows and cols', options);
  const { rows, cols, temperature = 1, out } = checkOptions(action, options, ['rows', 'cols', 'temperature', 'out']);
  sizes(action, options);
  checkK(action, k, cols);
  checkArray(action, 'logits', logits, Float32Array, reach(action, 'cols', cols, rows, cols));
  const [value, perRow] = temperatures(action, temperature, rows);
  const given = checkOptions(action, out, ['indices', 'logProbs', 'tailLogMass', 'logSumExp']);
  const indices =
    given.indices === undefined ? new Int32Array(rows * k) : checkArray(action, 'out.indices', given.indices, Int32Array, rows * k);
  const logProbs =
    given.logProbs === undefined ? new Float32Array(rows * k) : checkArray(action, 'out.logProbs', given.logProbs, Float32Array, rows * k);
  const tailLogMass =
    given.tailLogMass === undefined ? new Float32Array(rows) : checkArray(action, 'out.tailLogMass', given.tailLogMass, Float32Array, rows);
  const logSumExp = given.logSumExp === undefined ? null : checkArray(action, 'out.logSumExp', given.logSumExp, Float32Array, rows);
  kernel('capture_top_k', action)(logits, perRow, indices, logProbs, tailLogMass, logSumExp, rows, cols, k, value);
  return logSumExp === null ? { indices, logProbs, tailLogMass } : { indices, logProbs, tailLogMass, logSumExp };
}
