// Trains one or more students step by step on the same batches, in a state that can be written down between any two steps.
import { noGrad, tidy } from '../autograd.js';
import { phrase, valueError } from '../errors.js';
import { Dropout, type Module } from '../nn/index.js';
import { deriveSeed } from '../nn/seed.js';
import { AdamW, clipGradNorm, EMA, Lion, schedule, SGD, type Optimizer } from '../optim/index.js';
import { scale } from '../ops/index.js';
import { shuffledOrder } from '../random.js';
import { writeSafetensors, type readSafetensors, type StoredTensor } from '../safetensors.js';
import { tensor, type Tensor } from '../tensor.js';
import { output } from './build.js';
import type { DomainMeasurement, DomainRows, DomainRowsState } from './domain_rows.js';
import type { CurvePoint } from './results.js';
import type { DataSource } from './source.js';
import type { OptimizerSpec, TrainingSpec } from './spec.js';
import type { StageLoss, StudentOutput } from './stage_loss/index.js';

/** One model in training. */
export interface Student {
  /** Under which the other students of a mutual stage know it. */
  name: string;
  model: Module;
  loss: StageLoss;
  /** By parameter name: 0 holds the weight at zero. */
  masks?: ReadonlyMap<string, Float32Array>;
}

export interface TrainerOptions {
  students: readonly Student[];
  source: DataSource;
  training: TrainingSpec;
  /** Steps of the optimiser to take in all. */
  steps: number;
  /** Orders the data. */
  seed: number;
  /** What an earlier stage's model says of an input; called in the batch's tidy() and without gradients. */
  teacher?: (name: string, input: Tensor) => StudentOutput;
  /** Whether the losses look at inner values. */
  features?: boolean;
  /** Images are moved as they were when their targets were captured, a view for each pass. */
  moves?: { shift: number; seeds: readonly number[] };
  /** Draws the rows in the place of passes over all of them; of a single student. */
  domains?: DomainRows;
}

/** Steps of the optimiser in one pass over the data. */
export function stepsPerEpoch(rows: number, training: Pick<TrainingSpec, 'batchSize' | 'accumulate'>): number {
  return Math.ceil(Math.ceil(rows / training.batchSize) / training.accumulate);
}

interface Running extends Student {
  optimizer: Optimizer;
  ema: EMA | null;
  lossSum: number;
  lossCount: number;
  curve: CurvePoint[];
}

/** Trains for a fixed number of steps. */
export class Trainer {
  readonly stepsPerEpoch: number;
  step = 0;
  private readonly students: Running[];
  private readonly factor: (step: number) => number;
  private readonly rows: number;
  private order: Int32Array | null = null;
  private orderEpoch = -1;

  constructor(private readonly options: TrainerOptions) {
    const { students, source, training, steps } = options;
    this.rows = source.trainRows;
    this.stepsPerEpoch = stepsPerEpoch(this.rows, training);
    this.students = students.map((student) => ({
      ...student,
      optimizer: makeOptimizer(student, training),
      // Behind the optimiser, which has put pruned weights to zero: averages of zeros are zero.
      ema: training.ema ? new EMA(student.model, training.ema) : null,
      lossSum: 0,
      lossCount: 0,
      curve: [],
    }));
    const { kind, warmup, floor } = training.schedule ?? { kind: 'constant', warmup: 0, floor: 0 };
    this.factor = schedule(kind, { steps: Math.max(1, steps), warmupSteps: Math.floor(warmup * steps), floor });
  }

  get isDone(): boolean {
    return this.step >= this.options.steps;
  }

  /** Whether the step just taken ended a pass over the data, a share of a training by steps, or all of it. */
  get isAtPoint(): boolean {
    const { training, steps } = this.options;
    if (this.isDone) return true;
    if (training.epochs !== undefined) return this.step % this.stepsPerEpoch === 0;
    const points = Math.min(training.points, steps);
    return Math.floor((this.step * points) / steps) > Math.floor(((this.step - 1) * points) / steps);
  }

  /** Passes over the data so far. */
  get epoch(): number {
    return this.step / this.stepsPerEpoch;
  }

  /** The learning curve of a student. */
  curve(student = 0): CurvePoint[] {
    return this.students[student]!.curve;
  }

  /** What the students' losses tell of their last batch. */
  numbers(): Record<string, number> {
    const all: Record<string, number> = {};
    for (const { name, loss } of this.students) {
      for (const [key, value] of Object.entries(loss.numbers())) all[this.students.length > 1 ? `${name}.${key}` : key] = value;
    }
    return { ...all, ...this.options.domains?.numbers() };
  }

  /** Takes one step of every student; returns the rows it saw and the first student's loss (of several: their mean), and what was found where domains were measured. */
  takeStep(): { rows: number; loss: number; measured?: DomainMeasurement } {
    const { training, domains } = this.options;
    // At the head of a step: a run that goes on from a file measures what one that never stopped does.
    const measured = domains?.isDue(this.step) ? domains.measure(this.students[0]!.model) : undefined;
    const batches = this.nextBatches();
    const rows = batches.reduce((sum, each) => sum + each.length, 0);
    const losses = this.students.map(() => 0);
    batches.forEach((batch, micro) => {
      const share = batch.length / rows;
      this.backward(batch, micro, batches.length > 1 ? share : 1).forEach((loss, i) => (losses[i]! += loss * share));
    });
    losses.forEach((loss) => {
      if (Number.isFinite(loss)) return;
      throw valueError(
        `train step ${this.step + 1}`,
        'the loss must be a finite number (a smaller learning rate may help)',
        phrase(`it is ${loss}`),
      );
    });
    this.students.forEach((student, i) => {
      const { model, loss, optimizer } = student;
      if (training.clipNorm !== undefined) clipGradNorm([...model.parameters(), ...loss.parameters()], training.clipNorm);
      optimizer.learningRate = training.optimizer.learningRate * this.factor(this.step);
      optimizer.step();
      optimizer.zeroGrad();
      student.ema?.update();
      student.lossSum += losses[i]! * rows;
      student.lossCount += rows;
    });
    this.step++;
    const loss = losses.reduce((sum, each) => sum + each, 0) / losses.length;
    return { rows, loss, ...(measured ? { measured } : {}) };
  }

  /** One batch forward and backward through every student; gradients times `share` are added up. */
  private backward(rows: Int32Array, micro: number, share: number): number[] {
    const { source, training, seed, steps, teacher, features = false, moves } = this.options;
    const parts = micro === 0 ? [this.step] : [this.step, micro];
    return tidy(() => {
      const { input, labels } = moves
        ? source.moved!(rows, moves.seeds[Math.floor(this.epoch) % moves.seeds.length]!, moves.shift)
        : source.batch(rows, deriveSeed(seed, 'batch', ...parts), training.shift);
      const seen = new Map<string, StudentOutput>();
      const outputs = this.students.map(({ model }) => output(model, input, source.cols, features));
      const detached = new Map<string, StudentOutput>();
      const losses = this.students.map(({ name, loss }, i) => {
        const batchLoss = loss.of(outputs[i]!, {
          rows,
          labels,
          step: this.step,
          steps,
          epoch: this.epoch,
          seed: deriveSeed(seed, 'draw', ...parts),
          input,
          teacher: (from) => {
            if (!teacher) throw valueError('learn from a stage', 'the trainer must know how to run it', from);
            const found = seen.get(from) ?? noGrad(() => teacher(from, input));
            seen.set(from, found);
            return found;
          },
          ...(this.students.length > 1
            ? {
                peers: this.students.filter((other) => other.name !== name).map((other) => other.name),
                student: (other: string): StudentOutput => {
                  const index = this.students.findIndex((each) => each.name === other);
                  const found = detached.get(other) ?? withoutGradient(outputs[index]!);
                  detached.set(other, found);
                  return found;
                },
              }
            : {}),
        });
        return [batchLoss, share === 1 ? batchLoss : scale(batchLoss, share)] as const;
      });
      // Every student's loss is there before any backward(): no student sees another after its step.
      return losses.map(([plain, scaled]) => {
        scaled.backward();
        return plain.item();
      });
    });
  }

  /** What is measured of a student as it would be handed on: with its averaged weights, where it has some. */
  averaged<T>(student: number, measure: () => T): T {
    const { ema } = this.students[student]!;
    return ema ? ema.during(measure) : measure();
  }

  /** Gives the students the weights that they are handed on with. */
  finish(): void {
    for (const { ema, model } of this.students) ema?.applyTo(model);
  }

  /** Notes a point of a student's learning curve and starts the next mean of its loss. */
  addPoint(student: number, values: Omit<CurvePoint, 'epoch' | 'loss' | 'step'>): CurvePoint {
    const running = this.students[student]!;
    const point = { epoch: this.epoch, step: this.step, loss: running.lossSum / Math.max(1, running.lossCount), ...values };
    running.curve.push(point);
    running.lossSum = running.lossCount = 0;
    return point;
  }

  private nextBatches(): Int32Array[] {
    const { domains, training } = this.options;
    if (domains) return Array.from({ length: training.accumulate }, () => domains.draw(training.batchSize));
    const epoch = Math.floor(this.epoch);
    if (this.order === null || this.orderEpoch !== epoch) {
      this.order = shuffledOrder(this.rows, deriveSeed(this.options.seed, 'order', epoch));
      this.orderEpoch = epoch;
    }
    const { batchSize, accumulate } = training;
    const from = (this.step % this.stepsPerEpoch) * batchSize * accumulate;
    const batches: Int32Array[] = [];
    for (let b = 0; b < accumulate; b++) {
      const batch = this.order.slice(from + b * batchSize, from + (b + 1) * batchSize);
      if (batch.length > 0) batches.push(batch);
    }
    return batches;
  }

  /** Writes models, optimisers, losses and the place to a file, with `extra` words to come back with. */
  save(path: string, extra: Record<string, string>, extraTensors: Record<string, StoredTensor> = {}): void {
    const tensors: Record<string, StoredTensor> = { ...extraTensors };
    const places = this.students.map(({ model, optimizer, ema, loss, lossSum, lossCount, curve }, i) => {
      const put = (part: string, state: Record<string, StoredTensor>): void => {
        for (const [name, stored] of Object.entries(state)) tensors[`${i}.${part}.${name}`] = stored;
      };
      put('model', model.stateDict());
      put('optimizer', optimizer.stateDict());
      if (ema) put('ema', ema.stateDict());
      put('loss', loss.state());
      const offsets: Record<string, number> = {};
      for (const [name, module] of model.modules()) if (module instanceof Dropout) offsets[name] = module.offset;
      return { lossSum, lossCount, curve, offsets, words: loss.words() };
    });
    writeSafetensors(path, tensors, {
      ...extra,
      place: JSON.stringify({ step: this.step, students: places, domains: this.options.domains?.state() }),
    });
  }

  /** Goes on from what {@link save} wrote. */
  restore(saved: ReturnType<typeof readSafetensors>): void {
    const place = JSON.parse(saved.metadata['place']!) as {
      step: number;
      domains?: DomainRowsState;
      students: {
        lossSum: number;
        lossCount: number;
        curve: CurvePoint[];
        offsets: Record<string, number>;
        words: Record<string, unknown>;
      }[];
    };
    this.step = place.step;
    if (place.domains) this.options.domains!.restore(place.domains);
    this.students.forEach((student, i) => {
      const part = (name: string): Record<string, StoredTensor> => {
        const prefix = `${i}.${name}.`;
        return Object.fromEntries(
          [...saved.tensors].flatMap(([key, stored]) => (key.startsWith(prefix) ? [[key.slice(prefix.length), stored]] : [])),
        );
      };
      const { lossSum, lossCount, curve, offsets, words } = place.students[i]!;
      student.model.loadStateDict(part('model'));
      student.optimizer.loadStateDict(part('optimizer'));
      student.ema?.loadStateDict(part('ema'));
      student.loss.restore(part('loss'));
      student.loss.restoreWords(words);
      student.lossSum = lossSum;
      student.lossCount = lossCount;
      student.curve.push(...curve);
      for (const [name, module] of student.model.modules()) if (module instanceof Dropout) module.offset = offsets[name] ?? 0;
    });
  }

  /** Gives back the optimisers' memory; models and losses stay. */
  dispose(): void {
    for (const { optimizer, ema } of this.students) {
      optimizer.dispose();
      ema?.dispose();
    }
  }
}

function makeOptimizer({ model, loss, masks }: Student, training: TrainingSpec): Optimizer {
  const parameters = [...model.parameters(), ...loss.parameters()];
  const optimizer = optimizerOf(parameters, training.optimizer);
  for (const [name, parameter] of model.namedParameters()) {
    const mask = masks?.get(name);
    if (!mask) continue;
    const values = tensor(mask, { shape: parameter.shape, device: parameter.device });
    optimizer.setMask(parameter, values);
    values.dispose();
  }
  return optimizer;
}

function withoutGradient({ logits, features, exits }: StudentOutput): StudentOutput {
  return {
    logits: logits.detach(),
    features: features.map((each) => each.detach()),
    ...(exits ? { exits: exits.map((each) => each.detach()) } : {}),
  };
}

function optimizerOf(parameters: Tensor[], spec: OptimizerSpec): Optimizer {
  if (spec.kind === 'sgd') {
    const { kind: _, ...settings } = spec;
    return new SGD(parameters, settings);
  }
  if (spec.kind === 'lion') {
    const { kind: _, ...settings } = spec;
    return new Lion(parameters, settings);
  }
  const { kind: _, ...settings } = spec;
  return new AdamW(parameters, settings);
}
