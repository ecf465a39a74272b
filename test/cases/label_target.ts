// Targets that know the label: corrected, enhanced, mixed with it, made of it alone; and logit arithmetic between teachers.
import { expectAll, expectClose, expectEqual, expectSameBits, expectThrows, expectTrue } from '../compare.js';
import { integers, normals, uniforms } from '../random.js';
import { logSoftmaxRow, sum } from '../reference.js';
import { codeOf, kernel, withMemory, type CaseFile, type Limbeck, type Subject } from '../subject.js';

type Tensor = ReturnType<Limbeck['tensor']>;
type Dense = ReturnType<Limbeck['denseTarget']>;
type Floats = Float32Array | Float64Array;
type Method = 'swap' | 'sort';

const IGNORED = -100;
const UNLABELLED = -7;
const WIDTHS = [1, 2, 5, 33, 100, 1024, 1025, 2049];

function run<A extends Floats>(subject: Subject, name: string, x: A, labels: Int32Array, cols: number, parameter = 0): A {
  return withMemory(subject, (memory) => {
    const y = memory.output(x.constructor as new (size: number) => A, x.length);
    const code = codeOf(subject.native, 'label_function', name);
    kernel(subject, 'label_target', memory.input(x), memory.input(labels), y, labels.length, cols, code, parameter, IGNORED, UNLABELLED);
    return memory.read(y);
  });
}

/** Columns from the largest value to the smallest, the first of equal ones first. */
const ranked = (row: ArrayLike<number>): number[] =>
  Array.from({ length: row.length }, (_, c) => c).sort((a, b) => (row[b] as number) - (row[a] as number) || a - b);

function corrected<A extends Floats>(row: A, label: number, method: Method): A {
  const out = row.slice() as A;
  const order = ranked(row);
  const place = order.indexOf(label);
  const top = order[0] as number;
  if (method === 'swap') {
    out[label] = row[top] as number;
    out[top] = row[label] as number;
    return out;
  }
  out[label] = row[top] as number;
  for (let i = 0; i < place; i++) out[order[i] as number] = row[order[i + 1] as number] as number;
  return out;
}

/** Labels of all kinds: the best column, others, ignored, unlabelled. */
function someLabels(x: Floats, cols: number): Int32Array {
  const rows = x.length / cols;
  const labels = integers(cols + 3, rows, 0, cols);
  labels[0] = ranked(x.subarray(0, cols))[0] as number;
  if (rows > 3) labels.set([IGNORED, UNLABELLED], 1);
  return labels;
}

const isLabelled = (label: number): boolean => label !== IGNORED && label !== UNLABELLED;

function probsOf(logits: Float32Array, cols: number): Float32Array {
  const out = new Float32Array(logits.length);
  for (let r = 0; r < logits.length / cols; r++)
    out.set(logSoftmaxRow(logits.subarray(r * cols, (r + 1) * cols), 1).map(Math.exp), r * cols);
  return out;
}

async function read(x: Tensor): Promise<Float32Array> {
  return (await x.read()) as Float32Array;
}

async function gradientOf(
  { limbeck, device }: Subject,
  z: Float32Array,
  cols: number,
  target: Dense,
  options: object,
): Promise<Float32Array> {
  const student = limbeck.tensor(z.slice(), { shape: [z.length / cols, cols], device, requiresGrad: true });
  limbeck.kdLoss(student, target, { reduction: 'sum', ...options }).backward();
  return read(student.grad as Tensor);
}

/** T²·(a·q − t)/T of each row, and what it may be off. */
function expectGradient(what: string, actual: Float32Array, z: Float32Array, target: ArrayLike<number>, cols: number, T = 1): void {
  const expected = new Float64Array(z.length);
  const scale = new Float64Array(z.length);
  for (let r = 0; r < z.length / cols; r++) {
    const q = logSoftmaxRow(z.subarray(r * cols, (r + 1) * cols), T).map(Math.exp);
    const t = Float64Array.from({ length: cols }, (_, c) => target[r * cols + c] as number);
    const a = sum(t);
    for (let c = 0; c < cols; c++) {
      expected[r * cols + c] = T * (a * (q[c] as number) - (t[c] as number));
      scale[r * cols + c] = T * Math.max(a * (q[c] as number), Math.abs(t[c] as number));
    }
  }
  expectClose(what, actual, expected, (i) => 1.5e-5 * (scale[i] as number) + 1e-37);
}

export const label_target: CaseFile = {
  op: 'label_target',
  kernels: ['label_target'],
  checks: [
    ...(['swap', 'sort'] as const).map((method) => ({
      name: `${method}: values moved and never changed, every width, with ties`,
      run(subject: Subject) {
        for (const cols of WIDTHS)
          for (const x of [normals(cols, 6 * cols), Float32Array.from(integers(cols, 6 * cols, 0, 4))]) {
            const labels = someLabels(x, cols);
            const expected = x.slice();
            labels.forEach((label, r) => {
              const row = x.subarray(r * cols, (r + 1) * cols);
              if (isLabelled(label)) expected.set(corrected(row, label, method), r * cols);
            });
            expectSameBits(`V ${cols}`, run(subject, method, x, labels, cols), expected);
            if (subject.device === 'cpu')
              expectSameBits(`V ${cols}, float64`, run(subject, method, Float64Array.from(x), labels, cols), Float64Array.from(expected));
          }
      },
    })),
    {
      name: 'swap and sort: the label last of all, −inf, an infinite label, rows with NaN',
      run(subject) {
        const inf = Infinity;
        const rows = [
          [5, 4, 3, 2, 1],
          [-inf, 1, -inf, 0, -inf],
          [0, 0, 0, 0, 0],
          [1, 2, 3, 4, -inf],
        ];
        const labels = Int32Array.of(4, 2, 3, 4);
        for (const method of ['swap', 'sort'] as const) {
          const expected = rows.flatMap((row, r) => Array.from(corrected(Float32Array.from(row), labels[r] as number, method)));
          expectSameBits(method, run(subject, method, Float32Array.from(rows.flat()), labels, 5), Float32Array.from(expected));
          for (const row of [
            [NaN, 1, 2],
            [1, NaN, 2],
            [2, 1, NaN],
          ])
            expectTrue(`${method} keeps a NaN`, run(subject, method, Float32Array.from(row), Int32Array.of(1), 3).some(Number.isNaN));
        }
      },
    },
    {
      name: 'mix and enhance: their formulas, every width, tiny probabilities',
      run(subject) {
        for (const cols of WIDTHS) {
          const x = uniforms(cols, 6 * cols, 0, 1).map((value, i) => (i % 7 === 0 ? 1e-30 * value : i % 11 === 0 ? 0 : value));
          const labels = someLabels(x, cols);
          const wide = Float64Array.from(x);
          for (const [name, parameter] of [
            ['mix', 0.3],
            ['mix', 0],
            ['mix', 1],
            ['enhance', 1.4],
            ['enhance', 0.5],
            ['enhance', 3],
          ] as const) {
            const expected = wide.map((value, i) => {
              const label = labels[Math.floor(i / cols)] as number;
              if (!isLabelled(label)) return value;
              const isLabel = i % cols === label;
              if (name === 'mix') return (1 - parameter) * value + (isLabel ? parameter : 0);
              return isLabel ? Math.expm1(parameter * Math.log1p(value)) : value ** parameter;
            });
            const what = `${name} ${parameter}, V ${cols}`;
            // A power loses γ·|ln x|·2^-24 and a few ulp.
            const bound = (i: number): number =>
              1e-6 * Math.abs(expected[i] as number) * Math.max(1, (-Math.log(x[i] as number) * parameter) / 4 || 1);
            expectClose(what, run(subject, name, x, labels, cols, parameter), expected, (i) =>
              expected[i] === 0 ? 1e-45 : bound(i) + 1e-37,
            );
            if (subject.device === 'cpu')
              expectClose(
                `${what}, float64`,
                run(subject, name, wide, labels, cols, parameter),
                expected,
                (i) => 1e-13 * (expected[i] as number),
              );
          }
        }
      },
    },
    {
      name: 'a label that names no column: an error on the CPU, a row of NaN on CUDA; rows in place: refused',
      run(subject) {
        const x = normals(1, 9);
        for (const bad of [-1, 3, 2147483647])
          for (const name of ['swap', 'sort', 'mix', 'enhance']) {
            const call = (): Float32Array => run(subject, name, x, Int32Array.of(0, bad, 2), 3, 1);
            if (subject.device === 'cpu') expectThrows(`${name}, ${bad}`, call, RangeError, /labels must be in \[0, 3\): label 1 is/);
            else {
              const y = call();
              expectAll('row 1', y.subarray(3, 6), Number.isNaN, 'NaN');
              expectAll('row 2', y.subarray(6), name === 'enhance' ? () => true : Number.isFinite, 'finite');
            }
          }
        const code = codeOf(subject.native, 'label_function', 'swap');
        withMemory(subject, (memory) => {
          const both = memory.input(x);
          const labels = memory.input(Int32Array.of(0, 1, 2));
          const call = (): void => kernel(subject, 'label_target', both, labels, both, 3, 3, code, 0, IGNORED, UNLABELLED);
          expectThrows('in place', call, RangeError, /y must not be x/);
        });
      },
    },
    {
      name: 'correctTarget: every kind of target and of labels; the label is the best; gradient T·(q − t)',
      async run(subject) {
        const { limbeck, device } = subject;
        const [rows, cols] = [6, 33];
        const logits = normals(1, rows * cols, 2);
        const probs = probsOf(logits, cols);
        const logs = probs.map(Math.log);
        const labels = someLabels(logits, cols);
        const z = normals(2, rows * cols, 2);
        const at = (values: Float32Array): Tensor => limbeck.tensor(values.slice(), { shape: [2, 3, cols], device });
        const forms = [
          labels,
          BigInt64Array.from(labels, BigInt),
          Array.from(labels),
          limbeck.tensor(labels.slice(), { device }),
          limbeck.tensor(labels.slice(), { shape: [2, 3], device }),
        ];
        for (const method of ['swap', 'sort'] as const)
          for (const [teacher, values, kind] of [
            [at(logits), logits, 'logits'],
            [limbeck.denseTarget({ probs: at(probs) }), probs, 'probs'],
            [limbeck.denseTarget({ logProbs: at(logs) }), logs, 'log_probs'],
          ] as const) {
            const expected = values.slice();
            labels.forEach((label, r) => {
              if (isLabelled(label)) expected.set(corrected(values.subarray(r * cols, (r + 1) * cols), label, method), r * cols);
            });
            for (const form of forms) {
              const target = limbeck.correctTarget(teacher, form, { method, unlabelledIndex: UNLABELLED });
              expectEqual('kind and shape', [target.kind, [...target.values.shape]], [kind, [2, 3, cols]]);
              expectSameBits(method, await read(target.values), expected);
            }
            const target = limbeck.correctTarget(teacher, labels, { method, unlabelledIndex: UNLABELLED });
            const best = (await limbeck.argmax(target.values).read()) as Int32Array;
            labels.forEach((label, r) => expectTrue(`row ${r}`, !isLabelled(label) || best[r] === label));
            const t = new Float64Array(rows * cols);
            for (let r = 0; r < rows; r++) {
              const row = expected.subarray(r * cols, (r + 1) * cols);
              t.set(logSoftmaxRow(kind === 'probs' ? Float64Array.from(row, Math.log) : row, 2).map(Math.exp), r * cols);
            }
            const flat = limbeck.tensor(await read(target.values), { shape: [rows, cols], device });
            const again =
              kind === 'logits' ? flat : kind === 'probs' ? limbeck.denseTarget({ probs: flat }) : limbeck.denseTarget({ logProbs: flat });
            expectGradient(`${method} of ${kind}`, await gradientOf(subject, z, cols, again as Dense, { temperature: 2 }), z, t, cols, 2);
          }
      },
    },
    {
      name: 'ofaTarget: (p + e_y)^γ − e_y with its mass; gradient a·q − t with either loss',
      async run(subject) {
        const { limbeck, device } = subject;
        const [rows, cols] = [6, 33];
        const logits = normals(4, rows * cols, 2);
        const labels = someLabels(logits, cols);
        const z = normals(5, rows * cols, 2);
        const p = Float64Array.from(logits);
        for (let r = 0; r < rows; r++) p.set(logSoftmaxRow(logits.subarray(r * cols, (r + 1) * cols), 1).map(Math.exp), r * cols);
        const teacher = limbeck.tensor(logits.slice(), { shape: [rows, cols], device });
        for (const gamma of [1, 1.4, 2, 0.7]) {
          const target = limbeck.ofaTarget(teacher, labels, { gamma, unlabelledIndex: UNLABELLED });
          const expected = p.map((value, i) => {
            const label = labels[Math.floor(i / cols)] as number;
            if (!isLabelled(label)) return value;
            return i % cols === label ? (value + 1) ** gamma - 1 : value ** gamma;
          });
          expectClose(`γ ${gamma}`, await read(target.values), expected, (i) => 4e-6 * (expected[i] as number));
          for (const divergence of ['soft_cross_entropy', 'forward_kl'])
            expectGradient(`γ ${gamma}, ${divergence}`, await gradientOf(subject, z, cols, target, { divergence }), z, expected, cols);
        }
        expectThrows(
          'another temperature',
          () => limbeck.kdLoss(teacher, limbeck.ofaTarget(teacher, labels, { gamma: 2, unlabelledIndex: UNLABELLED }), { temperature: 2 }),
          RangeError,
          /must sum to 1 within 1e-3/,
        );
      },
    },
    {
      name: 'mixWithLabels: the gradient is that of label and teacher mixed; the ends are e_y and p',
      async run(subject) {
        const { limbeck, device } = subject;
        const [rows, cols] = [5, 17];
        const logits = normals(6, rows * cols, 2);
        const labels = integers(7, rows, 0, cols);
        const z = normals(8, rows * cols, 2);
        const teacher = limbeck.tensor(logits.slice(), { shape: [rows, cols], device });
        const p = probsOf(logits, cols);
        for (const alpha of [0, 0.35, 1]) {
          const target = limbeck.mixWithLabels(teacher, labels, { alpha });
          const expected = Float64Array.from(
            p,
            (value, i) => (1 - alpha) * value + (i % cols === labels[Math.floor(i / cols)] ? alpha : 0),
          );
          expectClose(`α ${alpha}`, await read(target.values), expected, (i) => 1e-6 * (expected[i] as number));
          const actual = await gradientOf(subject, z, cols, target, {});
          expectGradient(`α ${alpha}`, actual, z, expected, cols);
          const student = limbeck.tensor(z.slice(), { shape: [rows, cols], device, requiresGrad: true });
          limbeck.kdLoss(student, teacher, { labels, hardWeight: alpha, reduction: 'sum' }).backward();
          expectClose(`α ${alpha}: as hardWeight`, actual, await read(student.grad as Tensor), 2e-6);
        }
      },
    },
    {
      name: 'virtualTeacher: a for the label, (1 − a)/(K − 1) for the others, uniform without one; softened as the paper does',
      async run(subject) {
        const { limbeck, device } = subject;
        const labels = Int32Array.of(2, 0, IGNORED, 4, UNLABELLED);
        for (const cols of [5, 1000])
          for (const [given, a] of [
            [undefined, 0.99],
            [0.9, 0.9],
            [1, 1],
          ] as const) {
            const options = { cols, correctProb: given, unlabelledIndex: UNLABELLED };
            const expected = Float64Array.from({ length: 5 * cols }, (_, i) => {
              const label = labels[Math.floor(i / cols)] as number;
              return !isLabelled(label) ? 1 / cols : i % cols === label ? a : (1 - a) / (cols - 1);
            });
            for (const target of [
              limbeck.virtualTeacher(labels, { ...options, device }),
              limbeck.virtualTeacher(limbeck.tensor(labels.slice(), { device }), options),
              limbeck.virtualTeacher(Array.from(labels), { ...options, device }),
            ]) {
              expectEqual(
                'made',
                [target.kind, [...target.values.shape], target.values.device.slice(0, 3)],
                ['probs', [5, cols], device.slice(0, 3)],
              );
              expectClose(`V ${cols}, a ${a}`, await read(target.values), expected, (i) => 1e-6 * (expected[i] as number) + 1e-9 / cols);
            }
            if (a === 1) continue;
            const z = normals(cols, 5 * cols, 2);
            const soft = expected.slice();
            for (let r = 0; r < 5; r++)
              soft.set(logSoftmaxRow(expected.subarray(r * cols, (r + 1) * cols).map(Math.log), 20).map(Math.exp), r * cols);
            const target = limbeck.virtualTeacher(labels, { ...options, device });
            expectGradient('at 20', await gradientOf(subject, z, cols, target, { temperature: 20 }), z, soft, cols, 20);
          }
      },
    },
    {
      name: 'deltaTarget: z0 + α(u1 − u2) at every temperature, α for each row, offsets, excluded outcomes',
      async run(subject) {
        const { limbeck, device } = subject;
        const [rows, cols] = [4, 33];
        const [base, tuned, untuned] = [
          normals(1, rows * cols, 2, 100),
          normals(2, rows * cols, 2, -3000),
          normals(3, rows * cols, 2),
        ] as const;
        const z = normals(4, rows * cols, 2);
        const probs = probsOf(untuned, cols);
        const at = (values: Float32Array): Tensor => limbeck.tensor(values.slice(), { shape: [rows, cols], device });
        const each = Float32Array.of(1, 0, -0.5, 3);
        for (const alpha of [1, 0.5, -1, each])
          for (const T of [1, 3]) {
            const target = limbeck.deltaTarget(
              at(base),
              limbeck.denseTarget({ logits: at(tuned) }),
              limbeck.denseTarget({ probs: at(probs) }),
              {
                alpha: typeof alpha === 'number' ? alpha : limbeck.tensor(alpha.slice(), { device }),
              },
            );
            const t = new Float64Array(rows * cols);
            for (let r = 0; r < rows; r++) {
              const share = typeof alpha === 'number' ? alpha : (alpha[r] as number);
              const row = Float64Array.from({ length: cols }, (_, c) => {
                const i = r * cols + c;
                return (base[i] as number) + share * ((tuned[i] as number) - Math.log(probs[i] as number));
              });
              t.set(logSoftmaxRow(row, T).map(Math.exp), r * cols);
            }
            expectGradient(`α ${String(alpha)}, T ${T}`, await gradientOf(subject, z, cols, target, { temperature: T }), z, t, cols, T);
          }
        const inf = -Infinity;
        const row = (values: number[]): Tensor => limbeck.tensor([values], { device });
        const padded = limbeck.deltaTarget(row([1, 2, inf]), row([3, 1, inf]), row([0, 1, inf]));
        expectClose(
          'padding',
          logSoftmaxRow(await read(padded.values), 1).map(Math.exp),
          logSoftmaxRow([4, 2, inf], 1).map(Math.exp),
          1e-6,
        );
        const open = limbeck.deltaTarget(row([1, 2, 3]), row([3, 1, inf]), row([0, 1, inf]));
        expectTrue('nobody knows', Number.isNaN((await read(open.values))[2]));
      },
    },
    {
      name: 'no memory is left behind; labels and teachers stay as they are',
      async run({ limbeck, device }) {
        const cols = 9;
        const values = normals(1, 3 * cols);
        const teacher = limbeck.tensor(values.slice(), { shape: [3, cols], device });
        const probs = limbeck.denseTarget({ probs: limbeck.softmax(teacher) });
        const labels = Int32Array.of(1, 2, 3);
        const before = Float32Array.from(await read(probs.values));
        const count = (): number => limbeck.memory()[teacher.device]!.tensors;
        const start = count();
        for (const given of [teacher, probs])
          for (const make of [
            () => limbeck.correctTarget(given, labels),
            () => limbeck.correctTarget(given, labels, { method: 'sort' }),
            () => limbeck.ofaTarget(given, labels, { gamma: 1.5 }),
            () => limbeck.mixWithLabels(given, labels, { alpha: 0.5 }),
            () => limbeck.virtualTeacher(labels, { cols, device }),
            () => limbeck.deltaTarget(given, teacher, probs),
          ]) {
            const target = make();
            expectEqual('one more', count() - start, 1);
            target.dispose();
          }
        for (const bad of [() => limbeck.correctTarget(teacher, [1, 2, 99]), () => limbeck.ofaTarget(teacher, [1, 2, 99], { gamma: 2 })])
          expectThrows('labels', bad, RangeError, /labels must be in \[0, 9\)/);
        expectEqual('live tensors', count() - start, 0);
        expectEqual('labels', Array.from(labels), [1, 2, 3]);
        expectSameBits('teacher', await read(teacher), values);
        expectSameBits('probabilities', await read(probs.values), before);
      },
    },
    {
      name: 'what cannot be built says why',
      run({ limbeck, device }) {
        const x = limbeck.tensor([[1, 2, 3]], { device });
        const grad = limbeck.tensor([[1, 2, 3]], { device, requiresGrad: true });
        const other = limbeck.tensor([[1, 2]], { device });
        const sparse = limbeck.sparseTarget({ indices: [[0]], probs: [[0.5]] });
        const { correctTarget, ofaTarget, mixWithLabels, virtualTeacher, deltaTarget } = limbeck;
        const refused: [() => unknown, typeof TypeError | typeof RangeError, string][] = [
          [() => correctTarget(grad, [0]), TypeError, 'correct a target: teacher must not require grad: it does; pass it through detach()'],
          [
            () => correctTarget(sparse as never, [0]),
            TypeError,
            'correct a target: teacher must be a dense target or a Tensor of logits: it is a SparseTarget',
          ],
          [() => correctTarget(x, [3]), RangeError, 'correct a target: labels must be in [0, 3): label 0 is 3'],
          [() => correctTarget(x, [-7]), RangeError, 'correct a target: labels must be in [0, 3): label 0 is -7'],
          [() => correctTarget(x, [0, 1]), RangeError, 'correct a target: labels must have shape [1], one for each row: there are 2'],
          [
            () => correctTarget(x, '0' as never),
            TypeError,
            "correct a target: labels must be an int32 Tensor, an Int32Array, a BigInt64Array or numbers: it is '0'",
          ],
          [
            () => correctTarget(x, [0], { method: 'shift' as never }),
            RangeError,
            "correct a target: method must be 'swap' or 'sort': it is 'shift'",
          ],
          [
            () => correctTarget(x, [0], { unlabelledIndex: 0.5 }),
            RangeError,
            'correct a target: unlabelledIndex must be a whole number in [-2147483648, 2147483647]: it is 0.5',
          ],
          [() => ofaTarget(x, [0], { gamma: 0 }), RangeError, 'make an OFA target: gamma must be positive and finite: it is 0'],
          [() => ofaTarget(grad, [0]), TypeError, 'make an OFA target: teacher must not require grad: it does; pass it through detach()'],
          [() => mixWithLabels(x, [0], { alpha: 1.5 }), RangeError, 'mix a target with labels: alpha must be in [0, 1]: it is 1.5'],
          [() => mixWithLabels(x, [0], {} as never), TypeError, 'mix a target with labels: alpha must be a number: it is missing'],
          [
            () => mixWithLabels(grad, [0], { alpha: 1 }),
            TypeError,
            'mix a target with labels: teacher must not require grad: it does; pass it through detach()',
          ],
          [
            () => virtualTeacher([0], { cols: 1 }),
            RangeError,
            'make a virtual teacher: cols must be a whole number in [2, 2147483647]: it is 1',
          ],
          [
            () => virtualTeacher([0], { cols: 4, correctProb: 0.25 }),
            RangeError,
            'make a virtual teacher: correctProb must be in (1/4, 1]: it is 0.25',
          ],
          [() => virtualTeacher([4], { cols: 4 }), RangeError, 'make a virtual teacher: labels must be in [0, 4): label 0 is 4'],
          [() => deltaTarget(x, other, x), RangeError, 'make a delta target: tuned must have shape [1, 3] like base: it has [1, 2]'],
          [
            () => deltaTarget(x, x, grad),
            TypeError,
            'make a delta target: untuned must not require grad: it does; pass it through detach()',
          ],
          [() => deltaTarget(x, x, x, { alpha: Infinity }), RangeError, 'make a delta target: alpha must be finite: it is Infinity'],
          [
            () => deltaTarget(x, x, x, { alpha: limbeck.tensor([NaN], { device }) }),
            RangeError,
            'make a delta target: alpha must be finite: it is NaN in row 0',
          ],
        ];
        for (const [fn, type, message] of refused)
          expectEqual(message, expectThrows(message, fn, type, /^Cannot /).message, `Cannot ${message}`);
      },
    },
  ],
  bench: [{ rows: 1024, cols: 1000 }],
};
