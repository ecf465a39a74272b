// What losses without memory share.
import type { Tensor } from '../../tensor.js';
import type { StageBatch, StageLoss, StudentOutput } from './types.js';

/** A loss that remembers nothing. */
export function memoryless(of: (student: StudentOutput, batch: StageBatch) => Tensor): StageLoss {
  return {
    of,
    parameters: () => [],
    state: () => ({}),
    restore: () => undefined,
    words: () => ({}),
    restoreWords: () => undefined,
    numbers: () => ({}),
    dispose: () => undefined,
  };
}
