/**
 * Tensors, targets, losses and training. Everything public is named here.
 *
 * @module limbeck
 */
export {
  tensor,
  zeros,
  ones,
  full,
  arange,
  randn,
  rand,
  Tensor,
  type TensorOptions,
  type FillOptions,
  type RandomOptions,
  type NestedNumbers,
} from './tensor.js';
export { noGrad, tidy } from './autograd.js';
export type { DType, TypedArray } from './dtypes.js';
export { LimbeckError, type ErrorCode } from './errors.js';
export { devices, info, memory, setDevice, setThreads, synchronize, trim } from './device.js';
export type { Device, DeviceChoice, DeviceInfo, Info, MemoryInfo } from './device.js';
export * from './ops/index.js';
export * from './targets/index.js';
export * from './cache/index.js';
export * from './losses/index.js';
export { readSafetensors, writeSafetensors, type SafetensorsFile, type StoredTensor } from './safetensors.js';
export * as nn from './nn/index.js';
export * as optim from './optim/index.js';
export * as prune from './prune/index.js';
export * as text from './text/index.js';
export * as distill from './distill/index.js';
export * as raw from './raw.js';
