// Optimisers, averages, schedules and clipping.
export { Optimizer, type StepOptions } from './optimizer.js';
export { SGD, type SGDOptions } from './sgd.js';
export { AdamW, type AdamWOptions } from './adamw.js';
export { Lion, type LionOptions } from './lion.js';
export { EMA, type EMAOptions } from './ema.js';
export { schedule, scheduleKinds, type ScheduleKind, type ScheduleOptions } from './schedule.js';
export { clipGradNorm, gradNorm, type ClipOptions } from './clip.js';
