// The few in-place operations the engine itself needs, outside the graph.
import { attempt, findCode, kernel } from './native.js';
import { fillStorage } from './storage.js';
import { handleOf, stateOf, type Tensor } from './tensor.js';

const binaryKernel = kernel('binary', 'add gradients');

/** Sets every element. */
export function fill(out: Tensor, value: number, action: string): void {
  fillStorage(stateOf(out).storage!, value, action);
}

/** Copies elements between tensors of one dtype, size and device. */
export function copyInto(out: Tensor, from: Tensor, action: string): void {
  const to = stateOf(out).storage!;
  handleOf(from, action);
  const source = stateOf(from).storage!;
  if (to.array !== null) to.array.set(source.array!);
  else attempt(action, (addon) => addon.copy(to.buffer!, source.buffer!));
}

/** out = a + b, where out may be a or b. */
export function addInto(out: Tensor, a: Tensor, b: Tensor): void {
  const action = 'add gradients';
  binaryKernel(
    handleOf(a, action),
    handleOf(b, action),
    handleOf(out, action),
    1,
    out.size,
    findCode('binary', 'add'),
    findCode('broadcast', 'same'),
  );
}
