// Learning rates over time: a warm-up, then constant or falling in one of the ways the field uses.
import { checkOptions } from '../check.js';
import { kindError, phrase, valueError } from '../errors.js';

/** How the rate moves after the warm-up. */
export type ScheduleKind = 'constant' | 'linear' | 'cosine' | 'inverse_square_root' | 'warmup_stable_decay' | 'one_cycle';

/** Every {@link ScheduleKind}. */
export const scheduleKinds: readonly ScheduleKind[] = [
  'constant',
  'linear',
  'cosine',
  'inverse_square_root',
  'warmup_stable_decay',
  'one_cycle',
];

export interface ScheduleOptions {
  /** How many steps the whole takes. */
  steps: number;
  /** How many of them the rate rises for. Default 0. */
  warmupSteps?: number;
  /** Share of the full rate at the end. Default 0. */
  floor?: number;
  /** 'warmup_stable_decay' alone: how many steps it falls for at the end. Default: a tenth of all, rounded up. */
  decaySteps?: number;
}

/** Where 'one_cycle' begins. */
const CYCLE_START = 1 / 25;

/**
 * The factor of the learning rate at each step, counted from 0. It rises in equal parts during the warm-up; then with t from 0 to 1 over the other steps it is
 * floor + (1 − floor)·f:
 *
 * - 'constant': 1, whatever the floor
 * - 'linear': f = 1 − t
 * - 'cosine': f = (1 + cos πt)/2 (SGDR, arXiv 1608.03983)
 * - 'inverse_square_root': f = √((warmupSteps + 1)/(step + 1)) (arXiv 1706.03762)
 * - 'warmup_stable_decay': f = 1 until the last `decaySteps`, in which it falls in a line (MiniCPM, arXiv 2404.06395)
 * - 'one_cycle': as 'cosine', and the warm-up rises as a cosine, too, from 1/25 (super-convergence, arXiv 1708.07120)
 *
 * @example
 * const factor = optim.schedule('cosine', { steps: 1000, warmupSteps: 50 });
 * optimizer.learningRate = 0.1 * factor(step);
 */
export function schedule(kind: ScheduleKind, options: ScheduleOptions): (step: number) => number {
  const action = 'make a schedule';
  if (!scheduleKinds.includes(kind)) throw kindError(action, `kind must be one of ${scheduleKinds.join(', ')}`, kind);
  const given = checkOptions(action, options, ['steps', 'warmupSteps', 'floor', 'decaySteps']);
  const { steps, warmupSteps = 0, floor = 0 } = given;
  if (!Number.isInteger(steps) || steps < 1) throw valueError(action, 'steps must be a whole number ≥ 1', steps);
  if (!Number.isInteger(warmupSteps) || warmupSteps < 0 || warmupSteps >= steps + 1)
    throw valueError(action, `warmupSteps must be a whole number from 0 to ${steps}`, warmupSteps);
  if (!(floor >= 0 && floor <= 1)) throw valueError(action, 'floor must be in [0, 1]', floor);
  const rest = steps - warmupSteps;
  if (given.decaySteps !== undefined && kind !== 'warmup_stable_decay')
    throw valueError(action, "decaySteps must be left out unless the kind is 'warmup_stable_decay'", phrase(`the kind is '${kind}'`));
  const decaySteps = given.decaySteps ?? Math.min(rest, Math.ceil(steps / 10));
  if (!Number.isInteger(decaySteps) || decaySteps < 0 || decaySteps > rest)
    throw valueError(action, `decaySteps must be a whole number from 0 to ${rest}`, decaySteps);

  const falling: Record<ScheduleKind, (step: number, progress: number) => number> = {
    constant: () => 1,
    linear: (_, progress) => 1 - progress,
    cosine: (_, progress) => (1 + Math.cos(Math.PI * progress)) / 2,
    inverse_square_root: (step) => Math.sqrt((warmupSteps + 1) / (step + 1)),
    warmup_stable_decay: (step) => (step < steps - decaySteps ? 1 : Math.max(0, (steps - step) / (decaySteps + 1))),
    one_cycle: (_, progress) => (1 + Math.cos(Math.PI * progress)) / 2,
  };
  return (step) => {
    if (step < warmupSteps) {
      const risen = kind === 'one_cycle' ? step / warmupSteps : (step + 1) / (warmupSteps + 1);
      return kind === 'one_cycle' ? CYCLE_START + ((1 - CYCLE_START) * (1 - Math.cos(Math.PI * risen))) / 2 : risen;
    }
    if (kind === 'constant') return 1;
    const progress = Math.min(1, (step - warmupSteps) / Math.max(1, rest));
    return floor + (1 - floor) * falling[kind](step, progress);
  };
}
