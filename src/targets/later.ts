// Targets of the contract whose kernels do not exist yet: each says so.
import { notAvailable } from '../errors.js';
import type { Tensor } from '../tensor.js';
import type { DenseTarget, SparseTarget } from './target.js';

/** A mixture of several teachers' targets. @throws LimbeckError `not_available` */
export function mixTargets(_parts: readonly { target: DenseTarget | SparseTarget; weight: number | Tensor }[]): DenseTarget | SparseTarget {
  throw notAvailable('mix targets', 'mixTargets');
}
