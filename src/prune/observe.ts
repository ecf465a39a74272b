// Looks at what goes into and out of the modules of a model while it runs, without changing the model.
import { noGrad, tidy } from '../autograd.js';
import type { Module } from '../nn/index.js';
import { hostCopy, type Tensor } from '../tensor.js';

/** Called with what a module was given and what it gave back. */
export type Observer = (input: Tensor, output: Tensor) => void;

/** Runs `run` while each module of `watched` tells its observer of every call. */
export function observing<T>(watched: ReadonlyMap<Module, Observer>, run: () => T): T {
  try {
    for (const [module, observer] of watched) {
      // An own property stands before the method of the class, and goes away again.
      module.forward = function (this: Module, ...given: [Tensor]) {
        const output = (Object.getPrototypeOf(this) as Module).forward.apply(this, given);
        observer(given[0], output);
        return output;
      };
    }
    return run();
  } finally {
    for (const module of watched.keys()) delete (module as { forward?: unknown }).forward;
  }
}

/** Runs `run` on every batch in evaluation mode, keeping nothing of it. Gives the number of batches back. */
export function overBatches<B>(model: Module, batches: Iterable<B>, run: (batch: B) => void, gradients = false): number {
  const wasTraining = model.training;
  let count = 0;
  model.eval();
  try {
    for (const batch of batches) {
      tidy(() => (gradients ? run(batch) : noGrad(() => run(batch))));
      count++;
    }
  } finally {
    model.train(wasTraining);
  }
  return count;
}

/** The elements as numbers on the host. */
export function numbersOf(tensor: Tensor): Float32Array {
  return hostCopy(tensor.dtype === 'float32' ? tensor : tensor.cast('float32'), 'prune') as Float32Array;
}
