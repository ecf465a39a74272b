// Builds and measures the models of a recipe.
import { noGrad, tidy } from '../autograd.js';
import type { Device } from '../device.js';
import { Dropout, Linear, ReLU, Sequential, type Module } from '../nn/index.js';
import { deriveSeed } from '../nn/seed.js';
import { gatherRows } from '../ops/index.js';
import { hostCopy, tensor, type Tensor } from '../tensor.js';
import { magnitudeMasks } from '../prune/masks.js';
import type { MlpSpec } from './recipe.js';

/** A perceptron; the same spec, sizes and seed give the same weights. */
export function buildModel(spec: Omit<MlpSpec, 'kind'>, inputs: number, classes: number, seed: number, device: Device): Sequential {
  const layers: Module[] = [];
  const dropout = (probability: number) => {
    if (probability > 0) layers.push(new Dropout(probability, { seed: deriveSeed(seed, 'dropout', layers.length) }));
  };
  dropout(spec.inputDropout);
  let width = inputs;
  spec.hidden.forEach((next, i) => {
    layers.push(new Linear(width, next, { seed: deriveSeed(seed, 'linear', i), device }), new ReLU());
    dropout(spec.dropout);
    width = next;
  });
  layers.push(new Linear(width, classes, { seed: deriveSeed(seed, 'linear', spec.hidden.length), device }));
  return new Sequential(...layers);
}

const EVALUATION_ROWS = 1000;

/** Logits of all rows as [rows, cols] numbers, in evaluation mode. */
export function allLogits(model: Module, x: Tensor, cols: number): Float32Array {
  const rows = x.shape[0]!;
  const logits = new Float32Array(rows * cols);
  const wasTraining = model.training;
  model.eval();
  for (let from = 0; from < rows; from += EVALUATION_ROWS) {
    tidy(() =>
      noGrad(() =>
        logits.set(
          hostCopy(model.forward(rowsFrom(x, from, Math.min(EVALUATION_ROWS, rows - from))), 'evaluate') as Float32Array,
          from * cols,
        ),
      ),
    );
  }
  model.train(wasTraining);
  return logits;
}

/** Consecutive rows as a tensor. */
export function rowsFrom(x: Tensor, from: number, count: number): Tensor {
  const indices = Int32Array.from({ length: count }, (_, i) => from + i);
  return gatherRows(x, tensor(indices, { device: x.device }));
}

/** The weights that pruning acts on: matrices, not biases. */
export function prunable(model: Module): [string, Tensor][] {
  return [...model.namedParameters()].filter(([, parameter]) => parameter.shape.length === 2);
}

/** Masks by parameter name that leave the largest weights. */
export function pruningMasks(
  model: Module,
  sparsity: number,
  earlier: ReadonlyMap<string, Float32Array> | null,
): Map<string, Float32Array> {
  const weights = prunable(model);
  const values = weights.map(([, parameter]) => hostCopy(parameter, 'prune') as Float32Array);
  const masks = magnitudeMasks(values, sparsity, earlier ? weights.map(([name]) => earlier.get(name)!) : undefined);
  return new Map(weights.map(([name], i) => [name, masks[i]!]));
}

/** How many numbers a model has, how many are not zero, and which share of its weights is. */
export function countZeros(model: Module): { parameters: number; nonZero: number; sparsity: number } {
  let parameters = 0;
  let nonZero = 0;
  let weights = 0;
  let zeroWeights = 0;
  for (const [, parameter] of model.namedParameters()) {
    let zeros = 0;
    for (const value of hostCopy(parameter, 'count zeros')) if (value === 0) zeros++;
    parameters += parameter.size;
    nonZero += parameter.size - zeros;
    if (parameter.shape.length === 2) {
      weights += parameter.size;
      zeroWeights += zeros;
    }
  }
  return { parameters, nonZero, sparsity: weights > 0 ? zeroWeights / weights : 0 };
}
