// The checks of every loss that is a composition: values, gradients by finite differences of the float64 reference, rows that do not
// count, broken rows, bits, errors.
import { expectAll, expectClose, expectEqual, expectSameBits, expectThrows, expectTrue } from '../compare.js';
import { integers, normals, uniforms } from '../random.js';
import type { Check, Limbeck, Subject } from '../subject.js';

type Tensor = ReturnType<Limbeck['tensor']>;
type Floats = Float32Array | Float64Array;

/** What the options of a call may hold. */
export interface CallOptions {
  reduction?: 'mean' | 'sum' | 'none';
  denominator?: 'rows' | 'weights' | number;
  rowWeights?: Tensor;
  ignoreIndex?: number;
}

/** One loss under test. */
export interface ComposedLoss {
  name: string;
  call(limbeck: Limbeck, student: Tensor, teacher: Tensor, labels: Int32Array, options: CallOptions): Tensor;
  /** Row losses in float64, from the paper's formula. */
  reference(z: number[][], u: number[][], labels: number[]): number[];
  /** Widths to try; the first is the least. */
  cols: number[];
  /** Numbers the teacher may hold; normal ones by default. */
  teacher?(seed: number, size: number): Float32Array;
  labelled?: boolean;
  /** Adding a number to a row of logits changes nothing. */
  shiftInvariant?: boolean;
  /** Rows meet each other. */
  coupled?: boolean;
  /** Relative error allowed in float32; 1e-5 unless a formula gives less. */
  bound?: number;
  /** The teacher's width is its own. */
  anyWidth?: boolean;
  /** +∞ is a number like others (scores, not logits). */
  infinityIsFine?: boolean;
}

const nested = (x: ArrayLike<number>, rows: number, cols: number): number[][] =>
  Array.from({ length: rows }, (_, r) => Array.from({ length: cols }, (_unused, c) => Number(x[r * cols + c])));

const gradientOf = async (x: Tensor): Promise<Floats> => (await (x.grad as Tensor).read()) as Floats;
const read = async (x: Tensor): Promise<Floats> => (await x.read()) as Floats;

interface Data {
  rows: number;
  cols: number;
  z: Float32Array;
  u: Float32Array;
  labels: Int32Array;
}

function dataOf(loss: ComposedLoss, seed: number, rows: number, cols: number): Data {
  const u = (loss.teacher ?? ((s: number, size: number) => normals(s, size, 2)))(seed + 1, rows * cols);
  return { rows, cols, z: normals(seed, rows * cols, 2), u, labels: integers(seed + 2, rows, 0, cols) };
}

type Kind = 'float32' | 'float64';

function tensors({ limbeck, device }: Subject, { rows, cols, z, u }: Data, dtype: Kind): { student: Tensor; teacher: Tensor } {
  const make = (x: Float32Array, requiresGrad: boolean): Tensor =>
    limbeck.tensor(dtype === 'float64' ? Float64Array.from(x) : x.slice(), { shape: [rows, cols], device, requiresGrad });
  return { student: make(z, true), teacher: make(u, false) };
}

/** ∂/∂z of Σ upstream·loss at the columns asked for, from the reference. */
function slope(loss: ComposedLoss, { rows, cols, z, u, labels }: Data, upstream: number[], at: number): number {
  const total = (step: number): number => {
    const moved = Float64Array.from(z);
    moved[at] = (moved[at] as number) + step;
    const losses = loss.reference(nested(moved, rows, cols), nested(u, rows, cols), Array.from(labels));
    return losses.reduce((sum, value, r) => (upstream[r] === 0 ? sum : sum + value * (upstream[r] as number)), 0);
  };
  // Fourth order: steps large enough that the reference's own rounding does not show.
  const h = 2e-3;
  return (8 * (total(h) - total(-h)) - (total(2 * h) - total(-2 * h))) / (12 * h);
}

function places(seed: number, size: number): number[] {
  return size <= 40 ? Array.from({ length: size }, (_, i) => i) : [...new Set([0, size - 1, ...integers(seed, 30, 0, size)])];
}

async function checkAgainstReference(subject: Subject, loss: ComposedLoss, rows: number, cols: number, dtype: Kind): Promise<void> {
  const { limbeck, device } = subject;
  const data = dataOf(loss, 100 * rows + cols, rows, cols);
  const { student, teacher } = tensors(subject, data, dtype);
  const expected = loss.reference(nested(data.z, rows, cols), nested(data.u, rows, cols), Array.from(data.labels));
  const bound = dtype === 'float64' ? 1e-10 : (loss.bound ?? 1e-5);
  const largest = Math.max(...expected.map(Math.abs));
  const what = `${loss.name} ${rows}×${cols} ${dtype}`;
  const losses = loss.call(limbeck, student, teacher, data.labels, { reduction: 'none' });
  expectEqual(`${what}: shape`, [...losses.shape], [rows]);
  expectClose(what, await read(losses), expected, (r) => bound * Math.max(Math.abs(expected[r] as number), 1e-2 * largest, 1e-4));

  const upstream = Array.from(normals(7, rows));
  const g = limbeck.tensor(dtype === 'float64' ? Float64Array.from(upstream) : Float32Array.from(upstream), { device });
  losses.backward(g, { retainGraph: true });
  const once = Float64Array.from(await gradientOf(student));
  losses.backward(g);
  expectClose(
    `${what}: twice`,
    await gradientOf(student),
    Float64Array.from(once, (v) => 2 * v),
    (i) => 1e-6 * Math.abs(once[i] as number),
  );
  const steepest = once.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  for (const at of places(cols, rows * cols)) {
    const wanted = slope(loss, data, upstream, at);
    // Finite differences are good to about 1e-8 of the loss.
    expectClose(
      `${what}: ∂/∂z[${at}]`,
      [once[at] as number],
      [wanted],
      3 * (loss.bound ?? 1e-5) * Math.max(steepest, 1e-4) + 2e-8 * (1 + largest),
    );
  }
}

/** The checks of one loss. */
export function composedLossChecks(loss: ComposedLoss): Check[] {
  const least = loss.cols[0] as number;
  const middle = Math.max(least, 9);
  return [
    {
      name: `${loss.name}: values and gradients against float64 and its finite differences`,
      async run(subject) {
        for (const cols of loss.cols) {
          await checkAgainstReference(subject, loss, 3, cols, 'float32');
          if (subject.device === 'cpu' && cols < 1000) await checkAgainstReference(subject, loss, 3, cols, 'float64');
        }
        await checkAgainstReference(subject, loss, 1, middle, 'float32');
      },
    },
    {
      name: `${loss.name}: reductions, denominators, weights, rows that do not count`,
      async run(subject) {
        const { limbeck, device } = subject;
        const rows = 5;
        const data = dataOf(loss, 11, rows, middle);
        const weights = Float32Array.of(1, 0, 2, 0.5, 1.5);
        // What a row of weight 0 holds is not looked at, its label neither.
        data.z.fill(NaN, middle, middle + 3);
        if (loss.teacher === undefined) data.u[middle + 1] = Infinity;
        if (loss.labelled) data.labels[1] = 1000;
        const ignored = loss.labelled ? 3 : -1;
        if (loss.labelled) data.labels[3] = -7;
        const counts = [0, 2, 3, 4].filter((r) => r !== ignored);
        const pick = (x: Float32Array): number[][] => counts.map((r) => nested(x, rows, middle)[r] as number[]);
        const reference = loss.reference(
          pick(data.z),
          pick(data.u),
          counts.map((r) => data.labels[r] as number),
        );
        const rowLosses = new Array<number>(rows).fill(0);
        counts.forEach((r, i) => (rowLosses[r] = (reference[i] as number) * (weights[r] as number)));
        const total = rowLosses.reduce((sum, value) => sum + value, 0);
        const mass = weights.reduce((sum, w, r) => (r === ignored ? sum : sum + w), 0);
        const size = Math.abs(total) + 1e-3;
        const cases: [CallOptions, number[], number][] = [
          [{ reduction: 'none' }, rowLosses, 1],
          [{ reduction: 'sum' }, [total], 1],
          [{}, [total / (loss.labelled ? 4 : 5)], 1 / (loss.labelled ? 4 : 5)],
          [{ reduction: 'mean', denominator: 'weights' }, [total / mass], 1 / mass],
          [{ denominator: 8 }, [total / 8], 1 / 8],
        ];
        let sums: Floats | null = null;
        for (const [options, expected, factor] of cases) {
          const { student, teacher } = tensors(subject, data, 'float32');
          const rowWeights = limbeck.tensor(weights.slice(), { device });
          const all = { ...options, rowWeights, ...(loss.labelled ? { ignoreIndex: -7 } : {}) };
          const out = loss.call(limbeck, student, teacher, data.labels, all);
          const what = `${loss.name} ${JSON.stringify(options)}`;
          const got = await read(out);
          expectClose(what, got, expected, 2e-5 * size);
          if (options.reduction === 'none') expectTrue(`${what}: exactly 0`, got[1] === 0 && (ignored < 0 || got[ignored] === 0));
          if (out.size === 1) out.backward();
          else out.backward(limbeck.ones([rows], { device }));
          const gradient = await gradientOf(student);
          for (const r of ignored < 0 ? [1] : [1, ignored])
            expectAll(`${what}: gradient of row ${r}`, gradient.slice(r * middle, (r + 1) * middle), (v) => v === 0, '0');
          sums ??= gradient.slice();
          expectClose(
            `${what}: gradient`,
            gradient,
            Float64Array.from(sums, (v) => v * factor),
            (i) => 1e-5 * Math.abs((sums as Floats)[i] as number) + 1e-9,
          );
        }
        const nothing = limbeck.zeros([rows], { device });
        const { student, teacher } = tensors(subject, data, 'float32');
        for (const denominator of ['rows', 'weights'] as const) {
          data.labels[1] = 0;
          const out = loss.call(limbeck, student, teacher, loss.labelled ? data.labels : data.labels, {
            rowWeights: nothing,
            denominator,
            ...(loss.labelled ? { ignoreIndex: -7 } : {}),
          });
          expectClose(`${loss.name}: nothing to average by ${denominator} (trap 14)`, await read(out), [0], 0);
          out.backward();
        }
        expectAll(`${loss.name}: nothing to learn`, await gradientOf(student), (v) => v === 0, '0');
      },
    },
    {
      name: `${loss.name}: a NaN or +∞ spoils its own row and no other`,
      async run(subject) {
        const { limbeck, device } = subject;
        const rows = 4;
        for (const [where, bad] of [['z', NaN], ['u', NaN], ...(loss.infinityIsFine ? [] : ([['z', Infinity]] as const))] as const) {
          for (const at of [0, middle - 1, Math.floor(middle / 2)]) {
            const data = dataOf(loss, 21, rows, middle);
            data[where][2 * middle + at] = bad;
            const { student, teacher } = tensors(subject, data, 'float32');
            const out = loss.call(limbeck, student, teacher, data.labels, { reduction: 'none' });
            out.backward(limbeck.ones([rows], { device }));
            const got = await read(out);
            const gradient = await gradientOf(student);
            const what = `${loss.name}, ${bad} in ${where} at ${at}`;
            expectTrue(`${what}: the row's loss is ${got[2]}`, Number.isNaN(got[2]));
            expectAll(`${what}: its gradient`, gradient.slice(2 * middle, 3 * middle), Number.isNaN, 'NaN');
            for (const r of [0, 1, 3]) {
              expectTrue(`${what}: row ${r} is ${got[r]}`, Number.isFinite(got[r]));
              expectAll(`${what}: gradient of row ${r}`, gradient.slice(r * middle, (r + 1) * middle), Number.isFinite, 'finite');
            }
          }
        }
      },
    },
    {
      name: `${loss.name}: same bits twice${loss.coupled ? '' : ' and alone'}${loss.shiftInvariant ? ', no offset counts' : ''}`,
      async run(subject) {
        const { limbeck, device } = subject;
        const data = dataOf(loss, 31, 3, middle);
        const run = async (part: Data, leading?: number[]): Promise<{ losses: Floats; gradient: Floats; shape: readonly number[] }> => {
          const { student, teacher } = tensors(subject, part, 'float32');
          const shaped = leading === undefined ? student : student.reshape([...leading, part.cols]);
          const out = loss.call(limbeck, shaped, teacher, part.labels, { reduction: 'none' });
          out.backward(limbeck.ones(out.shape, { device }));
          return { losses: await read(out), gradient: await gradientOf(student), shape: out.shape };
        };
        const first = await run(data);
        const again = await run(data, [3, 1]);
        expectEqual('leading shape', [...again.shape], [3, 1]);
        expectSameBits('again', again.losses, first.losses);
        expectSameBits('again, gradient', again.gradient, first.gradient);
        if (!loss.coupled) {
          const slice = <A extends Float32Array>(x: A): A => x.slice(2 * middle, 3 * middle) as A;
          const alone = await run({ ...data, rows: 1, z: slice(data.z), u: slice(data.u), labels: data.labels.slice(2) });
          expectSameBits('alone', alone.losses, first.losses.slice(2));
          expectSameBits('alone, gradient', alone.gradient, first.gradient.slice(2 * middle));
        }
        if (loss.shiftInvariant) {
          // Multiples of 1/16 with an offset that float32 adds exactly.
          const coarse = { ...data, z: data.z.map((v) => Math.round(v * 16) / 16), u: data.u.map((v) => Math.round(v * 16) / 16) };
          const plain = await run(coarse);
          const moved = await run({ ...coarse, z: coarse.z.map((v) => v + 4096), u: coarse.u.map((v) => v - 1024) });
          expectClose('offset', moved.losses, plain.losses, (r) => 2e-6 * Math.abs(plain.losses[r] as number) + 1e-7);
          expectClose(
            'offset, gradient',
            moved.gradient,
            plain.gradient,
            1e-5 * Float64Array.from(plain.gradient).reduce((m, v) => Math.max(m, Math.abs(v)), 0),
          );
        }
      },
    },
    {
      name: `${loss.name}: equal logits, a row of −∞ alone`,
      async run(subject) {
        const { limbeck, device } = subject;
        const data = dataOf(loss, 61, 3, middle);
        data.z.fill(1.5, 0, middle);
        if (loss.teacher === undefined) data.u.fill(-2.25, 0, middle);
        data.z.fill(-Infinity, 2 * middle);
        const { student, teacher } = tensors(subject, data, 'float32');
        const out = loss.call(limbeck, student, teacher, data.labels, { reduction: 'none' });
        out.backward(limbeck.ones([3], { device }));
        const got = await read(out);
        const gradient = await gradientOf(student);
        expectTrue(`equal: ${got[0]}`, Number.isFinite(got[0]) && (got[0] as number) >= 0);
        expectAll('equal, gradient', gradient.slice(0, middle), Number.isFinite, 'finite');
        expectTrue(`between: ${got[1]}`, Number.isFinite(got[1]));
        if (loss.infinityIsFine) return;
        expectTrue(`−∞: ${got[2]}`, Number.isNaN(got[2]));
        expectAll('−∞, gradient', gradient.slice(2 * middle), Number.isNaN, 'NaN');
      },
    },
    {
      name: `${loss.name}: no rows; nothing is left behind by tidy()`,
      run({ limbeck, device }) {
        const none = limbeck.zeros([0, middle], { device, requiresGrad: true });
        const teacher = none.detach();
        for (const reduction of ['mean', 'sum', 'none'] as const) {
          const out = loss.call(limbeck, none, teacher, new Int32Array(0), { reduction });
          if (reduction === 'none') expectEqual('shape', [...out.shape], [0]);
          else expectEqual(reduction, out.item(), 0);
          if (out.size === 1) out.backward();
        }
        const data = dataOf(loss, 51, 3, middle);
        const student = limbeck.tensor(data.z, { shape: [3, middle], device, requiresGrad: true });
        const other = limbeck.tensor(data.u, { shape: [3, middle], device });
        const count = (): number => Object.values(limbeck.memory()).reduce((sum, { tensors }) => sum + tensors, 0);
        const before = count();
        limbeck.tidy(() => loss.call(limbeck, student, other, data.labels, {}).backward());
        student.zeroGrad();
        expectEqual('live tensors', count(), before);
      },
    },
    {
      name: `${loss.name}: errors`,
      run(subject) {
        const { limbeck, device } = subject;
        const data = dataOf(loss, 41, 3, middle);
        const { student, teacher } = tensors(subject, data, 'float32');
        const call = (t: Tensor, options: object = {}, labels = data.labels): Tensor => loss.call(limbeck, student, t, labels, options);
        expectThrows('a teacher with a gradient', () => call(student.clone()), TypeError, /detach/);
        const other = loss.anyWidth ? [4, middle] : [3, middle + 1];
        expectThrows('another shape', () => call(limbeck.zeros(other, { device })), RangeError, /shape/);
        expectThrows('another dtype', () => call(limbeck.zeros([3, middle], { device, dtype: 'int32' })), TypeError, /float32/);
        expectThrows('an unknown option', () => call(teacher, { reductoin: 'sum' }), TypeError, /did you mean 'reduction'/);
        expectThrows('a reduction', () => call(teacher, { reduction: 'max' }), RangeError, /reduction/);
        expectThrows('weights', () => call(teacher, { rowWeights: limbeck.zeros([2], { device }) }), RangeError, /rowWeights/);
        const learned = limbeck.ones([3], { device, requiresGrad: true });
        expectThrows('weights with a gradient', () => call(teacher, { rowWeights: learned }), TypeError, /detach/);
        if (loss.labelled) expectThrows('a label', () => call(teacher, {}, Int32Array.of(0, middle, 0)), RangeError, /labels must be in/);
      },
    },
  ];
}

/** Uniform numbers in [0, 1]. */
export const grades = (seed: number, size: number): Float32Array => uniforms(seed, size);
