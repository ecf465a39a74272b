// DLPack descriptors: the same numbers as typed arrays on memory of the CPU, and as limbeck's own tensors on that of a CUDA device.
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { describe, expect, test } from 'vitest';
import { kdLoss, memory, tensor } from '../src/index.js';
import * as raw from '../src/raw.js';
import { normals } from './random.js';

const rows = 4;
const cols = 9;
const student = normals(1, rows * cols, 2);
const teacher = normals(2, rows * cols, 2);
const float32 = { code: 2, bits: 32, lanes: 1 };
const cpu = { type: 1, id: 0 };

const described = (data: raw.DLPack['data'], more: Partial<raw.DLPack> = {}): raw.DLPack => ({
  data,
  shape: [rows, cols],
  dtype: float32,
  device: cpu,
  ...more,
});

const expected = raw.kdLoss(student, teacher, { rows, cols, temperature: 2, out: { gradient: new Float32Array(rows * cols) } });

describe('on the CPU', () => {
  test('views and buffers, with an offset, space between rows and leading dimensions', async () => {
    const wide = new Float32Array(3 + rows * 12).fill(NaN);
    for (let r = 0; r < rows; r++) wide.set(student.subarray(r * cols, (r + 1) * cols), 3 + r * 12);
    const students = [
      described(student),
      described(student.slice().buffer, { shape: [2, 2, cols] }),
      described(wide, { strides: [12, 1], byteOffset: 12 }),
      described(wide.subarray(3), { shape: [2, 1, 2, cols], strides: [24, 99, 12, 1], byteOffset: 0n }),
    ];
    for (const x of students) {
      const gradient = new Float32Array(rows * 10).fill(7);
      const out = { loss: described(new Float32Array(1), { shape: [1] }), gradient: described(gradient, { strides: [10, 1] }) };
      for (const form of [raw.kdLoss, raw.kdLossAsync]) {
        gradient.fill(7);
        const result = await form(x, described(teacher), { temperature: 2, out });
        expect(result.loss).toBe(out.loss);
        expect(result.gradient).toBe(out.gradient);
        expect((out.loss.data as Float32Array)[0]).toBe(expected.loss[0]);
        for (let r = 0; r < rows; r++) {
          expect([...gradient.subarray(10 * r, 10 * r + cols)]).toEqual([...expected.gradient!.subarray(cols * r, cols * r + cols)]);
          expect(gradient[10 * r + cols]).toBe(7);
        }
      }
    }
  });

  test('half types, labels, weights and sparse teachers', () => {
    const bits = new Uint16Array(rows * cols).map((_, i) => 0x3f00 + ((i * 37) % 200));
    const half = raw.kdLoss(bits, teacher, { rows, cols, dtype: 'bfloat16' });
    expect(raw.kdLoss(described(bits, { dtype: { code: 4, bits: 16 } }), described(teacher)).loss).toEqual(half.loss);

    const labels = Int32Array.from([0, 8, 3, 3]);
    const weights = Float32Array.from([1, 2, 0, 1]);
    const int32 = { code: 0, bits: 32 };
    const hard = raw.crossEntropy(student, labels, { rows, cols, rowWeights: weights });
    const one = described(labels, { shape: [rows], dtype: int32 });
    expect(raw.crossEntropy(described(student), one, { rowWeights: described(weights, { shape: [rows] }) }).loss).toEqual(hard.loss);

    const { indices, logProbs, tailLogMass } = raw.captureTopK(teacher, 3, { rows, cols });
    const sparse = raw.kdLoss(student, { indices, logProbs, tailLogMass }, { rows, cols, residual: 'tail_bucket' });
    const parts = {
      indices: described(indices, { shape: [rows, 3], dtype: int32 }),
      logProbs: described(logProbs, { shape: [rows, 3] }),
      tailLogMass: described(tailLogMass, { shape: [rows] }),
    };
    expect(raw.kdLoss(described(student), parts, { residual: 'tail_bucket' }).loss).toEqual(sparse.loss);
  });

  test('addresses: read, written, and the same one twice', async () => {
    const [x, u, g] = [student, teacher, new Float32Array(rows * cols)].map((values) => tensor(values.slice(), { shape: [rows, cols] }));
    const at = (of: typeof x): raw.DLPack => raw.toDLPack(of!, { address: true });
    expect(at(x).data).toBeTypeOf('bigint');
    expect(raw.kdLoss(at(x), at(u), { temperature: 2, out: { gradient: at(g) } }).loss).toEqual(expected.loss);
    expect([...g!.data]).toEqual([...expected.gradient!]);
    await raw.kdLossAsync(at(x), at(u), { temperature: 2, out: { gradient: { ...at(g), byteOffset: 0 } } });
    expect([...g!.data]).toEqual([...expected.gradient!]);
    raw.kdLoss(at(x), at(u), { temperature: 2, out: { gradient: at(x) } });
    expect([...x!.data]).toEqual([...expected.gradient!]);
    expect(raw.kdLoss(at(u), at(u)).loss).toEqual(Float32Array.of(0));
  });

  test('a tensor there and back, on the same memory', () => {
    const x = raw.fromDLPack(described(student));
    expect(x.shape).toEqual([rows, cols]);
    expect(x.data.buffer).toBe(student.buffer);
    const { data, dtype, device } = raw.toDLPack(x);
    expect(data).toBe(x.data);
    expect([dtype, device]).toEqual([float32, cpu]);
    expect(kdLoss(x, tensor(teacher, { shape: [rows, cols] }), { temperature: 2 }).item()).toBe(expected.loss[0]);
    const { tensors } = memory().cpu;
    x.dispose();
    expect(memory().cpu.tensors).toBe(tensors - 1);
    expect(student[0]).not.toBe(undefined);
  });
});

describe('what it refuses', () => {
  const attempt = (x: unknown, more: object = {}): (() => unknown) => {
    return () => raw.kdLoss(x as raw.DLPack, described(teacher), more);
  };

  test('descriptors that cannot be right', () => {
    expect(attempt(described(student, { shape: [rows + 1, cols] }))).toThrow(
      'student.data must hold 180 bytes from byteOffset 0: it holds 144',
    );
    expect(attempt(described(student, { byteOffset: 2 }))).toThrow('student must be aligned to 4 bytes: it begins at byte 2');
    expect(attempt(described(student, { byteOffset: -4 }))).toThrow(RangeError);
    expect(attempt(described(student, { strides: [1, rows] }))).toThrow(
      'student.strides must be those of rows that follow each other (shape [4, 9]): they are [1, 4]',
    );
    expect(attempt(described(student, { strides: [5, 1] }))).toThrow(RangeError);
    expect(attempt(described(student, { dtype: { code: 2, bits: 32, lanes: 4 } }))).toThrow('it is code 2, 32 bits, 4 lanes');
    expect(attempt(described(student, { dtype: { code: 0, bits: 64 } }))).toThrow(TypeError);
    expect(attempt(described(student, { device: { type: 7, id: 0 } }))).toThrow('student.device.type must be 1 (CPU), 2 (CUDA)');
    expect(attempt(described(0n))).toThrow('student.data must be an address: it is 0n');
    expect(attempt(described(13n))).toThrow('student.data must be aligned to 4 bytes: it is 13n');
    expect(attempt(described([1, 2] as never))).toThrow('student.data must be an address (bigint), an ArrayBuffer or a view of one');
    expect(attempt(described(student, { shape: [] }))).toThrow(RangeError);
    expect(attempt(described(student, { dtype: null as never }))).toThrow(TypeError);
    expect(attempt(described(student, { device: null as never }))).toThrow(TypeError);
    expect(attempt(described(student, { shape: null as never }))).toThrow(TypeError);
  });

  test('sizes and places that do not meet', () => {
    expect(() => raw.kdLoss(described(student), described(teacher, { shape: [2, 2 * cols] }))).toThrow(
      'teacher must have 4 rows of 9: its shape is [2, 18]',
    );
    expect(attempt(described(student), { rows: 3 } as object)).toThrow('student must have 3 rows of 9: its shape is [4, 9]');
    expect(attempt(described(student), { out: { gradient: described(new Float32Array(4), { shape: [2, 2] }) } })).toThrow(RangeError);
    expect(() => raw.kdLoss(described(student), described(1n << 20n, { device: { type: 2, id: 0 } }))).toThrow(
      'teacher must be on the CPU: it is on a CUDA device',
    );
    expect(() => raw.toDLPack(3 as never)).toThrow(TypeError);
    expect(() => raw.fromDLPack({} as raw.DLPack)).toThrow('the descriptor must give data, shape, dtype and device');
  });
});

describe('on a CUDA device', () => {
  const built = (name: string): string =>
    pathToFileURL(path.resolve(path.dirname(fileURLToPath(import.meta.url)), `../dist/${name}.js`)).href;

  /** The emulated device, in a process of its own; what the script gives back as JSON. */
  function run(body: string): unknown {
    const script = `
      const { captureTopK, crossEntropy, kdLoss, memory, tensor } = await import(${JSON.stringify(built('index'))});
      const raw = await import(${JSON.stringify(built('raw'))});
      const [rows, cols] = [${rows}, ${cols}];
      const student = Float32Array.from(${JSON.stringify([...student])});
      const teacher = Float32Array.from(${JSON.stringify([...teacher])});
      const there = (values, shape = [rows, cols]) => tensor(values.slice(), { shape, device: 'cuda' });
      ${body}`;
    const child = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
      encoding: 'utf8',
      timeout: 50_000,
      env: { ...process.env, LIMBECK_EMULATE_CUDA: '1' },
    });
    expect(`${child.signal} ${child.status} ${child.stderr}`).toBe('null 0 ');
    return JSON.parse(child.stdout);
  }

  test('pointers in, pointers out, at once and as a promise; nothing is copied to the host but the loss', () => {
    const result = run(`
      const x = there(student), u = there(teacher), g = there(new Float32Array(rows * cols)), l = there(new Float32Array(1), []);
      // A tensor of limbeck stands for the memory of another addon: what goes in are addresses alone.
      const [X, U, G] = [x, u, g].map((each) => raw.toDLPack(each));
      const own = there(student);
      own.requiresGrad = true;
      const loss = kdLoss(own, u, { temperature: 2, labels: [0, 1, 2, 3], hardWeight: 0.2 });
      loss.backward();
      const options = { temperature: 2, labels: [0, 1, 2, 3], hardWeight: 0.2, out: { gradient: G } };
      const sync = raw.kdLoss(X, U, options);
      const first = await g.read();
      const before = memory().cuda;
      const promised = await raw.kdLossAsync(X, U, options);
      const after = memory().cuda;
      const out = new Float32Array(2);
      raw.kdLoss(X, { logits: U }, { ...options, reduction: 'sum', out: { loss: out } });
      const none = raw.kdLoss(X, U, { reduction: 'none', out: { gradient: G } });
      console.log(JSON.stringify({
        pointer: typeof X.data, expected: loss.item(), sync: sync.loss[0], promised: promised.loss[0], sum: out[0], none: none.loss.length,
        same: (await own.grad.read()).every((v, i) => v === first[i]),
        gradient: sync.gradient === G, tensors: after.tensors - before.tensors,
      }));`) as Record<string, unknown>;
    expect(result).toMatchObject({ pointer: 'bigint', none: rows, same: true, gradient: true, tensors: 0 });
    expect(result['sync']).toBe(result['expected']);
    expect(result['promised']).toBe(result['expected']);
    expect(result['sum']).toBeCloseTo(rows * (result['expected'] as number), 4);
  });

  test('sparse teachers, labels and a loss that stays there', () => {
    const result = run(`
      const x = there(student);
      const target = captureTopK(there(teacher), 3);
      const own = kdLoss(x, target, { residual: 'tail_bucket' }).item();
      const l = there(new Float32Array(1), [1]);
      const parts = { indices: raw.toDLPack(target.indices), logProbs: raw.toDLPack(target.logProbs), tailLogMass: raw.toDLPack(target.tailLogMass) };
      const L = raw.toDLPack(l);
      const given = raw.kdLoss(raw.toDLPack(x), parts, { residual: 'tail_bucket', out: { loss: { ...L, shape: [1] } } });
      const hard = raw.crossEntropy(raw.toDLPack(x), raw.toDLPack(tensor(Int32Array.of(1, 2, 3, 4), { device: 'cuda' })));
      console.log(JSON.stringify({ own, there: (await l.read())[0], isDescriptor: 'data' in given.loss, hard: hard.loss[0], hardOwn: crossEntropy(x, [1, 2, 3, 4]).item() }));`) as Record<
      string,
      unknown
    >;
    expect(result['there']).toBe(result['own']);
    expect(result['isDescriptor']).toBe(true);
    expect(result['hard']).toBe(result['hardOwn']);
  });

  test('what does not meet is refused, and owners keep what is theirs', () => {
    const result = run(`
      const x = there(student), u = there(teacher);
      const X = raw.toDLPack(x);
      const words = [];
      const attempt = (f) => { try { f(); words.push('nothing'); } catch (error) { words.push(error.message); } };
      attempt(() => raw.kdLoss(X, teacher, {}));
      attempt(() => raw.kdLoss(X, raw.toDLPack(u), { out: { gradient: new Float32Array(36) } }));
      attempt(() => raw.kdLoss(X, raw.toDLPack(u), { rowStride: 12 }));
      attempt(() => raw.kdLoss({ ...X, strides: [12, 1] }, raw.toDLPack(u)));
      attempt(() => raw.kdLoss({ ...X, device: { type: 2, id: 5 } }, raw.toDLPack(u)));
      attempt(() => raw.kdLoss(X, raw.toDLPack(u), { out: { gradient: { ...X, shape: [2, 2] } } }));
      const t = raw.fromDLPack(X);
      t.dispose();
      console.log(JSON.stringify({ words, alive: (await x.read())[0] === student[0] }));`) as { words: string[]; alive: boolean };
    expect(result.alive).toBe(true);
    const [plain, gradient, stride, strides, device, shape] = result.words;
    expect(plain).toMatch(/^Cannot compute/);
    expect(gradient).toBe('Cannot compute raw.kdLoss: out.gradient must be a DLPack descriptor like student: it is a Float32Array');
    expect(stride).toBe('Cannot compute raw.kdLoss: rowStride must be left to the descriptors on a CUDA device: it is 12');
    expect(strides).toBe('Cannot compute raw.kdLoss: student must have no space between its rows: its strides are [12, 1]');
    expect(device).toMatch(/^Cannot compute raw.kdLoss: cuda:5 must be there/);
    expect(shape).toBe('Cannot compute raw.kdLoss: out.gradient must be float32 [4, 9] on cuda: it is float32 [2, 2] on cuda');
  });
});
