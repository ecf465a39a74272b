// What the losses made of operations share: their options, which rows count, and how the rows' losses become one.
import { noGrad, record, tidy } from '../autograd.js';
import { checkComputed, checkConstant, checkRows, checkSameDevice, checkSameDType, checkTensor, sameShape, type RowsOf } from '../check.js';
import { kindError, phrase, shapeText, valueError } from '../errors.js';
import { applyBinary, isLess, mul, silenced, sub } from '../ops/binary.js';
import { applyReduce, sum } from '../ops/reduce.js';
import { abs, addScalar, scale } from '../ops/unary.js';
import { fromArray, hostCopy, ordinalOf, Tensor, uniformLike, view } from '../tensor.js';
import { checkLabels, checkLabelTensor, checkRowWeights, labelArray, type LabelNumbers } from './labels.js';
import { rowLossSettings, type Denominator, type Reduction } from './settings.js';

/** Options of every loss that gives one number for each row. */
export interface ComposedLossOptions {
  /** Default 'mean'. */
  reduction?: Reduction;
  /** What 'mean' divides by: rows that are not ignored (the default), the sum of their weights, or a number. */
  denominator?: Denominator;
  /** float32 Tensor [rows]; a row of weight 0 is exactly 0, whatever it holds. */
  rowWeights?: Tensor;
}

/** Options of the losses that also take labels. */
export interface LabelledLossOptions extends ComposedLossOptions {
  /** Rows with this label are dropped: exactly 0. Default −100. */
  ignoreIndex?: number;
}

export const composedNames = ['reduction', 'denominator', 'rowWeights'] as const;
export const labelledNames = [...composedNames, 'ignoreIndex'] as const;

/** A student's rows, and what they are called in messages. */
export interface Rows extends RowsOf {
  tensor: Tensor;
}

export function checkRowsOf(action: string, name: string, value: unknown, leastCols = 1): Rows {
  const tensor = checkComputed(action, name, value);
  return { tensor, ...checkRows(action, name, tensor, leastCols) };
}

/** A constant of the student's shape, dtype and device, as [rows, cols] without history. */
export function checkTeacher(action: string, value: unknown, { tensor, rows, cols, leading }: Rows, name = 'the teacher'): Tensor {
  const teacher = checkTensor(action, name, value);
  checkConstant(action, name, teacher);
  checkSameDType(action, name, teacher, 'student', tensor);
  checkSameDevice(action, name, teacher, 'student', tensor);
  if (!sameShape(teacher.shape, [...leading, cols]) && !sameShape(teacher.shape, [rows, cols]))
    throw valueError(
      action,
      `${name} must have shape ${shapeText(tensor.shape)} like student`,
      phrase(`it has ${shapeText(teacher.shape)}`),
    );
  return view(teacher, [rows, cols]);
}

/** The rows' labels, and which rows count. */
export interface Labelled {
  /** int32 [rows, 1]; column 0 for rows that do not count. */
  columns: Tensor;
  /** [rows]: 0 for ignored rows; null where all count. */
  keep: Tensor | null;
  /** Rows that are not ignored. */
  kept: number;
}

/** Labels on a device are read back: which rows count decides the denominator. */
export function checkLabelled(action: string, labels: unknown, student: Rows, options: LabelledLossOptions): Labelled {
  const { tensor, rows, cols, leading } = student;
  if (labels === undefined) throw kindError(action, 'labels must be given', labels);
  const given =
    labels instanceof Tensor
      ? hostCopy(checkLabelTensor(action, labels, tensor, rows, leading), action)
      : labelArray(action, labels as LabelNumbers, rows, leading);
  const ignored = options.ignoreIndex ?? -100;
  const columns = Int32Array.from(given);
  const keep = new Float32Array(rows).fill(1);
  let kept = rows;
  let isWrong = false;
  columns.forEach((label, r) => {
    if (label === ignored) {
      columns[r] = 0;
      keep[r] = 0;
      kept--;
    } else if (label < 0 || label >= cols) isWrong = true;
  });
  if (isWrong) {
    // The label of a row of weight 0 is not looked at.
    const weights = options.rowWeights instanceof Tensor ? hostCopy(options.rowWeights, action) : null;
    columns.forEach((label, r) => {
      if ((label < 0 || label >= cols) && weights?.[r] === 0) columns[r] = 0;
    });
    checkLabels(action, columns, cols, {});
  }
  const ordinal = ordinalOf(tensor, action);
  return {
    columns: fromArray(columns, 'int32', [rows, 1], ordinal, action),
    keep: kept === rows ? null : fromArray(keep, 'float32', [rows], ordinal, action).cast(tensor.dtype),
    kept,
  };
}

// Half the smallest positive float32 would be 0: only 0 itself is below the smallest.
const smallest = 2 ** -149;

/** 1 where x is not 0 (NaN included), else 0; a constant. */
export function isNotZero(action: string, x: Tensor): Tensor {
  const magnitude = abs(x.detach());
  return addScalar(scale(isLess(magnitude, uniformLike(magnitude, smallest, action, [])), -1), 1);
}

/** [rows]: 0, or NaN for a row with NaN, +∞ or only −∞; a constant. What a loss that does not read all of a row adds. */
export function faultOf(action: string, x: Tensor, rows: number, cols: number): Tensor {
  const max = applyReduce(action, 'max', x, rows, cols, 1, [rows]);
  return sub(max, max);
}

/** The student's rows for a composition, and what to multiply their gradient by once the losses are known. */
interface Guard {
  rows: Tensor;
  close(factor: Tensor): void;
}

/**
 * A view whose gradient is exactly 0 for rows that do not count and NaN for rows whose loss is not finite, whatever the composition
 * behind it made of them.
 */
function guarded(action: string, { tensor, rows, cols }: Rows): Guard {
  let factor: Tensor | null = null;
  const saved: Tensor[] = [];
  const out = record(
    'rowLoss',
    view(tensor, [rows, cols]),
    [tensor],
    (gradient) => {
      const plan = { rows, cols, how: 'column' } as const;
      return [view(factor === null ? gradient : applyBinary(action, 'mul0', gradient, factor, plan), tensor.shape)];
    },
    saved,
  );
  return {
    rows: out,
    close(given) {
      factor = given;
      saved.push(given);
    },
  };
}

/** Runs the part of a composition that has no gradient, and keeps only its result. */
export function constants<T>(fn: () => T): T {
  return tidy(() => noGrad(fn));
}

/** What the rows of a composition are given besides the student. */
export interface Counting {
  /** [rows]: the weight of each row, 0 for ignored ones; null where all are 1. */
  weights: Tensor | null;
}

/**
 * Runs a composition from the student's rows [rows, cols] to their losses [rows] and reduces those as kdLoss does: rows that do
 * not count are exactly 0 in loss and gradient; rows whose loss is NaN or infinite have a NaN gradient and touch no other row. The
 * caller has a tidy() around it.
 */
export function composeRowLoss(
  action: string,
  student: Rows,
  options: ComposedLossOptions,
  labelled: Labelled | null,
  compose: (student: Tensor, counting: Counting) => Tensor,
): Tensor {
  const { tensor, rows, leading } = student;
  const { reduction } = rowLossSettings(action, options);
  const { denominator = 'rows', rowWeights } = options;
  const given = rowWeights === undefined ? null : checkRowWeights(action, rowWeights, tensor, rows, leading);
  const own = given === null ? null : view(given, [rows]).cast(tensor.dtype);
  const keep = labelled?.keep ?? null;
  const weights = own === null ? keep : keep === null ? own : silenced(own, keep);
  const guard = guarded(action, student);
  const losses = compose(guard.rows, { weights });
  const constant = losses.detach();
  const finite = addScalar(sub(constant, constant), 1);
  if (weights === null) guard.close(finite);
  else {
    // A weight that is not finite spoils its row, too.
    const sound = sub(weights, weights);
    guard.close(silenced(mul(finite, addScalar(sound, 1)), isNotZero(action, weights)));
  }
  const weighted = weights === null ? losses : silenced(losses, weights);
  if (reduction === 'none') return weighted.reshape(leading);
  const total = sum(weighted);
  if (reduction === 'sum') return total;
  const kept = labelled?.kept ?? rows;
  if (typeof denominator === 'number') return scale(total, 1 / denominator);
  if (denominator === 'rows' || weights === null) return scale(total, kept === 0 ? 0 : 1 / kept);
  const mass = sum(weights);
  return mul(total, silenced(divided(action, mass), isNotZero(action, mass)));
}

function divided(action: string, mass: Tensor): Tensor {
  return applyBinary(action, 'div', uniformLike(mass, 1, action), mass, { rows: 1, cols: 1, how: 'same' });
}
