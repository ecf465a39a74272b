// A temperature for all rows or for each: how every function that takes one reads it.
import { checkConstant, checkDType, checkLive, checkPositive, checkSameDevice, sameShape } from '../check.js';
import { kindError, phrase, shapeText, valueError } from '../errors.js';
import { stateOf, Tensor } from '../tensor.js';

export interface Temperatures {
  /** 1 where each row has its own. */
  temperature: number;
  rowTemperature: Tensor | null;
}

/** @param x the tensor whose rows it is for */
export function checkTemperature(action: string, value: unknown, rows: number, leading: readonly number[], x: Tensor): Temperatures {
  if (!(value instanceof Tensor)) {
    if (typeof value !== 'number') throw kindError(action, 'temperature must be a number or a Tensor with one for each row', value);
    return { temperature: checkPositive(action, 'temperature', value), rowTemperature: null };
  }
  checkLive(action, 'temperature', value);
  checkConstant(action, 'temperature', value);
  checkDType(action, 'temperature', value, 'float32');
  checkSameDevice(action, 'temperature', value, 'the logits', x);
  if (!sameShape(value.shape, [rows]) && !sameShape(value.shape, leading)) {
    throw valueError(action, `temperature must have shape [${rows}], one for each row`, phrase(`it has ${shapeText(value.shape)}`));
  }
  // On a device the values are not read here; the kernel gives such a row NaN.
  const { array } = stateOf(value).storage!;
  if (array !== null) checkTemperatures(action, array);
  return { temperature: 1, rowTemperature: value };
}

export function checkTemperatures(action: string, values: ArrayLike<number>): void {
  for (let r = 0; r < values.length; r++) {
    const value = values[r]!;
    if (!(value > 0 && value < Infinity))
      throw valueError(action, 'temperature must be positive and finite in each row', phrase(`it is ${value} in row ${r}`));
  }
}
