// The few in-place operations the engine itself needs, outside the graph.
import { arrayOf, encode } from './dtypes.js';
import { valueError } from './errors.js';
import { attempt, findCode, kernel } from './native.js';
import { handleOf, stateOf, type Tensor } from './tensor.js';

const fillKernel = kernel('fill', 'fill a tensor');
const binaryKernel = kernel('binary', 'add gradients');

/** Sets every element. */
export function fill(out: Tensor, value: number, action: string): void {
  const { array } = stateOf(out).storage!;
  if (array !== null) {
    // Integers and bits are converted by the same rule as cast().
    array.fill(stored(out, value, action));
    return;
  }
  if (out.dtype === 'float32' || out.dtype === 'int32') {
    fillKernel(handleOf(out, action), out.size, stored(out, value, action));
    return;
  }
  const host = new arrayOf[out.dtype](out.size).fill(stored(out, value, action));
  attempt(action, (addon) => addon.upload(stateOf(out).storage!.buffer!, host));
}

function stored(out: Tensor, value: number, action: string): number {
  const bits = encode(out.dtype, value);
  if (bits === undefined) throw valueError(action, `value must fit ${out.dtype}`, value);
  return bits;
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
