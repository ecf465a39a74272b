// PLD and ListMLE: the teacher's order, step by step.
import { expectClose, expectEqual, expectThrows } from '../compare.js';
import { integers, normals } from '../random.js';
import type { CaseFile } from '../subject.js';
import { composedLossChecks } from './composed_loss.js';

const lse = (x: number[]): number => {
  const max = Math.max(...x);
  return max === -Infinity ? max : max + Math.log(x.reduce((sum, v) => sum + Math.exp(v - max), 0));
};
const softmax = (x: number[], t: number): number[] => x.map((v) => Math.exp(v / t - lse(x.map((w) => w / t))));
const falling = (u: number[], first = -1): number[] =>
  u.map((_, i) => i).sort((a, b) => Number(b === first) - Number(a === first) || (u[b] as number) - (u[a] as number) || a - b);

/** Σ_k α_k (lse of the suffix − z), as the paper writes it. */
function listwise(z: number[], order: number[], alpha: number[]): number {
  return order.reduce((sum, at, k) => {
    const a = alpha[k] as number;
    return a === 0 ? sum : sum + a * (lse(order.slice(k).map((j) => z[j] as number)) - (z[at] as number));
  }, 0);
}

function pld(z: number[], u: number[], label: number, t: number): number {
  const order = falling(u, label);
  const alpha = softmax(u, t);
  return listwise(
    z,
    order,
    order.map((at) => alpha[at] as number),
  );
}

export const plackett_luce: CaseFile = {
  op: 'plackett_luce',
  kernels: [],
  checks: [
    ...composedLossChecks({
      name: 'PLD',
      labelled: true,
      shiftInvariant: true,
      cols: [1, 2, 7, 33, 257],
      call: (limbeck, z, u, labels, options) => limbeck.plackettLuceLoss(z, u, { labels, temperature: 2, ...options }),
      reference: (z, u, labels) => z.map((row, r) => pld(row, u[r] as number[], labels[r] as number, 2)),
    }),
    ...composedLossChecks({
      name: 'ListMLE',
      shiftInvariant: true,
      cols: [1, 2, 7, 33, 257],
      call: (limbeck, z, u, _labels, options) => limbeck.listMleLoss(z, u, options),
      reference: (z, u) =>
        z.map((row, r) =>
          listwise(
            row,
            falling(u[r] as number[]),
            row.map(() => 1),
          ),
        ),
    }),
    {
      name: 'PLD: α = (1, 0, …) is cross-entropy, equal α is ListMLE over the number of classes, the temperature acts on α alone (trap 9)',
      async run({ limbeck, device }) {
        const [rows, cols] = [3, 50];
        const z = normals(1, rows * cols, 3);
        const labels = integers(2, rows, 0, cols);
        const student = limbeck.tensor(z, { shape: [rows, cols], device, requiresGrad: true });
        const sure = new Float32Array(rows * cols).fill(-Infinity);
        labels.forEach((label, r) => (sure[r * cols + label] = 3));
        const one = limbeck.plackettLuceLoss(student, limbeck.tensor(sure, { shape: [rows, cols], device }), { labels });
        const ce = limbeck.crossEntropy(student, labels);
        expectClose('value', [one.item()], [ce.item()], 1e-6 * ce.item());
        one.backward();
        const gradient = (await (student.grad as NonNullable<typeof student.grad>).read()) as Float32Array;
        student.zeroGrad();
        ce.backward();
        expectClose('gradient', gradient, (await (student.grad as NonNullable<typeof student.grad>).read()) as Float32Array, 1e-6);
        const equal = limbeck.zeros([rows, cols], { device });
        const byColumn = limbeck.tensor(
          Float32Array.from({ length: rows * cols }, (_, i) => -(i % cols)),
          { shape: [rows, cols], device },
        );
        const flat = limbeck.plackettLuceLoss(student.detach(), equal).item();
        expectClose('equal α', [flat], [limbeck.listMleLoss(student.detach(), byColumn).item() / cols], 1e-5 * flat);
        // Equal teacher logits: by column.
        expectClose(
          'ties',
          [limbeck.listMleLoss(student.detach(), equal).item()],
          [limbeck.listMleLoss(student.detach(), byColumn).item()],
          0,
        );
        const hot = limbeck.plackettLuceLoss(student.detach(), byColumn, { temperature: 1e6 }).item();
        expectClose('hot teacher', [hot], [flat], 1e-3 * flat);
      },
    },
    {
      name: 'the suffix, not the prefix: the gradient pushes the teacher’s best up (trap 3); by hand; −∞ on both sides is nothing',
      async run({ limbeck, device }) {
        const student = limbeck.tensor([[0, 0, 0]], { device, requiresGrad: true });
        const teacher = limbeck.tensor([[3, 1, 2]], { device });
        const loss = limbeck.listMleLoss(student, teacher);
        expectClose('ln 3 + ln 2', [loss.item()], [Math.log(6)], 1e-6);
        loss.backward();
        expectClose(
          'gradient',
          (await (student.grad as NonNullable<typeof student.grad>).read()) as Float32Array,
          [-2 / 3, 5 / 6, -1 / 6],
          1e-6,
        );
        const padded = limbeck.tensor([[1, 2, -Infinity, 0]], { device, requiresGrad: true });
        const target = limbeck.tensor([[2, 1, -Infinity, 0]], { device });
        const bare = limbeck.tensor([[1, 2, 0]], { device });
        const bareTarget = limbeck.tensor([[2, 1, 0]], { device });
        for (const name of ['listMleLoss', 'plackettLuceLoss'] as const) {
          const out = limbeck[name](padded, target);
          expectClose(name, [out.item()], [limbeck[name](bare, bareTarget).item()], 1e-6);
          out.backward();
          const gradient = (await (padded.grad as NonNullable<typeof padded.grad>).read()) as Float32Array;
          expectEqual(`${name}: no gradient at −∞`, gradient[2], 0);
          expectEqual(`${name}: finite`, gradient.every(Number.isFinite), true);
          padded.zeroGrad();
        }
        // A student that excludes what the teacher has: infinite, and the gradient says so.
        const lost = limbeck.tensor([[-Infinity, 0]], { device, requiresGrad: true });
        const infinite = limbeck.plackettLuceLoss(lost, limbeck.tensor([[1, 0]], { device }));
        expectEqual('+∞', infinite.item(), Infinity);
        infinite.backward();
        expectEqual('NaN', ((await (lost.grad as NonNullable<typeof lost.grad>).read()) as Float32Array).every(Number.isNaN), true);
      },
    },
    {
      name: 'logits of ±1e4: exact steps where the order is right, no overflow where it is not',
      async run({ limbeck, device }) {
        const cols = 40;
        const z = Float32Array.from({ length: cols }, (_, i) => 1e4 - 500 * i + (i % 3));
        const u = Float32Array.from({ length: cols }, (_, i) => -i);
        const run = (x: Float32Array): number =>
          limbeck.listMleLoss(limbeck.tensor(x, { shape: [1, cols], device }), limbeck.tensor(u, { shape: [1, cols], device })).item();
        const right = listwise(Array.from(z), falling(Array.from(u)), new Array<number>(cols).fill(1));
        expectClose('in order', [run(z)], [right], 1e-6);
        const wrong = z.slice().reverse();
        const value = listwise(Array.from(wrong), falling(Array.from(u)), new Array<number>(cols).fill(1));
        expectClose('reversed', [run(wrong)], [value], 1e-6 * value);
        const near = Float32Array.from({ length: 3 }, (_, i) => -12 * i);
        const small = limbeck.listMleLoss(limbeck.tensor(near, { shape: [1, 3], device }), limbeck.tensor([[2, 1, 0]], { device })).item();
        const exact = Math.log1p(Math.exp(-12) + Math.exp(-24)) + Math.log1p(Math.exp(-12));
        expectClose('small', [small], [exact], 1e-6 * exact);
      },
    },
    {
      name: 'long rows against the closed form of METHODS',
      async run({ limbeck, device }) {
        const cols = 4097;
        const z = normals(1, cols, 3);
        const u = normals(2, cols, 3);
        const student = limbeck.tensor(z, { shape: [1, cols], device, requiresGrad: true });
        const out = limbeck.plackettLuceLoss(student, limbeck.tensor(u, { shape: [1, cols], device }), { labels: [17], temperature: 3 });
        out.backward();
        const order = falling(Array.from(u), 17);
        const alpha = softmax(Array.from(u), 3);
        const suffix = new Float64Array(cols);
        let sum = 0;
        for (let k = cols - 1; k >= 0; k--) suffix[k] = sum += Math.exp(z[order[k] as number] as number);
        let value = 0;
        let shares = 0;
        const gradient = new Float64Array(cols);
        order.forEach((at, k) => {
          const zk = z[at] as number;
          const a = alpha[at] as number;
          value += a * (Math.log(suffix[k] as number) - zk);
          shares += a / (suffix[k] as number);
          gradient[at] = Math.exp(zk) * shares - a;
        });
        const steepest = gradient.reduce((most, v) => Math.max(most, Math.abs(v)), 0);
        expectClose('value', [out.item()], [value], 1e-5 * value);
        expectClose(
          'gradient',
          (await (student.grad as NonNullable<typeof student.grad>).read()) as Float32Array,
          gradient,
          1e-5 * steepest,
        );
      },
    },
    {
      name: 'temperature and labels that cannot be',
      run({ limbeck, device }) {
        const z = limbeck.zeros([2, 3], { device });
        expectThrows('temperature', () => limbeck.plackettLuceLoss(z, z, { temperature: 0 }), RangeError, /temperature/);
        expectThrows('labels', () => limbeck.plackettLuceLoss(z, z, { labels: [0] }), RangeError, /labels/);
      },
    },
  ],
  bench: [],
};
