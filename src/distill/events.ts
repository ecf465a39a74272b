// What a run tells while it goes: the plan, each step, each pass over the data, each stage's end.
import type { DomainMeasurement } from './domain_rows.js';
import type { CaptureResult, ModelResult, ProbeResult, Results } from './results.js';
import type { Recipe } from './spec.js';

/** One piece of work: a stage for one seed. */
export interface Unit {
  /** Stage and seed in one name: 'distilled-2'. */
  key: string;
  title: string;
  seed: number;
  /** Optimiser steps (batches, for a capture; 1 for a probe). */
  steps: number;
}

export type RunEvent =
  | {
      type: 'start';
      recipe: Recipe;
      units: Unit[];
      finished: number;
      device: string;
      reason: string;
      folder: string;
      trainRows: number;
      testRows: number;
    }
  | { type: 'unit'; index: number; unit: Unit; step: number }
  | { type: 'step'; index: number; step: number; rows: number; loss?: number; numbers?: Record<string, number> }
  /** Weights of domains were taken anew before a step, from both models' perplexities. */
  | ({ type: 'domains'; index: number; step: number } & DomainMeasurement)
  /** A point of the learning curve: after an epoch, or after a share of the steps (`by` is 'step', epoch and epochs are steps then). */
  | { type: 'epoch'; index: number; epoch: number; epochs: number; by?: 'epoch' | 'step'; loss: number; accuracy: number; nll: number }
  | { type: 'model'; index: number; result: ModelResult }
  | { type: 'capture'; index: number; result: CaptureResult }
  | { type: 'probe'; index: number; result: ProbeResult }
  | { type: 'end'; results: Results; report: string };

export type RunListener = (event: RunEvent) => void;
