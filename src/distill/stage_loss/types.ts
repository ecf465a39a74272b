// The seam between a stage, which has models and batches, and what it learns from, which is a loss with a state of its own.
import type { Device } from '../../device.js';
import type { KdTarget } from '../../losses/index.js';
import type { StoredTensor } from '../../safetensors.js';
import type { DenseTarget, SparseTarget } from '../../targets/index.js';
import type { Tensor } from '../../tensor.js';
import type { TargetSpec } from './spec.js';

/** What a model says of a batch. */
export interface StudentOutput {
  /** [rows, cols]: one row for each label of the batch. */
  logits: Tensor;
  /** Inner values from the first layer to the last; empty where nobody asked for them. */
  features: readonly Tensor[];
  /** Logits of the other heads, [rows, cols] each: earlier exits, or the second of two heads. */
  exits?: readonly Tensor[];
}

/** One batch, as a loss sees it. */
export interface StageBatch {
  /** Training rows (images), or numbers of sequences (text). */
  rows: Int32Array;
  /** One for each row of logits; −100 where there is none. */
  labels: Int32Array;
  /** Optimiser steps taken so far in this stage, and in all. */
  step: number;
  steps: number;
  epoch: number;
  /** For what is drawn at this step. */
  seed: number;
  input: Tensor;
  /** A frozen earlier stage on this batch: run once, shared, detached. */
  teacher(name: string): StudentOutput;
  /** Mutual learning: the other students by name, detached. */
  peers?: readonly string[];
  student?(name: string): StudentOutput;
}

/** What a stage learns from: a loss for each batch, and everything it remembers between batches. */
export interface StageLoss {
  /**
   * The loss of a batch, a single number, ready for backward(); the caller has a tidy() around both. Schedulers move once for each
   * step: a second call at the same step (a micro-batch) does not move them again.
   */
  of(student: StudentOutput, batch: StageBatch): Tensor;
  /** Learned parts (projectors, mixture weights), to be trained with the student. Their order never changes. */
  parameters(): Tensor[];
  /** Copies of {@link parameters} by name. */
  state(): Record<string, StoredTensor>;
  restore(state: Record<string, StoredTensor>): void;
  /** All else that the coming batches depend on, as JSON (TAID's t, AdaKD's fraction). */
  words(): Record<string, unknown>;
  restoreWords(words: Record<string, unknown>): void;
  /** Numbers of the last batch worth a log line: acceptance rate, t, temperature, kept share, parts of a sum. */
  numbers(): Record<string, number>;
  dispose(): void;
}

/** The targets of a file, owned by the stage. */
export interface CapturedTargets {
  /** The targets of a batch: one row for each row of logits, in the caller's tidy(). `pass` counts passes over the data, for files with several views of each row. */
  rows(rows: Int32Array, pass?: number): SparseTarget | DenseTarget;
}

/** Parts of a recipe that are written in TypeScript. */
export interface CustomTargets {
  /** Whole losses by name: `{ kind: 'custom', loss: name }`. */
  losses?: Record<string, (environment: StageLossEnvironment) => StageLoss>;
  /** Target builders by name: `{ kind: 'custom', target: name, divergence, … }`. */
  targets?: Record<string, (student: StudentOutput, batch: StageBatch, options: Record<string, unknown>) => KdTarget>;
}

/** What a stage tells its loss once, before the first batch. */
export interface StageLossEnvironment {
  spec: TargetSpec;
  device: Device;
  /** Of learned parts. */
  seed: number;
  /** Rows of training data. */
  rows: number;
  /** Columns of the logits: classes, or the vocabulary. */
  cols: number;
  captured(name: string): CapturedTargets;
  /** Widths (last dimension; channels of [n, c, h, w]) of the models' features; needed by a target of kind 'features'. */
  featureWidths?: { student: readonly number[]; teacher(name: string): readonly number[] };
  custom?: CustomTargets;
}
