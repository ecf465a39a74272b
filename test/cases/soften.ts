// soften: each family against its formula in float64, the five axioms on adversarial rows, inequivalence, counterexamples.
import { expectClose, expectEqual, expectSameBits, expectThrows, expectTrue } from '../compare.js';
import { normals } from '../random.js';
import { logSoftmaxRow, sum } from '../reference.js';
import type { CaseFile, Limbeck, Subject } from '../subject.js';

type Name = Limbeck['softeningOperators'][number]['name'];
type Tensor = ReturnType<Limbeck['tensor']>;
type Family = (p: ArrayLike<number>, T: number) => Float64Array;

const normalised = (weights: Float64Array): Float64Array => {
  const total = sum(weights);
  return weights.map((weight) => weight / total);
};
const relative = (p: ArrayLike<number>): Float64Array => {
  const most = Array.from(p).reduce((a, b) => Math.max(a, b));
  return Float64Array.from(p, (value) => value / most);
};

/** The formulas of the table. */
const families: Record<Name, Family> = {
  power: (p, T) => logSoftmaxRow(Float64Array.from(p, Math.log), T).map(Math.exp),
  uniform_mix: (p, T) => Float64Array.from(p, (value) => value / T + (1 - 1 / T) / p.length),
  odds: (p, T) => normalised(relative(p).map((r) => (r === 1 ? 1 : (T * r) / (1 - r + T * r)))),
  log_link: (p, T) =>
    normalised(
      relative(p).map((r) => (T > 1 ? Math.log1p((T - 1) * r) / Math.log(T) : T < 1 ? Math.expm1(-r * Math.log(T)) / (1 / T - 1) : r)),
    ),
};
const names = Object.keys(families) as Name[];
const below1: Name[] = ['power', 'odds', 'log_link'];

/** Operators that look right and are not: each with the axioms it breaks. */
const counterexamples: Record<string, { family: Family; breaks: string[] }> = {
  // What the largest gives up is shared by the others: label smoothing of the arg max.
  'smoothing of the largest': {
    family: (p, T) => {
      const top = Array.from(p).indexOf(Math.max(...Array.from(p)));
      if (p.length === 1) return Float64Array.from(p);
      return Float64Array.from(p, (value, i) => (i === top ? value / T : value + ((1 - 1 / T) * (p[top] as number)) / (p.length - 1)));
    },
    breaks: ['rank', 'continuity', 'entropy', 'hot'],
  },
  // Everything above 1/T of the largest is cut to it: outcomes that differed become equal.
  cap: { family: (p, T) => normalised(relative(p).map((r) => Math.min(r, 1 / T))), breaks: ['rank'] },
  // A polynomial link bends the wrong way.
  'quadratic link': { family: (p, T) => normalised(relative(p).map((r) => r + (T - 1) * r * r)), breaks: ['entropy', 'hot'] },
};

function onehot(cols: number, at: number): number[] {
  return Array.from({ length: cols }, (_, c) => (c === at ? 1 : 0));
}

/** Probability rows that break operators. */
function adversarial(): Float32Array[] {
  const random = [2, 7, 33, 1025].map((cols) => Float32Array.from(logSoftmaxRow(normals(cols, cols, 3), 1), Math.exp));
  const peaked = Float32Array.from(logSoftmaxRow(normals(9, 257, 20), 1), Math.exp);
  return [
    [1],
    onehot(5, 3),
    [0.25, 0.25, 0.25, 0.25],
    [0.5, 0.5, 0],
    [0.4, 0.4, 0.1, 0.1],
    [0.6, 0.3, 0.1, 0, 0],
    [1 - 1e-6, 1e-6, 1e-30, 0],
    [0.7, 0.3, 1e-30, 1e-30, 1e-12],
    [0.34, 0.33, 0.33],
    [0.500001, 0.499999],
    ...random,
    peaked,
  ].map((row) => Float32Array.from(row));
}

const entropy = (p: ArrayLike<number>): number => -sum(Array.from(p, (value) => (value > 0 ? value * Math.log(value) : 0)));
const HOT = [1, 1 + 1e-6, 1.001, 1.5, 2, 5, 30, 1e3, 1e6];
const COLD = [0.02, 0.1, 0.5, 0.9, 0.999, 1 - 1e-6];

/** The axioms a family breaks on these rows, in float64. */
function broken(family: Family, temperatures: number[], hotLimit: 'support' | 'all'): string[] {
  const breaks = new Set<string>();
  for (const p of adversarial()) {
    const values = temperatures.map((T) => family(p, T));
    values.forEach((s) => {
      for (let i = 0; i < Math.min(p.length, 40); i++)
        for (let j = 0; j < Math.min(p.length, 40); j++) {
          const [a, b] = [p[i] as number, p[j] as number];
          const [x, y] = [s[i] as number, s[j] as number];
          // Strictly, unless both are too small or too near for float64 to tell apart.
          if ((a > b && x < y) || (a === b && x !== y)) breaks.add('rank');
          if (a > 1.01 * b && a > 1e-3 && x <= y && x > 1e-300) breaks.add('rank');
        }
    });
    for (let t = 1; t < temperatures.length; t++)
      if (!(entropy(values[t] as Float64Array) >= entropy(values[t - 1] as Float64Array) - 1e-12)) breaks.add('entropy');
    const same = family(p, 1);
    if (!same.every((value, i) => Math.abs(value / sum(same) - (p[i] as number) / sum(p)) <= 1e-7 * (p[i] as number) + 1e-16))
      breaks.add('identity');
    // In T and in each entry of p: a jump does not shrink with the step.
    for (const [t, T] of temperatures.entries()) {
      const whole = values[t] as Float64Array;
      const moves = (moved: Float64Array): boolean => moved.some((value, i) => !(Math.abs(value - (whole[i] as number)) <= 1e-6));
      if (t > 0 && moves(family(p, T * (1 - 1e-10)))) breaks.add('continuity');
      if (p.length > 40) continue;
      p.forEach((value, i) => {
        // From 0 power rises slowly, as step^(1/T); 1e-290 is small enough for T up to 30.
        if (value === 0 && T > 30) return;
        if (
          moves(
            family(
              Float64Array.from(p, (entry, c) => (c === i ? (value === 0 ? 1e-290 : value * (1 - 1e-10)) : entry)),
              T,
            ),
          )
        )
          breaks.add('continuity');
      });
    }
    const support = Array.from(p, (value) => (hotLimit === 'all' || value > 0 ? 1 : 0));
    const uniform = support.map((value) => value / sum(support));
    // The slowest family comes as near as ln(1/r)/ln T; it is asked only for progress on rows without tiny masses.
    const isTiny = Array.from(p).some((value) => value > 0 && value < 1e-3);
    const distance = (s: Float64Array): number => s.reduce((most, value, i) => Math.max(most, Math.abs(value - (uniform[i] as number))), 0);
    if (!isTiny && !(distance(family(p, 1e37)) <= Math.max(1e-9, 0.1 * distance(family(p, 1))))) breaks.add('hot');
  }
  return [...breaks];
}

async function softened(subject: Subject, name: Name, rows: Float32Array[], T: number | Float32Array): Promise<Float32Array> {
  const { limbeck, device } = subject;
  const cols = (rows[0] as Float32Array).length;
  const flat = new Float32Array(rows.length * cols);
  rows.forEach((row, r) => flat.set(row, r * cols));
  const x = limbeck.tensor(flat, { shape: [rows.length, cols], device });
  const temperature = typeof T === 'number' ? T : limbeck.tensor(T.slice(), { device });
  return (await limbeck.soften(x, { operator: name, temperature }).read()) as Float32Array;
}

// ln p is off by |ln p|·2^-24 for power; the links lose a few ulp, as r, w and Σ w are each rounded.
const bound = (value: number, T: number): number =>
  value === 0 ? 0 : 3e-6 * value * Math.max(1, (-Math.log(value) / 4) * Math.max(1, 1 / T)) + 1.2e-37;

export const soften: CaseFile = {
  op: 'soften',
  kernels: [],
  checks: [
    ...names.map((name) => ({
      name: `${name}: its formula, on both sides of 1 and for each row`,
      async run(subject: Subject) {
        const temperatures = [...(below1.includes(name) ? COLD : []), ...HOT, 1e30];
        for (const p of adversarial()) {
          for (const T of temperatures) {
            const exact = families[name](p, T);
            expectClose(`V ${p.length}, T ${T}`, await softened(subject, name, [p], T), exact, (i) => bound(exact[i] as number, T));
          }
          const each = Float32Array.from(temperatures);
          const all = await softened(
            subject,
            name,
            temperatures.map(() => p),
            each,
          );
          temperatures.forEach((_, r) => {
            const T = each[r] as number;
            const exact = families[name](p, T);
            expectClose(`V ${p.length}, row of T ${T}`, all.subarray(r * p.length, (r + 1) * p.length), exact, (i) =>
              bound(exact[i] as number, T),
            );
          });
        }
      },
    })),
    ...names.map((name) => ({
      name: `${name}: the five axioms`,
      async run(subject: Subject) {
        const isAll = name === 'uniform_mix';
        const temperatures = [...(below1.includes(name) ? COLD : []), ...HOT];
        expectEqual('the formula', broken(families[name], temperatures, isAll ? 'all' : 'support'), []);
        for (const p of adversarial()) {
          let before = -Infinity;
          for (const T of temperatures) {
            const s = await softened(subject, name, [p], T);
            expectTrue(`mass at T ${T}`, Math.abs(sum(s) - 1) <= 1e-5);
            const order = Array.from(p.keys()).sort((a, b) => (p[b] as number) - (p[a] as number));
            for (let i = 1; i < order.length; i++) {
              const [x, y] = [s[order[i - 1] as number] as number, s[order[i] as number] as number];
              const isTie = p[order[i - 1] as number] === p[order[i] as number];
              expectTrue(`rank at T ${T}: ${x} before ${y}`, isTie ? x === y : x >= y * (1 - 1e-6));
            }
            const H = entropy(s);
            expectTrue(`entropy at T ${T}: ${H} after ${before}`, H >= before - 1e-5);
            before = H;
          }
          expectSameBits('identity', await softened(subject, name, [p], 1), p);
          const alone = await softened(subject, name, [p, p], Float32Array.of(1, 2));
          expectClose('identity of a row', alone.subarray(0, p.length), p, (i) => 1e-5 * (p[i] as number));
        }
      },
    })),
    {
      name: 'the limits the table names',
      async run(subject: Subject) {
        // At the end of the range T·r must still be large.
        const rows = adversarial().filter((p) => relative(p).every((r) => r === 0 || r > 1e-31));
        for (const { name, hot, cold, temperatures } of subject.limbeck.softeningOperators) {
          const most = Math.min(temperatures[1], 1e37);
          const least = Math.max(temperatures[0], 1e-3);
          for (const p of rows) {
            const support = Array.from(p, (value) => (hot === 'uniform on all outcomes' || value > 0 ? 1 : 0));
            const s = await softened(subject, name, [p], most);
            const r = relative(p);
            const share = 1 / sum(support);
            // log_link is 1 − w = ln(1/r)/ln T away, 1/Σw more than the share.
            const slow = name === 'log_link';
            expectClose(
              `${name}, hot`,
              s,
              support.map((value) => value * share),
              (i) =>
                (slow
                  ? share *
                      Math.max(1, ...Array.from(r, (x) => (x > 0 ? 8 * -Math.log(x) : 0))) *
                      (support[i] === 0 ? 0 : 1) *
                      (1 / Math.log(1e37)) +
                    share * 4
                  : 1e-5) + 1e-7,
            );
            if (slow && support.every((value, i) => value === 0 || (r[i] as number) > 0.1))
              expectClose(
                'log_link, hot, near',
                s,
                support.map((value) => value * share),
                0.03,
              );
            if (cold === null) continue;
            const T = name === 'power' ? least : temperatures[0];
            // Where the second comes within a part in a hundred, no temperature of this range parts them.
            if (Array.from(r).some((value) => value < 1 && value > 0.9)) continue;
            const ties = Array.from(r, (value) => (value === 1 ? 1 : 0));
            expectClose(
              `${name}, cold`,
              await softened(subject, name, [p], T),
              ties.map((value) => value / sum(ties)),
              1e-3,
            );
          }
        }
      },
    },
    {
      name: 'no family is another with T changed: along its whole range none comes near',
      async run(subject: Subject) {
        const p = Float32Array.of(0.9, 0.09, 0.009, 0.001);
        const each = Float32Array.from({ length: 20000 }, (_, i) => 10 ** (i / 2000));
        const curves = new Map<Name, Float32Array>();
        for (const name of names)
          curves.set(
            name,
            await softened(
              subject,
              name,
              Array.from(each, () => p),
              each,
            ),
          );
        for (const one of names)
          for (const other of names) {
            // One temperature whose row the other never meets is enough.
            let farthest = 0;
            for (const T of [5, 1000]) {
              const wanted = await softened(subject, one, [p], T);
              const all = curves.get(other) as Float32Array;
              let nearest = Infinity;
              for (let r = 0; r < each.length; r++)
                nearest = Math.min(nearest, Math.max(...wanted.map((value, c) => Math.abs((all[4 * r + c] as number) - value))));
              farthest = Math.max(farthest, nearest);
            }
            expectTrue(`${one} and ${other}: ${farthest}`, one === other ? farthest < 2e-4 : farthest > 1e-2);
          }
      },
    },
    {
      name: 'counterexamples: operators that break an axiom are found out',
      run() {
        for (const [what, { family, breaks }] of Object.entries(counterexamples))
          expectEqual(what, broken(family, HOT, 'support').sort(), [...breaks].sort());
      },
    },
    {
      name: 'the gradient, by finite differences',
      async run({ limbeck, device }) {
        const cols = 7;
        const p = Float32Array.from(logSoftmaxRow(normals(3, cols, 1.5), 1), Math.exp);
        const g = normals(4, 2 * cols);
        for (const name of names)
          for (const T of name === 'uniform_mix' ? [2, 5] : [0.4, 2, 5]) {
            const x = limbeck.tensor(Float32Array.of(...p, ...p), { shape: [2, cols], device, requiresGrad: true });
            const temperature = limbeck.tensor(Float32Array.of(T, T), { device });
            const upstream = limbeck.tensor(g.slice(), { shape: [2, cols], device });
            limbeck.soften(x, { operator: name, temperature }).backward(upstream);
            const actual = (await (x.grad as Tensor).read()) as Float32Array;
            const exact = Float64Array.from({ length: 2 * cols }, (_, k) => {
              const [r, c] = [Math.floor(k / cols), k % cols];
              const step = 1e-6 * (p[c] as number);
              const moved = [step, -step].map((h) =>
                families[name](
                  Float64Array.from(p, (value, i) => (i === c ? value + h : value)),
                  T,
                ),
              );
              return sum(
                g
                  .subarray(r * cols, (r + 1) * cols)
                  .map((value, i) => (value * ((moved[0]?.[i] as number) - (moved[1]?.[i] as number))) / (2 * step)),
              );
            });
            const scale = exact.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
            expectClose(`${name}, T ${T}`, actual, exact, 2e-5 * scale);
          }
      },
    },
    {
      name: 'leading dimensions, float64 on the CPU, nothing left behind',
      async run(subject) {
        const { limbeck, device } = subject;
        const p = Float32Array.from(logSoftmaxRow(normals(1, 6), 1), Math.exp);
        const x = limbeck.tensor(Float32Array.of(...p, ...p), { shape: [2, 1, 6], device });
        const T = limbeck.tensor(Float32Array.of(2, 3), { shape: [2, 1], device });
        for (const name of names) {
          const start = limbeck.memory()[x.device]!.tensors;
          const out = limbeck.soften(x, { operator: name, temperature: T });
          const numbered = limbeck.soften(x, { operator: name, temperature: 2 });
          expectEqual('live tensors', limbeck.memory()[x.device]!.tensors - start, 2);
          expectEqual('shape', [...out.shape], [2, 1, 6]);
          expectClose('rows', await out.read().then((y) => (y as Float32Array).subarray(6)), families[name](p, 3), 1e-6);
          expectClose('rows', await numbered.read().then((y) => (y as Float32Array).subarray(6)), families[name](p, 2), 1e-6);
          if (device !== 'cpu') continue;
          const wide = limbeck.soften(limbeck.tensor(Float64Array.from(p)), { operator: name, temperature: 1.0000001 });
          expectClose('float64', wide.data as Float64Array, families[name](p, 1.0000001), 1e-14);
        }
      },
    },
    {
      name: 'what cannot be softened says why',
      run({ limbeck, device }) {
        const x = limbeck.tensor([[0.5, 0.5]], { device });
        const at = (operator: unknown, temperature: unknown) => () => limbeck.soften(x, { operator, temperature } as never);
        const refused: [() => unknown, typeof TypeError | typeof RangeError, string][] = [
          [at('uniform_mix', 0.5), RangeError, "temperature must be at least 1 for 'uniform_mix': it is 0.5"],
          [at('odds', 1e-40), RangeError, "temperature must be in [1e-37, 1e+37] for 'odds': it is 1e-40"],
          [at('log_link', 0), RangeError, 'temperature must be positive and finite: it is 0'],
          [
            at('uniform_mix', limbeck.tensor([0.5], { device })),
            RangeError,
            "temperature must be at least 1 for 'uniform_mix': it is 0.5 in row 0",
          ],
          [at('log_link', limbeck.tensor([1, 2], { device })), RangeError, 'temperature must have shape [1], one for each row: it has [2]'],
          [at('odd', 2), RangeError, "operator must be 'power', 'uniform_mix', 'odds' or 'log_link': it is 'odd'; did you mean 'odds'?"],
          [at('odds', '2'), TypeError, "temperature must be a number or a Tensor with one for each row: it is '2'"],
        ];
        for (const [fn, type, message] of refused)
          expectEqual(message, expectThrows(message, fn, type, /./).message, `Cannot compute soften: ${message}`);
      },
    },
  ],
  bench: [],
};
