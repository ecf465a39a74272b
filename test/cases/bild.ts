// BiLD and DBiLD: softmax over the differences of the leading logits.
import { expectClose, expectThrows } from '../compare.js';
import type { CaseFile, Limbeck } from '../subject.js';
import { composedLossChecks } from './composed_loss.js';

type Lead = 'teacher' | 'student' | 'both';

const best = (x: number[], k: number): number[] =>
  x
    .map((_, i) => i)
    .sort((a, b) => (x[b] as number) - (x[a] as number) || a - b)
    .slice(0, k);

function pairwise(x: number[], order: number[], t: number): number[] {
  const d = order.flatMap((a, i) => order.slice(i + 1).map((b) => ((x[a] as number) - (x[b] as number)) / t));
  const max = Math.max(...d);
  const e = d.map((v) => Math.exp(v - max));
  const sum = e.reduce((a, b) => a + b, 0);
  return e.map((v) => v / sum);
}

const kl = (p: number[], q: number[]): number => p.reduce((sum, v, i) => sum + v * Math.log(v / (q[i] as number)), 0);

function bild(z: number[], u: number[], k: number, t: number, lead: Lead, reverse: boolean): number {
  const led = (by: number[]): number => {
    const order = best(by, k);
    const [p, q] = [pairwise(u, order, t), pairwise(z, order, t)];
    return reverse ? kl(q, p) : kl(p, q);
  };
  return (lead === 'student' ? 0 : led(u)) + (lead === 'teacher' ? 0 : led(z));
}

const call =
  (name: 'bildLoss' | 'dbildLoss', k: number, lead: Lead) =>
  (limbeck: Limbeck, z: Parameters<Limbeck['bildLoss']>[0], u: typeof z, _labels: Int32Array, options: object): typeof z =>
    limbeck[name](z, u, { k, lead, ...options });

export const bild_loss: CaseFile = {
  op: 'bild_loss',
  kernels: [],
  checks: [
    ...composedLossChecks({
      name: 'BiLD, teacher-led',
      shiftInvariant: true,
      cols: [3, 9, 257],
      call: call('bildLoss', 3, 'teacher'),
      reference: (z, u) => z.map((row, r) => bild(row, u[r] as number[], 3, 3, 'teacher', false)),
    }),
    ...composedLossChecks({
      name: 'DBiLD, both selections',
      shiftInvariant: true,
      cols: [8, 33, 257],
      call: call('dbildLoss', 8, 'both'),
      reference: (z, u) => z.map((row, r) => bild(row, u[r] as number[], 8, 3, 'both', true)),
    }),
    {
      name: 'student-led with k = 64: the gradient goes through the gathered logits alone',
      async run({ limbeck, device }) {
        const student = limbeck.randn([2, 100], { seed: 1, device, requiresGrad: true });
        const teacher = limbeck.randn([2, 100], { seed: 2, device });
        const out = limbeck.bildLoss(student, teacher, { k: 64, lead: 'student', temperature: 1.5, reduction: 'sum' });
        const z = (await student.read()) as Float32Array;
        const u = (await teacher.read()) as Float32Array;
        const rows = [0, 1].map((r) => [z, u].map((x) => Array.from(x.subarray(r * 100, r * 100 + 100)))) as [number[], number[]][];
        const value = rows.reduce((sum, [a, b]) => sum + bild(a, b, 64, 1.5, 'student', false), 0);
        expectClose('value', [out.item()], [value], 1e-5 * value);
        out.backward();
        const gradient = (await (student.grad as NonNullable<typeof student.grad>).read()) as Float32Array;
        const chosen = new Set(best((rows[0] as [number[], number[]])[0], 64));
        // The closed form: (1/T)·[Σ_{j>i} (Q − P) − Σ_{h<i} (Q − P)].
        const order = [...chosen];
        const [p, q] = [1, 0].map((i) => pairwise((rows[0] as [number[], number[]])[i] as number[], order, 1.5)) as [number[], number[]];
        const expected = new Float64Array(100);
        let at = 0;
        for (let i = 0; i < 64; i++)
          for (let j = i + 1; j < 64; j++, at++) {
            const slope = ((q[at] as number) - (p[at] as number)) / 1.5;
            expected[order[i] as number] = (expected[order[i] as number] as number) + slope;
            expected[order[j] as number] = (expected[order[j] as number] as number) - slope;
          }
        expectClose('gradient', gradient.subarray(0, 100), expected, 1e-6);
      },
    },
    {
      name: 'k = 3 by hand; with k = 2 there is nothing to learn; T²; errors',
      run({ limbeck, device }) {
        const z = limbeck.tensor([[3, 2, 0, -9]], { device });
        const u = limbeck.tensor([[2, 1, 1, -9]], { device });
        // Differences 1, 3, 2 of the student and 1, 1, 0 of the teacher, T = 1.
        const p = pairwise([2, 1, 1], [0, 1, 2], 1);
        const q = pairwise([3, 2, 0], [0, 1, 2], 1);
        expectClose(
          'p',
          p,
          [Math.E, Math.E, 1].map((v) => v / (2 * Math.E + 1)),
          1e-12,
        );
        const options = { k: 3, temperature: 1, lead: 'teacher' } as const;
        expectClose('forward', [limbeck.bildLoss(z, u, options).item()], [kl(p, q)], 1e-6);
        expectClose('reverse', [limbeck.dbildLoss(z, u, options).item()], [kl(q, p)], 1e-6);
        expectClose('both', [limbeck.bildLoss(z, u, { ...options, lead: 'both' }).item()], [2 * kl(p, q)], 2e-6);
        const hot = { ...options, temperature: 3 };
        const [plain, squared] = [false, true].map((temperatureSquared) => limbeck.bildLoss(z, u, { ...hot, temperatureSquared }).item());
        expectClose('T²', [squared as number], [9 * (plain as number)], 1e-6);
        expectClose('k = 2', [limbeck.bildLoss(z, u, { k: 2 }).item()], [0], 0);
        for (const k of [1, 5, 65])
          expectThrows(`k ${k}`, () => limbeck.bildLoss(z, u, { k }), RangeError, /k must be a whole number in \[2, 4\]/);
        expectThrows('the default k needs 8 columns', () => limbeck.bildLoss(z, u), RangeError, /k must be/);
      },
    },
  ],
  bench: [],
};
