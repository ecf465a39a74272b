// The losses.
export { crossEntropy, kdLoss, linearKdLoss, type CrossEntropyOptions, type KdLossOptions } from './kd_loss.js';
export type { Divergence, DivergenceName } from './divergences.js';
export type { Denominator, Reduction, Residual } from './settings.js';
export type { LabelNumbers } from './labels.js';
