// Losses on features: distances row by row, Gram matrices, relations between rows, attention relations, CKA.
import { expectAll, expectClose, expectThrows, expectTrue } from '../compare.js';
import { normals } from '../random.js';
import type { CaseFile, Limbeck } from '../subject.js';
import { composedLossChecks } from './composed_loss.js';

type Tensor = ReturnType<Limbeck['tensor']>;
type Matrix = number[][];

const sum = (x: number[]): number => x.reduce((a, b) => a + b, 0);
const mean = (x: number[]): number => (x.length === 0 ? 0 : sum(x) / x.length);
const dot = (a: number[], b: number[]): number => sum(a.map((v, i) => v * (b[i] as number)));
const less = (a: number[], b: number[]): number[] => a.map((v, i) => v - (b[i] as number));
const length = (a: number[]): number => Math.sqrt(dot(a, a));
const unit = (a: number[]): number[] => (length(a) === 0 ? a : a.map((v) => v / length(a)));
const huber = (e: number, delta: number): number => (Math.abs(e) <= delta ? 0.5 * e * e : delta * (Math.abs(e) - 0.5 * delta));
const rowsOf = (x: Matrix): number[] => x.map((_, i) => i);
const row = (x: Matrix, i: number): number[] => x[i] as number[];

function gram(z: Matrix, u: Matrix): number[] {
  return rowsOf(z).map((i) => mean(rowsOf(z).map((j) => (dot(row(z, i), row(z, j)) - dot(row(u, i), row(u, j))) ** 2)));
}

/** Park et al.: the loss of row j over its pairs, and over its triples as the vertex. */
function relations(z: Matrix, u: Matrix, lambdaD: number, lambdaA: number): number[] {
  const others = (j: number): number[] => rowsOf(z).filter((i) => i !== j);
  const distance = (x: Matrix, i: number, j: number): number => length(less(row(x, i), row(x, j)));
  const scaleOf = (x: Matrix): number => mean(rowsOf(x).flatMap((i) => others(i).map((j) => distance(x, i, j))));
  const [zs, us] = [scaleOf(z) || 1, scaleOf(u) || 1];
  const cosine = (x: Matrix, i: number, j: number, k: number): number =>
    dot(unit(less(row(x, i), row(x, j))), unit(less(row(x, k), row(x, j))));
  return rowsOf(z).map((j) => {
    const pairs = others(j).map((i) => huber(distance(z, i, j) / zs - distance(u, i, j) / us, 1));
    const triples = others(j).flatMap((i) =>
      others(j)
        .filter((k) => k !== i)
        .map((k) => huber(cosine(z, i, j, k) - cosine(u, i, j, k), 1)),
    );
    return lambdaD * mean(pairs) + lambdaA * mean(triples);
  });
}

/** MiniLMv2 over one sequence. */
function attention(z: Matrix, u: Matrix, heads: number, causal: boolean): number[] {
  const logRelations = (x: Matrix, h: number, i: number): number[] => {
    const width = row(x, 0).length / heads;
    const part = (r: number): number[] => row(x, r).slice(h * width, (h + 1) * width);
    const partners = rowsOf(x).filter((j) => !causal || j <= i);
    const s = partners.map((j) => dot(part(i), part(j)) / Math.sqrt(width));
    const most = Math.max(...s);
    const log = most + Math.log(sum(s.map((v) => Math.exp(v - most))));
    return s.map((v) => v - log);
  };
  return rowsOf(z).map((i) =>
    mean(
      Array.from({ length: heads }, (_, h) => {
        const [q, p] = [logRelations(z, h, i), logRelations(u, h, i)];
        return sum(p.map((lp, j) => Math.exp(lp) * (lp - (q[j] as number))));
      }),
    ),
  );
}

/** One sequence, whatever the leading shape. */
function asSequence(limbeck: Limbeck, z: Tensor, u: Tensor, options: object): Tensor {
  const out = limbeck.attentionRelationLoss(z.reshape([-1, z.shape.at(-1) as number]), u, options);
  return out.shape.length === 0 ? out : out.reshape(z.shape.slice(0, -1));
}

const gradientOf = async (x: Tensor): Promise<Float32Array | Float64Array> => (await (x.grad as Tensor).read()) as Float32Array;

export const feature_losses: CaseFile = {
  op: 'feature_losses',
  kernels: [],
  checks: [
    ...composedLossChecks({
      name: 'feature MSE',
      cols: [1, 7, 33, 257],
      infinityIsFine: true,
      call: (limbeck, z, u, _labels, options) => limbeck.featureMse(z, u, options),
      reference: (z, u) => z.map((h, r) => mean(less(h, row(u, r)).map((e) => e * e))),
    }),
    ...composedLossChecks({
      name: 'feature MSE of directions',
      cols: [2, 7, 33],
      call: (limbeck, z, u, _labels, options) => limbeck.featureMse(z, u, { normalize: true, ...options }),
      reference: (z, u) => z.map((h, r) => mean(less(unit(h), unit(row(u, r))).map((e) => e * e))),
    }),
    ...composedLossChecks({
      name: 'feature cosine',
      cols: [2, 7, 33, 257],
      call: (limbeck, z, u, _labels, options) => limbeck.featureCosine(z, u, options),
      reference: (z, u) => z.map((h, r) => 1 - dot(unit(h), unit(row(u, r)))),
    }),
    ...composedLossChecks({
      name: 'feature Huber',
      cols: [1, 7, 33, 257],
      infinityIsFine: true,
      call: (limbeck, z, u, _labels, options) => limbeck.featureHuber(z, u, { delta: 0.7, ...options }),
      reference: (z, u) => z.map((h, r) => mean(less(h, row(u, r)).map((e) => huber(e, 0.7)))),
    }),
    ...composedLossChecks({
      name: 'Gram',
      cols: [1, 7, 33],
      coupled: true,
      anyWidth: true,
      call: (limbeck, z, u, _labels, options) => limbeck.gramLoss(z, u, options),
      reference: gram,
    }),
    ...composedLossChecks({
      name: 'Gram of directions',
      cols: [2, 7, 33],
      coupled: true,
      anyWidth: true,
      call: (limbeck, z, u, _labels, options) => limbeck.gramLoss(z, u, { normalize: true, ...options }),
      reference: (z, u) => gram(z.map(unit), u.map(unit)),
    }),
    ...composedLossChecks({
      name: 'RKD',
      cols: [2, 7, 33],
      coupled: true,
      anyWidth: true,
      bound: 3e-5,
      call: (limbeck, z, u, _labels, options) => limbeck.relationKd(z, u, { distanceWeight: 1.5, angleWeight: 0.7, ...options }),
      reference: (z, u) => relations(z, u, 1.5, 0.7),
    }),
    ...composedLossChecks({
      name: 'attention relations',
      cols: [3, 9, 33],
      coupled: true,
      anyWidth: true,
      bound: 3e-5,
      call: (limbeck, z, u, _labels, options) => asSequence(limbeck, z, u, { heads: 3, ...options }),
      reference: (z, u) => attention(z, u, 3, false),
    }),
    ...composedLossChecks({
      name: 'causal attention relations',
      cols: [1, 9, 33],
      coupled: true,
      anyWidth: true,
      bound: 3e-5,
      call: (limbeck, z, u, _labels, options) => asSequence(limbeck, z, u, { causal: true, ...options }),
      reference: (z, u) => attention(z, u, 1, true),
    }),
    {
      name: 'equal features: loss and gradient exactly 0, whatever the loss',
      async run({ limbeck, device }) {
        const values = normals(5, 60);
        const losses: [string, (z: Tensor, u: Tensor) => Tensor][] = [
          ['MSE', (z, u) => limbeck.featureMse(z, u)],
          ['MSE of directions', (z, u) => limbeck.featureMse(z, u, { normalize: true })],
          ['cosine', (z, u) => limbeck.featureCosine(z, u)],
          ['Huber', (z, u) => limbeck.featureHuber(z, u)],
          ['Gram', (z, u) => limbeck.gramLoss(z, u)],
          ['RKD', (z, u) => limbeck.relationKd(z, u)],
          ['attention', (z, u) => limbeck.attentionRelationLoss(z, u, { heads: 2 })],
          ['CKA', (z, u) => limbeck.ckaLoss(z, u)],
        ];
        for (const [name, loss] of losses) {
          const z = limbeck.tensor(values.slice(), { shape: [6, 10], device, requiresGrad: true });
          const out = loss(z, z.detach());
          expectClose(name, [out.item()], [0], 0);
          out.backward();
          expectClose(`${name}, gradient`, await gradientOf(z), new Float64Array(60), 0);
        }
      },
    },
    {
      name: 'zeros, duplicates and single rows give finite gradients; widths of their own',
      async run({ limbeck, device }) {
        const u = limbeck.tensor(normals(6, 32), { shape: [4, 8], device });
        const twice = normals(7, 20);
        twice.copyWithin(5, 0, 5);
        for (const [what, values] of [
          ['zeros', new Float32Array(20)],
          ['one row twice', twice],
        ] as const) {
          for (const loss of ['gramLoss', 'relationKd', 'attentionRelationLoss', 'ckaLoss'] as const) {
            const z = limbeck.tensor(values.slice(), { shape: [4, 5], device, requiresGrad: true });
            const out = limbeck[loss](z, u);
            expectTrue(`${loss} of ${what} is ${out.item()}`, Number.isFinite(out.item()));
            out.backward();
            expectAll(`${loss} of ${what}, gradient`, await gradientOf(z), Number.isFinite, 'finite');
          }
        }
        // A row twice on one side alone: its cosine with itself is 0 there, and no triple has it.
        const matrix = (x: ArrayLike<number>, cols: number): Matrix =>
          Array.from({ length: 4 }, (_, r) => Array.from({ length: cols }, (_unused, c) => Number(x[r * cols + c])));
        const wanted = mean(relations(matrix(twice, 5), matrix(normals(6, 32), 8), 1, 2));
        expectClose(
          'RKD of one row twice',
          [limbeck.relationKd(limbeck.tensor(twice, { shape: [4, 5], device }), u).item()],
          [wanted],
          1e-5,
        );
        const zeros = limbeck.zeros([4, 8], { device, requiresGrad: true });
        const cosine = limbeck.featureCosine(zeros, u, { reduction: 'none' });
        expectClose('cosine with 0', (await cosine.read()) as Float32Array, [1, 1, 1, 1], 0);
        cosine.backward(limbeck.ones([4], { device }));
        expectClose('its gradient', await gradientOf(zeros), new Float64Array(32), 0);
        const one = limbeck.tensor([[1, 2, 3]], { device, requiresGrad: true });
        const alone = limbeck.tensor([[3, 1]], { device });
        for (const [loss, wanted] of [
          ['relationKd', 0],
          ['attentionRelationLoss', 0],
          ['gramLoss', 16],
          ['ckaLoss', 1],
        ] as const)
          expectClose(`${loss} of one row`, [limbeck[loss](one, alone).item()], [wanted], 1e-6);
      },
    },
    {
      name: 'CKA: value and gradient against float64; a rotation and a factor change nothing',
      async run({ limbeck, device }) {
        const [n, a, b] = [7, 5, 4];
        const [zs, us] = [normals(8, n * a), normals(9, n * b)];
        const centred = (x: ArrayLike<number>, width: number): Matrix => {
          const rows = Array.from({ length: n }, (_, r) => Array.from({ length: width }, (_unused, c) => Number(x[r * width + c])));
          const means = row(rows, 0).map((_, c) => mean(rows.map((h) => h[c] as number)));
          return rows.map((h) => less(h, means));
        };
        const products = (x: Matrix): number[] => x.flatMap((h) => x.map((k) => dot(h, k)));
        const reference = (x: ArrayLike<number>): number => 1 - dot(unit(products(centred(x, a))), unit(products(centred(us, b))));
        const z = limbeck.tensor(zs.slice(), { shape: [n, a], device, requiresGrad: true });
        const u = limbeck.tensor(us.slice(), { shape: [n, b], device });
        const out = limbeck.ckaLoss(z, u);
        expectClose('loss', [out.item()], [reference(zs)], 1e-5);
        expectClose('metric', [limbeck.cka(z, u)], [1 - reference(zs)], 1e-12);
        out.backward();
        const wanted = Float64Array.from(zs, (_, i) => {
          const moved = (step: number): number => reference(Float64Array.from(zs, (v, j) => (i === j ? v + step : v)));
          return (moved(1e-5) - moved(-1e-5)) / 2e-5;
        });
        expectClose('gradient', await gradientOf(z), wanted, 2e-6);
        // Wider than it has rows, and the other way round: both ways to compute the metric.
        const [c, s] = [Math.cos(0.3), Math.sin(0.3)];
        const turn = (x: Float32Array): Float32Array =>
          x.map((v, i) => 3 * (i % 2 === 0 ? c * v - s * (x[i + 1] as number) : s * (x[i - 1] as number) + c * v));
        for (const shape of [
          [4, 10],
          [20, 2],
        ]) {
          const x = normals(10, shape[0]! * shape[1]!);
          const [p, q] = [limbeck.tensor(x, { shape, device }), limbeck.tensor(turn(x), { shape, device })];
          expectClose(`turned ${shape.join('×')}`, [limbeck.cka(p, q)], [1], 1e-6);
          expectClose(`turned ${shape.join('×')}, loss`, [limbeck.ckaLoss(p, q).item()], [0], 1e-6);
        }
        expectClose('rows that are all equal', [limbeck.cka(limbeck.ones([n, 3], { device }), u)], [0], 0);
      },
    },
    {
      name: 'sequences of a batch do not meet; a token of weight 0 is nobody’s partner, even alone',
      async run({ limbeck, device }) {
        const [zs, us] = [normals(11, 2 * 4 * 6), normals(12, 2 * 4 * 6)];
        const make = (x: Float32Array, shape: number[], requiresGrad = false): Tensor =>
          limbeck.tensor(x.slice(), { shape, device, requiresGrad });
        const options = { heads: 2, reduction: 'none' } as const;
        const both = limbeck.attentionRelationLoss(make(zs, [2, 4, 6]), make(us, [2, 4, 6]), options);
        const second = limbeck.attentionRelationLoss(make(zs.subarray(24), [4, 6]), make(us.subarray(24), [4, 6]), options);
        expectTrue(`shape ${both.shape.join()}`, both.shape.join() === '2,4');
        expectClose('second alone', ((await both.read()) as Float32Array).subarray(4), (await second.read()) as Float32Array, 1e-7);
        // Causal with the first token away: its own row has no partner at all.
        zs.fill(NaN, 0, 6);
        const z = make(zs.subarray(0, 24), [4, 6], true);
        const rowWeights = limbeck.tensor([0, 1, 1, 1], { device });
        const out = limbeck.attentionRelationLoss(z, make(us.subarray(0, 24), [4, 6]), { ...options, causal: true, rowWeights });
        const rest = limbeck.attentionRelationLoss(make(zs.subarray(6, 24), [3, 6]), make(us.subarray(6, 24), [3, 6]), {
          ...options,
          causal: true,
        });
        expectClose('without it', (await out.read()) as Float32Array, [0, ...((await rest.read()) as Float32Array)], 1e-6);
        out.backward(limbeck.ones([4], { device }));
        const gradient = await gradientOf(z);
        expectAll('its gradient', gradient.slice(0, 6), (v) => v === 0, '0');
        expectAll('the others', gradient.slice(6), Number.isFinite, 'finite');
      },
    },
    {
      name: 'feature losses: refusals of their own',
      run({ limbeck, device }) {
        const z = limbeck.zeros([2, 6], { device });
        expectThrows(
          'heads',
          () => limbeck.attentionRelationLoss(z, z, { heads: 4 }),
          RangeError,
          /heads must divide the student's width 6/,
        );
        const deep = limbeck.zeros([1, 1, 2, 6], { device });
        expectThrows('dimensions', () => limbeck.attentionRelationLoss(deep, deep), RangeError, /\[batch, tokens, width\]/);
        expectThrows('delta', () => limbeck.featureHuber(z, z, { delta: 0 }), RangeError, /delta must be positive/);
        expectThrows('width', () => limbeck.featureMse(z, limbeck.zeros([2, 8], { device })), RangeError, /new FeatureProjector\(6, 8\)/);
        expectThrows('rows', () => limbeck.ckaLoss(z, limbeck.zeros([3, 6], { device })), RangeError, /rows \[2\]/);
        expectThrows('no rows', () => limbeck.cka(limbeck.zeros([0, 6]), limbeck.zeros([0, 6])), RangeError, /there must be a row/);
        expectThrows('detach', () => limbeck.ckaLoss(z, limbeck.zeros([2, 6], { device, requiresGrad: true })), TypeError, /detach/);
      },
    },
  ],
  bench: [],
};
