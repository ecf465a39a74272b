// The arguments of linearKdLoss, looked at: what is read, which rows count, and how many of them a chunk holds.
import {
  checkConstant,
  checkFloating,
  checkLive,
  checkOptions,
  checkRows,
  checkSameDevice,
  checkSameDType,
  checkShapeIs,
  checkWhole,
  sameShape,
} from '../check.js';
import { bytesPerElement, isHalf, type DType } from '../dtypes.js';
import { kindError, phrase, shapeText, valueError } from '../errors.js';
import { checkMatrix } from '../ops/matmul.js';
import { checkTemperature } from '../ops/temperature.js';
import { InterpolatedTarget } from '../targets/interpolate.js';
import { DenseTarget, SparseTarget } from '../targets/target.js';
import { hostCopy, Tensor } from '../tensor.js';
import { divergenceEntry } from './divergences.js';
import { isKdTarget, kdLossNames, type KdLossOptions, type KdTarget } from './kd_loss.js';
import { checkLabelTensor, checkRowWeights, labelArray } from './labels.js';
import { stepRows } from './linear_plan.js';
import { checkLabelled, rowLossSettings, softSettings, type SoftSettings } from './settings.js';

/** A teacher by its last layer: its logits are hidden·weightᵀ + bias, computed for a chunk of rows at a time. */
export interface LinearTeacher {
  /** [..., inputs of the teacher], rows as the student's. */
  hidden: Tensor;
  /** [cols, inputs of the teacher]. */
  weight: Tensor;
  /** [cols]. */
  bias?: Tensor;
}

/** Options of {@link linearKdLoss}. */
export interface LinearKdLossOptions extends KdLossOptions {
  /** [cols], of any dtype but float64 where hidden is not; added to the student's logits, gets a gradient where it requires one. */
  bias?: Tensor;
  /** The most bytes that are made beside the results: what {@link linearKdLoss} says. Default 512 MB, and on the CPU chunks of at most 512 rows. */
  scratchBytes?: number;
}

export const action = 'compute linearKdLoss';
const optionNames = [...kdLossNames, 'bias', 'scratchBytes'] as const;
const teacherNames = ['hidden', 'weight', 'bias'] as const;

const defaultScratch = 512e6;

/** What cuBLAS works in, once for a device, comes out of the default. */
const workspace = 2 ** 25;

/** Arrays of a chunk's size that adaptive KL makes to find the weights of its rows. */
const adaptiveArrays = 20;

/** One side's last layer, as given. */
export interface Layer {
  hidden: Tensor;
  weight: Tensor;
  bias: Tensor | null;
}

/** What a layer's logits are kept in: the dtype of both factors, or float32 where they differ. */
export function logitsDType({ hidden, weight }: Layer): DType {
  return hidden.dtype === weight.dtype ? hidden.dtype : 'float32';
}

/**
 * Elements from one row of such logits to the next: on a device rows begin at multiples of 16 bytes, which products then read 16 bytes
 * at a time whatever the vocabulary.
 */
export function logitsStride(layer: Layer, cols: number): number {
  const wide = layer.hidden.device === 'cpu' ? 1 : 16 / bytesPerElement(logitsDType(layer));
  return Math.ceil(cols / wide) * wide;
}

/** Bytes of what a layer's bias becomes where it does not lie as it is added. */
function bytesOfBias(layer: Layer, cols: number): number {
  const { bias } = layer;
  if (bias === null) return 0;
  const isCast = bias.dtype !== logitsDType(layer) && bias.dtype !== 'float32';
  const stride = logitsStride(layer, cols);
  return (isCast ? 4 * cols : 0) + (stride > cols ? stride * (isCast ? 4 : bytesPerElement(bias.dtype)) : 0);
}

/** Bytes of the float32 sums of the bias's gradient. */
export function sumsOfBias({ bias }: Layer, cols: number): number {
  return bias !== null && isHalf(bias.dtype) ? 4 * cols : 0;
}

/** float64 goes with float64; other floating dtypes go with each other. */
function checkPrecision(name: string, tensor: Tensor, otherName: string, other: Tensor): void {
  if (tensor.dtype === 'float64' || other.dtype === 'float64') checkSameDType(action, name, tensor, otherName, other);
}

/** A call whose arguments were looked at. */
export interface Call {
  /** What gradients may be asked for. */
  operands: readonly Tensor[];
  student: Layer;
  target: KdTarget | Layer;
  /** kdLoss's alone, without labels. */
  options: KdLossOptions;
  labels: Int32Array | null;
  rows: number;
  cols: number;
  leading: readonly number[];
  /** The rows that count, where not all do. */
  kept: Int32Array | null;
  count: number;
  /** Bytes that a row of a chunk takes, the most there may be of them and of sums, and the most rows of a chunk. */
  perRow: number;
  scratch: number;
  longest: number;
  /** Elements from one row of the student's logits to the next. */
  stride: number;
  /** What the sum of the rows is divided by. */
  denominator: number;
  /** What the products are multiplied by: a half type's gradients are divided there, not where they might vanish. */
  scale: number;
}

export function isDivisor(value: number): boolean {
  return value > 0 && value < Infinity;
}

function checkLayer(name: string, hidden: unknown, weight: unknown, bias: unknown): Layer {
  const x = checkFloating(action, `${name}hidden`, hidden);
  const w = checkMatrix(action, `${name}weight`, weight);
  const { cols: inputs } = checkRows(action, `${name}hidden`, x);
  const operands: [string, Tensor][] = [[`${name}weight`, w]];
  if (bias !== undefined) operands.push([`${name}bias`, checkFloating(action, `${name}bias`, bias)]);
  for (const [what, operand] of operands) {
    checkPrecision(what, operand, `${name}hidden`, x);
    checkSameDevice(action, what, operand, `${name}hidden`, x);
  }
  if (w.shape[1] !== inputs || w.shape[0]! < 1)
    throw valueError(
      action,
      `${name}weight must have shape [cols, ${inputs}] for ${name}hidden ${shapeText(x.shape)}`,
      phrase(`it has ${shapeText(w.shape)}`),
    );
  if (bias !== undefined) checkShapeIs(action, `${name}bias`, bias as Tensor, [w.shape[0]!], `like the rows of ${name}weight`);
  return { hidden: x, weight: w, bias: (bias as Tensor | undefined) ?? null };
}

function checkTeacherLayer(target: object, student: Tensor, rows: number, cols: number, isPadded: boolean): Layer {
  const { hidden, weight, bias } = checkOptions(action, target as LinearTeacher, teacherNames);
  const layer = checkLayer("the teacher's ", hidden, weight, bias);
  for (const each of [layer.hidden, layer.weight, layer.bias])
    if (each !== null) {
      checkConstant(action, 'the teacher', each);
      checkSameDevice(action, 'the teacher', each, 'hidden', student);
    }
  checkPrecision("the teacher's hidden", layer.hidden, 'hidden', student);
  checkRowCount(layer.hidden, student, rows);
  const width = layer.weight.shape[0]!;
  if (isPadded ? width < cols : width !== cols)
    throw valueError(action, `the teacher's weight must have ${cols} rows like weight`, phrase(`it has ${width}`));
  return layer;
}

function checkRowCount(teacher: Tensor, student: Tensor, rows: number): void {
  const { leading } = checkRows(action, 'the teacher', teacher);
  const own = student.shape.slice(0, -1);
  if (!sameShape(leading, own) && !sameShape(leading, [rows]))
    throw valueError(action, `the teacher must have the rows of hidden, shape ${shapeText(own)}`, phrase(`it has ${shapeText(leading)}`));
}

/** What holds for all rows; the rest is checked with the first chunk. */
function checkTarget(target: KdTarget, student: Tensor, rows: number, cols: number, isPadded: boolean): void {
  if (target instanceof SparseTarget) {
    const { indices } = target;
    checkLive(action, 'the target', indices);
    if (indices.shape[0] !== rows)
      throw valueError(action, `the target must have ${rows} rows like hidden`, phrase(`it has ${indices.shape[0]}`));
    return;
  }
  const given = target instanceof Tensor ? [target] : target instanceof DenseTarget ? [target.values] : [target.student, target.teacher];
  for (const teacher of given) {
    checkFloating(action, 'the teacher', teacher);
    checkConstant(action, 'the teacher', teacher);
    checkRowCount(teacher, student, rows);
    const width = teacher.shape[teacher.shape.length - 1]!;
    if (isPadded ? width < cols : width !== cols)
      throw valueError(
        action,
        `the teacher must have shape ${shapeText([rows, cols])} like student`,
        phrase(`it has ${shapeText(teacher.shape)}`),
      );
  }
}

/** The rows that are read, and what the sum of their losses is divided by. Labels and weights on a device are read back. */
function counted(
  labels: Int32Array | null,
  weights: ArrayLike<number> | null,
  rows: number,
  { ignoreIndex = -100, reduction = 'mean', denominator = 'rows' }: KdLossOptions,
): { kept: Int32Array | null; count: number; divisor: number } {
  let named = 0;
  let mass = 0;
  const kept = new Int32Array(rows);
  let count = 0;
  for (let r = 0; r < rows; r++) {
    if (labels?.[r] === ignoreIndex) continue;
    named++;
    mass += weights?.[r] ?? 1;
    if (weights?.[r] !== 0) kept[count++] = r;
  }
  const divisor = reduction !== 'mean' ? 1 : typeof denominator === 'number' ? denominator : denominator === 'weights' ? mass : named;
  // With nothing to divide by all is 0, whatever the rows hold.
  if (divisor === 0) count = 0;
  return { kept: count === rows ? null : kept.subarray(0, count), count, divisor };
}

const lastOf = ({ shape }: Tensor): number => shape[shape.length - 1]!;

/** Bytes that are made for each row of a chunk. */
function bytesPerRow(
  student: Layer,
  target: KdTarget | Layer,
  cols: number,
  stride: number,
  isGathered: boolean,
  { divergence }: SoftSettings,
): number {
  const size = bytesPerElement(logitsDType(student));
  // What is computed on: half types are widened.
  const wide = Math.max(size, 4);
  const rowOf = (x: Tensor): number => (x.size / x.shape.slice(0, -1).reduce((a, b) => a * b, 1)) * bytesPerElement(x.dtype);
  const gathered = (x: Tensor): number => (isGathered && x.size > 0 ? rowOf(x) : 0);
  // The logits, their hidden states where rows are picked out, labels and what else is a number for each row.
  let bytes = stride * size + gathered(student.hidden) + 64;
  if (divergenceEntry(divergence).byRow === true) bytes += adaptiveArrays * cols * wide;
  if (target instanceof SparseTarget) bytes += target.k * 12;
  else if (target instanceof InterpolatedTarget)
    bytes += gathered(target.student) + gathered(target.teacher) + (lastOf(target.student) === stride ? 0 : stride * size);
  else if (target instanceof Tensor) bytes += gathered(target);
  // To look at the masses of probabilities they are widened and raised.
  else if (target instanceof DenseTarget) bytes += gathered(target.values) + (target.kind === 'logits' ? 0 : 2 * cols * wide);
  else bytes += logitsStride(target, cols) * bytesPerElement(logitsDType(target)) + gathered(target.hidden);
  return bytes;
}

export function checkCall(hidden: Tensor, weight: Tensor, target: KdTarget | LinearTeacher, given: LinearKdLossOptions | undefined): Call {
  const { bias, scratchBytes, ...options } = checkOptions(action, given, optionNames);
  const own = checkLayer('', hidden, weight, bias);
  const { rows, leading } = checkRows(action, 'hidden', own.hidden);
  const width = own.weight.shape[0]!;
  const cols = options.cols === undefined ? width : checkWhole(action, 'cols', options.cols, 1, width);
  if (target === null || typeof target !== 'object' || Array.isArray(target) || ArrayBuffer.isView(target))
    throw kindError(
      action,
      'target must be { hidden, weight } of the teacher, a Tensor of its logits, or made by denseTarget, captureTopK, sampleTarget or sparseTarget',
      target,
    );
  const isDirect = isKdTarget(target);
  const soft = softSettings(
    action,
    options,
    !(target instanceof SparseTarget) ? 'dense' : target.logProbs === null ? 'sparse_weights' : 'sparse_log_probs',
  );
  checkLabelled(action, soft, options);
  rowLossSettings(action, options);
  if (isDirect) checkTarget(target, own.hidden, rows, cols, options.cols !== undefined);
  if (options.temperature !== undefined) checkTemperature(action, options.temperature, rows, leading, own.hidden);
  const weights =
    options.rowWeights === undefined ? null : hostCopy(checkRowWeights(action, options.rowWeights, own.hidden, rows, leading), action);
  const { labels: givenLabels } = options;
  // A copy: backward() may read them again.
  const labels =
    givenLabels === undefined
      ? null
      : givenLabels instanceof Tensor
        ? (hostCopy(checkLabelTensor(action, givenLabels, own.hidden, rows, leading), action) as Int32Array).slice()
        : labelArray(action, givenLabels, rows, leading).slice();
  const teacher = isDirect ? target : checkTeacherLayer(target, own.hidden, rows, cols, options.cols !== undefined);
  const { kept, count, divisor } = counted(labels, weights, rows, options);
  const stride = logitsStride(own, cols);
  const perRow = bytesPerRow(own, teacher, cols, stride, kept !== null, soft);
  // A half type's gradients over several chunks take a line of sums of the weight's, and all of the bias's.
  const sums = (isHalf(own.weight.dtype) ? 4 * own.weight.shape[1]! : 0) + sumsOfBias(own, cols);
  const fixed = bytesOfBias(own, cols) + (isDirect ? 0 : bytesOfBias(teacher as Layer, cols));
  const least = fixed + perRow + (count > 1 ? sums : 0);
  const isGiven = scratchBytes !== undefined;
  const scratch = isGiven
    ? checkWhole(action, 'scratchBytes', scratchBytes, 1)
    : Math.max(defaultScratch - (own.hidden.device === 'cpu' ? 0 : workspace), least);
  if (scratch < least) throw valueError(action, `scratchBytes must hold what one row needs, ${least} bytes`, scratch);
  return {
    operands: own.bias === null ? [own.hidden, own.weight] : [own.hidden, own.weight, own.bias],
    student: own,
    target: teacher,
    options: { ...options, labels: undefined },
    labels,
    rows,
    cols,
    leading,
    kept,
    count,
    perRow,
    scratch: scratch - fixed,
    // On the CPU longer chunks gain nothing and shorter ones read the weights too often.
    longest: own.hidden.device === 'cpu' && !isGiven ? stepRows : Infinity,
    stride,
    denominator: divisor,
    scale: isHalf(logitsDType(own)) && isDivisor(divisor) ? 1 / divisor : 1,
  };
}
