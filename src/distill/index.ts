// Distillation pipelines: recipes, runs, metrics, pruning, and pages to look at.
export { checkRecipe, loadRecipe, overrideRecipe, type RecipeOverrides } from './recipe.js';
export type * from './spec.js';
export { Interrupted, runRecipe, type CustomParts, type RecipeData, type RunOptions } from './run.js';
export type { ModelMaker } from './build.js';
export type { Batch, DataSource } from './source.js';
export type { CapturedTargets, CustomTargets, StageBatch, StageLoss, StageLossEnvironment, StudentOutput } from './stage_loss/index.js';
export { probes, runProbe } from './probes/index.js';
export type { Probe, ProbeContext, ProbeOption, ProbeOptions, ProbeSeries } from './probes/index.js';
export type { RunEvent, RunListener, Unit } from './events.js';
export type { CaptureResult, CheckResult, CurvePoint, ModelResult, ProbeResult, Results, TableRow } from './results.js';
export { biasVariance, type BiasVariance } from './bias_variance.js';
export type { SpreadResult } from './spread.js';
export {
  accuracy,
  agreement,
  bitsPerByte,
  brier,
  ece,
  evaluateLogits,
  Evaluator,
  klToTeacher,
  meanAndDeviation,
  nll,
  perplexity,
  topOneAgreement,
  type AgreementOptions,
  type BitsPerByteOptions,
  type EceOptions,
  type Evaluation,
  type EvaluatorOptions,
  type FullEvaluation,
  type KlToTeacherOptions,
  type LabelMetricOptions,
  type Logits,
  type MetricLabels,
  type ReliabilityBin,
} from './metrics.js';
export { magnitudeMasks } from '../prune/masks.js';
export { readIdx, type IdxArray } from './idx.js';
export { compareTokens, type Choice, type TokenComparison, type TokenRow } from '../report/tokens.js';
export { textReport, type TextReportOptions, type TextReportWords } from '../report/text.js';
export { openText, type TextSource, type TextSpec } from './data_text.js';
export {
  openRecording,
  recordTargets,
  type OpenRecording,
  type Recording,
  type RecordingOptions,
  type RecordingSpec,
} from './recording.js';
