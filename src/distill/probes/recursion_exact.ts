// Recursive meta-distillation without training: each generation is exactly its target, with an anchor and without.
import { tidy } from '../../autograd.js';
import { exp, soften } from '../../ops/index.js';
import { denseTarget, mixTargets } from '../../targets/index.js';
import { asTensor, klOf, largestGap, mean, normals, numbersOf, rowOf, softmaxOf, widest } from './numbers.js';
import type { Probe } from './types.js';

/** Item 2: M_k = λ·p + (1 − λ)·q_k, q_{k+1} = M_k, or M_k softened a little: a student that loses some of it each time. */
export const recursionExact: Probe = {
  name: 'recursion_exact',
  says: 'Generations that equal their target: KL to the anchor falls by 1 − λ each time; without an anchor it stays, or drifts where each generation loses a little.',
  source: 'Recursive Meta-Distillation 2026 (arXiv 2601.13100); the operator is our instance of it',
  options: {
    rows: { says: 'Random rows.', default: 16, least: 1, most: 65536, whole: true },
    cols: { says: 'Outcomes.', default: 20, least: 2, most: 65536, whole: true },
    spread: { says: 'Standard deviation of the logits.', default: 2, least: 0.01, most: 20 },
    lambda: { says: 'λ, the share of the anchor.', default: 0.25, least: 0.001, most: 0.999 },
    generations: { says: 'Generations.', default: 30, least: 2, most: 1000, whole: true },
    loss: { says: 'Temperature by which each generation of the second loop is softer than its target.', default: 1.1, least: 1, most: 4 },
  },
  values: {
    excess: 'largest KL(p‖q_{k+1}) / KL(p‖q_k) of the anchored loop less 1 − λ, over rows and generations; at most 0 by convexity',
    geometricGap: 'mean KL after the last generation by (1 − λ)^n of the first',
    unanchoredRatio: 'last by first mean KL without an anchor: 1, nothing is won',
    driftAnchored: 'last mean KL with the anchor where each generation loses a little',
    driftUnanchored: 'the same without the anchor',
    fixedPointGap: 'largest difference of two anchored loops from different starts, after the last generation',
    startGap: 'their difference at the start',
  },
  run(options, { device, seed }) {
    const { rows, cols, spread, lambda, generations, loss } = options as Record<string, number>;
    const dtype = widest(device);
    return tidy(() => {
      const p = softmaxOf(normals(rows! * cols!, seed, spread), cols!);
      const starts = [1, 2].map((i) => softmaxOf(normals(rows! * cols!, seed + i, spread), cols!));
      const anchor = denseTarget({ probs: asTensor(p, cols!, device, dtype) });
      const next = (q: Float64Array, share: number, temperature: number): Float64Array =>
        tidy(() => {
          const own = denseTarget({ probs: asTensor(q, cols!, device, dtype) });
          const mixed = mixTargets([
            { target: anchor, weight: share },
            { target: own, weight: 1 - share },
          ]);
          return numbersOf(soften(exp(mixed.values), { operator: 'power', temperature }));
        });
      const distances = (q: Float64Array): number[] =>
        Array.from({ length: rows! }, (_, r) => klOf(rowOf(p, r, cols!), rowOf(q, r, cols!)));
      const loop = (start: Float64Array, share: number, temperature: number) => {
        const steps = [distances(start)];
        let q = start;
        for (let generation = 0; generation < generations!; generation++) {
          q = next(q, share, temperature);
          steps.push(distances(q));
        }
        return { last: q, steps };
      };
      const [first, second] = starts as [Float64Array, Float64Array];
      const anchored = loop(first, lambda!, 1);
      const free = loop(first, 0, 1);
      const anchoredLossy = loop(first, lambda!, loss!);
      const otherStart = loop(second, lambda!, loss!);
      const freeLossy = loop(first, 0, loss!);
      let excess = -Infinity;
      const least = widest(device) === 'float64' ? 1e-12 : 1e-4;
      for (let k = 1; k < anchored.steps.length; k++)
        anchored.steps[k]!.forEach((distance, r) => {
          const before = anchored.steps[k - 1]![r]!;
          // Below this the sums have no digits left.
          if (before > least) excess = Math.max(excess, distance / before - (1 - lambda!));
        });
      const means = (steps: number[][]): number[] => steps.map(mean);
      const bound = means(anchored.steps).map((_, k) => mean(anchored.steps[0]!) * (1 - lambda!) ** k);
      return {
        values: {
          excess,
          geometricGap: mean(anchored.steps.at(-1)!) / bound.at(-1)!,
          unanchoredRatio: mean(free.steps.at(-1)!) / mean(free.steps[0]!),
          driftAnchored: mean(anchoredLossy.steps.at(-1)!),
          driftUnanchored: mean(freeLossy.steps.at(-1)!),
          fixedPointGap: largestGap(anchoredLossy.last, otherStart.last),
          startGap: largestGap(first, second),
        },
        series: [
          {
            name: 'contraction',
            title: 'KL to the anchor by generation, nothing lost',
            x: { label: 'generation', values: bound.map((_, k) => k) },
            y: { label: 'mean KL in nats', isLogarithmic: true },
            lines: [
              { name: 'anchored', values: means(anchored.steps) },
              { name: 'bound (1 − λ)ⁿ', values: bound },
              { name: 'no anchor', values: means(free.steps) },
            ],
          },
          {
            name: 'drift',
            title: 'KL to the anchor by generation, each generation a little softer',
            x: { label: 'generation', values: bound.map((_, k) => k) },
            y: { label: 'mean KL in nats' },
            lines: [
              { name: 'anchored', values: means(anchoredLossy.steps) },
              { name: 'no anchor', values: means(freeLossy.steps) },
            ],
          },
        ],
      };
    });
  },
};
