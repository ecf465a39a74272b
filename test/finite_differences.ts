// Gradients of modules against central differences in float64.
import { expect } from 'vitest';
import type { nn } from '../src/index.js';
import { mul, randn, sum, tensor, tidy, type Tensor } from '../src/index.js';

/** Every parameter as float64, in place. */
export function toFloat64<M extends nn.Module>(module: M): M {
  for (const [, each] of module.modules()) {
    const fields = each as unknown as Record<string, unknown>;
    for (const [name, value] of Object.entries(fields)) {
      if (isTensor(value) && value.requiresGrad) {
        fields[name] = tensor(Float64Array.from(value.data), { shape: value.shape, requiresGrad: true });
      }
    }
  }
  return module;
}

const isTensor = (value: unknown): value is Tensor => typeof value === 'object' && value !== null && 'requiresGrad' in value;

/**
 * Checks ∂Σ(r·f())/∂leaf of each leaf, r fixed and random: |error| ≤ 1e-6·max(1, |gradient|) at every element. `f` reads the
 * leaves, float64 on the CPU.
 */
export function expectGradients(leaves: Record<string, Tensor>, f: () => Tensor): void {
  let upstream: Tensor | undefined;
  const value = (): Tensor => {
    const out = f();
    upstream ??= randn(out.shape, { seed: 99, dtype: 'float64' });
    return sum(mul(out, upstream));
  };
  for (const leaf of Object.values(leaves)) leaf.zeroGrad();
  value().backward();
  let largest = 0;
  for (const [name, leaf] of Object.entries(leaves)) {
    expect(leaf.grad, `${name} has a gradient`).not.toBeNull();
    const gradient = leaf.grad!.data;
    const { data } = leaf;
    for (let i = 0; i < data.length; i++) {
      const at = data[i]!;
      const step = 1e-4 * Math.max(1, Math.abs(at));
      const [a, b, c, d] = [at - 2 * step, at - step, at + step, at + 2 * step].map((x) => {
        data[i] = x;
        return tidy(() => value().item());
      }) as [number, number, number, number];
      data[i] = at;
      // Five points: the error is of the order step⁴.
      const numeric = (a - 8 * b + 8 * c - d) / (12 * step);
      const error = Math.abs(gradient[i]! - numeric);
      expect(error <= 1e-6 * Math.max(1, Math.abs(numeric)), `∂/∂${name}[${i}] is ${gradient[i]}, by differences ${numeric}`).toBe(true);
      largest = Math.max(largest, Math.abs(numeric));
    }
  }
  // Where all derivatives vanished, nothing was checked.
  expect(largest).toBeGreaterThan(1e-3);
}

/** The parameters of a module, and inputs beside them, as leaves by name. */
export function expectModuleGradients(module: nn.Module, x: Tensor, f: () => Tensor = () => module.forward(x)): void {
  expectGradients({ ...Object.fromEntries(module.namedParameters()), ...(x.requiresGrad ? { x } : {}) }, f);
}
