// Operators on a student's logits: what soften() does to its probabilities, and finite where those are 0.
import { describe, expect, it } from 'vitest';
import { denseTarget, kdLoss, log, randn, scale, soften, softeningOperators, softmax, tensor, type Tensor } from '../src/index.js';
import { softenedLogits } from '../src/distill/stage_loss/softened.js';

const operators = softeningOperators.map(({ name }) => name);
const temperatures = [0.4, 1, 1.5, 4];
const all = operators.flatMap((operator) =>
  temperatures.filter((T) => T >= 1 || operator !== 'uniform_mix').map((temperature) => ({ operator, temperature })),
);

describe.each(all)('$operator at $temperature', ({ operator, temperature }) => {
  it('is soften() of the probabilities, and so is its gradient', () => {
    const make = (): Tensor => tensor(randn([5, 7], { seed: 3, dtype: 'float64' }).data, { shape: [5, 7], requiresGrad: true });
    const target = denseTarget({ probs: softmax(randn([5, 7], { seed: 4, dtype: 'float64' })) });
    const [a, b] = [make(), make()];
    const plain = log(soften(softmax(b), { operator, temperature }));
    const own = softenedLogits(a, operator, temperature);
    const [p, q] = [softmax(own).data, softmax(plain).data];
    p.forEach((v, i) => expect(Math.abs(v - q[i]!)).toBeLessThan(1e-12));
    kdLoss(own, target).backward();
    kdLoss(plain, target).backward();
    a.grad!.data.forEach((g, i) => expect(Math.abs(g - b.grad!.data[i]!)).toBeLessThan(1e-10));
  });

  it('is finite where a probability is 0 in float32', () => {
    const z = tensor([[0, -150, -3]], { requiresGrad: true });
    expect(softmax(z).data[1]).toBe(0);
    const loss = kdLoss(softenedLogits(z, operator, temperature), tensor([[1, 0, 2]]));
    expect(Number.isFinite(loss.item())).toBe(true);
    scale(loss, 1).backward();
    expect([...z.grad!.data].every(Number.isFinite)).toBe(true);
    if (operator !== 'uniform_mix') expect(Math.abs(z.grad!.data[1]!)).toBeGreaterThan(1e-3);
  });
});
