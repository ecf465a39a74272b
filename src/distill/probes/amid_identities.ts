// AMiD's assistant: the mixtures it contains, its gradient, and probabilities near 0.
import { tidy } from '../../autograd.js';
import { kdLoss } from '../../losses/index.js';
import { asTensor, klOf, largestGap, lossAndGradient, normals, rowOf, softmaxOf, widest } from './numbers.js';
import type { Probe } from './types.js';

/** Item 10: known members of the family, and the closed gradient of KL(p‖r). */
export const amidIdentities: Probe = {
  name: 'amid_identities',
  says: 'AMiD: α = −1 is skew KL, α = 1 the geometric mixture, λ = 0 no assistant; gradients against their formula; tiny probabilities.',
  source: 'AMiD 2025 (arXiv 2510.15982)',
  options: {
    rows: { says: 'Rows.', default: 8, least: 1, most: 4096, whole: true },
    cols: { says: 'Classes.', default: 20, least: 2, most: 4096, whole: true },
    alphas: { says: 'α of the gradients.', default: [-5, -1, 0, 1, 3], least: -50, most: 50 },
    lambda: { says: 'λ, the share of the teacher.', default: 0.3, least: 0.01, most: 0.99 },
    cold: { says: 'Standard deviation of the logits whose smallest probabilities are next to 0.', default: 40, least: 1, most: 1000 },
  },
  values: {
    skewGap: 'relative difference of α = −1 and skew forward KL, loss and gradient',
    geometricGap: 'relative difference of α = 1 and KL(p ‖ pᵞq¹⁻ᵞ/Z) by hand, γ = λ',
    plainGap: 'relative difference of λ = 0 and the divergence alone, the largest of four divergences',
    gradientError: 'largest difference of the gradient from (h − q·Σh), h = ω⊙(r − p), over the alphas, by the largest',
    notFinite: 'numbers of loss or gradient that are not finite where probabilities are next to 0, in float32',
  },
  run(options, { device, seed }) {
    const { rows, cols, lambda, cold } = options as Record<string, number>;
    const alphas = options['alphas'] as readonly number[];
    const dtype = widest(device);
    return tidy(() => {
      const z = normals(rows! * cols!, seed, 2);
      const u = normals(rows! * cols!, seed + 1, 2);
      const student = asTensor(z, cols!, device, dtype);
      const teacher = asTensor(u, cols!, device, dtype);
      const [p, q] = [softmaxOf(u, cols!), softmaxOf(z, cols!)];
      const of = (options: Parameters<typeof kdLoss>[2]) => lossAndGradient(student, (x) => kdLoss(x, teacher, options));
      const relative = (a: ReturnType<typeof of>, b: ReturnType<typeof of>): number =>
        Math.max(Math.abs(a.loss - b.loss) / b.loss, largestGap(a.gradient, b.gradient) / largestGap(b.gradient, 0));
      /** r ∝ (λp^ρ + (1 − λ)q^ρ)^{1/ρ} of a row, and ω, q's part in it. */
      const mixed = (r: number, alpha: number): { mixture: Float64Array; omega: Float64Array } => {
        const [own, other] = [rowOf(q, r, cols!), rowOf(p, r, cols!)];
        const rho = (1 - alpha) / 2;
        const mixture = own.map((value, c) =>
          rho === 0
            ? other[c]! ** lambda! * value ** (1 - lambda!)
            : (lambda! * other[c]! ** rho + (1 - lambda!) * value ** rho) ** (1 / rho),
        );
        const sum = mixture.reduce((total, value) => total + value, 0);
        const omega = own.map((value, c) => ((1 - lambda!) * value ** rho) / (lambda! * other[c]! ** rho + (1 - lambda!) * value ** rho));
        return { mixture: mixture.map((value) => value / sum), omega };
      };
      const skew = relative(
        of({ assistant: { alpha: -1, lambda: lambda! } }),
        of({ divergence: { kind: 'skew_forward_kl', alpha: lambda! } }),
      );
      const geometric = of({ assistant: { alpha: 1, lambda: lambda! } });
      let byHand = 0;
      for (let r = 0; r < rows!; r++) byHand += klOf(rowOf(p, r, cols!), mixed(r, 1).mixture) / rows!;
      const plain = (['forward_kl', 'reverse_kl', 'jensen_shannon', 'squared_hellinger'] as const).map((divergence) =>
        relative(of({ divergence, assistant: { alpha: 0.5, lambda: 0 } }), of({ divergence })),
      );
      let gradientError = 0;
      for (const alpha of alphas) {
        const { gradient } = of({ assistant: { alpha, lambda: lambda! }, reduction: 'sum' });
        const formula = new Float64Array(gradient.length);
        for (let r = 0; r < rows!; r++) {
          const { mixture, omega } = mixed(r, alpha);
          const other = rowOf(p, r, cols!);
          const h = mixture.map((value, c) => omega[c]! * (value - other[c]!));
          const sum = h.reduce((total, value) => total + value, 0);
          rowOf(q, r, cols!).forEach((value, c) => (formula[r * cols! + c] = h[c]! - value * sum));
        }
        gradientError = Math.max(gradientError, largestGap(gradient, formula) / largestGap(formula, 0));
      }
      let notFinite = 0;
      const [far, farTeacher] = [
        asTensor(normals(rows! * cols!, seed + 2, cold), cols!, device),
        asTensor(normals(rows! * cols!, seed + 3, cold), cols!, device),
      ];
      for (const alpha of alphas)
        for (const divergence of ['forward_kl', 'reverse_kl', 'jensen_shannon'] as const) {
          const { loss, gradient } = lossAndGradient(far, (x) =>
            kdLoss(x, farTeacher, { divergence, assistant: { alpha, lambda: lambda! } }),
          );
          for (const value of [loss, ...gradient]) if (!Number.isFinite(value)) notFinite++;
        }
      return {
        values: {
          skewGap: skew,
          geometricGap: Math.abs(geometric.loss - byHand) / byHand,
          plainGap: Math.max(...plain),
          gradientError,
          notFinite,
        },
      };
    });
  },
};
