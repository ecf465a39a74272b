// kdLoss and crossEntropy as users call them: targets, options, autograd, and limbeck/raw on typed arrays.
import { expectAll, expectClose, expectEqual, expectSameBits, expectThrows, expectTrue } from '../compare.js';
import { integers, normals, uniforms } from '../random.js';
import { rowLossReference, type LossCall, type LossReference } from '../reference.js';
import { FEW_COLS, TEMPERATURES } from '../sizes.js';
import type { CaseFile, Limbeck, Subject } from '../subject.js';
import { EXACTNESS, denseCall, expectLoss, probabilities, sparseCall, type LossResult } from './row_loss.js';

type Tensor = ReturnType<Limbeck['tensor']>;
type Options = NonNullable<Parameters<Limbeck['kdLoss']>[2]>;

async function floats(tensor: Tensor | null): Promise<Float32Array> {
  expectTrue('there is a tensor', tensor !== null);
  return (await (tensor as Tensor).read()) as Float32Array;
}

export function optionsOf(limbeck: Limbeck, call: LossCall, device: Subject['device']): Options {
  const row = (values: Float32Array): Tensor => limbeck.tensor(values.slice(), { shape: [call.rows], device });
  const options: Options = {};
  if (call.rowTemperature !== undefined) options.temperature = row(call.rowTemperature);
  else if (call.temperature !== undefined) options.temperature = call.temperature;
  if (call.temperatureSquared !== undefined) options.temperatureSquared = call.temperatureSquared;
  if (call.residual !== undefined && call.residual !== 'none') options.residual = call.residual;
  if (call.labels !== undefined) options.labels = call.labels;
  if (call.hardWeight !== undefined) options.hardWeight = call.hardWeight;
  if (call.labelSmoothing !== undefined) options.labelSmoothing = call.labelSmoothing;
  if (call.ignoreIndex !== undefined) options.ignoreIndex = call.ignoreIndex;
  if (call.unlabelledIndex !== undefined) options.unlabelledIndex = call.unlabelledIndex;
  if (call.rowWeights !== undefined) options.rowWeights = row(call.rowWeights);
  if (call.reduction !== undefined) options.reduction = call.reduction;
  if (call.denominator !== undefined)
    options.denominator = call.denominator === 'number' ? (call.denominatorValue as number) : call.denominator;
  return options;
}

export function targetOf(
  limbeck: Limbeck,
  call: LossCall,
  device: Subject['device'],
  captured?: number | Tensor,
): Parameters<Limbeck['kdLoss']>[1] {
  const shape = [call.rows, call.cols];
  const put = (values: Float32Array | Int32Array, size: number[]): Tensor => limbeck.tensor(values.slice(), { shape: size, device });
  if (call.target === 'logits') return put(call.teacher as Float32Array, shape);
  if (call.target === 'probs') return limbeck.denseTarget({ probs: put(call.teacher as Float32Array, shape) });
  if (call.target === 'log_probs') return limbeck.denseTarget({ logProbs: put(call.teacher as Float32Array, shape) });
  const kept = [call.rows, call.k as number];
  return limbeck.sparseTarget({
    indices: put(call.indices as Int32Array, kept),
    logProbs: put(call.values as Float32Array, kept),
    ...(call.tailLogMass === undefined ? {} : { tailLogMass: put(call.tailLogMass, [call.rows]) }),
    temperature: captured ?? call.temperature ?? 1,
  });
}

/** Runs a call through kdLoss and backward(upstream). */
async function viaKdLoss(subject: Subject, call: LossCall, upstream?: number | Float32Array, captured?: number): Promise<LossResult> {
  const { limbeck, device } = subject;
  const student = limbeck.tensor(call.student.slice(), { shape: [call.rows, call.cols], device, requiresGrad: true });
  const options = optionsOf(limbeck, call, device);
  const loss = limbeck.kdLoss(
    student,
    targetOf(limbeck, call, device, captured ?? (call.rowTemperature === undefined ? undefined : (options.temperature as Tensor))),
    options,
  );
  const value = await floats(loss);
  const none = (call.reduction ?? 'mean') === 'none';
  if (upstream !== undefined || none) {
    const g = upstream ?? 1;
    loss.backward(limbeck.tensor(typeof g === 'number' ? new Float32Array(value.length).fill(g) : g, { shape: [...loss.shape], device }));
  } else loss.backward();
  return { rowLoss: none ? value : new Float32Array(0), loss: none ? new Float32Array(0) : value, gradient: await floats(student.grad) };
}

function expectPublic(what: string, result: LossResult, reference: LossReference, call: LossCall): void {
  if (result.rowLoss.length > 0) return expectLoss(what, result, reference, call);
  expectClose(`${what}: loss`, result.loss, [reference.loss], EXACTNESS * reference.lossScale + 6e-8 * Math.abs(reference.loss));
  expectClose(`${what}: gradient`, result.gradient, reference.gradient, (i) => EXACTNESS * (reference.gradientScale[i] as number));
}

async function check(subject: Subject, what: string, call: LossCall, captured?: number): Promise<void> {
  // The default of kdLoss is the mean; that of a LossCall is none.
  const full: LossCall = { reduction: 'mean', ...call };
  expectPublic(what, await viaKdLoss(subject, full, undefined, captured), rowLossReference(full), full);
}

export const kd_loss: CaseFile = {
  op: 'kd_loss',
  kernels: ['divergence', 'binary'],
  checks: [
    ...TEMPERATURES.map((temperature) => ({
      name: `dense and sparse targets at temperature ${temperature}`,
      async run(subject: Subject) {
        for (const cols of FEW_COLS) {
          await check(subject, `V ${cols}, logits`, denseCall(cols, 3, cols, { temperature, spread: 3 * Math.min(temperature, 700) }));
          for (const residual of ['renormalize', 'truncate', 'tail_bucket'] as const)
            await check(
              subject,
              `V ${cols}, ${residual}`,
              sparseCall(cols, 3, cols, Math.min(5, cols), { temperature, residual, spread: 3 * Math.min(temperature, 700) }),
            );
        }
      },
    })),
    {
      name: 'probabilities and log-probabilities, temperatures per row',
      async run(subject) {
        for (const cols of [7, 33]) {
          const call = denseCall(cols, 3, cols);
          const probs = probabilities(call.teacher as Float32Array, 3, cols);
          for (const temperature of [1, 2]) {
            await check(subject, 'probs', { ...call, target: 'probs', teacher: probs, temperature });
            await check(subject, 'log-probs', { ...call, target: 'log_probs', teacher: probs.map(Math.log), temperature });
          }
          const rowTemperature = Float32Array.of(0.5, 1, 7);
          await check(subject, 'rows', { ...call, rowTemperature });
          await check(subject, 'rows, sparse', sparseCall(cols, 3, cols, 3, { rowTemperature, residual: 'tail_bucket' }));
        }
      },
    },
    {
      name: 'a sparse target keeps its temperature: the default, another one, renormalising',
      async run(subject) {
        const { limbeck, device } = subject;
        const call = sparseCall(3, 3, 33, 5, { temperature: 2, residual: 'tail_bucket' });
        const target = targetOf(limbeck, call, device, 2);
        const student = limbeck.tensor(call.student.slice(), { shape: [3, 33], device });
        const reference = rowLossReference({ ...call, reduction: 'mean' });
        const loss = limbeck.kdLoss(student, target, { residual: 'tail_bucket' });
        expectClose('default temperature', await floats(loss), [reference.loss], EXACTNESS * reference.lossScale);
        for (const residual of ['tail_bucket', 'truncate'] as const)
          expectThrows(
            residual,
            () => limbeck.kdLoss(student, target, { residual, temperature: 3 }),
            RangeError,
            /^Cannot compute kdLoss: .*temperature/,
          );
        await check(subject, 'renormalised at 3', sparseCall(3, 3, 33, 5, { captured: 2, temperature: 3, residual: 'renormalize' }), 2);
      },
    },
    {
      name: 'an upstream gradient of 3.7, and one per row (trap 16)',
      async run(subject) {
        for (const call of [denseCall(1, 4, 33, { temperature: 2 }), sparseCall(2, 4, 33, 5, { residual: 'tail_bucket' })])
          for (const reduction of ['mean', 'sum', 'none'] as const) {
            const full: LossCall = { ...call, reduction, rowWeights: Float32Array.of(1, 2, 0, 0.5) };
            const reference = rowLossReference(full);
            const upstream = reduction === 'none' ? Float32Array.of(3.7, -1, 5, 0) : 3.7;
            const factor = (i: number): number => (typeof upstream === 'number' ? upstream : (upstream[Math.floor(i / 33)] as number));
            const result = await viaKdLoss(subject, full, upstream);
            expectClose(
              reduction,
              result.gradient,
              reference.gradient.map((g, i) => g * factor(i)),
              (i) => 1.1 * EXACTNESS * Math.abs(factor(i)) * (reference.gradientScale[i] as number),
            );
          }
      },
    },
    {
      name: 'backward twice: an error, or with retainGraph the same gradient again, added (trap 16)',
      async run({ limbeck, device }) {
        const call = denseCall(3, 3, 17, { reduction: 'mean' });
        const make = (): [Tensor, Tensor] => {
          const student = limbeck.tensor(call.student.slice() as Float32Array, { shape: [3, 17], device, requiresGrad: true });
          return [student, limbeck.kdLoss(student, limbeck.tensor(call.teacher as Float32Array, { shape: [3, 17], device }))];
        };
        const [once, first] = make();
        first.backward();
        const gradient = (await floats(once.grad)).slice();
        expectThrows('twice', () => first.backward(), Error, /^Cannot run backward: /);
        const [kept, loss] = make();
        loss.backward(null, { retainGraph: true });
        expectSameBits('kept', await floats(kept.grad), gradient);
        loss.backward(limbeck.tensor(Float32Array.of(2), { shape: [...loss.shape], device }), { retainGraph: true });
        expectClose(
          '1 + 2',
          await floats(kept.grad),
          gradient.map((g) => 3 * g),
          (i) => 1e-6 * Math.abs(gradient[i] as number),
        );
        kept.zeroGrad();
        loss.backward();
        expectSameBits('after zeroGrad', await floats(kept.grad), gradient);
      },
    },
    {
      name: 'the loss in the middle of a graph: its gradient goes on, inputs stay as they were (trap 16)',
      async run({ limbeck, device }) {
        const call = denseCall(4, 3, 17, { reduction: 'mean' });
        const leaf = limbeck.tensor(call.student.slice() as Float32Array, { shape: [3, 17], device, requiresGrad: true });
        const student = limbeck.mul(leaf, 2);
        const loss = limbeck.add(
          limbeck.mul(limbeck.kdLoss(student, limbeck.tensor(call.teacher as Float32Array, { shape: [3, 17], device })), 3),
          limbeck.crossEntropy(student, Int32Array.of(1, 2, 3)),
        );
        loss.backward();
        const doubled = { ...call, student: (call.student as Float32Array).map((x) => 2 * x) };
        const soft = rowLossReference(doubled);
        const hard = rowLossReference({ ...doubled, target: 'none', hardWeight: 1, labels: Int32Array.of(1, 2, 3) });
        expectClose('loss', await floats(loss), [3 * soft.loss + hard.loss], 1e-5 * (3 * soft.lossScale + hard.lossScale));
        expectClose(
          'gradient',
          await floats(leaf.grad),
          soft.gradient.map((g, i) => 2 * (3 * g + (hard.gradient[i] as number))),
          1e-5,
        );
        expectSameBits('student', await floats(student), doubled.student);
        expectSameBits('leaf', await floats(leaf), call.student);
      },
    },
    {
      name: 'under noGrad nothing is recorded and nothing overwritten (trap 16)',
      async run({ limbeck, device }) {
        const call = denseCall(5, 3, 17);
        const student = limbeck.tensor(call.student.slice() as Float32Array, { shape: [3, 17], device, requiresGrad: true });
        const loss = limbeck.noGrad(() =>
          limbeck.kdLoss(student, limbeck.tensor(call.teacher as Float32Array, { shape: [3, 17], device })),
        );
        expectTrue('no gradient is asked for', !loss.requiresGrad);
        expectSameBits('student', await floats(student), call.student);
        expectThrows('backward', () => loss.backward(), TypeError, /^Cannot run backward: /);
      },
    },
    {
      name: 'labels of every kind, hard weight, smoothing, ignored and unlabelled rows',
      async run(subject) {
        const { limbeck, device } = subject;
        const labels = Int32Array.of(3, -100, 0, -5, 6, 2);
        const call = denseCall(6, 6, 7, {
          labels,
          hardWeight: 0.4,
          labelSmoothing: 0.1,
          unlabelledIndex: -5,
          temperature: 2,
          reduction: 'mean',
        });
        const reference = rowLossReference(call);
        const student = limbeck.tensor(call.student.slice() as Float32Array, { shape: [2, 3, 7], device });
        const teacher = limbeck.tensor(call.teacher as Float32Array, { shape: [2, 3, 7], device });
        const options = { hardWeight: 0.4, labelSmoothing: 0.1, unlabelledIndex: -5, temperature: 2 };
        for (const [what, given] of [
          ['Int32Array', labels],
          ['BigInt64Array', BigInt64Array.from(labels, BigInt)],
          ['numbers', Array.from(labels)],
          ['tensor [6]', limbeck.tensor(labels.slice(), { shape: [6], device })],
          ['tensor [2, 3]', limbeck.tensor(labels.slice(), { shape: [2, 3], device })],
        ] as const)
          expectClose(
            what,
            await floats(limbeck.kdLoss(student, teacher, { ...options, labels: given as never })),
            [reference.loss],
            EXACTNESS * reference.lossScale,
          );
        await check(subject, 'sparse', sparseCall(7, 6, 40, 4, { labels, hardWeight: 0.4, unlabelledIndex: -5, residual: 'truncate' }));
      },
    },
    {
      name: 'none keeps the leading shape; sum and mean are single numbers',
      async run({ limbeck, device }) {
        const student = limbeck.tensor(normals(1, 2 * 3 * 7), { shape: [2, 3, 7], device });
        const teacher = limbeck.tensor(normals(2, 2 * 3 * 7), { shape: [2, 3, 7], device });
        expectEqual('none', [...limbeck.kdLoss(student, teacher, { reduction: 'none' }).shape], [2, 3]);
        expectEqual('sum', limbeck.kdLoss(student, teacher, { reduction: 'sum' }).size, 1);
        expectEqual('mean', limbeck.kdLoss(student, teacher).size, 1);
        const rows = await floats(limbeck.kdLoss(student, teacher, { reduction: 'none' }));
        expectClose('mean', await floats(limbeck.kdLoss(student, teacher)), [rows.reduce((a, b) => a + b, 0) / 6], 1e-5);
      },
    },
    {
      name: 'weights (1, 3) and one ignored row under every denominator (trap 26)',
      async run(subject) {
        for (const denominator of ['rows', 'weights', 'number'] as const)
          await check(
            subject,
            denominator,
            denseCall(8, 3, 17, {
              rowWeights: Float32Array.of(1, 3, 5),
              labels: Int32Array.of(0, 0, -100),
              denominator,
              denominatorValue: 2.5,
            }),
          );
      },
    },
    {
      name: 'nothing to average: 0 and a gradient of zeros (trap 14)',
      async run(subject) {
        const call = denseCall(9, 3, 17, { labels: new Int32Array(3).fill(-100), reduction: 'mean' });
        call.student.fill(NaN);
        const result = await viaKdLoss(subject, call);
        expectEqual('loss', result.loss[0], 0);
        expectAll('gradient', result.gradient, (g) => g === 0, '0');
      },
    },
    {
      name: 'cols: the padding of a vocabulary is unread and its gradient is 0 (trap 11)',
      async run({ limbeck, device }) {
        const call = denseCall(10, 3, 17, { reduction: 'mean', temperature: 2 });
        const pad = (x: Float32Array, value: number): Float32Array => {
          const out = new Float32Array(3 * 24).fill(value);
          for (let r = 0; r < 3; r++) out.set(x.subarray(r * 17, (r + 1) * 17), r * 24);
          return out;
        };
        const reference = rowLossReference(call);
        for (const value of [0, 1000, NaN, -Infinity]) {
          const student = limbeck.tensor(pad(call.student as Float32Array, value), { shape: [3, 24], device, requiresGrad: true });
          const loss = limbeck.kdLoss(student, limbeck.tensor(pad(call.teacher as Float32Array, value), { shape: [3, 24], device }), {
            cols: 17,
            temperature: 2,
          });
          loss.backward();
          expectClose(`padding ${value}`, await floats(loss), [reference.loss], EXACTNESS * reference.lossScale);
          expectClose(`padding ${value}, gradient`, await floats(student.grad), pad(Float32Array.from(reference.gradient), 0), 1e-6);
        }
      },
    },
    {
      name: 'crossEntropy: smoothing, reductions, ignored rows, gradient with an upstream',
      async run({ limbeck, device }) {
        for (const cols of [2, 10, 1025])
          for (const labelSmoothing of [0, 0.1])
            for (const reduction of ['mean', 'sum', 'none'] as const) {
              const labels = integers(cols, 5, 0, cols);
              labels[2] = -100;
              const call: LossCall = {
                rows: 5,
                cols,
                student: normals(cols, 5 * cols, 3),
                target: 'none',
                labels,
                hardWeight: 1,
                labelSmoothing,
                reduction,
              };
              const reference = rowLossReference(call);
              const student = limbeck.tensor(call.student.slice() as Float32Array, { shape: [5, cols], device, requiresGrad: true });
              const loss = limbeck.crossEntropy(student, labels, { labelSmoothing, reduction });
              expectClose(
                `V ${cols}, ${reduction}`,
                await floats(loss),
                reduction === 'none' ? reference.rowLoss : [reference.loss],
                (i) => EXACTNESS * (reduction === 'none' ? (reference.rowScale[i] as number) : reference.lossScale),
              );
              loss.backward(limbeck.tensor(new Float32Array(loss.size).fill(-1.5), { shape: [...loss.shape], device }));
              expectClose(
                `V ${cols}, ${reduction}, gradient`,
                await floats(student.grad),
                reference.gradient.map((g) => -1.5 * g),
                (i) => 2 * EXACTNESS * (reference.gradientScale[i] as number),
              );
            }
      },
    },
    {
      name: 'captured targets give back the teacher: loss 0, the whole row at k = V (trap 24)',
      async run({ limbeck, device }) {
        for (const [cols, k] of [
          [1, 1],
          [33, 5],
          [33, 33],
          [1025, 64],
        ] as const) {
          const values = normals(cols, 3 * cols, 3);
          const teacher = limbeck.tensor(values, { shape: [3, cols], device });
          const target = limbeck.captureTopK(teacher, k, { temperature: 2 });
          const student = limbeck.tensor(values.slice(), { shape: [3, cols], device, requiresGrad: true });
          const loss = limbeck.kdLoss(student, target, { residual: 'tail_bucket' });
          loss.backward();
          expectAll(`V ${cols}, k ${k}`, await floats(loss), (value) => Math.abs(value) <= 4e-6, '0');
          expectAll(`V ${cols}, k ${k}, gradient`, await floats(student.grad), (value) => Math.abs(value) <= 4e-6, '0');
          const dense = limbeck.kdLoss(limbeck.mul(student.detach(), 0.5), teacher, { temperature: 2 });
          const all = limbeck.kdLoss(limbeck.mul(student.detach(), 0.5), limbeck.captureTopK(teacher, cols, { temperature: 2 }), {
            residual: 'tail_bucket',
          });
          expectClose(`V ${cols}, all ids`, await floats(all), await floats(dense), 1e-5);
        }
      },
    },
    {
      name: 'float64 students on the CPU (trap 23)',
      async run({ limbeck, device }) {
        const call = denseCall(11, 3, 17, { reduction: 'mean' });
        const wide = (x: Float32Array | Float64Array): Float64Array => Float64Array.from(x);
        if (device === 'cpu') {
          const reference = rowLossReference({ ...call, student: wide(call.student), teacher: wide(call.teacher as Float32Array) });
          const student = limbeck.tensor(wide(call.student), { shape: [3, 17], device, requiresGrad: true });
          const loss = limbeck.kdLoss(student, limbeck.tensor(wide(call.teacher as Float32Array), { shape: [3, 17], device }));
          loss.backward();
          expectEqual('dtype of the gradient', (student.grad as Tensor).dtype, 'float64');
          expectClose('loss', await floats(loss), [reference.loss], 1e-12);
          expectClose('gradient', await floats(student.grad), reference.gradient, 1e-12);
        }
      },
    },
    {
      name: 'limbeck/raw: preallocated outputs, strides, in place, reductions',
      run({ raw }) {
        const { rows, cols } = { rows: 4, cols: 33 };
        for (const call of [
          denseCall(12, rows, cols, { temperature: 2, reduction: 'mean' }),
          denseCall(13, rows, cols, { reduction: 'sum' }),
          denseCall(14, rows, cols, { reduction: 'none' }),
        ]) {
          const reference = rowLossReference(call);
          const loss = new Float32Array(call.reduction === 'none' ? rows : 1).fill(NaN);
          const gradient = new Float32Array(rows * cols).fill(NaN);
          const options = { rows, cols, temperature: call.temperature ?? 1, reduction: call.reduction ?? 'mean' } as const;
          raw.kdLoss(call.student as Float32Array, call.teacher as Float32Array, { ...options, out: { loss, gradient } });
          expectClose(
            'loss',
            loss,
            call.reduction === 'none' ? reference.rowLoss : [reference.loss],
            (i) => EXACTNESS * (call.reduction === 'none' ? (reference.rowScale[i] as number) : reference.lossScale),
          );
          expectClose('gradient', gradient, reference.gradient, (i) => EXACTNESS * (reference.gradientScale[i] as number));
          const own = call.student.slice() as Float32Array;
          raw.kdLoss(own, call.teacher as Float32Array, { ...options, out: { gradient: own } });
          expectSameBits('in place', own, gradient);
          const wide = new Float32Array(rows * 40 + 1).fill(NaN).subarray(1);
          const wideTeacher = new Float32Array(rows * 40).fill(NaN);
          for (let r = 0; r < rows; r++) {
            wide.set(call.student.subarray(r * cols, (r + 1) * cols), r * 40);
            wideTeacher.set((call.teacher as Float32Array).subarray(r * cols, (r + 1) * cols), r * 40);
          }
          const strided = new Float32Array(rows * 40).fill(0.5);
          raw.kdLoss(wide, wideTeacher, { ...options, rowStride: 40, out: { gradient: strided } });
          for (let r = 0; r < rows; r++)
            expectSameBits('strided', strided.slice(r * 40, r * 40 + cols), gradient.slice(r * cols, (r + 1) * cols));
        }
      },
    },
    {
      name: 'a gradient beyond the last cache is that of its rows',
      run({ raw, device }) {
        if (device !== 'cpu') return;
        for (const cols of [4096, 4099]) {
          const rows = Math.ceil((2 ** 21 + 1) / cols) + 1;
          const student = uniforms(cols, rows * cols, -5, 5);
          const teacher = uniforms(cols + 1, rows * cols, -5, 5);
          const indices = Int32Array.from({ length: rows * 3 }, (_, i) => (i % 3) * 1500 + (i % 7));
          const logProbs = Float32Array.from({ length: rows * 3 }, (_, i) => Math.log([0.5, 0.2, 0.1][i % 3]!));
          for (const divergence of ['forward_kl', 'total_variation', 'squared_hellinger'] as const)
            for (const residual of [undefined, 'tail_bucket', 'renormalize_both'] as const) {
              const of = (begin: number, end: number): Float32Array => {
                const cut = <A extends Float32Array | Int32Array>(x: A, width: number): A => x.subarray(begin * width, end * width) as A;
                const teacherRows =
                  residual === undefined ? cut(teacher, cols) : { indices: cut(indices, 3), logProbs: cut(logProbs, 3), k: 3 };
                const gradient = new Float32Array((end - begin) * cols).fill(NaN);
                raw.kdLoss(cut(student, cols), teacherRows, {
                  rows: end - begin,
                  cols,
                  divergence,
                  residual,
                  reduction: 'sum',
                  out: { gradient },
                });
                return gradient;
              };
              const all = of(0, rows);
              for (const row of [0, rows - 1])
                expectSameBits(`${divergence}, ${residual}, row ${row}`, all.slice(row * cols, (row + 1) * cols), of(row, row + 1));
            }
        }
      },
    },
    {
      name: 'a big batch of everything at once',
      async run(subject) {
        await check(
          subject,
          'batch',
          denseCall(15, 128, 100, {
            labels: integers(3, 128, -1, 100).map((label, i) => (i % 9 === 0 ? -100 : label < 0 ? -7 : label)),
            unlabelledIndex: -7,
            hardWeight: 0.35,
            labelSmoothing: 0.1,
            rowWeights: uniforms(4, 128, 0, 2),
            rowTemperature: uniforms(5, 128, 0.5, 5),
            denominator: 'weights',
          }),
        );
      },
    },
  ],
  bench: [{ rows: 512, cols: 1000 }],
};
