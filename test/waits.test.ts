// No hidden synchronisation: training steps queue all of their work on the emulated device, and the host waits only where a number is read.
import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

// Before the addon is looked for.
process.env['LIMBECK_EMULATE_CUDA'] = '1';
const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const isBuilt = existsSync(path.join(root, 'build/Release/limbeck_emulated.node'));

describe.skipIf(!isBuilt)('the host on the emulated device', async () => {
  const { captureTopK, crossEntropy, kdLoss, linearKdLoss, mul, randn, sampleTarget, tensor, tidy, nn, optim } =
    await import('../src/index.js');
  const { native } = await import('../src/native.js');
  const emulator = isBuilt ? native().emulator! : (undefined as never);
  const device = 'cuda';

  beforeEach(() => emulator.configure({ lazy: true, seed: 0 }));
  afterEach(() => emulator.configure({ lazy: false }));

  /** What the host waited for in `steps` steps, once two have filled the pools. */
  function waitsOf(step: () => void, steps = 3): Record<string, number> {
    for (let i = 0; i < 2; i++) tidy(step);
    native().synchronize(0);
    emulator.resetAudit();
    for (let i = 0; i < steps; i++) tidy(step);
    return emulator.waits();
  }

  const host = (size: number, seed: number): Float32Array => Float32Array.from({ length: size }, (_, i) => Math.sin(seed + i));

  test('steps of an MLP with dropout, distilled from dense, captured and sampled targets, wait for nothing', () => {
    const model = new nn.MLP({ inputs: 24, hidden: [32, 16], outputs: 10, activation: 'gelu', dropout: 0.25, seed: 1, device });
    const optimizer = new optim.AdamW(model.parameters(), { learningRate: 1e-3 });
    const targets = [
      (teacher: ReturnType<typeof randn>) => ({ target: teacher, options: { temperature: 2 } }),
      (teacher: ReturnType<typeof randn>) => ({ target: captureTopK(teacher, 4), options: { residual: 'tail_bucket' as const } }),
      (teacher: ReturnType<typeof randn>) => ({ target: sampleTarget(teacher, 5, { seed: 3 }), options: {} }),
    ];
    for (const targetOf of targets) {
      const waited = waitsOf(() => {
        // A batch from the host, as data loaders give it.
        const x = tensor(host(8 * 24, 1), { shape: [8, 24], device });
        const teacher = tensor(host(8 * 10, 2), { shape: [8, 10], device });
        const { target, options } = targetOf(teacher);
        kdLoss(model.forward(x), target, { ...options, labels: Int32Array.from({ length: 8 }, (_, i) => i), hardWeight: 0.5 }).backward();
        optimizer.step();
        optimizer.zeroGrad();
      });
      expect(waited).toEqual({});
    }
    // One launch a step, whatever the parameters: three steps, done once something waits for them.
    native().synchronize(0);
    expect(emulator.audit().find(({ kernel }) => kernel === 'adamw')?.launches).toBe(3);
    const loss = crossEntropy(model.forward(randn([8, 24], { seed: 1, device })), new Int32Array(8));
    emulator.resetAudit();
    expect(Number.isFinite(loss.item())).toBe(true);
    // And, the first time, the pinned memory of downloads.
    expect(emulator.waits()).toMatchObject({ cudaEventSynchronize: 1 });
  });

  test('steps of a GPT wait for nothing', () => {
    const model = new nn.GPT({ vocabulary: 20, context: 8, layers: 1, heads: 2, width: 8, dropout: 0.1, seed: 1, device });
    const optimizer = new optim.Lion(model.parameters(), { learningRate: 1e-3 });
    const waited = waitsOf(() => {
      const ids = tensor(
        Int32Array.from({ length: 12 }, (_, i) => i),
        { shape: [2, 6], device },
      );
      crossEntropy(model.forward(ids), new Int32Array(12)).backward();
      optimizer.step();
      optimizer.zeroGrad();
    });
    expect(waited).toEqual({});
  });

  test('the norm of all gradients is one wait, and a step of 150 parameters two launches', () => {
    const parameters = Array.from({ length: 150 }, (_, i) => randn([1 + (i % 5)], { seed: i, device, requiresGrad: true }));
    const optimizer = new optim.SGD(parameters, { learningRate: 0.1, momentum: 0.9 });
    for (const [i, parameter] of parameters.entries()) parameter.backward(randn(parameter.shape, { seed: 1000 + i, device }));
    native().synchronize(0);
    optim.gradNorm(parameters);
    emulator.resetAudit();
    optim.gradNorm(parameters);
    expect(emulator.waits()).toEqual({ cudaEventSynchronize: 1 });
    optimizer.step();
    native().synchronize(0);
    expect(emulator.audit().find(({ kernel }) => kernel === 'sgd')?.launches).toBe(2);
  });

  test('steps of linearKdLoss of half types, its gradients kept in blocks, wait for nothing', () => {
    const leaf = (rows: number, seed: number): ReturnType<typeof randn> => {
      const x = randn([rows, 16], { seed, device }).cast('bfloat16').detach();
      x.requiresGrad = true;
      return x;
    };
    const [hidden, weight] = [leaf(12, 1), leaf(40, 2)];
    const target = captureTopK(randn([12, 40], { seed: 3, device }), 4);
    const waited = waitsOf(() => {
      linearKdLoss(hidden, weight, target, { residual: 'tail_bucket', scratchBytes: 1800 }).backward();
      for (const each of [hidden, weight]) each.zeroGrad();
    });
    expect(waited).toEqual({});
  });

  const launched = (): number => emulator.audit().reduce((sum, { launches }) => sum + launches, 0);

  test('read() gives what was there when it was called, and waits for nothing that was asked for later', async () => {
    const x = tensor(host(1000, 1), { device, requiresGrad: true });
    const optimizer = new optim.SGD([x], { learningRate: 1 });
    await x.read();
    x.backward(tensor(host(1000, 2), { device }));
    native().synchronize(0);
    emulator.resetAudit();
    const pending = x.read();
    optimizer.step();
    const later = mul(x.detach(), 3);
    expect([...(await pending)]).toEqual([...host(1000, 1)]);
    // The snapshot and the product took new memory.
    expect(emulator.waits()).toEqual({ cudaEventSynchronize: 1, cudaMalloc: 2 });
    expect(launched()).toBe(0);
    expect((await later.read())[7]).toBeCloseTo(3 * (host(8, 1)[7]! - host(8, 2)[7]!), 5);
    expect(launched()).toBe(2);
  });

  test('a download that is not ordered after the kernels before it is a fault, in every run', () => {
    for (const lazy of [true, false])
      for (const seed of [0, 5]) {
        emulator.configure({ lazy, seed });
        const y = mul(tensor(host(100, 1), { device }), 2);
        emulator.configure({ lazy, seed, dropWait: 1 });
        const z = mul(y, 2);
        expect(() => z.to('cpu')).toThrow(
          /work of two streams on the same memory must be ordered by an event: unary in one, then a copy in the other/,
        );
        emulator.configure({ lazy, seed });
        expect(mul(y, 2).to('cpu').data[7]).toBeCloseTo(4 * host(8, 1)[7]!, 5);
      }
  });

  test('uploads: sixteen pieces of pinned memory, used again once they have travelled', () => {
    const bytes = 3 * 2 ** 20;
    const batch = new Float32Array(bytes / 4).fill(1);
    for (let i = 0; i < 3; i++) tensor(batch, { device }).dispose();
    native().synchronize(0);
    emulator.resetAudit();
    // Six pieces each: the last two of eighteen wait for the first two.
    for (let i = 0; i < 3; i++) tensor(batch, { device }).dispose();
    expect(emulator.waits()).toEqual({ cudaEventSynchronize: 2 });
  });
});
