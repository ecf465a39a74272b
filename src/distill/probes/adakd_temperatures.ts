// AdaKD: a temperature for each row, and the share of rows that follows the loss.
import { tidy } from '../../autograd.js';
import { AdaptiveFraction, adaptiveTemperatures, kdLoss, rowHellinger } from '../../losses/index.js';
import { asTensor, largestGap, lossAndGradient, normals, numbersOf, rowOf, softmaxOf, widest } from './numbers.js';
import type { Probe } from './types.js';

/** Item 14: row temperatures against single calls, their bounds, scores by hand, and a trace of the feedback. */
export const adakdTemperatures: Probe = {
  name: 'adakd_temperatures',
  says: 'AdaKD: the loss with a temperature for each row equals one call for each; temperatures stay in bounds; the share follows a trace.',
  source: 'AdaKD 2025 (arXiv 2510.11615)',
  options: {
    rows: { says: 'Rows.', default: 31, least: 3, most: 4096, whole: true },
    cols: { says: 'Classes.', default: 20, least: 2, most: 4096, whole: true },
    base: { says: 'T₀.', default: 2, least: 0.01, most: 100 },
    strength: { says: 'c.', default: 0.5, least: 0, most: 5 },
  },
  values: {
    rowGap: 'largest difference of the gradient from one call for each row at its temperature, by the largest',
    scoreGap: 'largest difference of the Hellinger scores from their formula',
    formulaGap: 'largest relative difference of the temperatures from T₀·e^(−c·tanh(ln(s/median)))',
    outOfBounds: 'temperatures outside [T₀e^−c, T₀e^c]',
    spread: 'highest by lowest temperature',
    traceGap: 'largest difference of the kept share from a trace by hand',
  },
  run(options, { device, seed }) {
    const { rows, cols, base, strength } = options as Record<string, number>;
    return tidy(() => {
      const z = normals(rows! * cols!, seed, 2);
      const u = normals(rows! * cols!, seed + 1, 2);
      // Rows from near the teacher to far from it.
      z.forEach((value, i) => (z[i] = u[i]! + (value * Math.floor(i / cols!)) / rows!));
      const [student, teacher] = [asTensor(z, cols!, device), asTensor(u, cols!, device)];
      const scores = rowHellinger(student, teacher);
      const temperatures = adaptiveTemperatures(scores, { base: base!, strength: strength! });
      const values = numbersOf(temperatures);
      const all = lossAndGradient(student, (x) => kdLoss(x, teacher, { temperature: temperatures, reduction: 'sum' })).gradient;
      const single = new Float64Array(all.length);
      values.forEach((temperature, r) => {
        const row = (from: Float32Array) => asTensor(from.subarray(r * cols!, (r + 1) * cols!), cols!, device);
        single.set(lossAndGradient(row(z), (x) => kdLoss(x, row(u), { temperature, reduction: 'sum' })).gradient, r * cols!);
      });
      const [p, q] = [softmaxOf(u, cols!), softmaxOf(z, cols!)];
      const byHand = Float64Array.from(values, (_, r) => {
        const own = rowOf(q, r, cols!);
        let sum = 0;
        rowOf(p, r, cols!).forEach((value, c) => (sum += (Math.sqrt(value) - Math.sqrt(own[c]!)) ** 2));
        return Math.sqrt(sum / 2);
      });
      const found = numbersOf(scores);
      const sorted = Float64Array.from(found).sort();
      const median = (sorted[Math.floor((rows! - 1) / 2)]! + sorted[Math.ceil((rows! - 1) / 2)]!) / 2;
      let formulaGap = 0;
      let outOfBounds = 0;
      const slack = widest(device) === 'float64' ? 1e-6 : 1e-5;
      values.forEach((temperature, r) => {
        // A score of 0 is as far below the median as one can be.
        const tilt = found[r] === 0 ? -1 : Math.tanh(Math.log(found[r]! / median));
        const wanted = base! * Math.exp(-strength! * tilt);
        formulaGap = Math.max(formulaGap, Math.abs(temperature - wanted) / wanted);
        const low = base! * Math.exp(-strength!) * (1 - slack);
        if (!(temperature >= low && temperature <= base! * Math.exp(strength!) * (1 + slack))) outOfBounds++;
      });
      // decay 0: the average is the loss itself. 10 % up or down moves the share by a tenth of itself, and the reference with it.
      const focus = new AdaptiveFraction({ initial: 0.5, least: 0.42, decay: 0 });
      const trace: [loss: number, share: number][] = [
        [1, 0.5],
        [1.05, 0.5],
        [0.85, 0.45],
        [0.8, 0.45],
        [0.7, 0.42],
        [1, 0.462],
        [1.05, 0.462],
        [1.2, 0.5082],
      ];
      const traceGap = Math.max(...trace.map(([loss, share]) => Math.abs(focus.update(loss) - share)));
      return {
        values: {
          rowGap: largestGap(all, single) / largestGap(single, 0),
          scoreGap: largestGap(found, byHand),
          formulaGap,
          outOfBounds,
          spread: Math.max(...values) / Math.min(...values),
          traceGap,
        },
      };
    });
  },
};
