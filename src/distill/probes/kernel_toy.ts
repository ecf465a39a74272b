// Self-distillation in kernel regression, whose limit is known: with some ground truth it settles, without it collapses.
import { mean, norm, normals } from './numbers.js';
import type { Probe } from './types.js';

/** Item 8: eleven points, RBF kernel, f_τ = K(K + λI)⁻¹(α·y + (1 − α)·f_{τ−1}). */
export const kernelToy: Probe = {
  name: 'kernel_toy',
  says: 'Kernel regression that learns from itself: with α of the truth it converges to K(K + (λ/α)I)⁻¹y, with none it collapses.',
  source: 'Borup & Andersen 2021 (arXiv 2102.13088)',
  options: {
    points: { says: 'Points on [0, 1].', default: 11, least: 2, most: 500, whole: true },
    gamma: { says: 'γ of the kernel e^(−γ(x − x′)²).', default: 80, least: 0.1, most: 1e6 },
    lambda: { says: 'λ of the ridge.', default: 0.2, least: 1e-6, most: 100 },
    alpha: { says: 'α, the share of the truth.', default: 0.35, least: 0.01, most: 1 },
    generations: { says: 'Generations.', default: 200, least: 2, most: 100000, whole: true },
    noise: { says: 'Standard deviation of the noise on sin 2πx.', default: 0.5, least: 0, most: 10 },
  },
  values: {
    limitGap: 'largest difference of the last generation from K(K + (λ/α)I)⁻¹y',
    settledNorm: 'norm of the last generation by that of y',
    collapsedNorm: 'the same with α = 0',
    settledLoss: 'mean squared difference of the last generation from y',
    collapsedLoss: 'the same with α = 0',
    contraction: 'largest factor by which the distance from the limit shrinks in one generation: below 1 − α',
  },
  run(options, { seed }) {
    const { points, gamma, lambda, alpha, generations, noise } = options as Record<string, number>;
    const x = Float64Array.from({ length: points! }, (_, i) => i / (points! - 1));
    const drawn = normals(points!, seed, noise);
    const y = x.map((at, i) => Math.sin(2 * Math.PI * at) + drawn[i]!);
    const kernel = Array.from(x, (a) => Float64Array.from(x, (b) => Math.exp(-gamma! * (a - b) ** 2)));
    /** K(K + ridge·I)⁻¹v. */
    const smoothed = (v: Float64Array, ridge: number): Float64Array => {
      const weights = solved(kernel, ridge, v);
      return Float64Array.from(kernel, (row) => row.reduce((sum, value, i) => sum + value * weights[i]!, 0));
    };
    const loop = (share: number): Float64Array[] => {
      const all = [smoothed(y, lambda!)];
      for (let generation = 1; generation < generations!; generation++) {
        const before = all.at(-1)!;
        all.push(
          smoothed(
            y.map((value, i) => share * value + (1 - share) * before[i]!),
            lambda!,
          ),
        );
      }
      return all;
    };
    const limit = smoothed(y, lambda! / alpha!);
    const settled = loop(alpha!);
    const collapsed = loop(0);
    const far = (f: Float64Array): number => norm(f.map((value, i) => value - limit[i]!));
    const loss = (f: Float64Array): number => mean(f.map((value, i) => (value - y[i]!) ** 2));
    let contraction = 0;
    for (let k = 1; k < settled.length; k++) {
      const before = far(settled[k - 1]!);
      if (before > 1e-10) contraction = Math.max(contraction, far(settled[k]!) / before);
    }
    return {
      values: {
        limitGap: Math.max(...settled.at(-1)!.map((value, i) => Math.abs(value - limit[i]!))),
        settledNorm: norm(settled.at(-1)!) / norm(y),
        collapsedNorm: norm(collapsed.at(-1)!) / norm(y),
        settledLoss: loss(settled.at(-1)!),
        collapsedLoss: loss(collapsed.at(-1)!),
        contraction,
      },
      series: [
        {
          name: 'generations',
          title: 'Training loss by generation',
          x: { label: 'generation', values: settled.map((_, k) => k) },
          y: { label: 'mean squared error' },
          lines: [
            { name: `α = ${alpha}`, values: settled.map(loss) },
            { name: 'α = 0', values: collapsed.map(loss) },
          ],
        },
      ],
    };
  },
};

/** (K + ridge·I)⁻¹v by Cholesky: the matrix is symmetric and positive. */
function solved(kernel: readonly Float64Array[], ridge: number, v: Float64Array): Float64Array {
  const n = v.length;
  const lower = kernel.map((row) => row.slice());
  for (let i = 0; i < n; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = kernel[i]![j]! + (i === j ? ridge : 0);
      for (let k = 0; k < j; k++) sum -= lower[i]![k]! * lower[j]![k]!;
      lower[i]![j] = i === j ? Math.sqrt(sum) : sum / lower[j]![j]!;
    }
  }
  const out = v.slice();
  for (let i = 0; i < n; i++) {
    for (let k = 0; k < i; k++) out[i]! -= lower[i]![k]! * out[k]!;
    out[i]! /= lower[i]![i]!;
  }
  for (let i = n - 1; i >= 0; i--) {
    for (let k = i + 1; k < n; k++) out[i]! -= lower[k]![i]! * out[k]!;
    out[i]! /= lower[i]![i]!;
  }
  return out;
}
