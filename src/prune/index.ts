// Pruning: what matters in a model, masks of weights, parts taken out, and what is left to compute.
export { magnitudeMasks, nOfMMask, scoreMasks, type Masks, type NOfM, type ScoreMaskOptions, type Scores } from './masks.js';
export { partScores, weightScores, type ImportanceMethod, type ImportanceOptions } from './importance.js';
export { keepParts, partMasks, type Smaller } from './remove.js';
export { type Kept, type Structure } from './parts.js';
export { flops, parameterCount, type FlopCount, type ParameterCount } from './counts.js';
export { applyMasks, pruneStep, setMasks, type PruneOptions, type PruneReport, type Pruned } from './step.js';
