// The losses.
export { crossEntropy, kdLoss, linearKdLoss, type CrossEntropyOptions, type KdLossOptions, type KdTarget } from './kd_loss.js';
export type { Divergence, DivergenceName } from './divergences.js';
export type { Assistant, Denominator, Reduction, Residual } from './settings.js';
export type { LabelNumbers } from './labels.js';
