// Numbers that move over the steps of a stage.
import type { Scheduled } from './spec.js';

/**
 * The value at a step: `start` at step 0, `end` from step `until`·steps on; on a straight line, half a cosine, or by equal factors.
 *
 * @param step in [0, steps)
 */
export function scheduledValue(value: Scheduled, step: number, steps: number): number {
  if (typeof value === 'number') return value;
  const { kind, start, end, until = 1 } = value;
  const share = Math.min(1, step / Math.max(1, until * Math.max(1, steps - 1)));
  if (share === 1) return end;
  if (kind === 'linear') return start + (end - start) * share;
  if (kind === 'exponential') return start * (end / start) ** share;
  return end + ((start - end) * (1 + Math.cos(Math.PI * share))) / 2;
}
