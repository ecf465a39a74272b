/**
 * The kernels on plain typed arrays, synchronous or as promises, into memory of the caller's own. No tensors, no autograd.
 *
 * @module limbeck/raw
 */
import { checkBoolean, checkOptions, checkPositive } from './check.js';
import type { HalfType } from './dtypes.js';
import { kindError } from './errors.js';
import { kernel } from './native.js';
import { checkTemperatures } from './ops/temperature.js';
import { checkK } from './ops/top_k.js';
import { checkArray, checkStored, handleOf, reach, sizes, typeOf, type ArrayType, type Sizes, type Stored } from './raw_loss.js';

export { LimbeckError } from './errors.js';
export { setThreads } from './device.js';
export type { HalfType } from './dtypes.js';
export type { Divergence, DivergenceName } from './losses/divergences.js';
export type { Denominator, Reduction, Residual } from './losses/settings.js';
export type { LabelNumbers } from './losses/labels.js';
export { fromDLPack, toDLPack, type DLPack } from './dlpack.js';
export {
  crossEntropy,
  crossEntropyAsync,
  kdLoss,
  kdLossAsync,
  type DLPackCrossEntropyOptions,
  type DLPackKdLossOptions,
  type DLPackLossResult,
  type DLPackTeacher,
} from './raw_calls.js';
export { linearKdLoss, type RawLinearKdLossOptions, type RawLinearOut, type RawLinearResult, type RawLinearTeacher } from './raw_linear.js';
export type { Floats, LossOut, LossResult, RawCrossEntropyOptions, RawKdLossOptions, RawSparse, RawTeacher, Stored } from './raw_loss.js';

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
  checkBoolean(action, 'log', log);
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
