// Optimisers, schedules and clipping.
export { Optimizer, type StepOptions } from './optimizer.js';
export { SGD, type SGDOptions } from './sgd.js';
export { AdamW, type AdamWOptions } from './adamw.js';
export { schedule, type ScheduleKind, type ScheduleOptions } from './schedule.js';
export { clipGradNorm, gradNorm } from './clip.js';
