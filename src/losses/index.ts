// The losses.
export { crossEntropy, kdLoss, type CrossEntropyOptions, type KdLossOptions, type KdTarget } from './kd_loss.js';
export { linearKdLoss } from './linear_kd_loss.js';
export type { LinearKdLossOptions, LinearTeacher } from './linear_call.js';
export { listMleLoss, plackettLuceLoss, type PlackettLuceOptions } from './plackett_luce.js';
export { dkdLoss, type DkdOptions } from './dkd.js';
export { bildLoss, dbildLoss, type BildOptions } from './bild.js';
export {
  concreteScoreLoss,
  logitMseLoss,
  standardizedKdLoss,
  type ConcreteScoreOptions,
  type LogitMseOptions,
  type ScoreWeights,
  type StandardizedKdOptions,
} from './logits.js';
export { distLoss, type DistOptions } from './dist.js';
export { gradedBceLoss, marginMseLoss, type MarginMseOptions } from './ranking.js';
export { infoNceLoss, type InfoNceOptions } from './info_nce.js';
export * from './features/index.js';
export {
  adaptiveTemperatures,
  AdaptiveFraction,
  argmaxInTopK,
  quantileMask,
  referenceGap,
  rowEntropy,
  rowHellinger,
  topFractionMask,
  type AdaptiveFractionOptions,
  type AdaptiveFractionState,
  type AdaptiveTemperatureOptions,
  type ArgmaxInTopKOptions,
  type RowScoreOptions,
} from './selection.js';
export type { ComposedLossOptions, LabelledLossOptions } from './row_loss.js';
export type { Divergence, DivergenceName } from './divergences.js';
export type { Assistant, Denominator, Reduction, Residual } from './settings.js';
export type { LabelNumbers } from './labels.js';
