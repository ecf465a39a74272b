// The few in-place operations the engine itself needs, outside the graph.
import { bytesPerElement } from './dtypes.js';
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

/** Copies lines of `width` elements from one matrix into another of its dtype and device; strides are elements from line to line. */
export function copyLines(
  out: Tensor,
  from: Tensor,
  { lines, width, strideOut, strideFrom }: { lines: number; width: number; strideOut: number; strideFrom: number },
  action: string,
): void {
  handleOf(out, action);
  handleOf(from, action);
  const [to, source] = [stateOf(out).storage!, stateOf(from).storage!];
  if (to.array === null) {
    const bytes = bytesPerElement(out.dtype);
    attempt(action, (addon) => addon.copyLines(to.buffer!, source.buffer!, lines, width * bytes, strideOut * bytes, strideFrom * bytes));
    return;
  }
  for (let line = 0; line < lines; line++)
    to.array.set(source.array!.subarray(line * strideFrom, line * strideFrom + width), line * strideOut);
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
