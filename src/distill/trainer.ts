// Trains one model step by step, in a state that can be written down between any two steps.
import { tidy } from '../autograd.js';
import { phrase, valueError } from '../errors.js';
import { Dropout, type Module } from '../nn/index.js';
import { deriveSeed } from '../nn/seed.js';
import { AdamW, clipGradNorm, schedule, SGD, type Optimizer } from '../optim/index.js';
import { gatherRows } from '../ops/index.js';
import { shuffledOrder } from '../random.js';
import type { readSafetensors } from '../safetensors.js';
import { writeSafetensors, type StoredTensor } from '../safetensors.js';
import { tensor, type Tensor } from '../tensor.js';
import type { TrainingSpec } from './recipe.js';
import type { CurvePoint } from './results.js';

/** The loss of a batch: logits, and which training rows they belong to (as a tensor and as numbers). */
export type BatchLoss = (logits: Tensor, indices: Tensor, rows: Int32Array) => Tensor;

export interface TrainerOptions {
  model: Module;
  /** Training rows, [rows, inputs]. */
  inputs: Tensor;
  loss: BatchLoss;
  /** Makes the inputs of a batch where they are not the rows as they are. */
  batch?: (rows: Int32Array, seed: number) => Tensor;
  training: TrainingSpec;
  /** Steps to take in all; by default those of the training's epochs. */
  steps: number;
  /** Orders the data. */
  seed: number;
  /** By parameter name: 0 holds the weight at zero. */
  masks?: ReadonlyMap<string, Float32Array>;
}

/** Batches in one pass over the data. */
export function stepsPerEpoch(rows: number, training: TrainingSpec): number {
  return Math.ceil(rows / training.batchSize);
}

/** Trains a model for a fixed number of steps. */
export class Trainer {
  readonly curve: CurvePoint[] = [];
  readonly stepsPerEpoch: number;
  step = 0;
  private readonly optimizer: Optimizer;
  private readonly factor: (step: number) => number;
  private readonly rows: number;
  private order: Int32Array | null = null;
  private orderEpoch = -1;
  private lossSum = 0;
  private lossCount = 0;

  constructor(private readonly options: TrainerOptions) {
    const { model, inputs, training, steps, masks } = options;
    this.rows = inputs.shape[0]!;
    this.stepsPerEpoch = stepsPerEpoch(this.rows, training);
    const { kind, ...settings } = training.optimizer;
    const parameters = model.parameters();
    this.optimizer =
      kind === 'sgd'
        ? new SGD(parameters, settings as ConstructorParameters<typeof SGD>[1])
        : new AdamW(parameters, settings as ConstructorParameters<typeof AdamW>[1]);
    for (const [name, parameter] of model.namedParameters()) {
      const mask = masks?.get(name);
      if (mask) {
        const values = tensor(mask, { shape: parameter.shape, device: parameter.device });
        this.optimizer.setMask(parameter, values);
        values.dispose();
      }
    }
    const { kind: shape, warmup, floor } = training.schedule ?? { kind: 'constant', warmup: 0, floor: 0 };
    this.factor = schedule(shape, { steps: Math.max(1, steps), warmupSteps: Math.floor(warmup * steps), floor });
  }

  get isDone(): boolean {
    return this.step >= this.options.steps;
  }

  /** Whether the step just taken ended a pass over the data, or all of it. */
  get isAtEpochEnd(): boolean {
    return this.step % this.stepsPerEpoch === 0 || this.isDone;
  }

  /** Passes over the data so far. */
  get epoch(): number {
    return this.step / this.stepsPerEpoch;
  }

  /** Takes one step; returns the rows of the batch and its loss. */
  takeStep(): { rows: number; loss: number } {
    const { model, inputs, loss: lossOf, batch, training, seed } = this.options;
    const rows = this.nextRows();
    const loss = tidy(() => {
      const indices = tensor(rows, { device: inputs.device });
      const x = batch ? batch(rows, deriveSeed(seed, 'batch', this.step)) : gatherRows(inputs, indices);
      const batchLoss = lossOf(model.forward(x), indices, rows);
      batchLoss.backward();
      return batchLoss.item();
    });
    if (!Number.isFinite(loss)) {
      throw valueError(
        `train step ${this.step + 1}`,
        'the loss must be a finite number (a smaller learning rate may help)',
        phrase(`it is ${loss}`),
      );
    }
    if (training.clipNorm !== undefined) clipGradNorm(model.parameters(), training.clipNorm);
    this.optimizer.learningRate = training.optimizer.learningRate * this.factor(this.step);
    this.optimizer.step();
    this.optimizer.zeroGrad();
    this.step++;
    this.lossSum += loss * rows.length;
    this.lossCount += rows.length;
    return { rows: rows.length, loss };
  }

  /** Notes a point of the learning curve and starts the next mean of the loss. */
  addPoint(accuracy: number, nll: number): CurvePoint {
    const point = { epoch: this.epoch, loss: this.lossSum / Math.max(1, this.lossCount), accuracy, nll };
    this.curve.push(point);
    this.lossSum = this.lossCount = 0;
    return point;
  }

  private nextRows(): Int32Array {
    const epoch = Math.floor(this.epoch);
    if (this.order === null || this.orderEpoch !== epoch) {
      this.order = shuffledOrder(this.rows, deriveSeed(this.options.seed, 'order', epoch));
      this.orderEpoch = epoch;
    }
    const from = (this.step % this.stepsPerEpoch) * this.options.training.batchSize;
    return this.order.slice(from, from + this.options.training.batchSize);
  }

  /** Writes model, optimiser and place to a file, with `extra` words to come back with. */
  save(path: string, extra: Record<string, string>, extraTensors: Record<string, StoredTensor> = {}): void {
    const tensors: Record<string, StoredTensor> = { ...extraTensors };
    for (const [name, stored] of Object.entries(this.options.model.stateDict())) tensors[`model.${name}`] = stored;
    for (const [name, stored] of Object.entries(this.optimizer.stateDict())) tensors[`optimizer.${name}`] = stored;
    const offsets: Record<string, number> = {};
    for (const [name, module] of this.options.model.modules()) if (module instanceof Dropout) offsets[name] = module.offset;
    const place = { step: this.step, lossSum: this.lossSum, lossCount: this.lossCount, curve: this.curve, offsets };
    writeSafetensors(path, tensors, { ...extra, place: JSON.stringify(place) });
  }

  /** Goes on from what {@link save} wrote. */
  restore(saved: ReturnType<typeof readSafetensors>): void {
    const part = (prefix: string) => {
      const found: Record<string, StoredTensor> = {};
      for (const [name, stored] of saved.tensors) if (name.startsWith(prefix)) found[name.slice(prefix.length)] = stored;
      return found;
    };
    this.options.model.loadStateDict(part('model.'));
    this.optimizer.loadStateDict(part('optimizer.'));
    const place = JSON.parse(saved.metadata['place']!) as {
      step: number;
      lossSum: number;
      lossCount: number;
      curve: CurvePoint[];
      offsets: Record<string, number>;
    };
    this.step = place.step;
    this.lossSum = place.lossSum;
    this.lossCount = place.lossCount;
    this.curve.push(...place.curve);
    for (const [name, module] of this.options.model.modules()) if (module instanceof Dropout) module.offset = place.offsets[name] ?? 0;
  }

  /** Gives back the optimiser's memory; the model stays. */
  dispose(): void {
    this.optimizer.dispose();
  }
}
