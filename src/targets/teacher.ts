// What target builders read of a teacher: its rows, and its probabilities or log-probabilities as a tensor of the builder's own.
import { checkComputed, checkConstant, checkRows, checkSameDevice, checkSameDType, type RowsOf } from '../check.js';
import { kindError, phrase, shapeText, valueError } from '../errors.js';
import { massError, wrongRows } from '../losses/masses.js';
import { applyBinary } from '../ops/binary.js';
import { logSoftmax, softmax } from '../ops/softmax.js';
import { applyUnary } from '../ops/unary.js';
import { cloned, Tensor } from '../tensor.js';
import { DenseTarget, type DenseKind } from './target.js';

/** A teacher's whole rows. */
export interface TeacherRows extends RowsOf {
  target: DenseTarget;
  values: Tensor;
  kind: DenseKind;
}

/** A dense target, or a Tensor of logits. */
export function checkTeacher(action: string, name: string, value: unknown): TeacherRows {
  if (!(value instanceof DenseTarget) && !(value instanceof Tensor))
    throw kindError(action, `${name} must be a dense target or a Tensor of logits`, value);
  const values = checkComputed(action, name, value instanceof Tensor ? value : value.values);
  checkConstant(action, name, values);
  const target = value instanceof Tensor ? new DenseTarget('logits', values) : value;
  return { target, values, kind: target.kind, ...checkRows(action, name, values, 1) };
}

/** Another teacher of the same rows. */
export function checkAlike(action: string, name: string, teacher: TeacherRows, otherName: string, other: TeacherRows): void {
  checkSameDType(action, name, teacher.values, otherName, other.values);
  checkSameDevice(action, name, teacher.values, otherName, other.values);
  if (teacher.rows !== other.rows || teacher.cols !== other.cols)
    throw valueError(
      action,
      `${name} must have shape ${shapeText(other.values.shape)} like ${otherName}`,
      phrase(`it has ${shapeText(teacher.values.shape)}`),
    );
}

/** Probabilities at temperature 1 in memory of the caller's own; those given are as given, with their mass. */
export function probabilitiesOf(action: string, { values, kind }: TeacherRows): Tensor {
  if (kind === 'logits') return softmax(values);
  return kind === 'probs' ? cloned(values, action) : applyUnary(action, 'exp', values);
}

/** Log-probabilities at a temperature in memory of the caller's own. At the number 1 those given are as given, with their mass. */
export function logProbabilitiesOf(action: string, { values, kind, target, cols }: TeacherRows, temperature: number | Tensor = 1): Tensor {
  if (kind === 'logits') return logSoftmax(values, { temperature });
  if (temperature === 1) return kind === 'probs' ? applyUnary(action, 'log', values) : cloned(values, action);
  const masses = target.masses(cols);
  const [wrong] = wrongRows(masses);
  if (wrong !== undefined) throw massError(action, masses[wrong]!, wrong);
  if (kind === 'log_probs') return logSoftmax(values, { temperature });
  const logs = applyUnary(action, 'log', values);
  const softened = logSoftmax(logs, { temperature });
  logs.dispose();
  return softened;
}

/** x · factor in place, where a factor of 0 silences NaN and infinities. */
export function timesRows(action: string, x: Tensor, factor: number | Tensor, rows: number, cols: number): void {
  if (typeof factor === 'number') {
    applyUnary(action, 'scale', x, factor, x);
    return;
  }
  const column = factor.cast(x.dtype);
  applyBinary(action, 'mul0', x, column, { rows, cols, how: 'column' }, x);
  column.dispose();
}
