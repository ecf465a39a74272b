// The one call behind every row loss: forward and gradient in a single launch.
import { findCode, kernel, type Handle } from '../native.js';

/** What the kernel is told, by name. The defaults are those of a loss without a teacher. */
export interface RowLossCall {
  student: Handle;
  teacher: Handle | null;
  indices: Handle | null;
  values: Handle | null;
  tailLogMass: Handle | null;
  labels: Handle | null;
  rowWeights: Handle | null;
  rowTemperature: Handle | null;
  rowLoss: Handle;
  loss: Handle | null;
  gradient: Handle | null;
  rows: number;
  cols: number;
  studentStride: number;
  teacherStride: number;
  gradientStride: number;
  k: number;
  target: 'none' | 'logits' | 'log_probs' | 'probs' | 'sparse_log_probs';
  divergenceCode: number;
  parameterA: number;
  parameterB: number;
  residualCode: number;
  logProbScale: number;
  temperature: number;
  temperatureSquared: number;
  hardWeight: number;
  labelSmoothing: number;
  ignoreIndex: number;
  unlabelledIndex: number;
  reduction: 'mean' | 'sum' | 'none';
  denominator: number;
  denominatorValue: number;
}

export function runRowLoss(action: string, call: RowLossCall): void {
  kernel('divergence', action)(
    call.student,
    call.teacher,
    call.indices,
    call.values,
    call.tailLogMass,
    call.labels,
    call.rowWeights,
    call.rowTemperature,
    call.rowLoss,
    call.loss,
    call.gradient,
    call.rows,
    call.cols,
    call.studentStride,
    call.teacherStride,
    call.gradientStride,
    call.k,
    findCode('target', call.target),
    call.divergenceCode,
    call.parameterA,
    call.parameterB,
    call.residualCode,
    call.logProbScale,
    call.temperature,
    call.temperatureSquared,
    call.hardWeight,
    call.labelSmoothing,
    call.ignoreIndex,
    call.unlabelledIndex,
    findCode('reduction', call.reduction),
    call.denominator,
    call.denominatorValue,
  );
}
