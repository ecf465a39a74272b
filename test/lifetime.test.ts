// Memory and threads over time: workers, endings in mid-call, garbage, disposal inside a graph, buffers that are taken away.
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { describe, expect, test } from 'vitest';
import { add, captureTopK, kdLoss, LimbeckError, memory, mul, softmax, tensor, tidy, topK, type Tensor } from '../src/index.js';
import * as raw from '../src/raw.js';
import { normals } from './random.js';

const built = pathToFileURL(path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../dist/index.js')).href;

/** Runs a script in a process of its own and gives back what it printed. It must end by itself with status 0. */
function run(script: string, flags: string[] = []): string {
  const child = spawnSync(process.execPath, [...flags, '--input-type=module', '-e', `const built = ${JSON.stringify(built)};\n${script}`], {
    encoding: 'utf8',
    timeout: 50_000,
  });
  expect(`${child.signal} ${child.status} ${child.stderr}`).toBe('null 0 ');
  return child.stdout.trim();
}

const work = `
  const { kdLoss, captureTopK, softmax, tensor } = await import(built);
  const values = Float32Array.from({ length: 64 * 1000 }, (_, i) => Math.sin(i * 12.9898) * 4);
  function once() {
    const student = tensor(values.map((x) => x * 0.5), { shape: [64, 1000], requiresGrad: true });
    const teacher = tensor(values.slice(), { shape: [64, 1000] });
    const loss = kdLoss(student, captureTopK(teacher, 16, { temperature: 2 }), { residual: 'tail_bucket' });
    loss.backward();
    return [loss.item(), ...student.grad.data.slice(0, 50)].join();
  }
`;

describe('worker threads', () => {
  test('losses in four workers at once give the bits of the main thread', () => {
    const output = run(`
      import { Worker } from 'node:worker_threads';
      ${work}
      const expected = once();
      const code = \`
        import { parentPort } from 'node:worker_threads';
        const built = \${JSON.stringify(built)};
        ${work.replaceAll('`', '\\`').replaceAll('$', '\\$')}
        const results = new Set();
        for (let i = 0; i < 60; i++) results.add(once());
        parentPort.postMessage([...results]);
      \`;
      const start = () => new Promise((resolve, reject) => {
        const worker = new Worker(new URL('data:text/javascript,' + encodeURIComponent(code)));
        worker.on('message', resolve);
        worker.on('error', reject);
      });
      const workers = [start(), start(), start(), start()];
      for (let i = 0; i < 20; i++) if (once() !== expected) throw new Error('the main thread changed its mind');
      const results = await Promise.all(workers);
      console.log(results.every((all) => all.length === 1 && all[0] === expected) ? 'same' : 'different');
    `);
    expect(output).toBe('same');
  });

  test('a worker ended in the middle of a call, again and again', () => {
    const output = run(`
      import { Worker } from 'node:worker_threads';
      ${work}
      once();
      const code = \`
        import { parentPort } from 'node:worker_threads';
        const built = \${JSON.stringify(built)};
        ${work.replaceAll('`', '\\`').replaceAll('$', '\\$')}
        parentPort.postMessage('running');
        for (;;) once();
      \`;
      for (let i = 0; i < 12; i++) {
        const worker = new Worker(new URL('data:text/javascript,' + encodeURIComponent(code)));
        await new Promise((resolve, reject) => { worker.once('message', resolve); worker.once('error', reject); });
        await new Promise((resolve) => setTimeout(resolve, i * 3));
        await worker.terminate();
      }
      once();
      console.log('alive');
    `);
    expect(output).toBe('alive');
  });

  test('the process exits while workers and reads are busy', () => {
    const output = run(`
      import { Worker } from 'node:worker_threads';
      ${work}
      const code = \`
        import { parentPort } from 'node:worker_threads';
        const built = \${JSON.stringify(built)};
        ${work.replaceAll('`', '\\`').replaceAll('$', '\\$')}
        parentPort.postMessage('running');
        for (;;) once();
      \`;
      const worker = new Worker(new URL('data:text/javascript,' + encodeURIComponent(code)));
      worker.once('message', () => {
        void softmax(tensor(values, { shape: [64, 1000] })).read();
        console.log('leaving');
        process.exit(0);
      });
    `);
    expect(output).toBe('leaving');
  });
});

describe('memory over time', () => {
  test('garbage in a synchronous loop stays bounded', () => {
    // 4,000 rounds make 4 × 2 MB each: 32 GB in all if nothing were collected.
    const output = run(`
      const { kdLoss, tensor, softmax } = await import(built);
      const teacher = tensor(new Float32Array(512 * 1000).map((_, i) => Math.sin(i)), { shape: [512, 1000] });
      let peak = 0;
      for (let i = 0; i < 1500; i++) {
        const student = tensor(new Float32Array(512 * 1000), { shape: [512, 1000], requiresGrad: true });
        kdLoss(softmax(student), teacher).backward();
        if (i % 50 === 0) peak = Math.max(peak, process.memoryUsage().rss);
      }
      console.log(Math.round(peak / 2 ** 20));
    `);
    expect(Number(output)).toBeLessThan(1500);
  });

  test('what nobody disposed is counted off once it is collected, however it left its tidy()', () => {
    const output = run(`
      import { setFlagsFromString } from 'node:v8';
      import { runInNewContext } from 'node:vm';
      const { memory, mul, sum, tensor, tidy } = await import(built);
      setFlagsFromString('--expose-gc');
      const gc = runInNewContext('gc');
      const before = memory().cpu.tensors;
      const one = () => tensor(Float32Array.of(1));
      const student = tensor(Float32Array.of(1), { requiresGrad: true });
      let held = [one(), tidy(one), tidy(() => tidy(one)), tidy(() => ({ inside: [one()] }))];
      // A gradient that was looked at outlives zeroGrad().
      tidy(() => sum(mul(student, 2)).backward());
      held.push(student.grad);
      student.zeroGrad();
      const most = memory().cpu.tensors - before;
      held = null;
      for (let i = 0; i < 5; i++) {
        gc();
        await new Promise(setImmediate);
      }
      console.log(most, memory().cpu.tensors - before, student.size);
    `);
    expect(output).toBe('6 1 1');
  });

  test('tidy and dispose return to where they began', () => {
    const before = memory().cpu;
    for (let i = 0; i < 50; i++) {
      tidy(() => {
        const student = tensor(new Float32Array(64 * 100), { shape: [64, 100], requiresGrad: true });
        kdLoss(student, captureTopK(tensor(normals(i, 6400), { shape: [64, 100] }), 5), { residual: 'truncate' }).backward();
      });
      const kept = mul(tensor(new Float32Array(100)), 2);
      kept.dispose();
      kept.dispose();
    }
    const after = memory().cpu;
    // The last plain input tensors of the loop are garbage, not leaks: each is one tensor of 400 bytes.
    expect(after.bytes - before.bytes).toBeLessThanOrEqual(50 * 400);
    expect(after.tensors - before.tensors).toBeLessThanOrEqual(50);
  });
});

describe('disposal inside a graph', () => {
  const made = (): { student: Tensor; middle: Tensor; loss: Tensor } => {
    const student = tensor(normals(1, 12), { shape: [3, 4], requiresGrad: true });
    const middle = mul(student, 2);
    const loss = kdLoss(middle, tensor(normals(2, 12), { shape: [3, 4] }));
    return { student, middle, loss };
  };
  const orRefused = (fn: () => void): void => {
    try {
      fn();
    } catch (error) {
      expect(error instanceof TypeError || error instanceof LimbeckError, String(error)).toBe(true);
      expect((error as Error).message).toMatch(/^Cannot /);
    }
  };

  test('of inputs, of what is in between, of the loss', () => {
    for (const which of ['student', 'middle', 'loss'] as const) {
      const all = made();
      all[which].dispose();
      orRefused(() => all.loss.backward());
      orRefused(() => void add(all[which], 1));
    }
    const { student, loss } = made();
    loss.backward();
    student.grad?.dispose();
    orRefused(() => void student.grad?.data);
    student.zeroGrad();
    expect(student.grad).toBe(null);
  });

  test('a disposed tensor is refused everywhere by name', () => {
    const gone = tensor([[1, 2]]);
    gone.dispose();
    const there = tensor([[1, 2]]);
    expect(() => softmax(gone)).toThrow('Cannot compute softmax: x must not be disposed: it is');
    expect(() => kdLoss(gone, there)).toThrow('Cannot compute kdLoss: student must not be disposed: it is');
    expect(() => kdLoss(there, gone)).toThrow(/^Cannot compute kdLoss: .* must not be disposed: it is$/);
    expect(() => gone.data).toThrow('Cannot get data: the tensor must not be disposed: it is');
    expect(() => gone.item()).toThrow(TypeError);
    return expect(gone.read()).rejects.toThrow('Cannot read a tensor: the tensor must not be disposed: it is');
  });
});

describe('buffers that are taken away', () => {
  const detach = (array: Float32Array): void => void structuredClone(array.buffer, { transfer: [array.buffer as ArrayBuffer] });

  test('a detached tensor is an error, not a crash', async () => {
    const values = normals(3, 12);
    const x = tensor(values, { shape: [3, 4], requiresGrad: true });
    const y = softmax(x);
    const loss = kdLoss(x, tensor(normals(4, 12), { shape: [3, 4] }));
    detach(values);
    for (const fn of [
      () => softmax(x),
      () => kdLoss(x, y.detach()),
      () => kdLoss(tensor(normals(4, 12), { shape: [3, 4] }), x.detach()),
      () => topK(x.detach(), 2),
      () => mul(x, 2),
    ]) {
      expect(fn).toThrow(/^Cannot /);
      expect(fn).toThrow(RangeError);
    }
    // The gradient was made before; backward needs nothing of the student's memory.
    loss.backward();
    expect((x.grad as Tensor).size).toBe(12);
    await x.read().catch((error: Error) => expect(error.message).toMatch(/^Cannot /));
  });

  test('limbeck/raw with detached, short, shared or overlapping arrays', () => {
    const student = normals(1, 12);
    const teacher = normals(2, 12);
    const gone = normals(3, 12);
    detach(gone);
    const options = { rows: 3, cols: 4 };
    expect(() => raw.kdLoss(gone, teacher, options)).toThrow(RangeError);
    expect(() => raw.kdLoss(student, gone, options)).toThrow(RangeError);
    expect(() => raw.kdLoss(student, teacher, { ...options, out: { gradient: gone } })).toThrow(RangeError);
    expect(() => raw.kdLoss(student, teacher.subarray(1), options)).toThrow(RangeError);
    expect(() => raw.kdLoss(student, teacher, { ...options, rows: 2 ** 40 })).toThrow(RangeError);
    const shared = new Float32Array(new SharedArrayBuffer(48));
    shared.set(student);
    const out = new Float32Array(12);
    raw.kdLoss(shared, teacher, { ...options, out: { gradient: out } });
    const plain = new Float32Array(12);
    raw.kdLoss(student, teacher, { ...options, out: { gradient: plain } });
    expect([...out]).toEqual([...plain]);
  });

  test('memory handed out is never used again', () => {
    const x = mul(tensor(new Float32Array(1000).fill(3)), 2);
    const data = x.data as Float32Array;
    x.dispose();
    const others = Array.from({ length: 20 }, () => mul(tensor(new Float32Array(1000).fill(1)), 5));
    expect(data.every((value) => value === 6)).toBe(true);
    for (const other of others) expect(other.data.buffer).not.toBe(data.buffer);
  });

  test('memory that was not handed out is used again', () => {
    const before = memory().cpu.pooledBytes;
    mul(tensor(new Float32Array(54321)), 2).dispose();
    expect(memory().cpu.pooledBytes - before).toBe(54321 * 4);
    mul(tensor(new Float32Array(54321)), 2).dispose();
    expect(memory().cpu.pooledBytes - before).toBe(54321 * 4);
  });
});
