// Targets of the contract whose kernels do not exist yet: each says so.
import { notAvailable } from '../errors.js';
import type { Tensor } from '../tensor.js';
import type { DenseTarget, SparseTarget } from './target.js';

/** Options of {@link sampleTarget}. */
export interface SampleOptions {
  temperature?: number | Tensor;
  method?: 'with_replacement' | 'race' | 'head_tail';
  seed?: number;
  rowOffset?: number;
}

/** Unbiased sampled targets. @throws LimbeckError `not_available` */
export function sampleTarget(_teacherLogits: Tensor, _draws: number, _options?: SampleOptions): SparseTarget {
  throw notAvailable('sample a target', 'sampleTarget');
}

/** A mixture of several teachers' targets. @throws LimbeckError `not_available` */
export function mixTargets(_parts: readonly { target: DenseTarget | SparseTarget; weight: number | Tensor }[]): DenseTarget | SparseTarget {
  throw notAvailable('mix targets', 'mixTargets');
}

/** The interpolated target of TAID. @throws LimbeckError `not_available` */
export function interpolateTarget(_student: Tensor, _teacher: Tensor, _options: { t: number }): DenseTarget {
  throw notAvailable('interpolate a target', 'interpolateTarget');
}
