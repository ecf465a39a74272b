// Learning rates over time: constant, linear or cosine after a warm-up.
import { checkOptions } from '../check.js';
import { kindError, valueError } from '../errors.js';

/** How the rate moves after the warm-up. */
export type ScheduleKind = 'constant' | 'linear' | 'cosine';

export interface ScheduleOptions {
  /** How many steps the whole takes. */
  steps: number;
  /** How many of them the rate rises for. Default 0. */
  warmupSteps?: number;
  /** Share of the full rate at the end. Default 0. */
  floor?: number;
}

/**
 * The factor of the learning rate at each step, counted from 0: rises in equal parts during the warm-up, then stays at 1
 * (constant), falls in a line, or as floor + (1 − floor)·(1 + cos πt)/2.
 *
 * @example
 * const factor = optim.schedule('cosine', { steps: 1000, warmupSteps: 50 });
 * optimizer.learningRate = 0.1 * factor(step);
 */
export function schedule(kind: ScheduleKind, options: ScheduleOptions): (step: number) => number {
  const action = 'make a schedule';
  if (kind !== 'constant' && kind !== 'linear' && kind !== 'cosine')
    throw kindError(action, "kind must be 'constant', 'linear' or 'cosine'", kind);
  const { steps, warmupSteps = 0, floor = 0 } = checkOptions(action, options, ['steps', 'warmupSteps', 'floor']);
  if (!Number.isInteger(steps) || steps < 1) throw valueError(action, 'steps must be a whole number ≥ 1', steps);
  if (!Number.isInteger(warmupSteps) || warmupSteps < 0 || warmupSteps >= steps + 1)
    throw valueError(action, `warmupSteps must be a whole number from 0 to ${steps}`, warmupSteps);
  if (!(floor >= 0 && floor <= 1)) throw valueError(action, 'floor must be in [0, 1]', floor);
  return (step) => {
    if (step < warmupSteps) return (step + 1) / (warmupSteps + 1);
    if (kind === 'constant') return 1;
    const progress = Math.min(1, (step - warmupSteps) / Math.max(1, steps - warmupSteps));
    const falling = kind === 'linear' ? 1 - progress : (1 + Math.cos(Math.PI * progress)) / 2;
    return floor + (1 - floor) * falling;
  };
}
