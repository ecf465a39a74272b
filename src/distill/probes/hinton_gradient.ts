// The T² rule: what temperature does to the gradient of distillation.
import { tidy } from '../../autograd.js';
import { kdLoss } from '../../losses/index.js';
import { tensor } from '../../tensor.js';
import { asTensor, largestGap, lossAndGradient, mean, normals, norm, rowOf } from './numbers.js';
import type { Probe } from './types.js';

/** Item 5: gradients of kdLoss over temperatures, in the limit, in half types, and in rows that are left out. */
export const hintonGradient: Probe = {
  name: 'hinton_gradient',
  says: 'Gradient of T²·KL over the temperature: its size, its limit (z − u)/V, half types, and rows that are masked.',
  source: 'Hinton et al. 2015 (arXiv 1503.02531), section 2.1',
  options: {
    rows: { says: 'Rows of random logits.', default: 64, least: 4, most: 65536, whole: true },
    cols: { says: 'Classes.', default: 100, least: 2, most: 65536, whole: true },
    spread: { says: 'Standard deviation of the logits.', default: 1, least: 1e-3, most: 30 },
    temperatures: { says: 'Temperatures that are compared.', default: [1, 2, 4, 8, 16, 32], least: 1e-2, most: 1e4 },
    hot: { says: 'The temperature of the limit.', default: 1e4, least: 10, most: 1e4 },
  },
  values: {
    squaredRatio: 'largest by smallest gradient norm over the temperatures, with T²',
    plainRatio: 'the same without T²',
    limitError: 'largest relative difference, at the hot temperature, from (z − u, centred)/V',
    float16Error: 'largest relative difference of the gradient of a float16 student from the float32 one on the same numbers',
    bfloat16Error: 'the same of bfloat16',
    maskedLargest: 'largest |gradient| in rows that are ignored or have weight 0',
    unmaskedLeast: 'smallest gradient norm of the other rows',
  },
  run(options, { device, seed }) {
    const { rows, cols, spread, hot } = options as Record<string, number>;
    const temperatures = options['temperatures'] as readonly number[];
    return tidy(() => {
      const z = normals(rows! * cols!, seed, spread);
      const u = normals(rows! * cols!, seed + 1, spread);
      const student = asTensor(z, cols!, device);
      const teacher = asTensor(u, cols!, device);
      const size = (temperature: number, temperatureSquared: boolean): number =>
        norm(lossAndGradient(student, (x) => kdLoss(x, teacher, { temperature, temperatureSquared })).gradient);
      const squared = temperatures.map((temperature) => size(temperature, true));
      const plain = temperatures.map((temperature) => size(temperature, false));
      const ratio = (sizes: number[]): number => Math.max(...sizes) / Math.min(...sizes);

      const limit = Float64Array.from(z, (value, i) => value - u[i]!);
      for (let r = 0; r < rows!; r++) {
        const row = rowOf(limit, r, cols!);
        const middle = mean(row);
        row.forEach((value, c) => (row[c] = (value - middle) / cols!));
      }
      const atLimit = lossAndGradient(student, (x) => kdLoss(x, teacher, { temperature: hot!, reduction: 'sum' })).gradient;

      const halfError = (dtype: 'float16' | 'bfloat16'): number => {
        const [own, other] = [asTensor(z, cols!, device, dtype), asTensor(u, cols!, device, dtype)];
        const options = { temperature: temperatures[0]!, reduction: 'sum' } as const;
        const half = lossAndGradient(own, (x) => kdLoss(x, other, options)).gradient;
        const whole = lossAndGradient(own.cast('float32'), (x) => kdLoss(x, other.cast('float32'), options)).gradient;
        return largestGap(half, whole) / largestGap(whole, 0);
      };

      // A quarter of the rows has no label, another quarter no weight.
      const labels = Int32Array.from({ length: rows! }, (_, r) => (r % 4 === 0 ? -100 : 0));
      const weights = Float32Array.from({ length: rows! }, (_, r) => (r % 4 === 1 ? 0 : 1));
      const masked = lossAndGradient(student, (x) =>
        kdLoss(x, teacher, { temperature: 2, labels, rowWeights: tensor(weights, { device }), reduction: 'sum' }),
      ).gradient;
      let maskedLargest = 0;
      let unmaskedLeast = Infinity;
      for (let r = 0; r < rows!; r++) {
        const size = norm(rowOf(masked, r, cols!));
        if (r % 4 < 2) maskedLargest = Math.max(maskedLargest, size);
        else unmaskedLeast = Math.min(unmaskedLeast, size);
      }
      return {
        values: {
          squaredRatio: ratio(squared),
          plainRatio: ratio(plain),
          limitError: largestGap(atLimit, limit) / largestGap(limit, 0),
          float16Error: halfError('float16'),
          bfloat16Error: halfError('bfloat16'),
          maskedLargest,
          unmaskedLeast,
        },
        series: [
          {
            name: 'gradient',
            title: 'Size of the gradient over the temperature',
            x: { label: 'temperature', values: [...temperatures] },
            y: { label: 'norm of the gradient', isLogarithmic: true },
            lines: [
              { name: 'with T²', values: squared },
              { name: 'without', values: plain },
            ],
          },
        ],
      };
    });
  },
};
