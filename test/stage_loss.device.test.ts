// Targets of recipes and probes on a device: the same numbers as on the CPU. The device is LIMBECK_TEST_DEVICE.
import { describe, expect, it } from 'vitest';
import { probes, runProbe } from '../src/distill/probes/index.js';
import { stageLoss, type TargetSpec } from '../src/distill/stage_loss/index.js';
import { captureTopK, tensor, tidy, type Device, type Tensor } from '../src/index.js';
import { random } from './random.js';

const device = (process.env['LIMBECK_TEST_DEVICE'] ?? 'cpu') as Device;
const rows = 9;
const cols = 6;
const labels = Int32Array.from({ length: rows }, (_, r) => (r % 4 === 3 ? -100 : (2 * r) % cols));

function logits(seed: number, on: Device): Tensor {
  const next = random(seed);
  const values = Float32Array.from({ length: rows * cols }, () => 4 * next() - 2);
  return tensor(values, { shape: [rows, cols], device: on });
}

const teacher = {
  kind: 'teacher',
  from: 'a',
  access: 'full',
  loss: 'divergence',
  divergence: 'forward_kl',
  hardWeight: 0.2,
  labelSmoothing: 0,
  mix: 'arithmetic',
  mixWeights: 'fixed',
} as const;
const two = [{ name: 'a' }, { name: 'b', weight: 2 }];

const targets: [string, TargetSpec][] = [
  ['captured', { kind: 'captured', from: 'file', divergence: 'forward_kl', residual: 'tail_bucket', hardWeight: 0.1, labelSmoothing: 0 }],
  ['weights by entropy', { ...teacher, from: two, mixWeights: 'entropy', temperature: 2 }],
  ['weights by the batch', { ...teacher, from: two, mixWeights: 'batch' }],
  ['learned weights', { ...teacher, from: two, mixWeights: 'learned' }],
  ['draws', { ...teacher, access: 'sampled', draws: 4 }],
  ['text', { ...teacher, access: 'text', text: { draw: 'sample', critic: 0.1 } }],
  ['a changed target', { ...teacher, labelCorrection: 'sort', groundTruth: 0.3, anchor: { from: 'b', lambda: 0.4 } }],
  ['an operator on both sides', { ...teacher, soften: { operator: 'odds', temperature: 2, sides: 'both' } }],
  ['TAID', { ...teacher, taid: { tStart: 0.5 } }],
  ['AdaKD', { ...teacher, temperature: { rule: 'adakd', base: 2 }, select: { rule: 'adakd', keep: 0.5 } }],
  ['AdaSPEC', { ...teacher, select: { rule: 'adaspec', reference: 'b', keep: 0.5 } }],
  ['SelecTKD', { ...teacher, select: { rule: 'speckd', k: 2 } }],
  ['PLD', { ...teacher, loss: 'pld' }],
  ['DBiLD', { ...teacher, loss: { kind: 'dbild', k: 3 } }],
  ['DKD', { ...teacher, loss: 'dkd' }],
  ['standardised', { ...teacher, loss: 'standardized' }],
];

describe('targets', () => {
  it.each(targets)('%s', (_, spec) => {
    const on = (where: Device) =>
      tidy(() => {
        const [a, b] = [logits(1, where), logits(2, where)];
        const loss = stageLoss({
          spec,
          device: where,
          seed: 1,
          rows,
          cols,
          captured: () => ({ rows: () => captureTopK(a, 3) }),
        });
        const z = logits(3, where);
        z.requiresGrad = true;
        const value = loss.of(
          { logits: z, features: [] },
          {
            rows: Int32Array.from(labels.keys()),
            labels,
            step: 0,
            steps: 10,
            epoch: 0,
            seed: 7,
            input: a,
            teacher: (name) => ({ logits: name === 'a' ? a : b, features: [] }),
          },
        );
        value.backward();
        const numbers = [value.item(), ...(z.grad!.to('cpu').data as Float32Array), ...Object.values(loss.numbers())];
        const learned = loss.parameters().map((parameter) => Array.from(parameter.grad!.to('cpu').data as Float32Array));
        loss.dispose();
        return [...numbers, ...learned.flat()];
      });
    const [own, other] = [on(device), on('cpu')];
    expect(own.length).toBe(other.length);
    own.forEach((value, i) => expect(Math.abs(value - other[i]!), `number ${i}: ${value} and ${other[i]}`).toBeLessThanOrEqual(1e-5));
  });
});

/** Small, and what must hold in float32. */
const small: Record<string, [options: object, bounds: Record<string, number>]> = {
  hinton_gradient: [
    { rows: 8, cols: 20 },
    { squaredRatio: 1.6, limitError: 2e-3, float16Error: 2e-3, maskedLargest: 0 },
  ],
  softening_axioms: [
    { rows: 2, cols: 8 },
    { rankBroken: 0, jump: 1e-5, identityGap: 0, powerGap: 1e-6 },
  ],
  softening_equivalence: [
    { rows: 8, inputs: 4, cols: 4, steps: 3 },
    { sameClassGap: 1e-5, composedGap: 1e-5 },
  ],
  recursion_exact: [
    { generations: 4, rows: 2, cols: 6 },
    { excess: 1e-5, geometricGap: 1 },
  ],
  kernel_toy: [{ generations: 60 }, { limitGap: 1e-9 }],
  sampled_unbiased: [
    { cols: 20, draws: 4, targets: 100 },
    { chiSquare: 4, 'deviation.race': 2, kernelGap: 1e-6 },
  ],
  tinyvit_target: [
    { rows: 2, cols: 40, k: 4 },
    { sumGap: 1e-6, gradientGap: 1e-5, lossGap: 1e-5 },
  ],
  taid_properties: [
    { steps: 20, rows: 2, cols: 6 },
    { lineGap: 1e-12, fullGap: 0, frozenError: 1e-4 },
  ],
  amid_identities: [
    { rows: 2, cols: 6, alphas: [-1, 1] },
    { skewGap: 1e-5, geometricGap: 1e-5, plainGap: 1e-5, gradientError: 1e-4, notFinite: 0 },
  ],
  pld_identities: [
    { rows: 2, cols: 8, wide: 64 },
    { crossEntropyGap: 1e-5, listMleGap: 1e-4, offsetGap: 1e-5, tieGap: 0, gradientError: 1e-4 },
  ],
  bild_identities: [
    { rows: 2, cols: 8, k: 4 },
    { pairLoss: 0, forwardGap: 1e-4, reverseGap: 1e-4, gradientError: 1e-3, strayGradients: 0 },
  ],
  selection_rules: [
    { rows: 16, cols: 8 },
    { keptGap: 0, weightsGrad: 0, gradientGap: 0, acceptanceGap: 1e-9, unchosenLargest: 0 },
  ],
  adakd_temperatures: [
    { rows: 5, cols: 6 },
    { rowGap: 1e-5, scoreGap: 1e-5, formulaGap: 1e-5, outOfBounds: 0, traceGap: 1e-9 },
  ],
};

describe('probes', () => {
  it('are all here', () => expect(Object.keys(small).sort()).toEqual(Object.keys(probes).sort()));

  it.each(Object.entries(small))('%s', async (name, [options, bounds]) => {
    const { values } = await runProbe(name, { ...options }, { device, seed: 1 });
    for (const [key, most] of Object.entries(bounds)) expect(values[key]!, key).toBeLessThanOrEqual(most);
  });
});
