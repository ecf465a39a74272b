// Multi-head attention, forward and backward.
import { expectClose, expectSameBits, expectThrows, expectTrue } from '../compare.js';
import { normals } from '../random.js';
import { kernel, withMemory, type CaseFile, type Subject } from '../subject.js';

interface Shape {
  batch: number;
  tokens: number;
  heads: number;
  headWidth: number;
}

// Around a warp's 32 keys, the CPU's blocks of queries (4 to 56), and the widest head.
const SHAPES: Shape[] = [
  { batch: 1, tokens: 1, heads: 1, headWidth: 1 },
  { batch: 2, tokens: 5, heads: 2, headWidth: 3 },
  { batch: 1, tokens: 33, heads: 3, headWidth: 8 },
  { batch: 1, tokens: 70, heads: 1, headWidth: 20 },
  { batch: 1, tokens: 3, heads: 2, headWidth: 256 },
];
const BOUND = 4e-6;

/** By the definition, in float64: all probabilities, then the derivative of every product. */
function reference(
  qkv: ArrayLike<number>,
  g: ArrayLike<number>,
  { batch, tokens, heads, headWidth }: Shape,
  causal: boolean,
  scale: number,
) {
  const width = heads * headWidth;
  const y = new Float64Array(batch * tokens * width);
  const gradient = new Float64Array(3 * y.length);
  const at = (b: number, t: number, part: number, h: number, d: number): number =>
    ((b * tokens + t) * 3 + part) * width + h * headWidth + d;
  const out = (b: number, t: number, h: number, d: number): number => (b * tokens + t) * width + h * headWidth + d;
  for (let b = 0; b < batch; b++)
    for (let h = 0; h < heads; h++)
      for (let i = 0; i < tokens; i++) {
        const keys = causal ? i + 1 : tokens;
        const scores = Array.from({ length: keys }, (_, j) => {
          let sum = 0;
          for (let d = 0; d < headWidth; d++) sum += (qkv[at(b, i, 0, h, d)] as number) * (qkv[at(b, j, 1, h, d)] as number);
          return sum * scale;
        });
        const max = Math.max(...scores);
        const terms = scores.map((s) => Math.exp(s - max));
        const total = terms.reduce((sum, e) => sum + e, 0);
        const p = terms.map((e) => e / total);
        const upstream = p.map((share, j) => {
          let sum = 0;
          for (let d = 0; d < headWidth; d++) {
            const v = qkv[at(b, j, 2, h, d)] as number;
            const slope = g[out(b, i, h, d)] as number;
            y[out(b, i, h, d)]! += share * v;
            gradient[at(b, j, 2, h, d)]! += share * slope;
            sum += slope * v;
          }
          return sum;
        });
        const mean = p.reduce((sum, share, j) => sum + share * (upstream[j] as number), 0);
        p.forEach((share, j) => {
          const slope = share * ((upstream[j] as number) - mean) * scale;
          for (let d = 0; d < headWidth; d++) {
            gradient[at(b, i, 0, h, d)]! += slope * (qkv[at(b, j, 1, h, d)] as number);
            gradient[at(b, j, 1, h, d)]! += slope * (qkv[at(b, i, 0, h, d)] as number);
          }
        });
      }
  return { y, gradient };
}

function run(subject: Subject, qkv: Float32Array, g: Float32Array, shape: Shape, causal: boolean, scale: number, offset = 0) {
  const { batch, tokens, heads, headWidth } = shape;
  return withMemory(subject, (memory) => {
    const [from, upstream] = [memory.input(qkv, offset), memory.input(g)];
    const y = memory.output(Float32Array, g.length, offset);
    const logSums = memory.output(Float32Array, batch * heads * tokens);
    const gradient = memory.output(Float32Array, qkv.length);
    const extents = [batch, tokens, heads, headWidth, causal, scale] as const;
    kernel(subject, 'attention', from, y, logSums, ...extents);
    kernel(subject, 'attention_backward', from, y, logSums, upstream, gradient, ...extents);
    return { y: memory.read(y), gradient: memory.read(gradient) };
  });
}

const sizeOf = ({ batch, tokens, heads, headWidth }: Shape): number => batch * tokens * heads * headWidth;

export const attention: CaseFile = {
  op: 'attention',
  kernels: ['attention', 'attention_backward'],
  checks: [
    ...[true, false].map((causal) => ({
      name: `${causal ? 'causal' : 'all tokens'}: forward and backward`,
      run(subject: Subject) {
        for (const shape of SHAPES) {
          const size = sizeOf(shape);
          const scale = 1 / Math.sqrt(shape.headWidth);
          const [qkv, g] = [normals(size, 3 * size), normals(size + 1, size)];
          const expected = reference(qkv, g, shape, causal, scale);
          const actual = run(subject, qkv, g, shape, causal, scale);
          const what = `${shape.batch}×${shape.tokens}, ${shape.heads} heads of ${shape.headWidth}`;
          expectClose(what, actual.y, expected.y, BOUND * 2);
          // Sums over tokens of products of a few units.
          expectClose(`${what}, backward`, actual.gradient, expected.gradient, BOUND * 8 * Math.sqrt(shape.tokens));
          if (subject.device === 'cpu')
            expectSameBits(`${what}, off an aligned address`, run(subject, qkv, g, shape, causal, scale, 1).y, actual.y);
        }
      },
    })),
    {
      name: 'scores far apart: a winner takes all, nothing overflows',
      run(subject) {
        const shape = { batch: 1, tokens: 6, heads: 1, headWidth: 4 };
        const [qkv, g] = [normals(5, 72, 60), normals(6, 24)];
        const expected = reference(qkv, g, shape, true, 1);
        const { y, gradient } = run(subject, qkv, g, shape, true, 1);
        expectClose('y', y, expected.y, 1e-3);
        expectTrue('gradient', gradient.every(Number.isFinite));
      },
    },
    {
      name: 'a later token reaches no earlier one; 1, 2 and 5 threads, same bits (trap 20)',
      run(subject) {
        const shape = { batch: 2, tokens: 40, heads: 2, headWidth: 4 };
        const size = sizeOf(shape);
        const [qkv, g] = [normals(1, 3 * size), normals(2, size)];
        const before = subject.native.info().threads;
        try {
          subject.native.setThreads(1);
          const one = run(subject, qkv, g, shape, true, 0.5);
          const changed = qkv.slice();
          changed.fill(7, 39 * 24, 40 * 24);
          const other = run(subject, changed, g, shape, true, 0.5);
          expectSameBits('tokens before the changed one', other.y.subarray(0, 39 * 8), one.y.subarray(0, 39 * 8));
          expectTrue('the changed one', other.y[39 * 8] !== one.y[39 * 8]);
          for (const threads of [2, 5]) {
            subject.native.setThreads(threads);
            const again = run(subject, qkv, g, shape, true, 0.5);
            expectSameBits(`${threads} threads`, again.y, one.y);
            expectSameBits(`${threads} threads, backward`, again.gradient, one.gradient);
          }
        } finally {
          subject.native.setThreads(before);
        }
      },
    },
    {
      name: 'bad shapes are refused; nothing to attend to',
      run(subject) {
        const { limbeck, device } = subject;
        expectThrows(
          'wide head',
          () => run(subject, normals(1, 3 * 257), normals(2, 257), { batch: 1, tokens: 1, heads: 1, headWidth: 257 }, true, 1),
          RangeError,
          /head_width must be at most 256/,
        );
        expectThrows(
          'heads',
          () => limbeck.attention(limbeck.zeros([2, 4, 9], { device }), { heads: 2 }),
          RangeError,
          /multiple of 3·heads \(6\)/,
        );
        expectTrue('empty', limbeck.attention(limbeck.zeros([0, 4, 6], { device }), { heads: 2 }).size === 0);
      },
    },
  ],
  bench: [{ rows: 64, cols: 128 }],
};
