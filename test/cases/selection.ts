// Scores of rows, masks over them, AdaKD's temperatures and feedback.
import { expectClose, expectEqual, expectThrows, expectTrue } from '../compare.js';
import { integers, normals, uniforms } from '../random.js';
import { softmaxRow } from '../reference.js';
import type { CaseFile, Limbeck } from '../subject.js';

type Tensor = ReturnType<Limbeck['tensor']>;
const read = async (x: Tensor): Promise<number[]> => Array.from((await x.read()) as Float32Array);
const sum = (x: number[]): number => x.reduce((a, b) => a + b, 0);

export const selection: CaseFile = {
  op: 'selection',
  kernels: [],
  checks: [
    {
      name: 'entropy and its gradient, temperatures for all and for each row, −∞, confident rows',
      async run({ limbeck, device }) {
        for (const cols of [1, 2, 33, 1025]) {
          const x = normals(cols, 3 * cols, 3);
          const t = [0.5, 2, 9];
          for (const perRow of [false, true]) {
            const temperature = perRow ? limbeck.tensor(t, { device }) : 2;
            const logits = limbeck.tensor(x.slice(), { shape: [3, cols], device, requiresGrad: true });
            const h = limbeck.rowEntropy(logits, { temperature });
            h.backward(limbeck.tensor([1, -2, 0.5], { device }));
            const gradient = (await (logits.grad as Tensor).read()) as Float32Array;
            const got = await read(h);
            for (let r = 0; r < 3; r++) {
              const T = perRow ? (t[r] as number) : 2;
              const p = Array.from(softmaxRow(x.subarray(r * cols, (r + 1) * cols), T));
              const exact = -sum(p.map((v) => (v === 0 ? 0 : v * Math.log(v))));
              expectClose(`H, V ${cols}`, [got[r] as number], [exact], 1e-5 * exact + 1e-8);
              const wanted = p.map((v) => (v === 0 ? 0 : ((-v * (Math.log(v) + exact)) / T) * ([1, -2, 0.5][r] as number)));
              expectClose(`∂H, V ${cols}`, gradient.subarray(r * cols, (r + 1) * cols), wanted, 1e-5 * Math.max(...p) + 1e-9);
            }
          }
        }
        const special = limbeck.tensor(
          [
            [0, 0, -Infinity],
            [60, 0, 0],
            [NaN, 0, 0],
            [30, 0, 0],
          ],
          { device, requiresGrad: true },
        );
        const h = limbeck.rowEntropy(special);
        const tail = (a: number): number => 2 * Math.exp(-a) * (a + 1);
        const got = await read(h);
        const exact = [Math.LN2, tail(60), NaN, tail(30)];
        // The contract's bound, and the leading digits of an entropy of 1e-24.
        expectClose('special', got, exact, (i) => 1e-5 * Math.max(exact[i] as number, 1e-3));
        expectClose('tails', [got[1] as number, got[3] as number], [tail(60), tail(30)], (i) => 0.02 * tail(i === 0 ? 60 : 30));
        h.backward(limbeck.ones([4], { device }));
        const gradient = (await (special.grad as Tensor).read()) as Float32Array;
        expectTrue(
          'NaN in its own row alone',
          gradient.every((v, i) => Number.isNaN(v) === (i >= 6 && i < 9)),
        );
      },
    },
    {
      name: 'Hellinger distance and the gap to a reference: values, constants, shapes',
      async run({ limbeck, device }) {
        const [rows, cols] = [6, 40];
        const make = (seed: number): Tensor =>
          limbeck.tensor(normals(seed, rows * cols, 2), { shape: [2, 3, cols], device, requiresGrad: seed === 1 });
        const [student, teacher, reference] = [1, 2, 3].map(make) as [Tensor, Tensor, Tensor];
        const raw = (await Promise.all([student, teacher, reference].map((x) => x.read()))) as Float32Array[];
        const p = raw.map((x) => Array.from({ length: rows }, (_, r) => Array.from(softmaxRow(x.subarray(r * cols, (r + 1) * cols), 2))));
        const s = limbeck.rowHellinger(student, teacher, { temperature: 2 });
        const exact = (p[0] as number[][]).map((q, r) =>
          Math.sqrt(0.5 * sum(q.map((v, i) => (Math.sqrt(v) - Math.sqrt(p[1]?.[r]?.[i] as number)) ** 2))),
        );
        expectEqual('shape', [...s.shape], [2, 3]);
        expectTrue('a constant', !s.requiresGrad && s.dtype === 'float32');
        expectClose('Hellinger', await read(s), exact, 1e-5);
        expectClose('itself', await read(limbeck.rowHellinger(student, student.detach())), new Array<number>(rows).fill(0), 1e-3);
        const kl = (a: number[], b: number[]): number => sum(a.map((v, i) => v * Math.log(v / (b[i] as number))));
        const gap = limbeck.referenceGap(student, reference, teacher, { temperature: 2, temperatureSquared: false });
        const gaps = (p[1] as number[][]).map((t, r) => kl(t, p[0]?.[r] as number[]) - kl(t, p[2]?.[r] as number[]));
        expectTrue('a constant', !gap.requiresGrad);
        expectClose('gap', await read(gap), gaps, 1e-4);
        expectThrows(
          'reference',
          () => limbeck.referenceGap(student, limbeck.zeros([3, cols], { device }), teacher),
          RangeError,
          /reference must have shape/,
        );
        expectThrows(
          'option',
          () => limbeck.referenceGap(student, reference, teacher, { temprature: 2 } as never),
          TypeError,
          /did you mean 'temperature'/,
        );
      },
    },
    {
      name: 'the top fraction: the count is always met, ties by the lowest row, NaN kept (1.0 keeps all)',
      async run({ limbeck, device }) {
        const x = limbeck.tensor([0.1, 0.9, 0.5, 0.9], { device });
        expectEqual('half', await read(limbeck.topFractionMask(x, 0.5)), [0, 1, 0, 1]);
        expectEqual('a quarter', await read(limbeck.topFractionMask(x, 0.25)), [0, 1, 0, 0]);
        expectEqual('at least one', await read(limbeck.topFractionMask(x, 1e-9)), [0, 1, 0, 0]);
        expectEqual('none', await read(limbeck.topFractionMask(x, 0)), [0, 0, 0, 0]);
        expectEqual('all', await read(limbeck.topFractionMask(x, 1)), [1, 1, 1, 1]);
        expectEqual('NaN', await read(limbeck.topFractionMask(limbeck.tensor([3, NaN, 1], { device }), 1 / 3)), [0, 1, 0]);
        for (const n of [1, 7, 100, 5000]) {
          const scores = Float32Array.from(integers(n, n, 0, 5));
          for (const fraction of [0.1, 0.3, 0.5, 0.77]) {
            const mask = limbeck.topFractionMask(limbeck.tensor(scores.slice(), { device }), fraction);
            const kept = Math.max(1, Math.round(fraction * n));
            const order = Array.from(scores, (_, i) => i).sort((a, b) => (scores[b] as number) - (scores[a] as number) || a - b);
            const expected = new Array<number>(n).fill(0);
            order.slice(0, kept).forEach((i) => (expected[i] = 1));
            expectEqual(`${n}, ${fraction}`, await read(mask), expected);
          }
        }
        const shaped = limbeck.topFractionMask(limbeck.zeros([2, 3], { device }), 0.5);
        expectEqual('shape', [...shaped.shape], [2, 3]);
        expectThrows('fraction', () => limbeck.topFractionMask(x, 1.5), RangeError, /fraction/);
        expectThrows('nothing', () => limbeck.topFractionMask(limbeck.zeros([0], { device }), 0.5), RangeError, /empty/);
        const student = limbeck.randn([4, 9], { seed: 1, device });
        const teacher = limbeck.randn([4, 9], { seed: 2, device });
        const all = limbeck.kdLoss(student, teacher, { rowWeights: limbeck.topFractionMask(x, 1), denominator: 'weights' }).item();
        expectClose('k = 1.0 is plain KL', [all], [limbeck.kdLoss(student, teacher).item()], 1e-6);
      },
    },
    {
      name: 'quantile masks: the threshold between neighbours, everything equal to it kept',
      async run({ limbeck, device }) {
        const x = limbeck.tensor([4, 1, 3, 2], { device });
        expectEqual('q 0', await read(limbeck.quantileMask(x, 0)), [1, 1, 1, 1]);
        expectEqual('q 0.5', await read(limbeck.quantileMask(x, 0.5)), [1, 0, 1, 0]);
        expectEqual('q 1/3', await read(limbeck.quantileMask(x, 1 / 3 + 1e-3)), [1, 0, 1, 0]);
        expectEqual('q 1', await read(limbeck.quantileMask(x, 1)), [1, 0, 0, 0]);
        expectEqual('ties', await read(limbeck.quantileMask(limbeck.tensor([2, 2, 2, 1], { device }), 0.9)), [1, 1, 1, 0]);
        expectEqual('NaN', await read(limbeck.quantileMask(limbeck.tensor([2, NaN, 0, 1], { device }), 0.5)), [1, 1, 0, 0]);
        const scores = uniforms(3, 1000);
        const kept = sum(await read(limbeck.quantileMask(limbeck.tensor(scores, { device }), 0.8)));
        expectEqual('a fifth', kept, 200);
        expectThrows('q', () => limbeck.quantileMask(x, -0.1), RangeError, /q must be/);
      },
    },
    {
      name: 'the student’s arg-max among the teacher’s k best, ties by the lowest column',
      async run({ limbeck, device }) {
        const student = limbeck.tensor(
          [
            [5, 1, 1, 0],
            [1, 1, 0, 0],
            [0, 0, 0, 9],
          ],
          { device },
        );
        const teacher = limbeck.tensor(
          [
            [0, 3, 2, 1],
            [2, 2, 2, 2],
            [1, 0, 0, 1],
          ],
          { device },
        );
        expectEqual('k 1', await read(limbeck.argmaxInTopK(student, teacher, 1)), [0, 1, 0]);
        expectEqual('k 2', await read(limbeck.argmaxInTopK(student, teacher, 2)), [0, 1, 1]);
        expectEqual('k 4', await read(limbeck.argmaxInTopK(student, teacher, 4)), [1, 1, 1]);
        expectClose('otherwise', await read(limbeck.argmaxInTopK(student, teacher, 1, { otherwise: 0.01 })), [0.01, 1, 0.01], 1e-8);
        const [rows, cols] = [30, 50];
        const z = normals(1, rows * cols);
        const u = normals(2, rows * cols);
        const make = (x: Float32Array): Tensor => limbeck.tensor(x, { shape: [5, 6, cols], device });
        const mask = limbeck.argmaxInTopK(make(z), make(u), 20);
        const expected = Array.from({ length: rows }, (_, r) => {
          const row = Array.from(z.subarray(r * cols, (r + 1) * cols));
          const at = row.indexOf(Math.max(...row));
          const better = Array.from(u.subarray(r * cols, (r + 1) * cols)).filter((v) => v > (u[r * cols + at] as number)).length;
          return better < 20 ? 1 : 0;
        });
        expectEqual('shape', [...mask.shape], [5, 6]);
        expectEqual('random', await read(mask), expected);
        for (const k of [0, 5]) expectThrows(`k ${k}`, () => limbeck.argmaxInTopK(student, teacher, k), RangeError, /k must be/);
      },
    },
    {
      name: 'AdaKD’s temperatures: the formula, its bounds, the median of an even number, 0, and a loss that takes them',
      async run({ limbeck, device }) {
        const by = async (scores: number[], base = 1, strength = 0.5): Promise<number[]> =>
          read(limbeck.adaptiveTemperatures(limbeck.tensor(scores, { device }), { base, strength }));
        const formula = (s: number, median: number, base: number, c: number): number =>
          base * Math.exp(-c * Math.tanh(Math.log(s / median)));
        expectClose(
          'odd',
          await by([0.1, 0.3, 0.2], 2, 0.7),
          [0.1, 0.3, 0.2].map((s) => formula(s, 0.2, 2, 0.7)),
          2e-6,
        );
        expectClose(
          'even',
          await by([0.1, 0.3, 0.2, 0.4]),
          [0.1, 0.3, 0.2, 0.4].map((s) => formula(s, 0.25, 1, 0.5)),
          2e-6,
        );
        expectClose('one', await by([0.7], 3), [3], 1e-6);
        expectClose('0 among others', await by([0, 0.2, 0.4], 2, 1), [2 * Math.E, 2, formula(0.4, 0.2, 2, 1)], 1e-5);
        expectClose('median 0', await by([0, 0, 0.5], 2, 1), [2, 2, 2 / Math.E], 1e-5);
        expectClose('strength 0', await by([0, 0.5, 1], 2, 0), [2, 2, 2], 0);
        const scores = uniforms(5, 999);
        for (const t of await by(Array.from(scores), 2, 0.3))
          expectTrue(`${t} in [T₀·e^−c, T₀·e^c]`, t >= 2 * Math.exp(-0.3) * (1 - 1e-6) && t <= 2 * Math.exp(0.3) * (1 + 1e-6));
        if (device === 'cpu')
          for (const bad of [-0.1, NaN, Infinity])
            expectThrows(String(bad), () => limbeck.adaptiveTemperatures(limbeck.tensor([0.1, bad], { device })), RangeError, /score 1 is/);
        // A loss with a temperature for each row equals a loop of single ones.
        const student = limbeck.randn([3, 20], { seed: 1, device });
        const teacher = limbeck.randn([3, 20], { seed: 2, device });
        const temperature = limbeck.adaptiveTemperatures(limbeck.rowHellinger(student, teacher), { base: 2 });
        const all = await read(limbeck.kdLoss(student, teacher, { temperature, reduction: 'none' }));
        const each = await read(temperature);
        for (let r = 0; r < 3; r++) {
          const one = await read(limbeck.kdLoss(student, teacher, { temperature: each[r] as number, reduction: 'none' }));
          expectClose(`row ${r}`, [all[r] as number], [one[r] as number], 1e-6 * (one[r] as number));
        }
      },
    },
    {
      name: 'AdaKD’s feedback on the fraction: a trace by hand, restored in the middle',
      run({ limbeck }) {
        const options = { decay: 0.5, tolerance: 0.1, step: 0.2, least: 0.5 };
        const focus = new limbeck.AdaptiveFraction(options);
        // Averages 4, 3, 2.5, 2.25, 4.125, 2.0625, …; each compared with the one of the last change.
        const losses = [4, 2, 2, 2, 6, 0, 0, 0];
        const averages = [4, 3, 2.5, 2.25, 4.125, 2.0625, 1.03125, 0.515625];
        const fractions = [1, 0.8, 0.64, 0.64, 0.768, 0.6144, 0.5, 0.5];
        losses.forEach((loss, i) => {
          const copy = new limbeck.AdaptiveFraction(options);
          copy.state = focus.state;
          const fraction = focus.update(loss);
          expectClose(`average ${i}`, [focus.average as number], [averages[i] as number], 1e-12);
          expectEqual(`restored ${i}`, copy.update(loss), fraction);
          if (i !== 3) expectClose(`fraction ${i}`, [fraction], [fractions[i] as number], 1e-12);
        });
        // 2.25 is exactly the tolerance below 2.5: no change.
        const still = new limbeck.AdaptiveFraction({ decay: 0, tolerance: 0.5, warmup: 2 });
        for (const loss of [9, 9, 4, 2, 6]) expectEqual('no change', still.update(loss), 1);
        expectClose('a fall', [still.update(1.9)], [0.9], 1e-12);
        expectThrows('loss', () => still.update(NaN), RangeError, /loss must be finite/);
        expectThrows('decay', () => new limbeck.AdaptiveFraction({ decay: 1 }), RangeError, /decay/);
        expectThrows('initial', () => new limbeck.AdaptiveFraction({ initial: 0.2, least: 0.5 }), RangeError, /initial/);
      },
    },
  ],
  bench: [],
};
