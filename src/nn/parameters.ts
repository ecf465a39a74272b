// How parameters begin: tensors that outlive every tidy(), filled from a seed.
import { keep } from '../autograd.js';
import type { Device } from '../device.js';
import { fillNormal, fillUniform } from '../random.js';
import { tensor, type Tensor } from '../tensor.js';

function parameter(values: Float32Array, shape: readonly number[], device: Device | undefined): Tensor {
  return keep(tensor(values, { shape, device, requiresGrad: true }));
}

const sizeOf = (shape: readonly number[]): number => shape.reduce((product, extent) => product * extent, 1);

/** U(−bound, bound). */
export function uniformParameter(shape: readonly number[], bound: number, seed: number, device: Device | undefined): Tensor {
  const values = new Float32Array(sizeOf(shape));
  fillUniform(values, seed);
  for (let i = 0; i < values.length; i++) values[i] = (2 * values[i]! - 1) * bound;
  return parameter(values, shape, device);
}

/** N(0, deviation²). */
export function normalParameter(shape: readonly number[], deviation: number, seed: number, device: Device | undefined): Tensor {
  const values = new Float32Array(sizeOf(shape));
  fillNormal(values, seed);
  for (let i = 0; i < values.length; i++) values[i]! *= deviation;
  return parameter(values, shape, device);
}

/** The same number everywhere. */
export function constantParameter(shape: readonly number[], value: number, device: Device | undefined): Tensor {
  return parameter(new Float32Array(sizeOf(shape)).fill(value), shape, device);
}
