// Random logits, float64 sums and gradients by hand, which the probes share.
import { tidy } from '../../autograd.js';
import type { Device } from '../../device.js';
import type { DType } from '../../dtypes.js';
import { fillNormal } from '../../random.js';
import { hostCopy, tensor, type Tensor } from '../../tensor.js';

/** Normal numbers times a spread, as float32 rounds them. */
export function normals(count: number, seed: number, spread = 1): Float32Array {
  const values = new Float32Array(count);
  fillNormal(values, seed);
  return values.map((value) => value * spread);
}

/** Softmax of rows at a temperature, in float64. */
export function softmaxOf(logits: ArrayLike<number>, cols: number, temperature = 1): Float64Array {
  const out = new Float64Array(logits.length);
  for (let start = 0; start < logits.length; start += cols) {
    let most = -Infinity;
    for (let c = 0; c < cols; c++) most = Math.max(most, logits[start + c]!);
    let sum = 0;
    for (let c = 0; c < cols; c++) sum += out[start + c] = Math.exp((logits[start + c]! - most) / temperature);
    for (let c = 0; c < cols; c++) out[start + c]! /= sum;
  }
  return out;
}

/** KL(p‖q) of two rows of probabilities, in nats. */
export function klOf(p: ArrayLike<number>, q: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < p.length; i++) if (p[i]! > 0) sum += p[i]! * Math.log(p[i]! / q[i]!);
  return sum;
}

/** Entropy in nats. */
export function entropyOf(p: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < p.length; i++) if (p[i]! > 0) sum -= p[i]! * Math.log(p[i]!);
  return sum;
}

export function norm(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]! ** 2;
  return Math.sqrt(sum);
}

/** The largest |a − b|; NaN where one is. */
export function largestGap(a: ArrayLike<number>, b: ArrayLike<number> | number): number {
  let most = 0;
  for (let i = 0; i < a.length; i++) {
    const gap = Math.abs(a[i]! - (typeof b === 'number' ? b : b[i]!));
    if (!(gap <= most)) most = gap;
  }
  return most;
}

export function mean(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]!;
  return sum / values.length;
}

/** A row out of many. */
export function rowOf(values: Float64Array, row: number, cols: number): Float64Array {
  return values.subarray(row * cols, (row + 1) * cols);
}

/** Numbers as a tensor [rows, cols] of any floating type. */
export function asTensor(values: ArrayLike<number>, cols: number, device: Device, dtype: DType = 'float32'): Tensor {
  const shape = [values.length / cols, cols];
  if (dtype === 'float64') return tensor(Float64Array.from(values), { shape, dtype, device });
  const whole = tensor(Float32Array.from(values), { shape, device });
  return dtype === 'float32' ? whole : whole.cast(dtype);
}

/** A tensor's numbers, half types widened. */
export function numbersOf(x: Tensor): Float64Array {
  const wide = x.dtype === 'float16' || x.dtype === 'bfloat16' ? x.cast('float32') : x;
  return Float64Array.from(hostCopy(wide, 'read numbers') as ArrayLike<number>);
}

/** A loss and its gradient by the student's logits, as numbers. */
export function lossAndGradient(student: Tensor, loss: (student: Tensor) => Tensor): { loss: number; gradient: Float64Array } {
  return tidy(() => {
    const own = student.clone();
    own.requiresGrad = true;
    const value = loss(own);
    value.backward();
    return { loss: value.item(), gradient: numbersOf(own.grad!) };
  });
}

/** The widest type a device computes in. */
export function widest(device: Device): 'float64' | 'float32' {
  return device === 'cpu' ? 'float64' : 'float32';
}
