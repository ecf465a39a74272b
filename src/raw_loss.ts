// The row losses of limbeck/raw: their arguments, checked and turned into the kernel's, and the call that waits for it.
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
  type RowLossSettings,
  type SoftOptions,
} from './losses/settings.js';
import type { Handle } from './native.js';
import { checkTemperatures } from './ops/temperature.js';
import { rowMasses } from './targets/target.js';

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

export interface Sizes {
  rows: number;
  cols: number;
}

/** Options of `crossEntropy` of limbeck/raw. */
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

/** Options of `kdLoss` of limbeck/raw. */
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

export type ArrayType<T> = { new (length: number): T; readonly name: string };

export function checkArray<T extends ArrayLike<number>>(
  action: string,
  name: string,
  value: unknown,
  type: ArrayType<T>,
  least: number,
): T {
  if (!(value instanceof type)) throw kindError(action, `${name} must be a ${type.name}`, value);
  const array = value as T;
  if (array.length < least) throw valueError(action, `${name} must hold ${least} elements`, phrase(`it holds ${array.length}`));
  return array;
}

/** Numbers, or bits of a half type that is named. */
export function checkStored(action: string, name: string, value: unknown, dtype: unknown, dtypeName = 'dtype'): Stored {
  if (value instanceof Uint16Array) {
    checkOneOf(action, dtypeName, dtype, halfTypes);
    return value;
  }
  if (!(value instanceof Float32Array) && !(value instanceof Float64Array))
    throw kindError(action, `${name} must be a Float32Array, Float64Array or Uint16Array`, value);
  if (dtype !== undefined) checkOneOf(action, dtypeName, dtype, halfTypes);
  return value;
}

export const halfTypes = ['float16', 'bfloat16'] as const;

/** What a kernel takes for an array: a second view tells bfloat16 from float16. */
export function handleOf(array: Stored, dtype: HalfType | undefined): Handle {
  return array instanceof Uint16Array && dtype === 'bfloat16' ? new Int16Array(array.buffer, array.byteOffset, array.length) : array;
}

export function typeOf<A extends Stored>(array: A): ArrayType<A> {
  return array.constructor as ArrayType<A>;
}

/** Losses of half types are float32. */
export function lossTypeOf(array: Stored): ArrayType<Floats> {
  return array instanceof Float64Array ? Float64Array : Float32Array;
}

export function sizes(action: string, options: Sizes): void {
  checkWhole(action, 'rows', options.rows);
  checkWhole(action, 'cols', options.cols, 1, 2 ** 31 - 1);
}

/** The elements that rows with a stride reach over. */
export function reach(action: string, name: string, stride: unknown, rows: number, cols: number): number {
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

/** A loss whose arguments are checked, but for where its results go. */
export interface Ready {
  action: string;
  student: Stored;
  options: RawCrossEntropyOptions;
  labels: Int32Array | null;
  teacher: TeacherPart;
  soft: SoftNumbers;
}

/** Where the results of a loss go. */
export interface Outputs {
  settings: RowLossSettings;
  loss: Floats;
  /** Null where no gradient is asked for. */
  gradient: Stored | null;
  gradientStride: number;
  /** The loss is one number. */
  isWhole: boolean;
}

interface Rows {
  array: Stored;
  stride: number;
}

/**
 * A gradient that lies over rows still to be read would change them. Rows may lie between each other's.
 *
 * @param orEqual they may be the same memory, row by row
 */
function checkApart(action: string, name: string, read: Rows, written: Rows, { rows, cols }: Sizes, orEqual: boolean): void {
  const [a, b] = [read.array, written.array];
  if (a.buffer !== b.buffer || rows === 0) return;
  const extent = ({ array, stride }: Rows): number => ((rows - 1) * stride + cols) * array.BYTES_PER_ELEMENT;
  const apart = b.byteOffset - a.byteOffset;
  if (apart >= extent(read) || -apart >= extent(written)) return;
  const step = read.stride * a.BYTES_PER_ELEMENT;
  if (rows === 1 || step === written.stride * b.BYTES_PER_ELEMENT) {
    if (orEqual && apart === 0) return;
    const between = ((apart % step) + step) % step;
    if (rows > 1 && between >= cols * a.BYTES_PER_ELEMENT && step - between >= cols * b.BYTES_PER_ELEMENT) return;
  }
  throw valueError(
    action,
    `out.gradient must not lie over ${name}${orEqual ? ', unless row by row' : ''}`,
    phrase(`it begins ${apart} bytes from it, rows ${written.stride} and ${read.stride} elements apart`),
  );
}

export function outputsOf({ action, student, options, teacher }: Ready): Outputs {
  const { rows, cols, rowStride = cols, gradientRowStride = rowStride, rowWeights, out } = options;
  const settings = rowLossSettings(action, options);
  const type = lossTypeOf(student);
  const given = checkOptions(action, out, ['loss', 'gradient']);
  const isWhole = settings.reduction !== 'none';
  const loss =
    given.loss === undefined ? new type(isWhole ? 1 : rows) : checkArray(action, 'out.loss', given.loss, type, isWhole ? 1 : rows);
  const size = reach(action, 'gradientRowStride', gradientRowStride, rows, cols);
  const gradient = given.gradient === undefined ? null : checkArray(action, 'out.gradient', given.gradient, typeOf(student), size);
  if (gradient !== null) {
    const written = { array: gradient, stride: gradientRowStride };
    checkApart(action, 'student', { array: student, stride: rowStride }, written, options, true);
    if (teacher.teacher !== null && ArrayBuffer.isView(teacher.teacher))
      checkApart(action, 'teacher', { array: teacher.teacher as Stored, stride: teacher.teacherStride }, written, options, false);
  }
  if (rowWeights !== undefined) checkArray(action, 'rowWeights', rowWeights, Float32Array, rows);
  return { settings, loss, gradient, gradientStride: gradientRowStride, isWhole };
}

/** Computes a loss and waits for it. */
export function rowLoss(ready: Ready): LossResult {
  const { action, student, options, labels, teacher, soft } = ready;
  const { rows, cols, rowStride = cols, rowWeights, dtype } = options;
  const { settings, loss, gradient, gradientStride, isWhole } = outputsOf(ready);
  const part: StudentPart = {
    student: handleOf(student, dtype),
    labels,
    rowWeights: rowWeights ?? null,
    rowLoss: isWhole ? scratch(lossTypeOf(student), rows) : loss,
    loss: isWhole ? loss : null,
    gradient: gradient === null ? null : handleOf(gradient, dtype),
    rows,
    cols,
    studentStride: rowStride,
    gradientStride,
  };
  runRowLoss(action, part, teacher, soft, settings);
  return gradient === null ? { loss } : { loss, gradient };
}

function checkStudent(action: string, value: unknown, { rows, cols, rowStride = cols, dtype }: RawCrossEntropyOptions): Stored {
  const student = checkStored(action, 'student', value, dtype);
  return checkArray(action, 'student', student, typeOf(student), reach(action, 'rowStride', rowStride, rows, cols));
}

/** Checks the arguments of kdLoss. */
export function readyKdLoss(action: string, student: Stored, teacher: RawTeacher, options: RawKdLossOptions): Ready {
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
  return { action, student: floats, options, labels, teacher: part, soft };
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
  const k = sparse.k === undefined ? (rows === 0 ? 0 : sparse.indices.length / rows) : sparse.k;
  if (sparse.k === undefined && !Number.isInteger(k))
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

/** Checks the arguments of crossEntropy. */
export function readyCrossEntropy(action: string, student: Stored, labels: LabelNumbers, options: RawCrossEntropyOptions): Ready {
  if (options === undefined) throw kindError(action, 'options must give rows and cols', options);
  checkOptions(action, options, crossEntropyNames);
  sizes(action, options);
  const floats = checkStudent(action, student, options);
  return {
    action,
    student: floats,
    options,
    labels: labelArray(action, labels, options.rows, [options.rows]),
    teacher: noTeacher,
    soft: hardOnly(),
  };
}
