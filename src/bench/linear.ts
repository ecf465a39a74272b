// The bench's line for linearKdLoss with a sparse target: hidden states in, gradients of hidden and weight out, and what it makes meanwhile.
import { tidy } from '../autograd.js';
import type { HalfType } from '../dtypes.js';
import { linearKdLossInto } from '../losses/linear_kd_loss.js';
import type { Handle } from '../native.js';
import { Storage, usageOf } from '../storage.js';
import { SparseTarget } from '../targets/target.js';
import { tensorOf, type Tensor } from '../tensor.js';
import type { Arena, BenchDType } from './arena.js';

export interface LinearShape {
  dtype: BenchDType;
  rows: number;
  cols: number;
  inputs: number;
  k: number;
}

/** What a call makes beside its results. */
export interface LinearMemory {
  /** At its peak: logits of a chunk and what else it takes. */
  scratchBytes: number;
}

/** Additions and multiplications of the three products. */
export function linearFlops({ rows, cols, inputs }: LinearShape): number {
  return 6 * rows * cols * inputs;
}

/** Operands and gradients: what any implementation reads once and writes once. */
export function linearBytes({ rows, cols, inputs, k }: LinearShape, width: number): number {
  return 2 * width * inputs * (rows + cols) + 8 * rows * k + 8 * rows;
}

function tensorOn(ordinal: number, memory: Handle, dtype: BenchDType | 'int32', shape: readonly number[]): Tensor {
  const size = shape.reduce((a, b) => a * b, 1);
  if ('free' in memory) return tensorOf(new Storage(dtype, size, ordinal, null, memory), shape);
  // An Int16Array stands for bfloat16 in the arena.
  const isBits = (dtype as HalfType) === 'bfloat16';
  const array = isBits ? new Uint16Array(memory.buffer, memory.byteOffset, memory.length) : (memory as Exclude<typeof memory, Int16Array>);
  const storage = new Storage(dtype, size, -1, array, null);
  storage.handedOut = true;
  return tensorOf(storage, shape);
}

/** A call on memory of the arena: the mean over rows, k entries of each row kept, the rest as a tail. */
export function linearCall(arena: Arena, ordinal: number, shape: LinearShape, temperature: number): () => void {
  const { dtype, rows, cols, inputs, k } = shape;
  const put = (memory: Handle, of: readonly number[], type: BenchDType | 'int32' = dtype): Tensor => tensorOn(ordinal, memory, type, of);
  const operand = (count: number, seed: number): Tensor => put(arena.logits(dtype, count * inputs, seed), [count, inputs]);
  const gradient = (count: number): Tensor => put(arena.zeros(dtype, count * inputs), [count, inputs]);
  const [hidden, weight, ofHidden, ofWeight] = [operand(rows, 8), operand(cols, 9), gradient(rows), gradient(cols)];
  // Evenly spread entries, other ones in each row, that hold nine tenths of the mass.
  const step = Math.floor(cols / k);
  const indices = Int32Array.from({ length: rows * k }, (_, i) => (i % k) * step + (Math.floor(i / k) % step));
  const target = new SparseTarget({
    indices: put(arena.copied('int32', indices), [rows, k], 'int32'),
    logProbs: put(arena.copied('float32', new Float32Array(rows * k).fill(Math.log(0.9 / k))), [rows, k], 'float32'),
    weights: null,
    tailLogMass: put(arena.copied('float32', new Float32Array(rows).fill(Math.log(0.1))), [rows], 'float32'),
    temperature,
    cols,
  });
  return () => tidy(() => void linearKdLossInto(hidden, weight, target, { residual: 'tail_bucket' }, [ofHidden, ofWeight]));
}

/** What a call makes, by the library's own count. */
export function linearMemory(ordinal: number, call: () => void): LinearMemory {
  const usage = usageOf(ordinal);
  const { bytes, peakBytes } = usage;
  usage.peakBytes = bytes;
  call();
  const scratchBytes = usage.peakBytes - bytes;
  usage.peakBytes = Math.max(peakBytes, usage.peakBytes);
  return { scratchBytes };
}
