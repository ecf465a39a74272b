// The one call behind every row loss: forward and gradient in a single launch.
import { findCode, kernel, type Handle, type KernelCall } from '../native.js';
import type { RowLossSettings, SoftSettings } from './settings.js';

/** The student's side, and where results go. */
export interface StudentPart {
  student: Handle;
  labels: Handle | null;
  rowWeights: Handle | null;
  rowLoss: Handle;
  loss: Handle | null;
  gradient: Handle | null;
  rows: number;
  cols: number;
  studentStride: number;
  gradientStride: number;
}

/** The teacher's side. */
export interface TeacherPart {
  target: 'none' | 'logits' | 'log_probs' | 'probs' | 'interpolated' | 'sparse_log_probs' | 'sparse_weights';
  teacher: Handle | null;
  teacherStride: number;
  /** Logits like the student's that an interpolated target starts from, and how far it is from them to the teacher. */
  anchor: Handle | null;
  interpolation: number;
  indices: Handle | null;
  values: Handle | null;
  tailLogMass: Handle | null;
  k: number;
  logProbScale: number;
  temperature: number;
  rowTemperature: Handle | null;
  /** float32 [rows] in place of the divergence's first parameter. */
  rowParameter: Handle | null;
}

/** The numbers of the teacher's term. */
export type SoftNumbers = Pick<
  SoftSettings,
  'divergenceCode' | 'parameterA' | 'parameterB' | 'assistant' | 'residualCode' | 'temperatureSquared' | 'hardWeight'
>;

export const noTeacher: TeacherPart = {
  target: 'none',
  teacher: null,
  teacherStride: 0,
  anchor: null,
  interpolation: 0,
  indices: null,
  values: null,
  tailLogMass: null,
  k: 0,
  logProbScale: 1,
  temperature: 1,
  rowTemperature: null,
  rowParameter: null,
};

// Written out: spreading one object of thirty fields out of four costs more than a small loss.
export function runRowLoss(
  action: string,
  part: StudentPart,
  teacher: TeacherPart,
  soft: SoftNumbers,
  settings: RowLossSettings,
  call: KernelCall<'divergence'> = kernel('divergence', action),
): void {
  call(
    part.student,
    teacher.teacher,
    teacher.indices,
    teacher.values,
    teacher.tailLogMass,
    part.labels,
    part.rowWeights,
    teacher.rowTemperature,
    teacher.anchor,
    teacher.rowParameter,
    part.rowLoss,
    part.loss,
    part.gradient,
    part.rows,
    part.cols,
    part.studentStride,
    teacher.teacherStride,
    part.gradientStride,
    teacher.k,
    findCode('target', teacher.target),
    soft.divergenceCode,
    soft.parameterA,
    soft.parameterB,
    teacher.interpolation,
    soft.assistant === null ? 0 : 1,
    soft.assistant?.alpha ?? 0,
    soft.assistant?.lambda ?? 0,
    soft.residualCode,
    teacher.logProbScale,
    teacher.temperature,
    soft.temperatureSquared,
    soft.hardWeight,
    settings.labelSmoothing,
    settings.ignoreIndex,
    settings.unlabelledIndex,
    findCode('reduction', settings.reduction),
    settings.denominator,
    settings.denominatorValue,
  );
}
