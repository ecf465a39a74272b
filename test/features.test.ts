// The learned projector of the feature losses: its gradients in float64, rows of weight 0, training, what is refused.
import { describe, expect, it } from 'vitest';
import {
  FeatureProjector,
  featureCosine,
  featureHuber,
  featureMse,
  nn,
  optim,
  randn,
  sum,
  tensor,
  tidy,
  type Tensor,
} from '../src/index.js';
import { linear } from '../src/ops/index.js';

/** A projector in double: modules of the library hold float32. */
class DoubleProjector extends nn.Module {
  constructor(readonly weight: Tensor) {
    super();
  }
  override forward(x: Tensor): Tensor {
    return linear(x, this.weight);
  }
}

const [rows, width, teacherWidth] = [4, 3, 5];
const h = randn([rows, width], { seed: 1, dtype: 'float64' });
const t = randn([rows, teacherWidth], { seed: 2, dtype: 'float64' });
const w = randn([teacherWidth, width], { seed: 3, dtype: 'float64' });

const projected = (hs: ArrayLike<number>, ws: ArrayLike<number>, r: number): number[] =>
  Array.from({ length: teacherWidth }, (_, j) => {
    let total = 0;
    for (let c = 0; c < width; c++) total += hs[r * width + c]! * ws[j * width + c]!;
    return total;
  });

const references: Record<string, (y: number[], target: number[]) => number> = {
  featureMse: (y, k) => y.reduce((total, v, j) => total + (v - k[j]!) ** 2, 0) / teacherWidth,
  featureCosine: (y, k) => {
    const dot = (a: number[], b: number[]) => a.reduce((total, v, j) => total + v * b[j]!, 0);
    return 1 - dot(y, k) / Math.sqrt(dot(y, y) * dot(k, k));
  },
  featureHuber: (y, k) =>
    y.reduce((total, v, j) => {
      const e = Math.abs(v - k[j]!);
      return total + (e <= 1 ? 0.5 * e * e : e - 0.5);
    }, 0) / teacherWidth,
};
const losses = { featureMse, featureCosine, featureHuber };

describe.each(Object.keys(losses) as (keyof typeof losses)[])('%s through a projector', (name) => {
  const reference = (hs: ArrayLike<number>, ws: ArrayLike<number>): number => {
    let total = 0;
    for (let r = 0; r < rows; r++)
      total += references[name]!(projected(hs, ws, r), [...(t.data as Float64Array).subarray(r * teacherWidth, (r + 1) * teacherWidth)]);
    return total / rows;
  };

  it('has the value and both gradients of its formula', () => {
    const student = tensor(h.data.slice(), { shape: h.shape, requiresGrad: true });
    const weight = tensor(w.data.slice(), { shape: w.shape, requiresGrad: true });
    const loss = losses[name](student, t, { projector: new DoubleProjector(weight) });
    expect(Math.abs(loss.item() - reference(h.data, w.data))).toBeLessThan(1e-12);
    loss.backward();
    const slopes = (x: Tensor, at: (moved: Float64Array) => number): number[] =>
      Array.from(x.data as Float64Array, (_, i) => {
        const moved = (step: number) => at(Float64Array.from(x.data as Float64Array, (v, j) => (i === j ? v + step : v)));
        return (moved(1e-5) - moved(-1e-5)) / 2e-5;
      });
    const wantedH = slopes(h, (moved) => reference(moved, w.data));
    const wantedW = slopes(w, (moved) => reference(h.data, moved));
    for (const [got, wanted] of [
      [student.grad!, wantedH],
      [weight.grad!, wantedW],
    ] as const)
      wanted.forEach((value, i) => expect(Math.abs(got.data[i]! - value)).toBeLessThan(1e-8));
  });

  it('a row of weight 0 reaches neither student nor projector, whatever it holds', () => {
    const values = Float32Array.from(h.data);
    const clean = values.slice();
    values.fill(NaN, width, 2 * width);
    const target = t.cast('float32');
    const gradients = [values, clean].map((data) => {
      const projector = new FeatureProjector(width, teacherWidth, { seed: 4 });
      const student = tensor(data, { shape: h.shape, requiresGrad: true });
      const rowWeights = tensor([1, 0, 0.5, 1]);
      losses[name](student, target, { projector, rowWeights }).backward();
      return [...projector.parameters(), student].flatMap((p) => [...p.grad!.data]);
    });
    expect(gradients[0]).toEqual(gradients[1]);
    expect(gradients[0]!.every(Number.isFinite)).toBe(true);
  });
});

describe('FeatureProjector', () => {
  it('same seed, same weights; a hidden layer where asked for', () => {
    const make = (options: object) => new FeatureProjector(3, 5, { seed: 7, ...options });
    expect(make({}).stateDict()).toEqual(make({}).stateDict());
    expect([...make({ hidden: 4 }).namedParameters()].map(([name, { shape }]) => [name, ...shape])).toEqual([
      ['layers.0.weight', 4, 3],
      ['layers.0.bias', 4],
      ['layers.2.weight', 5, 4],
      ['layers.2.bias', 5],
    ]);
    expect(make({ bias: false }).parameterCount()).toBe(15);
  });

  it('learns with the student: features that a matrix maps onto the teacher’s are matched', () => {
    const x = randn([32, 6], { seed: 8 });
    const teacher = tidy(() => linear(x, randn([9, 6], { seed: 9 })));
    const projector = new FeatureProjector(6, 9, { seed: 10 });
    const optimizer = new optim.AdamW(projector.parameters(), { learningRate: 0.05, weightDecay: 0 });
    const losses = Array.from({ length: 200 }, () =>
      tidy(() => {
        const loss = featureMse(x, teacher, { projector });
        loss.backward();
        optimizer.step();
        optimizer.zeroGrad();
        return loss.item();
      }),
    );
    expect(losses.at(-1)! < 1e-3 * losses[0]!, `${losses[0]} to ${losses.at(-1)}`).toBe(true);
  });

  it('refuses what does not fit', () => {
    expect(() => new FeatureProjector(0, 3)).toThrow('Cannot make a FeatureProjector: studentWidth must be a whole number');
    expect(() => new FeatureProjector(3, 3, { hiden: 4 } as object)).toThrow("did you mean 'hidden'");
    const x = randn([2, 3], { seed: 1 });
    expect(() => featureMse(x, x, { projector: (() => x) as unknown as nn.Module })).toThrow(TypeError);
    class Sum extends nn.Module {
      override forward(input: Tensor): Tensor {
        return sum(input, { axis: 0 });
      }
    }
    expect(() => featureMse(x, x, { projector: new Sum() })).toThrow("the projector must keep the student's rows [2]: it gives [3]");
    expect(() => featureCosine(x, randn([2, 3], { seed: 2, requiresGrad: true }))).toThrow(/must not require grad: .*detach\(\)/);
    expect(() => featureMse(x, randn([2, 4], { seed: 2 }), { projector: new FeatureProjector(3, 5) })).toThrow(/shape \[2, 5\]/);
  });
});
