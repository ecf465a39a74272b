// Pruning on a device: the scores, masks and smaller models of the CPU. The device is LIMBECK_TEST_DEVICE.
import { describe, expect, it } from 'vitest';
import { kdLoss, nn, optim, prune, randn, tidy, type Device } from '../src/index.js';

const device = (process.env['LIMBECK_TEST_DEVICE'] ?? 'cpu') as Device;

describe.each(['magnitude', 'activation', 'gradient'] as const)('by %s', (method) => {
  const on = (place: Device) => {
    const model = new nn.MLP({ inputs: 12, hidden: [8, 6], outputs: 4, seed: 1, device: place });
    const x = randn([16, 12], { seed: 2, device: place });
    const teacher = randn([16, 4], { seed: 3, device: place });
    return {
      model,
      x,
      teacher,
      options: {
        method,
        calibration: () => [x],
        loss: (of: nn.Module, batch: typeof x) => kdLoss(of.forward(batch), teacher),
      },
    };
  };

  it('weights go as they do on the CPU, and stay 0 through steps', async () => {
    const [here, there] = [on(device), on('cpu')];
    const { masks } = prune.pruneStep(here.model, { sparsity: 0.5, ...here.options });
    const expected = prune.pruneStep(there.model, { sparsity: 0.5, ...there.options });
    expect([...masks].map(([name, mask]) => [name, [...mask]])).toEqual([...expected.masks].map(([name, mask]) => [name, [...mask]]));
    const optimizer = new optim.AdamW(here.model.parameters(), { learningRate: 0.01 });
    prune.setMasks(optimizer, here.model, masks);
    for (let step = 0; step < 3; step++) {
      tidy(() => kdLoss(here.model.forward(here.x), here.teacher).backward());
      optimizer.step();
      optimizer.zeroGrad();
    }
    for (const [name, parameter] of here.model.namedParameters()) {
      const mask = masks.get(name);
      if (mask === undefined) continue;
      const values = await parameter.read();
      expect(values.every((w, i) => (w === 0) === (mask[i] === 0))).toBe(true);
    }
  });

  it('units go as they do on the CPU', async () => {
    const [here, there] = [on(device), on('cpu')];
    const { model, report } = prune.pruneStep(here.model, { structure: 'units', sparsity: 0.5, ...here.options });
    const expected = prune.pruneStep(there.model, { structure: 'units', sparsity: 0.5, ...there.options });
    expect(report).toEqual(expected.report);
    expect(model.parameters().every((parameter) => parameter.device === here.x.device)).toBe(true);
    const [a, b] = [await model.forward(here.x).read(), await expected.model.forward(there.x).read()];
    a.forEach((value, i) => expect(Math.abs(value - b[i]!)).toBeLessThan(1e-5));
    expect(prune.flops(model)).toEqual(prune.flops(expected.model));
  });
});
