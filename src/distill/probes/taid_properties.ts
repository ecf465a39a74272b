// TAID: the schedule of its target, and the gradient that does not go through the student's part of it.
import { tidy } from '../../autograd.js';
import { kdLoss } from '../../losses/index.js';
import { interpolateTarget, TaidScheduler } from '../../targets/index.js';
import { asTensor, largestGap, lossAndGradient, normals, rowOf, softmaxOf, widest } from './numbers.js';
import type { Probe } from './types.js';

/** Item 9: the schedule over a noisy falling loss, t = 1, and finite differences with the target frozen. */
export const taidProperties: Probe = {
  name: 'taid_properties',
  says: 'TAID: t never falls and is the straight line without adaptation; t = 1 is forward KL bit for bit; the target has no gradient.',
  source: 'Shing et al. 2025 (arXiv 2501.16937)',
  options: {
    rows: { says: 'Rows.', default: 4, least: 1, most: 4096, whole: true },
    cols: { says: 'Classes.', default: 12, least: 2, most: 4096, whole: true },
    steps: { says: 'Steps of the schedule.', default: 400, least: 2, most: 1000000, whole: true },
    alpha: { says: 'α of the schedule.', default: 0.05, least: 0, most: 1 },
    beta: { says: 'β of the schedule.', default: 0.9, least: 0, most: 1 },
    t: { says: 't of the gradient.', default: 0.4, least: 0.01, most: 0.99 },
  },
  values: {
    leastRise: 'smallest rise of t in a step; at least 0',
    lead: 'largest lead of t over the straight line: the loss matters',
    lineGap: 'largest difference from the straight line without adaptation',
    endGap: '|t − 1| after the last step',
    fullGap: 'difference of loss and gradient at t = 1 from forward KL: 0, bit for bit',
    frozenError: 'largest difference of the gradient from finite differences with the target frozen, by the largest',
    movingGap: 'the same with the target moving along: what a gradient through it would be',
  },
  run(options, { device, seed }) {
    const { rows, cols, steps, alpha, beta, t } = options as Record<string, number>;
    return tidy(() => {
      const noise = normals(steps!, seed + 2);
      const loss = (step: number): number => 2 * Math.exp((-3 * step) / steps!) + 0.5 + 0.05 * Math.abs(noise[step]!);
      const adaptive = new TaidScheduler({ steps: steps!, alpha: alpha!, beta: beta! });
      const plain = new TaidScheduler({ steps: steps!, adaptive: false });
      const line = (step: number): number => 0.4 + 0.6 * Math.min(1, step / steps!);
      const path = [adaptive.t];
      let lineGap = 0;
      for (let step = 0; step < steps!; step++) {
        path.push(adaptive.update(loss(step)));
        lineGap = Math.max(lineGap, Math.abs(plain.update(loss(step)) - line(step)));
      }
      const rises = path.slice(1).map((value, i) => value - path[i]!);
      const end = adaptive.update(loss(steps! - 1));

      const z = normals(rows! * cols!, seed, 2);
      const u = normals(rows! * cols!, seed + 1, 2);
      const [student, teacher] = [asTensor(z, cols!, device), asTensor(u, cols!, device)];
      const full = lossAndGradient(student, (x) => kdLoss(x, interpolateTarget(x, teacher, { t: 1 }), { temperature: 2 }));
      const forward = lossAndGradient(student, (x) => kdLoss(x, teacher, { temperature: 2 }));

      const dtype = widest(device);
      const wide = asTensor(z, cols!, device, dtype);
      const wideTeacher = asTensor(u, cols!, device, dtype);
      const { gradient } = lossAndGradient(wide, (x) => kdLoss(x, interpolateTarget(x, wideTeacher, { t: t! })));
      const mixed = (at: ArrayLike<number>): Float64Array =>
        softmaxOf(
          Float64Array.from(at, (value, i) => (1 - t!) * value + t! * u[i]!),
          cols!,
        );
      const frozen = mixed(z);
      const cost = (at: Float64Array, target: Float64Array): number => {
        const q = softmaxOf(at, cols!);
        let sum = 0;
        for (let r = 0; r < rows!; r++) {
          const p = rowOf(target, r, cols!);
          rowOf(q, r, cols!).forEach((value, c) => (sum += p[c]! * Math.log(p[c]! / value)));
        }
        return sum / rows!;
      };
      const h = 1e-5;
      const differences = (isFrozen: boolean): Float64Array =>
        Float64Array.from(z, (_, i) => {
          const side = (sign: number): number => {
            const at = Float64Array.from(z);
            at[i]! += sign * h;
            return cost(at, isFrozen ? frozen : mixed(at));
          };
          return (side(1) - side(-1)) / (2 * h);
        });
      const most = largestGap(gradient, 0);
      return {
        values: {
          leastRise: Math.min(...rises),
          lead: Math.max(...path.slice(1).map((value, step) => value - line(step))),
          lineGap,
          endGap: Math.abs(end - 1),
          fullGap: Math.max(Math.abs(full.loss - forward.loss), largestGap(full.gradient, forward.gradient)),
          frozenError: largestGap(gradient, differences(true)) / most,
          movingGap: largestGap(gradient, differences(false)) / most,
        },
        series: [
          {
            name: 't',
            title: 'The share of the teacher in the target',
            x: { label: 'step', values: path.map((_, step) => step) },
            y: { label: 't' },
            lines: [
              { name: 'adaptive', values: path },
              { name: 'straight line', values: path.map((_, step) => (step === 0 ? 0.4 : line(step - 1))) },
            ],
          },
        ],
      };
    });
  },
};
