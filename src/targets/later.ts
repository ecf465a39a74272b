// Targets of the contract whose kernels do not exist yet: each says so.
import { notAvailable } from '../errors.js';
import type { Tensor } from '../tensor.js';
import type { DenseTarget } from './target.js';

/** The interpolated target of TAID. @throws LimbeckError `not_available` */
export function interpolateTarget(_student: Tensor, _teacher: Tensor, _options: { t: number }): DenseTarget {
  throw notAvailable('interpolate a target', 'interpolateTarget');
}
