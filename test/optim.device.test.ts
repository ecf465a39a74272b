// Masks through every optimiser and through averages of weights, and the same steps on every device. The device is LIMBECK_TEST_DEVICE.
import { describe, expect, it } from 'vitest';
import { randn, tensor, type Device, type Tensor } from '../src/index.js';
import { AdamW, EMA, Lion, SGD, type Optimizer } from '../src/optim/index.js';

const device = (process.env['LIMBECK_TEST_DEVICE'] ?? 'cpu') as Device;

const makers: Record<string, (parameters: Tensor[]) => Optimizer> = {
  sgd: (parameters) => new SGD(parameters, { learningRate: 0.1, momentum: 0.9, nesterov: true, weightDecay: 0.3 }),
  adamw: (parameters) => new AdamW(parameters, { learningRate: 0.05, weightDecay: 0.3 }),
  lion: (parameters) => new Lion(parameters, { learningRate: 0.05, weightDecay: 0.3 }),
};

const read = async (x: Tensor): Promise<number[]> => [...(await x.read())];

function step(optimizer: Optimizer, parameter: Tensor, seed: number): void {
  const gradient = randn(parameter.shape, { seed, device });
  parameter.backward(gradient);
  optimizer.step();
  optimizer.zeroGrad();
  gradient.dispose();
}

describe.each(Object.keys(makers))(`%s on ${device}`, (kind) => {
  // Off by a few from every vector's width.
  const size = 37;

  it('holds masked weights, state and averages at exactly zero, and moves the others as without a mask', async () => {
    const kept = Float32Array.from({ length: size }, (_, i) => (i % 3 === 0 ? 0 : 1));
    const [pruned, whole] = [0, 1].map(() => randn([size], { seed: 1, device, requiresGrad: true })) as [Tensor, Tensor];
    const [a, b] = [makers[kind]!([pruned]), makers[kind]!([whole])];
    const [averages, others] = [new EMA([pruned], { decay: 0.7 }), new EMA([whole], { decay: 0.7 })];
    const run = (from: number, to: number) => {
      for (let seed = from; seed < to; seed++) {
        step(a, pruned, seed);
        step(b, whole, seed);
        averages.update();
        others.update();
      }
    };
    run(10, 13);
    const mask = tensor(kept, { device });
    a.setMask(pruned, mask);
    averages.setMask(pruned, mask);
    mask.dispose();
    const zero = async () => {
      const state = a.stateDict();
      const lists = [await read(pruned), [...averages.stateDict()['average.0']!.data]];
      for (const [name, { data }] of Object.entries(state)) if (name.startsWith('0.')) lists.push([...data]);
      for (const list of lists) list.forEach((v, i) => kept[i] === 0 && expect(v).toBe(0));
      return lists;
    };
    await zero();
    run(13, 20);
    const [own, average] = await zero();
    const [wanted, wantedAverage] = [await read(whole), [...others.stateDict()['average.0']!.data]];
    expect(own!.filter((_, i) => kept[i] === 1)).toEqual(wanted.filter((_, i) => kept[i] === 1));
    expect(average!.filter((_, i) => kept[i] === 1)).toEqual(wantedAverage.filter((_, i) => kept[i] === 1));
    expect(new Set(own!.filter((_, i) => kept[i] === 1).map((v) => v === 0))).toEqual(new Set([false]));
    // Without the mask they move again.
    a.setMask(pruned, null);
    step(a, pruned, 30);
    expect((await read(pruned)).every((v) => v !== 0)).toBe(true);
  });

  it('steps as on the CPU', async () => {
    const run = async (where: Device) => {
      const p = tensor((await randn([size], { seed: 2 }).read()) as Float32Array, { device: where, requiresGrad: true });
      const optimizer = makers[kind]!([p]);
      for (let seed = 40; seed < 45; seed++) {
        p.backward(randn([size], { seed, device: where }));
        optimizer.step();
        optimizer.zeroGrad();
      }
      return read(p);
    };
    const wanted = await run('cpu');
    (await run(device)).forEach((v, i) => expect(Math.abs(v - wanted[i]!)).toBeLessThan(1e-6));
  });
});

describe(`many parameters on ${device}`, () => {
  it('one after the other where two are the same memory', async () => {
    const p = tensor(Float32Array.of(1, 2, 3), { device, requiresGrad: true });
    p.backward(tensor(Float32Array.of(1, -1, 0.5), { device }));
    new SGD([p, tensor(Float32Array.of(5), { device, requiresGrad: true }), p], { learningRate: 0.25 }).step();
    expect(await read(p)).toEqual([0.5, 2.5, 2.75]);
  });

  it('changes none where the state is gone', async () => {
    const p = tensor(Float32Array.of(1), { device, requiresGrad: true });
    p.backward(tensor(Float32Array.of(1), { device }));
    const optimizer = new AdamW([p], { learningRate: 0.25 });
    optimizer.dispose();
    expect(() => optimizer.step()).toThrow('Cannot step: the tensor must not be disposed');
    expect(await read(p)).toEqual([1]);
    expect(optimizer.steps).toBe(0);
  });
});

describe(`EMA on ${device}`, () => {
  it('swaps, applies and saves', async () => {
    const p = randn([41], { seed: 3, device, requiresGrad: true });
    const begun = await read(p);
    const ema = new EMA([p], { decay: 0.5 });
    const optimizer = new SGD([p], { learningRate: 1 });
    step(optimizer, p, 4);
    ema.update();
    const own = await read(p);
    ema.swap();
    const average = await read(p);
    ema.swap();
    expect(await read(p)).toEqual(own);
    average.forEach((v, i) => expect(Math.abs(v - (own[i]! + begun[i]!) / 2)).toBeLessThan(1e-6));
    const other = randn([41], { seed: 5, device, requiresGrad: true });
    ema.applyTo([other]);
    expect(await read(other)).toEqual(average);
    expect([...ema.stateDict()['average.0']!.data]).toEqual(average);
  });

  it('holds what its mask says, even where the parameter moves', () => {
    const p = randn([41], { seed: 6, device, requiresGrad: true });
    const ema = new EMA([p], { decay: 0.5 });
    ema.setMask(
      p,
      tensor(
        Float32Array.from({ length: 41 }, (_, i) => i % 2),
        { device },
      ),
    );
    ema.update();
    [...ema.stateDict()['average.0']!.data].forEach((v, i) => expect(v === 0).toBe(i % 2 === 0));
  });
});
