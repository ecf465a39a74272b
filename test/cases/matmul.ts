// Matrix product with either side transposed, and added to what is there.
import { expectAll, expectClose, expectSameBits, expectTrue } from '../compare.js';
import { fromBits, HALF_TYPES, rounded, spacing, toBits, type HalfBits, type HalfType } from '../half.js';
import { normals } from '../random.js';
import { matmul as reference } from '../reference.js';
import { kernel, withMemory, type CaseFile, type Subject } from '../subject.js';

// A sum of k products in any order: k·2^-24 of Σ|a||b| at worst, about √k of it in practice; no fused or blocked order passes 4·(√k + 4).
const bound = (k: number): number => 4 * (Math.sqrt(k) + 4) * 2 ** -24;

const SHAPES: [number, number, number][] = [
  [1, 1, 1],
  [1, 5, 3],
  [3, 1, 7],
  [2, 2, 1],
  [7, 9, 11],
  [16, 16, 16],
  [17, 15, 31],
  [33, 65, 32],
  [64, 64, 64],
  [65, 63, 129],
  [5, 200, 257],
  [128, 10, 784],
  [1, 130, 1000],
  [130, 1, 70],
  // Large tiles: one and cut ones, lines of 16 bytes and not, more than 512 terms.
  [72, 136, 132],
  [130, 67, 530],
];

function run(
  subject: Subject,
  a: Float32Array,
  b: Float32Array,
  m: number,
  n: number,
  k: number,
  transposeA: boolean,
  transposeB: boolean,
  start?: Float32Array,
): Float32Array {
  return withMemory(subject, (memory) => {
    const c = start === undefined ? memory.output(Float32Array, m * n) : memory.input(start);
    kernel(
      subject,
      'matmul',
      memory.input(a),
      memory.input(b),
      c,
      m,
      n,
      k,
      transposeA ? m : k,
      transposeB ? k : n,
      n,
      transposeA,
      transposeB,
      start !== undefined,
      1,
    );
    return memory.read(c);
  });
}

type Type = HalfType | 'float32';

/** Operands and result of any of the three types; what is there already is added to where `start` is given. */
function runTyped(
  subject: Subject,
  [typeA, typeB, typeC]: [Type, Type, Type],
  [a, b, start]: [Float32Array, Float32Array, Float32Array | null],
  [m, n, k]: readonly [number, number, number],
  [transposeA, transposeB]: [boolean, boolean],
  scale = 1,
): Float32Array {
  const stored = (x: Float32Array, type: Type): Float32Array | HalfBits => (type === 'float32' ? x : toBits(x, type));
  return withMemory(subject, (memory) => {
    const c = memory.input(stored(start ?? new Float32Array(m * n).fill(NaN), typeC) as Float32Array);
    const [left, right] = [memory.input(stored(a, typeA) as Float32Array), memory.input(stored(b, typeB) as Float32Array)];
    kernel(
      subject,
      'matmul',
      left,
      right,
      c,
      m,
      n,
      k,
      transposeA ? m : k,
      transposeB ? k : n,
      n,
      transposeA,
      transposeB,
      start !== null,
      scale,
    );
    const out = memory.read(c);
    return typeC === 'float32' ? out : fromBits(out, typeC);
  });
}

const held = (x: Float32Array, type: Type): Float32Array => (type === 'float32' ? x : rounded(x, type));

function checkTyped(
  subject: Subject,
  types: [Type, Type, Type],
  shape: readonly [number, number, number],
  transposed: [boolean, boolean],
  isAdded = false,
  scale = 1,
): void {
  const [m, n, k] = shape;
  const [a, b] = [held(normals(m + k, m * k), types[0]), held(normals(n + 2 * k, k * n), types[1])];
  const start = isAdded ? held(normals(3, m * n), types[2]) : null;
  const { c, size } = reference(a, b, m, n, k, ...transposed);
  const expected = c.map((value, i) => value * scale + (start?.[i] ?? 0));
  const type = types[2];
  const error = (i: number): number => bound(k) * ((size[i] as number) * scale + Math.abs(start?.[i] ?? 0));
  expectClose(
    `${types.join(', ')}, ${shape.join('×')}, transposed ${transposed.join(', ')}${isAdded ? ', added' : ''}, times ${scale}`,
    runTyped(subject, types, [a, b, start], shape, transposed, scale),
    expected,
    (i) => error(i) + (type === 'float32' ? 0 : spacing(Math.abs(expected[i] as number) + error(i), type) / 2),
  );
}

export const matmul: CaseFile = {
  op: 'matmul',
  kernels: ['matmul'],
  checks: [
    ...[false, true].flatMap((transposeA) =>
      [false, true].map((transposeB) => ({
        name: `${transposeA ? 'aᵀ' : 'a'}·${transposeB ? 'bᵀ' : 'b'}, every shape, set and added`,
        run(subject: Subject) {
          for (const [m, n, k] of SHAPES) {
            const a = normals(m + k, m * k);
            const b = normals(n + 2 * k, k * n);
            const { c, size } = reference(a, b, m, n, k, transposeA, transposeB);
            expectClose(`${m}×${n}×${k}`, run(subject, a, b, m, n, k, transposeA, transposeB), c, (i) => bound(k) * (size[i] as number));
            const start = normals(3, m * n);
            expectClose(
              `${m}×${n}×${k}, added`,
              run(subject, a, b, m, n, k, transposeA, transposeB, start),
              c.map((value, i) => value + (start[i] as number)),
              (i) => bound(k) * ((size[i] as number) + Math.abs(start[i] as number)),
            );
          }
        },
      })),
    ),
    {
      name: 'half types, each way round: steps and tiles full and cut, lines of 16 bytes and not, set, added, scaled',
      run(subject) {
        for (const transposeA of [false, true])
          for (const transposeB of [false, true]) {
            const transposed: [boolean, boolean] = [transposeA, transposeB];
            HALF_TYPES.forEach((type, at) => {
              checkTyped(subject, [type, type, 'float32'], at === 0 ? [1, 1, 1] : [5, 3, 40], transposed);
              checkTyped(subject, [type, type, 'float32'], at === 0 ? [136, 40, 72] : [24, 136, 104], transposed, true);
              checkTyped(subject, [type, type, type], at === 0 ? [33, 129, 67] : [130, 17, 31], transposed, at === 0, 0.37);
              checkTyped(subject, [type, type, type], [8, 16, 24], transposed, at === 1);
            });
          }
        // Many rows of tiles: those of a group and the cut one behind them.
        checkTyped(subject, ['bfloat16', 'bfloat16', 'float32'], [1100, 130, 8], [false, true]);
      },
    },
    {
      name: 'lines with space between them: the bits of lines without, nothing read or written between',
      run(subject) {
        const kinds: [Type, Type, Type, number][] = [
          ['float32', 'float32', 'float32', 3],
          ['bfloat16', 'bfloat16', 'bfloat16', 8],
          ['float16', 'float16', 'float32', 1],
          ['bfloat16', 'float32', 'float16', 4],
        ];
        // Strides of whole 16 bytes and others; tiles full and cut, large ones of float32 too.
        for (const [at, [typeA, typeB, typeC, extra]] of kinds.entries())
          for (const [m, n, k] of [[13, 21, 37], ...(at < 2 ? [[150, 133, 41]] : [])] as [number, number, number][])
            for (const [transposeA, transposeB] of [
              [false, true],
              [true, false],
            ] as [boolean, boolean][]) {
              // prettier-ignore
              const types = [typeA, typeB, typeC] as const;
              const runs = [transposeA ? m : k, transposeB ? k : n, n] as const;
              const strides = runs.map((each) => (extra === 8 ? Math.ceil((each + 1) / 8) * 8 : each + extra));
              const values = [normals(1, m * k), normals(2, k * n), normals(3, m * n)].map((x, i) => held(x, types[i] as Type));
              const apart = (x: Float32Array, i: number): Float32Array => {
                const [run, stride] = [runs[i] as number, strides[i] as number];
                return Float32Array.from({ length: (x.length / run) * stride }, (_, j) =>
                  j % stride < run ? (x[Math.floor(j / stride) * run + (j % stride)] as number) : NaN,
                );
              };
              const stored = (x: Float32Array, type: Type): Float32Array =>
                type === 'float32' ? x : (toBits(x, type) as unknown as Float32Array);
              const multiply = (operands: Float32Array[], lines: readonly number[]): Float32Array =>
                withMemory(subject, (memory) => {
                  const [a, b, c] = operands.map((x, i) => memory.input(stored(x, types[i] as Type)));
                  kernel(subject, 'matmul', a, b, c, m, n, k, ...lines, transposeA, transposeB, true, 1);
                  const out = memory.read(c);
                  return typeC === 'float32' ? out : fromBits(out, typeC);
                });
              const [got, whole] = [multiply(values.map(apart), strides), multiply(values, runs)];
              expectSameBits(`${types.join(' ')} ${m}×${n}×${k} ${transposeA} ${transposeB}`, got, apart(whole, 2));
            }
      },
    },
    {
      name: 'mixed types in float32: every pair, into each',
      run(subject) {
        const types: Type[] = ['float32', ...HALF_TYPES];
        for (const a of types)
          for (const b of types)
            for (const c of types)
              checkTyped(
                subject,
                [a, b, c],
                [9, 70, 37],
                [types.indexOf(c) === 1, types.indexOf(c) === 2],
                c === 'float16',
                a === b ? 0.5 : 1,
              );
        // More than a block of each extent on the CPU.
        if (subject.device === 'cpu') checkTyped(subject, ['bfloat16', 'float16', 'bfloat16'], [515, 9, 520], [true, false], true);
        if (subject.device === 'cpu') checkTyped(subject, ['bfloat16', 'bfloat16', 'float32'], [515, 1030, 12], [false, true], true);
        for (const type of types) {
          const none = runTyped(subject, [type, type, type], [new Float32Array(0), new Float32Array(0), null], [3, 4, 0], [false, false]);
          expectAll('k 0', none, (value) => value === 0, '0');
        }
      },
    },
    {
      name: 'an empty inner size gives zeros, or leaves what is added to; empty sides are nothing',
      run(subject) {
        expectAll('k 0', run(subject, new Float32Array(0), new Float32Array(0), 3, 4, 0, false, false), (value) => value === 0, '0');
        const start = normals(1, 12);
        expectSameBits('k 0, added', run(subject, new Float32Array(0), new Float32Array(0), 3, 4, 0, false, false, start), start);
        expectTrue('m 0', run(subject, new Float32Array(0), normals(1, 12), 0, 4, 3, false, false).length === 0);
      },
    },
    {
      name: 'NaN and infinities reach the product',
      run(subject) {
        const a = Float32Array.of(1, NaN, 0, 1, Infinity, 0);
        const b = Float32Array.of(1, 2, 3, 4, 5, 6);
        const { c } = reference(a, b, 2, 2, 3, false, false);
        expectClose('special', run(subject, a, b, 2, 2, 3, false, false), c, 1e-6);
      },
    },
    {
      name: 'same bits twice; 1, 2 and 5 threads agree to rounding',
      run(subject) {
        const [m, n, k] = [97, 33, 200];
        const a = normals(1, m * k);
        const b = normals(2, n * k);
        const before = subject.native.info().threads;
        const { size } = reference(a, b, m, n, k, false, false);
        try {
          subject.native.setThreads(1);
          const first = run(subject, a, b, m, n, k, false, false);
          expectSameBits('twice', run(subject, a, b, m, n, k, false, false), first);
          for (const threads of [2, 5]) {
            subject.native.setThreads(threads);
            const more = run(subject, a, b, m, n, k, false, false);
            expectSameBits(`${threads} threads, twice`, run(subject, a, b, m, n, k, false, false), more);
            expectClose(`${threads} threads`, more, first, (i) => bound(k) * (size[i] as number));
          }
        } finally {
          subject.native.setThreads(before);
        }
      },
    },
    {
      name: 'public function: gradients of both sides, chained',
      async run({ limbeck, device }) {
        const [m, n, k] = [5, 7, 9];
        const x = normals(1, m * k);
        const y = normals(2, k * n);
        const g = normals(3, m * n);
        const a = limbeck.tensor(x, { shape: [m, k], device, requiresGrad: true });
        const b = limbeck.tensor(y, { shape: [k, n], device, requiresGrad: true });
        const c = limbeck.matmul(a, b);
        c.backward(limbeck.tensor(g, { shape: [m, n], device }));
        expectClose('c', (await c.read()) as Float32Array, reference(x, y, m, n, k, false, false).c, 1e-5);
        expectClose(
          '∂a',
          (await (a.grad as NonNullable<typeof a.grad>).read()) as Float32Array,
          reference(g, y, m, k, n, false, true).c,
          1e-5,
        );
        expectClose(
          '∂b',
          (await (b.grad as NonNullable<typeof b.grad>).read()) as Float32Array,
          reference(x, g, k, n, m, true, false).c,
          1e-5,
        );
      },
    },
    {
      name: 'linear of half types: the product, ∂x, ∂W and ∂b each summed in float32 and rounded once',
      async run({ limbeck, device }) {
        const [rows, outputs, inputs] = [6, 5, 9];
        for (const dtype of HALF_TYPES) {
          const [x, w, g] = [
            rounded(normals(1, rows * inputs), dtype),
            rounded(normals(2, outputs * inputs), dtype),
            rounded(normals(3, rows * outputs), dtype),
          ];
          const put = (values: Float32Array, shape: number[], requiresGrad = true) =>
            limbeck.tensor(new Uint16Array(toBits(values, dtype).buffer), { shape, dtype, device, requiresGrad });
          const operands = [put(x, [rows, inputs]), put(w, [outputs, inputs]), put(new Float32Array(outputs), [outputs])] as const;
          const y = limbeck.linear(...operands);
          y.backward(put(g, [rows, outputs], false));
          const ones = new Float32Array(rows).fill(1);
          for (const [what, tensor, { c, size }] of [
            ['y', y, reference(x, w, rows, outputs, inputs, false, true)],
            ['∂x', operands[0].grad, reference(g, w, rows, inputs, outputs, false, false)],
            ['∂W', operands[1].grad, reference(g, x, outputs, inputs, rows, true, false)],
            ['∂b', operands[2].grad, reference(g, ones, outputs, 1, rows, true, false)],
          ] as const) {
            expectTrue(`${what} is ${dtype}`, tensor?.dtype === dtype);
            const got = (await (tensor as NonNullable<typeof tensor>).read({ as: 'float32' })) as Float32Array;
            expectClose(`${dtype} ${what}`, got, c, (i) => 1e-6 * (size[i] as number) + spacing(2 * Math.abs(c[i] as number), dtype) / 2);
          }
        }
      },
    },
  ],
  bench: [
    { rows: 128, cols: 784, k: 256 },
    { rows: 1024, cols: 1024, k: 1024 },
  ],
};
