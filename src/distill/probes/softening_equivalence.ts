// Operators of one equivalence class make the same student: three ways to say one temperature, and operators that are another.
import { tidy } from '../../autograd.js';
import { kdLoss } from '../../losses/index.js';
import { log, matmul, scale, soften, softmax, type SofteningOperatorName } from '../../ops/index.js';
import { denseTarget } from '../../targets/index.js';
import { tensor, type Tensor } from '../../tensor.js';
import { asTensor, largestGap, normals, numbersOf, softmaxOf, widest } from './numbers.js';
import type { Probe } from './types.js';

/** Item 1: linear students trained by each way from the same start. */
export const softeningEquivalence: Probe = {
  name: 'softening_equivalence',
  says: 'Linear students trained from one start by operators of one equivalence class, and by operators of others.',
  source: 'Flouro & Chadwick 2026 (arXiv 2601.03195); the experiment is ours',
  options: {
    rows: { says: 'Rows of data.', default: 64, least: 2, most: 65536, whole: true },
    inputs: { says: 'Inputs of the linear student.', default: 16, least: 1, most: 4096, whole: true },
    cols: { says: 'Classes.', default: 10, least: 2, most: 4096, whole: true },
    steps: { says: 'Steps of gradient descent.', default: 60, least: 1, most: 100000, whole: true },
    rate: { says: 'Learning rate.', default: 1, least: 1e-6, most: 100 },
    temperature: { says: 'Temperature of every operator.', default: 3, least: 1.01, most: 100 },
  },
  values: {
    sameClassGap: 'largest difference of student probabilities: logits/T, probabilities at T, and power on both sides',
    composedGap: 'the same of power at √T twice and power at T',
    otherClassGap: 'smallest of the largest differences of students of power and of each other operator, on the same data',
    moved: 'largest change of a student probability by training',
  },
  run(options, { device, seed }) {
    const { rows, inputs, cols, steps, rate, temperature } = options as Record<string, number>;
    const dtype = widest(device);
    return tidy(() => {
      const x = asTensor(normals(rows! * inputs!, seed), inputs!, device, dtype);
      const u = normals(rows! * cols!, seed + 1, 3);
      const logits = asTensor(u, cols!, device, dtype);
      const probs = asTensor(softmaxOf(u, cols!), cols!, device, dtype);
      const start = Float64Array.from(normals(inputs! * cols!, seed + 2, 0.1));
      const student = (loss: (z: Tensor) => Tensor, taken: number): Float64Array =>
        tidy(() => {
          const w = start.slice();
          for (let step = 0; step < taken; step++) {
            tidy(() => {
              const data = dtype === 'float64' ? w : Float32Array.from(w);
              const own = tensor(data, { shape: [inputs!, cols!], dtype, device, requiresGrad: true });
              loss(matmul(x, own)).backward();
              numbersOf(own.grad!).forEach((g, i) => (w[i]! -= rate! * g));
            });
          }
          return numbersOf(softmax(matmul(x, asTensor(w, cols!, device, dtype))));
        });
      const T = temperature!;
      const bothSides = (operator: SofteningOperatorName, times: readonly number[]) => {
        const soft = (p: Tensor): Tensor => times.reduce((row, each) => soften(row, { operator, temperature: each }), p);
        const target = denseTarget({ probs: soft(probs) });
        return (z: Tensor): Tensor => scale(kdLoss(log(soft(softmax(z))), target), T * T);
      };
      const ways: [string, (z: Tensor) => Tensor][] = [
        ['logits', (z) => kdLoss(z, logits, { temperature: T })],
        ['probabilities', (z) => kdLoss(z, denseTarget({ probs }), { temperature: T })],
        ['power', bothSides('power', [T])],
      ];
      const [first, second, third] = ways.map(([, loss]) => student(loss, steps!)) as [Float64Array, Float64Array, Float64Array];
      const composed = student(bothSides('power', [Math.sqrt(T), Math.sqrt(T)]), steps!);
      const others = (['uniform_mix', 'odds', 'log_link'] as const).map((operator) => student(bothSides(operator, [T]), steps!));
      return {
        values: {
          sameClassGap: Math.max(largestGap(first, second), largestGap(first, third)),
          composedGap: largestGap(composed, third),
          otherClassGap: Math.min(...others.map((other) => largestGap(other, third))),
          moved: largestGap(first, student(ways[0]![1], 0)),
        },
      };
    });
  },
};
