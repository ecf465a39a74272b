// kdLoss and crossEntropy of limbeck/raw, at once and as promises, on typed arrays and on the memory of other addons.
import type { DLPack } from './dlpack.js';
import type { LabelNumbers } from './losses/labels.js';
import { rowLossAsync } from './raw_async.js';
import { cudaLoss, hostArguments, isCudaCall } from './raw_dlpack.js';
import { isDLPack } from './dlpack.js';
import {
  readyCrossEntropy,
  readyKdLoss,
  rowLoss,
  type Floats,
  type LossResult,
  type RawCrossEntropyOptions,
  type RawKdLossOptions,
  type RawSparse,
  type RawTeacher,
  type Ready,
  type Stored,
} from './raw_loss.js';
import { hostCopy } from './tensor.js';

/** A teacher some of whose arrays are descriptors. */
export type DLPackTeacher =
  | RawTeacher
  | DLPack
  | { logits: DLPack }
  | { probs: DLPack }
  | { logProbs: DLPack }
  | { [name in keyof RawSparse]: RawSparse[name] | DLPack };

interface DLPackOut {
  loss?: Floats | DLPack;
  gradient?: Stored | DLPack;
}

/** Options of `crossEntropy` for a student that is a descriptor, which gives rows, cols and strides. */
export type DLPackCrossEntropyOptions = Omit<RawCrossEntropyOptions, 'rows' | 'cols' | 'rowWeights' | 'out'> & {
  rowWeights?: Float32Array | DLPack;
  out?: DLPackOut;
};

/** Options of `kdLoss` for a student that is a descriptor, which gives rows, cols and strides. */
export type DLPackKdLossOptions = Omit<RawKdLossOptions, 'rows' | 'cols' | 'rowWeights' | 'temperature' | 'labels' | 'out'> & {
  rowWeights?: Float32Array | DLPack;
  temperature?: number | Float32Array | DLPack;
  labels?: LabelNumbers | DLPack;
  out?: DLPackOut;
};

/** What a loss of descriptors gives back: what stands in `out`, or a new array for the loss. */
export interface DLPackLossResult {
  loss: Floats | DLPack;
  gradient?: Stored | DLPack;
}

type Check = (action: string, student: Stored, teacher: never, options: never) => Ready;

function readyHost(check: Check, action: string, student: unknown, teacher: unknown, options: unknown): Ready {
  const [x, u, given] = isDLPack(student) ? hostArguments(action, student, teacher, options) : [student, teacher, options];
  return check(action, x as Stored, u as never, given as never);
}

/** Descriptors of `out` go back as they came. */
function asGiven(result: LossResult, options: unknown): DLPackLossResult {
  const out = (options as { out?: DLPackOut } | undefined)?.out;
  return {
    loss: isDLPack(out?.loss) ? out.loss : result.loss,
    ...(result.gradient === undefined ? {} : { gradient: isDLPack(out?.gradient) ? out.gradient : result.gradient }),
  };
}

function compute(check: Check, action: string, student: unknown, teacher: unknown, options: unknown): DLPackLossResult {
  if (ArrayBuffer.isView(student)) return rowLoss(check(action, student as Stored, teacher as never, options as never));
  if (!isCudaCall(action, student)) return asGiven(rowLoss(readyHost(check, action, student, teacher, options)), options);
  const { loss, settle } = cudaLoss(action, student, teacher, options, check === readyCrossEntropy);
  try {
    return settle(hostCopy(loss, action)) as DLPackLossResult;
  } finally {
    loss.dispose();
  }
}

async function computeAsync(check: Check, action: string, student: unknown, teacher: unknown, options: unknown): Promise<DLPackLossResult> {
  if (!isCudaCall(action, student)) return asGiven(await rowLossAsync(readyHost(check, action, student, teacher, options)), options);
  const { loss, settle } = cudaLoss(action, student, teacher, options, check === readyCrossEntropy);
  try {
    return settle(await loss.read()) as DLPackLossResult;
  } finally {
    loss.dispose();
  }
}

/**
 * The distillation loss and its gradient on typed arrays; formulas and options as `kdLoss` of the main module.
 *
 * @param student logits [rows, cols], rows `rowStride` apart; a Uint16Array holds the bits of the half type that `dtype` names. Or a
 *   {@link DLPack} descriptor of them, on the CPU or a CUDA device; the other arrays may then be descriptors too, and on CUDA must be
 * @param teacher logits of the same layout, `{ probs }`, `{ logProbs }`, or a sparse target; dense ones of any type, Float64Array
 *   for a student of that alone
 * @returns the arrays of `out`. Memory of a CUDA device must be finished when the call is made, and is when it returns
 *
 * @example
 * kdLoss(student, teacher, { rows: 8, cols: 1000, temperature: 2, out: { loss, gradient } });
 * kdLoss(bits, teacher, { rows: 8, cols: 1000, dtype: 'bfloat16', out: { gradient: bits } });
 */
export function kdLoss(student: Stored, teacher: RawTeacher, options: RawKdLossOptions): LossResult;
export function kdLoss(student: DLPack, teacher: DLPackTeacher, options?: DLPackKdLossOptions): DLPackLossResult;
export function kdLoss(student: unknown, teacher: unknown, options?: unknown): DLPackLossResult {
  return compute(readyKdLoss, 'compute raw.kdLoss', student, teacher, options);
}

/** Cross-entropy and its gradient on typed arrays, or on {@link DLPack} descriptors; formulas and options as `crossEntropy` of the main module. */
export function crossEntropy(student: Stored, labels: LabelNumbers, options: RawCrossEntropyOptions): LossResult;
export function crossEntropy(student: DLPack, labels: LabelNumbers | DLPack, options?: DLPackCrossEntropyOptions): DLPackLossResult;
export function crossEntropy(student: unknown, labels: unknown, options?: unknown): DLPackLossResult {
  return compute(readyCrossEntropy, 'compute raw.crossEntropy', student, labels, options);
}

/**
 * {@link kdLoss} on a thread of libuv's, so that the event loop goes on. Arrays in a SharedArrayBuffer are read and written in place and are
 * the call's until the promise settles; all others are copied when the call is made, and `out` is filled when it is done. On a CUDA device
 * the kernel is launched at once, in place, and only the wait is left. What is wrong with the arguments rejects the promise.
 *
 * An environment (a worker, the process) waits for calls under way before it goes. UV_THREADPOOL_SIZE bounds how many run at once.
 *
 * @returns the arrays of `out`, or new ones
 * @throws RangeError where an array of `out` was detached or shrunk meanwhile
 *
 * @example
 * const floats = (count) => new Float32Array(new SharedArrayBuffer(4 * count)); // in place
 * const { loss } = await kdLossAsync(student, teacher, { rows, cols, out: { gradient: floats(rows * cols) } });
 */
export function kdLossAsync(student: Stored, teacher: RawTeacher, options: RawKdLossOptions): Promise<LossResult>;
export function kdLossAsync(student: DLPack, teacher: DLPackTeacher, options?: DLPackKdLossOptions): Promise<DLPackLossResult>;
export function kdLossAsync(student: unknown, teacher: unknown, options?: unknown): Promise<DLPackLossResult> {
  return computeAsync(readyKdLoss, 'compute raw.kdLossAsync', student, teacher, options);
}

/** {@link crossEntropy} on a thread of libuv's, as {@link kdLossAsync}. */
export function crossEntropyAsync(student: Stored, labels: LabelNumbers, options: RawCrossEntropyOptions): Promise<LossResult>;
export function crossEntropyAsync(
  student: DLPack,
  labels: LabelNumbers | DLPack,
  options?: DLPackCrossEntropyOptions,
): Promise<DLPackLossResult>;
export function crossEntropyAsync(student: unknown, labels: unknown, options?: unknown): Promise<DLPackLossResult> {
  return computeAsync(readyCrossEntropy, 'compute raw.crossEntropyAsync', student, labels, options);
}
