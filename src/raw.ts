/**
 * The kernels on plain typed arrays of the CPU, synchronous, into memory of the caller's own. No tensors, no autograd.
 *
 * @module limbeck/raw
 */
import { checkOneOf, checkOptions, checkPositive, checkWhole } from './check.js';
import { convert, type HalfType } from './dtypes.js';
import { kindError, phrase, valueError } from './errors.js';
import { noTeacher, runRowLoss, type SoftNumbers, type StudentPart, type TeacherPart } from './losses/kernel.js';
import { labelArray, type LabelNumbers } from './losses/labels.js';
import { divergenceEntry } from './losses/divergences.js';
import { massError, wrongRows } from './losses/masses.js';
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
import { kernel, type Handle } from './native.js';
import { checkTemperatures } from './ops/temperature.js';
import { checkK } from './ops/top_k.js';
import { rowMasses } from './targets/target.js';

export { LimbeckError } from './errors.js';
export { setThreads } from './device.js';
export type { HalfType } from './dtypes.js';
export type { Divergence, DivergenceName } from './losses/divergences.js';
export type { Denominator, Reduction, Residual } from './losses/settings.js';
export type { LabelNumbers } from './losses/labels.js';

/** Numbers of float32 or float64. */
export type Floats = Float32Array | Float64Array;

/** Logits and gradients: numbers, or the bits of a half type, which `dtype` names. */
export type Stored = Floats | Uint16Array;

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
export type RawTeacher = Stored | { logits: Stored } | { probs: Stored } | { logProbs: Stored } | RawSparse;

/** Where a loss is written. */
export interface LossOut {
  /** 'mean' and 'sum': at least one element. 'none': one for each row. Made where it is left out. */
  loss?: Floats;
  /** Of the student's type. Not computed where it is left out. May be the student's own memory. */
  gradient?: Stored;
}

/** What a loss gives back: the arrays of `out`, or new ones. */
export interface LossResult {
  /** Float32Array, or Float64Array for a student of that. */
  loss: Floats;
  gradient?: Stored;
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
  /** Which half type a Uint16Array of bits holds: the student and its gradient. Required for one. */
  dtype?: HalfType;
  out?: LossOut;
}

/** Options of {@link kdLoss}. */
export interface RawKdLossOptions extends RawCrossEntropyOptions, SoftOptions {
  /** The stride of a dense teacher. Default: rowStride. */
  teacherRowStride?: number;
  /** Which half type a dense teacher's Uint16Array holds. Default: dtype. */
  teacherDtype?: HalfType;
  /** A positive number or one for each row. Default: 1, or what a sparse target says. */
  temperature?: number | Float32Array;
  labels?: LabelNumbers;
}

const crossEntropyNames = [...rowLossNames, 'rows', 'cols', 'rowStride', 'gradientRowStride', 'rowWeights', 'dtype', 'out'] as const;
const kdLossNames = [...crossEntropyNames, ...softNames, 'teacherRowStride', 'teacherDtype', 'temperature', 'labels'] as const;

type ArrayType<T> = { new (length: number): T; readonly name: string };

function checkArray<T extends ArrayLike<number>>(action: string, name: string, value: unknown, type: ArrayType<T>, least: number): T {
  if (!(value instanceof type)) throw kindError(action, `${name} must be a ${type.name}`, value);
  const array = value as T;
  if (array.length < least) throw valueError(action, `${name} must hold ${least} elements`, phrase(`it holds ${array.length}`));
  return array;
}

/** Numbers, or bits of a half type that is named. */
function checkStored(action: string, name: string, value: unknown, dtype: unknown, dtypeName = 'dtype'): Stored {
  if (value instanceof Uint16Array) {
    checkOneOf(action, dtypeName, dtype, halfTypes);
    return value;
  }
  if (!(value instanceof Float32Array) && !(value instanceof Float64Array))
    throw kindError(action, `${name} must be a Float32Array, Float64Array or Uint16Array`, value);
  return value;
}

const halfTypes = ['float16', 'bfloat16'] as const;

/** What a kernel takes for an array: a second view tells bfloat16 from float16. */
function handleOf(array: Stored, dtype: HalfType | undefined): Handle {
  return array instanceof Uint16Array && dtype === 'bfloat16' ? new Int16Array(array.buffer, array.byteOffset, array.length) : array;
}

function typeOf<A extends Stored>(array: A): ArrayType<A> {
  return array.constructor as ArrayType<A>;
}

/** Losses of half types are float32. */
function lossTypeOf(array: Stored): ArrayType<Floats> {
  return array instanceof Float64Array ? Float64Array : Float32Array;
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
  student: Stored,
  options: RawCrossEntropyOptions,
  labels: Int32Array | null,
  teacher: TeacherPart,
  soft: SoftNumbers,
): LossResult {
  const { rows, cols, rowStride = cols, gradientRowStride = rowStride, rowWeights, dtype, out } = options;
  const settings = rowLossSettings(action, options);
  const type = lossTypeOf(student);
  const given = checkOptions(action, out, ['loss', 'gradient']);
  const isWhole = settings.reduction !== 'none';
  const loss =
    given.loss === undefined ? new type(isWhole ? 1 : rows) : checkArray(action, 'out.loss', given.loss, type, isWhole ? 1 : rows);
  const gradient =
    given.gradient === undefined
      ? null
      : checkArray(
          action,
          'out.gradient',
          given.gradient,
          typeOf(student),
          reach(action, 'gradientRowStride', gradientRowStride, rows, cols),
        );
  if (rowWeights !== undefined) checkArray(action, 'rowWeights', rowWeights, Float32Array, rows);
  const part: StudentPart = {
    student: handleOf(student, dtype),
    labels,
    rowWeights: rowWeights ?? null,
    rowLoss: isWhole ? scratch(type, rows) : loss,
    loss: isWhole ? loss : null,
    gradient: gradient === null ? null : handleOf(gradient, dtype),
    rows,
    cols,
    studentStride: rowStride,
    gradientStride: gradientRowStride,
  };
  runRowLoss(action, part, teacher, soft, settings);
  return gradient === null ? { loss } : { loss, gradient };
}

function checkStudent(action: string, value: unknown, { rows, cols, rowStride = cols, dtype }: RawCrossEntropyOptions): Stored {
  const student = checkStored(action, 'student', value, dtype);
  return checkArray(action, 'student', student, typeOf(student), reach(action, 'rowStride', rowStride, rows, cols));
}

/**
 * The distillation loss and its gradient on typed arrays; formulas and options as `kdLoss` of the main module.
 *
 * @param student logits [rows, cols], rows `rowStride` apart; a Uint16Array holds the bits of the half type that `dtype` names
 * @param teacher logits of the same layout, `{ probs }`, `{ logProbs }`, or a sparse target; dense ones of any type, Float64Array
 *   for a student of that alone
 * @returns the arrays of `out`
 *
 * @example
 * kdLoss(student, teacher, { rows: 8, cols: 1000, temperature: 2, out: { loss, gradient } });
 * kdLoss(bits, teacher, { rows: 8, cols: 1000, dtype: 'bfloat16', out: { gradient: bits } });
 */
export function kdLoss(student: Stored, teacher: RawTeacher, options: RawKdLossOptions): LossResult {
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
  if (divergenceEntry(soft.divergence).byRow === true)
    throw kindError(
      action,
      'divergence must be one whose parameters are numbers; kdLoss of the main module finds those of a row',
      soft.divergence,
    );
  let part: TeacherPart;
  if (isDense) {
    const { teacherRowStride = rowStride, dtype, teacherDtype = dtype } = options;
    const [target, values] = denseTeacher(action, teacher as Exclude<RawTeacher, RawSparse>, teacherDtype);
    if (values instanceof Float64Array && !(floats instanceof Float64Array))
      throw kindError(action, 'teacher must not be a Float64Array for a student of another type', values);
    checkArray(action, 'teacher', values, typeOf(values), reach(action, 'teacherRowStride', teacherRowStride, rows, cols));
    part = {
      target,
      teacher: handleOf(values, teacherDtype),
      teacherStride: teacherRowStride,
      anchor: null,
      interpolation: 0,
      indices: null,
      values: null,
      tailLogMass: null,
      k: 0,
      logProbScale: 1,
      temperature: 1,
      rowTemperature: null,
      rowParameter: null,
    };
    if (target !== 'logits' && soft.hardWeight < 1 && ((given ?? 1) !== 1 || !soft.anyMass)) {
      const numbers = values instanceof Uint16Array ? decoded(values, teacherDtype!) : values;
      checkRowMasses(action, rowMasses(numbers, target, rows, cols, teacherRowStride), options);
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

function denseTeacher(
  action: string,
  teacher: Exclude<RawTeacher, RawSparse>,
  dtype: HalfType | undefined,
): ['logits' | 'probs' | 'log_probs', Stored] {
  const check = (name: string, value: unknown): Stored => checkStored(action, name, value, dtype, 'teacherDtype');
  if (ArrayBuffer.isView(teacher)) return ['logits', check('teacher', teacher)];
  const parts = checkOptions(action, teacher as { logits?: Stored; probs?: Stored; logProbs?: Stored }, ['logits', 'probs', 'logProbs']);
  if (Object.keys(parts).length !== 1)
    throw kindError(action, 'teacher must give one of logits, probs, logProbs, or indices with logProbs', teacher);
  if (parts.logits !== undefined) return ['logits', check('teacher.logits', parts.logits)];
  if (parts.probs !== undefined) return ['probs', check('teacher.probs', parts.probs)];
  return ['log_probs', check('teacher.logProbs', parts.logProbs)];
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
    anchor: null,
    interpolation: 0,
    indices: sparse.indices,
    values,
    tailLogMass: sparse.tailLogMass ?? null,
    k,
    logProbScale,
    temperature: captured ?? 1,
    rowTemperature: null,
    rowParameter: null,
  };
}

function decoded(bits: Uint16Array, dtype: HalfType): Float32Array {
  const numbers = new Float32Array(bits.length);
  convert(bits, dtype, numbers, 'float32');
  return numbers;
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
export function crossEntropy(student: Stored, labels: LabelNumbers, options: RawCrossEntropyOptions): LossResult {
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
  /** Which half type a Uint16Array of bits holds. Required for one. */
  dtype?: HalfType;
  /** Where the result is written, of the type of x; may be x itself. Made where it is left out. */
  out?: Stored;
}

/** Softmax, or its logarithm, of [rows, cols]. */
export function softmax<A extends Stored>(x: A, options: RawSoftmaxOptions): A {
  const action = 'compute raw.softmax';
  if (options === undefined) throw kindError(action, 'options must give rows and cols', options);
  const names = ['rows', 'cols', 'temperature', 'log', 'dtype', 'out'];
  const { rows, cols, temperature = 1, log = false, dtype, out } = checkOptions(action, options, names);
  sizes(action, options);
  const size = reach(action, 'cols', cols, rows, cols);
  checkStored(action, 'x', x, dtype);
  const type = typeOf(x);
  checkArray(action, 'x', x, type, size);
  const y = out === undefined ? new type(size) : checkArray(action, 'out', out, type, size);
  const [value, perRow] = temperatures(action, temperature, rows);
  kernel('softmax', action)(handleOf(x, dtype), perRow, handleOf(y, dtype), rows, cols, value, log ? 1 : 0);
  return y;
}

function temperatures(action: string, temperature: number | Float32Array, rows: number): [number, Float32Array | null] {
  if (typeof temperature === 'number') return [checkPositive(action, 'temperature', temperature), null];
  checkTemperatures(action, checkArray(action, 'temperature', temperature, Float32Array, rows).subarray(0, rows));
  return [1, temperature];
}

/** Rows to choose from: Float32Array, or a half type that is named. */
function checkSelected<A extends Float32Array | Uint16Array>(
  action: string,
  name: string,
  x: A,
  dtype: unknown,
  least: number,
): ArrayType<A> {
  if (!(x instanceof Uint16Array) && !(x instanceof Float32Array))
    throw kindError(action, `${name} must be a Float32Array or Uint16Array`, x);
  checkStored(action, name, x, dtype);
  checkArray(action, name, x, typeOf(x), least);
  return typeOf(x);
}

/** What {@link topK} gives back. */
export interface RawTopK<A extends Float32Array | Uint16Array = Float32Array> {
  /** Of the type of x. */
  values: A;
  indices: Int32Array;
}

/** The k largest entries of each row of [rows, cols], largest first, with their columns. Ties: lowest index first. */
export function topK<A extends Float32Array | Uint16Array>(
  x: A,
  k: number,
  options: Sizes & { dtype?: HalfType; out?: Partial<RawTopK<A>> },
): RawTopK<A> {
  const action = 'compute raw.topK';
  if (options === undefined) throw kindError(action, 'options must give rows and cols', options);
  const { rows, cols, dtype, out } = checkOptions(action, options, ['rows', 'cols', 'dtype', 'out']);
  sizes(action, options);
  checkK(action, k, cols);
  const type = checkSelected(action, 'x', x, dtype, reach(action, 'cols', cols, rows, cols));
  const given = checkOptions(action, out, ['values', 'indices']);
  const values = given.values === undefined ? new type(rows * k) : checkArray(action, 'out.values', given.values, type, rows * k);
  const indices =
    given.indices === undefined ? new Int32Array(rows * k) : checkArray(action, 'out.indices', given.indices, Int32Array, rows * k);
  kernel('top_k', action)(handleOf(x, dtype), handleOf(values, dtype), indices, rows, cols, k);
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
  logits: Float32Array | Uint16Array,
  k: number,
  options: Sizes & { temperature?: number | Float32Array; dtype?: HalfType; out?: Partial<RawCapture> },
): RawCapture {
  const action = 'compute raw.captureTopK';
  if (options === undefined) throw kindError(action, 'options must give rows and cols', options);
  const { rows, cols, temperature = 1, dtype, out } = checkOptions(action, options, ['rows', 'cols', 'temperature', 'dtype', 'out']);
  sizes(action, options);
  checkK(action, k, cols);
  checkSelected(action, 'logits', logits, dtype, reach(action, 'cols', cols, rows, cols));
  const [value, perRow] = temperatures(action, temperature, rows);
  const given = checkOptions(action, out, ['indices', 'logProbs', 'tailLogMass', 'logSumExp']);
  const indices =
    given.indices === undefined ? new Int32Array(rows * k) : checkArray(action, 'out.indices', given.indices, Int32Array, rows * k);
  const logProbs =
    given.logProbs === undefined ? new Float32Array(rows * k) : checkArray(action, 'out.logProbs', given.logProbs, Float32Array, rows * k);
  const tailLogMass =
    given.tailLogMass === undefined ? new Float32Array(rows) : checkArray(action, 'out.tailLogMass', given.tailLogMass, Float32Array, rows);
  const logSumExp = given.logSumExp === undefined ? null : checkArray(action, 'out.logSumExp', given.logSumExp, Float32Array, rows);
  kernel('capture_top_k', action)(handleOf(logits, dtype), perRow, indices, logProbs, tailLogMass, logSumExp, rows, cols, k, value);
  return logSumExp === null ? { indices, logProbs, tailLogMass } : { indices, logProbs, tailLogMass, logSumExp };
}
