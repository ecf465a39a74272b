// What comes one for each row: hard labels in all their forms, as int32, and weights.
import { checkConstant, checkDType, checkLive, checkSameDevice, sameShape } from '../check.js';
import { kindError, phrase, shapeText, valueError } from '../errors.js';
import { Tensor } from '../tensor.js';

/** One label for each row: int32, 64-bit integers or numbers; nested as the student's leading shape is. */
export type LabelNumbers = Int32Array | BigInt64Array | number | readonly LabelNumbers[];

/** Labels as an Int32Array; one that already is comes back as it is. */
export function labelArray(action: string, labels: unknown, rows: number, leading: readonly number[]): Int32Array {
  let array: Int32Array;
  if (labels instanceof Int32Array) array = labels;
  else if (labels instanceof BigInt64Array) array = fromBig(action, labels);
  else if (Array.isArray(labels) || (typeof labels === 'number' && leading.length === 0)) array = fromNumbers(action, labels);
  else throw kindError(action, 'labels must be an int32 Tensor, an Int32Array, a BigInt64Array or numbers', labels);
  if (array.length !== rows)
    throw valueError(action, `labels must have shape [${rows}], one for each row`, phrase(`there are ${array.length}`));
  return array;
}

function fromBig(action: string, labels: BigInt64Array): Int32Array {
  const array = new Int32Array(labels.length);
  for (let r = 0; r < array.length; r++) {
    const label = labels[r]!;
    array[r] = Number(BigInt.asIntN(32, label));
    if (BigInt(array[r]!) !== label) throw valueError(action, 'labels must fit int32', phrase(`label ${r} is ${label}`));
  }
  return array;
}

function fromNumbers(action: string, labels: unknown): Int32Array {
  const flat: number[] = [];
  const visit = (value: unknown, depth: number): void => {
    if (Array.isArray(value)) {
      if (depth > 32) throw valueError(action, 'labels must be nested at most 32 deep', phrase('they are deeper'));
      for (const each of value) visit(each, depth + 1);
      return;
    }
    if (typeof value !== 'number') throw kindError(action, 'labels must be numbers', value);
    if ((value | 0) !== value)
      throw valueError(action, 'labels must be whole numbers that fit int32', phrase(`label ${flat.length} is ${value}`));
    flat.push(value);
  };
  visit(labels, 0);
  return Int32Array.from(flat);
}

/** @throws RangeError for a label outside [0, cols) that has no meaning of its own */
export function checkLabels(
  action: string,
  labels: Int32Array,
  cols: number,
  special: { ignoreIndex?: number; unlabelledIndex?: number },
): void {
  const { ignoreIndex = -100, unlabelledIndex } = special;
  const wrong = labels.findIndex((label) => (label < 0 || label >= cols) && label !== ignoreIndex && label !== unlabelledIndex);
  if (wrong >= 0) throw valueError(action, `labels must be in [0, ${cols})`, phrase(`label ${wrong} is ${labels[wrong]}`));
}

/** [rows], or the shape the rows were flattened from. */
export function checkPerRow(action: string, name: string, shape: readonly number[], rows: number, leading: readonly number[]): void {
  if (!sameShape(shape, [rows]) && !sameShape(shape, leading)) {
    throw valueError(action, `${name} must have shape [${rows}], one for each row`, phrase(`it has ${shapeText(shape)}`));
  }
}

/** Row weights: a constant float32 Tensor on the student's device, one for each row. */
export function checkRowWeights(action: string, weights: unknown, student: Tensor, rows: number, leading: readonly number[]): Tensor {
  if (!(weights instanceof Tensor)) throw kindError(action, 'rowWeights must be a Tensor', weights);
  checkLive(action, 'rowWeights', weights);
  checkConstant(action, 'rowWeights', weights);
  checkDType(action, 'rowWeights', weights, 'float32');
  checkSameDevice(action, 'rowWeights', weights, 'student', student);
  checkPerRow(action, 'rowWeights', weights.shape, rows, leading);
  return weights;
}

/** Labels in an int32 Tensor on the student's device, one for each row. */
export function checkLabelTensor(action: string, labels: Tensor, student: Tensor, rows: number, leading: readonly number[]): Tensor {
  checkLive(action, 'labels', labels);
  checkDType(action, 'labels', labels, 'int32');
  checkSameDevice(action, 'labels', labels, 'student', student);
  checkPerRow(action, 'labels', labels.shape, rows, leading);
  return labels;
}
