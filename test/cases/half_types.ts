// Half types outside the divergences: conversions, element-wise arithmetic, softmax, selections, sampling, and the public functions with autograd.
import { expectAll, expectClose, expectEqual, expectSameBits, expectThrows, expectTrue } from '../compare.js';
import { fromBits, halfValues, HALF_TYPES, nearestBits, rounded, spacing, toBits, type HalfType } from '../half.js';
import { normals, uniforms } from '../random.js';
import { captureTopKRow, logSoftmaxBackwardRow, logSoftmaxRow, rowLossReference, softmaxBackwardRow, topKRow } from '../reference.js';
import { SAMPLE_METHODS } from '../sampling_reference.js';
import { codeOf, kernel, withMemory, type Argument, type CaseFile, type Limbeck, type Memory, type Subject } from '../subject.js';
import { denseCall, EXACTNESS, inHalf, sparseCall } from './row_loss.js';

type Tensor = ReturnType<Limbeck['tensor']>;

/** Patterns and the roundings between them: every value, its neighbours in float32, the middles, and all kinds of NaN. */
function roundingCases(type: HalfType): Float32Array {
  const values = halfValues[type];
  const out: number[] = [];
  for (let bits = 0; bits < 65536; bits += 1) {
    const x = values[bits] as number;
    if (!Number.isFinite(x)) continue;
    const middle = x + Math.sign(x || 1) * (spacing(x, type) / 2);
    const step = Math.abs(middle) * 2 ** -23;
    out.push(x, middle, middle + step, middle - step);
  }
  return Float32Array.from([...out, Infinity, -Infinity, NaN, 1e38, -3.4e38, 65519.996, 65520, 1e-45, -1e-40]);
}

/** Runs a kernel on halves: `inputs` as bits of `type`, one output of `size` in it, decoded. */
function inType(
  subject: Subject,
  type: HalfType,
  size: number,
  run: (put: (x: Float32Array) => Argument, y: Argument, memory: Memory) => void,
): Float32Array {
  return withMemory(subject, (memory) => {
    const y = memory.output(toBits([], type).constructor as new (size: number) => Uint16Array, size);
    run((x) => memory.input(toBits(x, type)), y, memory);
    return fromBits(memory.read(y), type);
  });
}

const atMost =
  (type: HalfType, bound: (i: number) => number, expected: ArrayLike<number>): ((i: number) => number) =>
  (i) =>
    bound(i) + spacing(Math.abs(expected[i] as number) + bound(i), type) / 2;

async function floats(tensor: Tensor | null): Promise<Float32Array> {
  expectTrue('there is a tensor', tensor !== null);
  return (await (tensor as Tensor).read({ as: 'float32' })) as Float32Array;
}

export const half_types: CaseFile = {
  op: 'half_types',
  kernels: ['unary', 'binary', 'fill', 'gather_rows', 'softmax', 'softmax_backward', 'top_k', 'capture_top_k', 'sample_target'],
  checks: [
    {
      name: 'every pattern widens exactly, every float rounds to the nearest, ties to even (trap 12)',
      run(subject) {
        const copy = codeOf(subject.native, 'unary', 'copy');
        for (const type of HALF_TYPES) {
          const all = Uint16Array.from({ length: 65536 }, (_, i) => i);
          const bits = type === 'float16' ? all : new Int16Array(all.buffer);
          withMemory(subject, (memory) => {
            const y = memory.output(Float32Array, 65536);
            kernel(subject, 'unary', memory.input<Uint16Array | Int16Array>(bits), y, 65536, copy, 0);
            expectClose(`${type} widened`, memory.read(y), halfValues[type], 0);
          });
          const x = roundingCases(type);
          const got = inType(subject, type, x.length, (_, y, memory) => kernel(subject, 'unary', memory.input(x), y, x.length, copy, 0));
          expectSameBits(`${type} rounded`, got, rounded(x, type));
          // From one half type to the other through float32: exact on the way, rounded once.
          const other = type === 'float16' ? 'bfloat16' : 'float16';
          const some = rounded(normals(3, 1003, 100), other);
          const across = inType(subject, type, 1003, (_, y, memory) =>
            kernel(subject, 'unary', memory.input(toBits(some, other)), y, 1003, copy, 0),
          );
          expectSameBits(`${other} to ${type}`, across, rounded(some, type));
        }
      },
    },
    {
      name: 'scale, sums and products round once; fill and gathered rows keep their bits',
      run(subject) {
        const { native } = subject;
        for (const type of HALF_TYPES)
          for (const [rows, cols] of [
            [1, 1],
            [3, 7],
            [5, 1030],
            [40, 129],
          ] as const) {
            const size = rows * cols;
            const a = rounded(normals(size, size, 3), type);
            const scaled = inType(subject, type, size, (put, y) =>
              kernel(subject, 'unary', put(a), y, size, codeOf(native, 'unary', 'scale'), 0.37),
            );
            expectSameBits(
              `${type}, scale`,
              scaled,
              rounded(
                a.map((x) => x * Math.fround(0.37)),
                type,
              ),
            );
            for (const [how, count, at] of [
              ['same', size, (i: number) => i],
              ['scalar', 1, () => 0],
              ['row', cols, (i: number) => i % cols],
              ['column', rows, (i: number) => Math.floor(i / cols)],
            ] as const)
              for (const wide of [false, true]) {
                const b = wide ? normals(count + 1, count) : rounded(normals(count + 1, count), type);
                for (const [name, f] of [
                  ['add', (x: number, y: number) => Math.fround(x + y)],
                  ['mul', (x: number, y: number) => Math.fround(x * y)],
                ] as const) {
                  const got = inType(subject, type, size, (put, y, memory) =>
                    kernel(
                      subject,
                      'binary',
                      put(a),
                      wide ? memory.input(b) : put(b),
                      y,
                      rows,
                      cols,
                      codeOf(native, 'binary', name),
                      codeOf(native, 'broadcast', how),
                    ),
                  );
                  const expected = a.map((x, i) => f(x, b[at(i)] as number));
                  expectSameBits(`${type}, ${name}, b ${wide ? 'float32' : type} by ${how}`, got, rounded(expected, type));
                }
              }
            const filled = inType(subject, type, size, (_, y) => kernel(subject, 'fill', y, size, 0.1));
            expectAll('fill', filled, (x) => x === halfValues[type][nearestBits(0.1, type)], `0.1 in ${type}`);
            const order = Int32Array.from({ length: rows }, (_, r) => (r * 7 + 2) % rows);
            const gathered = inType(subject, type, size, (put, y, memory) =>
              kernel(subject, 'gather_rows', put(a), memory.input(order), y, rows, cols, rows),
            );
            const expected = Float32Array.from(
              { length: size },
              (_, i) => a[(order[Math.floor(i / cols)] as number) * cols + (i % cols)] as number,
            );
            expectSameBits('gathered', gathered, expected);
          }
      },
    },
    {
      name: 'softmax and its gradient: float32 inside, rounded once',
      run(subject) {
        for (const type of HALF_TYPES)
          for (const [cols, temperature] of [
            [1, 1],
            [33, 0.5],
            [257, 1],
            [1030, 7.3],
            [2500, 1],
          ] as const) {
            const rows = 3;
            const x = rounded(normals(cols, rows * cols, 4), type);
            if (cols > 1) x.fill(-Infinity, 0, cols >> 1);
            x[2 * cols] = NaN;
            const g = rounded(normals(cols + 1, rows * cols), type);
            for (const isLog of [0, 1]) {
              const apply = (row: Float32Array): Float64Array => {
                const logs = logSoftmaxRow(row, temperature);
                return isLog === 1 ? logs : logs.map(Math.exp);
              };
              const expected = new Float64Array(rows * cols);
              for (let r = 0; r < rows; r++) expected.set(apply(x.subarray(r * cols, (r + 1) * cols)), r * cols);
              const y = inType(subject, type, rows * cols, (put, out) =>
                kernel(subject, 'softmax', put(x), null, out, rows, cols, temperature, isLog),
              );
              const size = (i: number): number => (Number.isFinite(expected[i]) ? Math.abs(expected[i] as number) : 0);
              const bound = (i: number): number =>
                isLog === 1 ? 2e-6 * Math.max(1, size(i)) : size(i) * 2e-6 * Math.max(1, -Math.log(size(i) || 1) / 4) + 1.2e-38;
              expectClose(
                `${type}, V ${cols}, ${isLog ? 'log' : 'probs'}`,
                y,
                expected,
                atMost(
                  type,
                  bound,
                  expected.map((_, i) => size(i)),
                ),
              );
              const back = new Float64Array(rows * cols);
              const scale = new Float64Array(rows * cols);
              for (let r = 0; r < rows; r++) {
                const own = y.subarray(r * cols, (r + 1) * cols);
                const upstream = g.subarray(r * cols, (r + 1) * cols);
                back.set((isLog === 1 ? logSoftmaxBackwardRow : softmaxBackwardRow)(own, upstream, temperature), r * cols);
                const total = upstream.reduce((sum, v) => sum + Math.abs(v), 0);
                for (let i = 0; i < cols; i++)
                  scale[r * cols + i] =
                    isLog === 1 ? Math.abs(upstream[i] as number) + Math.exp(own[i] as number) * total : (own[i] as number) * 8;
              }
              const got = inType(subject, type, rows * cols, (put, out) =>
                kernel(subject, 'softmax_backward', put(y), put(g), null, out, rows, cols, temperature, isLog),
              );
              const room = (i: number): number => (3e-6 * ((scale[i] as number) || 0)) / temperature + 1.2e-38;
              expectClose(`${type}, V ${cols}, ${isLog ? 'log' : 'probs'}, gradient`, got, back, atMost(type, room, back));
            }
          }
      },
    },
    {
      name: 'topK and captureTopK: bits for values, float32 for masses, ties by the lowest id (trap 18)',
      run(subject) {
        for (const type of HALF_TYPES)
          for (const [cols, k] of [
            [1, 1],
            [33, 8],
            [257, 257],
            [1030, 64],
            [5003, 300],
          ] as const) {
            const rows = 2;
            // A half type has few values in a range: ties everywhere, negative ones too.
            const x = rounded(normals(cols, rows * cols, 2), type);
            if (cols > 9) x.set([NaN, 1, -0, 0], 3);
            withMemory(subject, (memory) => {
              const bits = toBits(x, type);
              const values = memory.output(bits.constructor as new (size: number) => Uint16Array, rows * k);
              const indices = memory.output(Int32Array, rows * k);
              kernel(subject, 'top_k', memory.input(bits), values, indices, rows, cols, k);
              const ids = memory.read(indices);
              const read = fromBits(memory.read(values), type);
              for (let r = 0; r < rows; r++) {
                const row = x.subarray(r * cols, (r + 1) * cols);
                const best = topKRow(row, k);
                expectEqual(`${type}, V ${cols}: ids of row ${r}`, Array.from(ids.subarray(r * k, (r + 1) * k)), best);
                expectClose(
                  `${type}, V ${cols}: values`,
                  read.subarray(r * k, (r + 1) * k),
                  best.map((i) => row[i] as number),
                  0,
                );
              }
            });
            const finite = x.map((value) => (Number.isNaN(value) ? 0 : value));
            withMemory(subject, (memory) => {
              const indices = memory.output(Int32Array, rows * k);
              const logProbs = memory.output(Float32Array, rows * k);
              const tail = memory.output(Float32Array, rows);
              kernel(subject, 'capture_top_k', memory.input(toBits(finite, type)), null, indices, logProbs, tail, null, rows, cols, k, 2);
              for (let r = 0; r < rows; r++) {
                const expected = captureTopKRow(finite.subarray(r * cols, (r + 1) * cols), k, 2);
                const close = (value: number): number => 2e-6 * Math.max(1, Math.abs(value));
                expectEqual('ids', Array.from(memory.read(indices).subarray(r * k, (r + 1) * k)), expected.indices);
                const logs = memory.read(logProbs).subarray(r * k, (r + 1) * k);
                expectClose(`${type}, V ${cols}: log-probs`, logs, expected.logProbs, (i) => close(expected.logProbs[i] as number));
                expectClose(
                  `${type}, V ${cols}: tail`,
                  [memory.read(tail)[r] as number],
                  [expected.tailLogMass],
                  close(expected.tailLogMass),
                );
              }
            });
          }
      },
    },
    {
      name: 'sampleTarget draws from half types what it draws from the same numbers in float32, bit for bit',
      run(subject) {
        for (const type of HALF_TYPES)
          for (const method of SAMPLE_METHODS)
            for (const [cols, draws] of [
              [9, 4],
              [257, 40],
              [1030, 12],
            ] as const) {
              const x = rounded(normals(cols, 2 * cols, 3), type);
              const slots = Math.min(draws, cols);
              const draw = (stored: Float32Array | Uint16Array | Int16Array): [Int32Array, Float32Array] =>
                withMemory(subject, (memory) => {
                  const ids = memory.output(Int32Array, 2 * slots);
                  const weights = memory.output(Float32Array, 2 * slots);
                  const code = codeOf(subject.native, 'sample_method', method);
                  kernel(subject, 'sample_target', memory.input(stored), null, ids, weights, 2, cols, draws, code, 1.5, 7, 3);
                  return [memory.read(ids), memory.read(weights)];
                });
              const [ids, weights] = draw(toBits(x, type));
              const [wantedIds, wantedWeights] = draw(x);
              expectEqual(`${type}, ${method}, V ${cols}: ids`, ids, wantedIds);
              expectSameBits(`${type}, ${method}, V ${cols}: weights`, weights, wantedWeights);
            }
      },
    },
    {
      name: 'kdLoss and crossEntropy: a float32 loss, gradients of the student, upstreams, accumulation, retained graphs (traps 16, 23)',
      async run({ limbeck, device }) {
        for (const type of HALF_TYPES) {
          const [rows, cols] = [3, 17];
          const shape = [rows, cols];
          const call = inHalf(denseCall(11, rows, cols, { temperature: 2, reduction: 'mean' }), type, type);
          const reference = rowLossReference(call);
          const other = rowLossReference({ ...call, temperature: 1, target: 'none', hardWeight: 1, labels: Int32Array.of(1, 2, 3) });
          const make = (): Tensor =>
            limbeck.tensor(new Uint16Array(toBits(call.student, type)), { shape, dtype: type, device, requiresGrad: true });
          const teacher = limbeck.tensor(new Uint16Array(toBits(call.teacher as Float32Array, type)), { shape, dtype: type, device });
          // A rounding for each time a number is stored, and what is multiplied by a factor afterwards was rounded at its own size.
          const near =
            (wanted: Float64Array, ...factors: number[]) =>
            (i: number): number => {
              const size = Math.abs(wanted[i] as number);
              const roundings = factors.map((factor) => (Math.abs(factor) * spacing((size / Math.abs(factor)) * 1.01, type)) / 2);
              return EXACTNESS * 4 * size + 1e-7 + roundings.reduce((sum, part) => sum + part, 0);
            };

          const student = make();
          const loss = limbeck.kdLoss(student, teacher, { temperature: 2 });
          expectEqual(`${type}: dtype of the loss`, loss.dtype, 'float32');
          expectClose(`${type}: loss`, await floats(loss), [reference.loss], EXACTNESS * reference.lossScale);
          loss.backward();
          expectEqual(`${type}: dtype of the gradient`, student.grad?.dtype, type);
          expectClose(`${type}: gradient`, await floats(student.grad), reference.gradient, near(reference.gradient, 1));
          // Adds up in the student's dtype.
          limbeck.crossEntropy(student, [1, 2, 3]).backward();
          const both = reference.gradient.map((g, i) => g + (other.gradient[i] as number));
          expectClose(
            `${type}: added up`,
            await floats(student.grad),
            both,
            (i) => near(both, 1)(i) + near(reference.gradient, 1)(i) + near(other.gradient, 1)(i),
          );

          for (const upstream of [3.5, -0.25]) {
            const again = make();
            limbeck.mul(limbeck.kdLoss(again, teacher, { temperature: 2 }), upstream).backward();
            const wanted = reference.gradient.map((g) => g * upstream);
            expectClose(`${type}: upstream ${upstream}`, await floats(again.grad), wanted, near(wanted, 1, upstream));
            const given = make();
            limbeck
              .kdLoss(given, teacher, { temperature: 2 })
              .backward(limbeck.tensor(new Float32Array([upstream]), { shape: [], device }));
            expectClose(`${type}: upstream tensor ${upstream}`, await floats(given.grad), wanted, near(wanted, 1, upstream));
          }
          const each = make();
          const parts = limbeck.kdLoss(each, teacher, { temperature: 2, reduction: 'none' });
          const weights = Float32Array.of(1, -2, 0.5);
          parts.backward(limbeck.tensor(weights.slice(), { shape: [rows], device }), { retainGraph: true });
          const one = rowLossReference({ ...call, reduction: 'none' }).gradient;
          const weighted = one.map((g, i) => g * (weights[Math.floor(i / cols)] as number));
          expectClose(`${type}: an upstream for each row`, await floats(each.grad), weighted, near(weighted, 1, 2));
          parts.backward(limbeck.tensor(weights.slice(), { shape: [rows], device }));
          const twice = weighted.map((g) => 2 * g);
          expectClose(`${type}: twice`, await floats(each.grad), twice, near(twice, 1, 2, 2));
          expectSameBits(`${type}: the student is untouched`, await floats(student), call.student as Float32Array);
        }
      },
    },
    {
      name: 'a student cast to a half type gives its gradient back to float32 parameters; any mix of student and teacher (trap 23)',
      async run({ limbeck, device }) {
        const [rows, cols] = [4, 33];
        const shape = [rows, cols];
        const plain = denseCall(21, rows, cols, { reduction: 'mean' });
        const parameters = plain.student as Float32Array;
        for (const type of HALF_TYPES)
          for (const teacherType of ['float32', ...HALF_TYPES] as const) {
            const call = inHalf(plain, type, teacherType === 'float32' ? undefined : teacherType);
            const reference = rowLossReference(call);
            const leaf = limbeck.tensor(parameters.slice(), { shape, device, requiresGrad: true });
            const student = leaf.cast(type);
            expectSameBits(`cast to ${type}`, await floats(student), call.student as Float32Array);
            const teacher = limbeck.tensor((plain.teacher as Float32Array).slice(), { shape, device }).cast(teacherType);
            limbeck.kdLoss(student, teacher).backward();
            expectEqual('dtype of the leaf', leaf.grad?.dtype, 'float32');
            expectClose(
              `${type} of ${teacherType}`,
              await floats(leaf.grad),
              reference.gradient,
              (i) =>
                EXACTNESS * (reference.gradientScale[i] as number) + spacing(Math.abs(reference.gradient[i] as number) * 1.01, type) / 2,
            );
          }
        const wide = limbeck.tensor(parameters.slice(), { shape, device, requiresGrad: true });
        const half = limbeck.tensor((plain.teacher as Float32Array).slice(), { shape, device }).cast('bfloat16');
        limbeck.kdLoss(wide, half).backward();
        const reference = rowLossReference(inHalf(plain, undefined, 'bfloat16'));
        expectEqual('a float32 student of a half teacher', wide.grad?.dtype, 'float32');
        expectClose('its gradient', await floats(wide.grad), reference.gradient, (i) => EXACTNESS * (reference.gradientScale[i] as number));
      },
    },
    {
      name: 'padded columns, probabilities, targets from half teachers, softmax, topK, selected rows, in public',
      async run({ limbeck, device }) {
        const [rows, cols] = [3, 20];
        const shape = [rows, cols];
        for (const type of HALF_TYPES) {
          const call = inHalf(denseCall(31, rows, cols, { reduction: 'mean' }), type, type);
          const put = (x: ArrayLike<number>, requiresGrad = false): Tensor =>
            limbeck.tensor(new Uint16Array(toBits(x, type)), { shape, dtype: type, device, requiresGrad });
          const student = put(call.student, true);
          const teacher = put(call.teacher as Float32Array);

          limbeck.kdLoss(student, teacher, { cols: 17 }).backward();
          const gradient = await floats(student.grad);
          for (let r = 0; r < rows; r++) expectAll('padding', gradient.slice(r * cols + 17, (r + 1) * cols), (g) => g === 0, '0');
          expectTrue(
            'valid columns have a gradient',
            gradient.slice(0, 17).every((g) => g !== 0),
          );

          // The probabilities a half type rounds to are still near enough to 1 for another temperature.
          const probs = limbeck.softmax(teacher);
          expectEqual('softmax keeps the dtype', probs.dtype, type);
          const soft = limbeck.kdLoss(student, limbeck.denseTarget({ probs: limbeck.softmax(teacher.cast('float32')).cast(type) }), {
            temperature: 2,
          });
          expectTrue('softened', Number.isFinite(soft.item()));

          const captured = limbeck.captureTopK(teacher, 4);
          const drawn = limbeck.sampleTarget(teacher, 4, { seed: 1 });
          expectEqual(
            'captured as',
            [captured.logProbs?.dtype, captured.tailLogMass?.dtype, drawn.weights?.dtype],
            ['float32', 'float32', 'float32'],
          );
          const wide = limbeck.captureTopK(teacher.cast('float32'), 4);
          expectSameBits('captured', await floats(captured.logProbs), await floats(wide.logProbs));
          for (const [target, options] of [
            [captured, { residual: 'tail_bucket' }],
            [drawn, {}],
          ] as const) {
            const own = put(call.student, true);
            const loss = limbeck.kdLoss(own, target, options);
            loss.backward();
            const same = limbeck.tensor(call.student.slice(), { shape, device, requiresGrad: true });
            const reference = limbeck.kdLoss(same, target, options);
            reference.backward();
            expectEqual('loss', loss.item(), reference.item());
            expectSameBits('gradient', await floats(own.grad), rounded(await floats(same.grad), type));
          }

          const { values, indices } = limbeck.topK(teacher, 2);
          expectEqual('values', values.dtype, type);
          expectEqual('ids', Array.from(await indices.read()).slice(0, 2), topKRow((call.teacher as Float32Array).subarray(0, cols), 2));
          expectEqual('argmax', (await limbeck.argmax(teacher).read()).length, rows);
          const some = limbeck.denseTarget({ logits: teacher }).rows([2, 0]);
          expectSameBits(
            'rows of a target',
            (await floats(some.values)).slice(0, cols),
            (call.teacher as Float32Array).slice(2 * cols, 3 * cols),
          );

          const x = put(call.student, true);
          limbeck.softmax(x).backward(put(uniforms(5, rows * cols)));
          expectEqual('gradient of softmax', x.grad?.dtype, type);
          const leaf = put(call.student, true);
          limbeck.gatherRows(leaf, [1, 1, 0]).backward(put(new Float32Array(rows * cols).fill(1)));
          const sums = await floats(leaf.grad);
          expectEqual('gathered twice, once, never', [sums[cols], sums[0], sums[2 * cols]], [2, 1, 0]);
        }
      },
    },
    {
      name: 'limbeck/raw: bits with a dtype, mixed with other types, in place',
      run({ limbeck, raw, device }) {
        if (device !== 'cpu') return;
        const [rows, cols] = [4, 33];
        for (const dtype of HALF_TYPES)
          for (const teacherDtype of HALF_TYPES) {
            const call = inHalf(denseCall(41, rows, cols, { temperature: 2 }), dtype, teacherDtype);
            const student = new Uint16Array(toBits(call.student, dtype));
            const teacher = new Uint16Array(toBits(call.teacher as Float32Array, teacherDtype));
            const leaf = limbeck.tensor(student.slice(), { shape: [rows, cols], dtype, requiresGrad: true });
            const loss = limbeck.kdLoss(leaf, limbeck.tensor(teacher.slice(), { shape: [rows, cols], dtype: teacherDtype }), {
              temperature: 2,
            });
            loss.backward();
            const wanted = leaf.grad?.data as Uint16Array;
            const options = { rows, cols, temperature: 2, dtype, teacherDtype } as const;
            const gradient = new Uint16Array(rows * cols);
            const result = raw.kdLoss(student, teacher, { ...options, out: { gradient } });
            expectEqual('loss', [result.loss.constructor.name, result.loss[0]], ['Float32Array', loss.item()]);
            expectSameBits('gradient', gradient, wanted);
            const offset = new Uint16Array(rows * cols + 1).subarray(1);
            offset.set(student);
            raw.kdLoss(offset, { logits: teacher }, { ...options, out: { gradient: offset } });
            expectSameBits('in place, off an aligned address', offset, wanted);
            const mixed = raw.kdLoss(call.student as Float32Array, teacher, { rows, cols, temperature: 2, teacherDtype });
            expectClose('a float32 student', mixed.loss, [loss.item()], 1e-6);
            const hard = raw.crossEntropy(student, [1, 2, 3, 4], { rows, cols, dtype });
            expectClose('cross-entropy', hard.loss, [limbeck.crossEntropy(leaf, [1, 2, 3, 4]).item()], 0);
            const sparse = raw.captureTopK(teacher, 5, { rows, cols, dtype: teacherDtype });
            expectTrue('sparse', Number.isFinite(raw.kdLoss(student, sparse, { rows, cols, dtype, residual: 'tail_bucket' }).loss[0]));
            const probs = raw.softmax(teacher, { rows, cols, dtype: teacherDtype });
            expectEqual('softmax', probs.constructor.name, 'Uint16Array');
            const best = raw.topK(teacher, 2, { rows, cols, dtype: teacherDtype });
            expectEqual('topK', [best.values.constructor.name, best.values[0]], ['Uint16Array', teacher[best.indices[0] as number]]);
            const logProbs = rounded(
              Float32Array.from({ length: rows * cols }, () => -Math.log(cols)),
              teacherDtype,
            );
            const flat = raw.kdLoss(student, { logProbs: new Uint16Array(toBits(logProbs, teacherDtype)) }, { ...options, temperature: 1 });
            expectTrue('log-probabilities', Number.isFinite(flat.loss[0]));
          }
      },
    },
    {
      name: 'limbeck/raw: a row that is refused keeps its bits',
      run({ raw, device }) {
        if (device !== 'cpu') return;
        const cols = 33;
        const bits = new Uint16Array(toBits(normals(1, cols), 'bfloat16'));
        const before = bits.slice();
        const options = { rows: 1, cols, dtype: 'bfloat16', out: { gradient: bits } } as const;
        const sparse = { indices: Int32Array.of(1, 1), logProbs: Float32Array.of(-1, -1) };
        expectThrows(
          'ids',
          () => raw.kdLoss(bits, sparse, { ...options, residual: 'truncate' }),
          RangeError,
          /indices of a row must differ/,
        );
        expectThrows('labels', () => raw.crossEntropy(bits, [cols], options), RangeError, /labels must be in/);
        expectSameBits('the student', bits, before);
      },
    },
    {
      name: 'what half types are not taken for is refused by name',
      run({ limbeck, device }) {
        const half = limbeck.tensor([[1, 2]], { dtype: 'bfloat16', device });
        for (const [name, run] of [
          ['add', () => limbeck.add(half, half)],
          ['exp', () => limbeck.exp(half)],
          ['sum', () => limbeck.sum(half)],
          ['soften', () => limbeck.soften(half, { temperature: 2 })],
        ] as const)
          expectThrows(name, run, TypeError, /it is bfloat16; cast\(\) converts$/);
        const call = sparseCall(1, 1, 2, 1);
        expectThrows(
          'sparse values',
          () => limbeck.sparseTarget({ indices: call.indices as Int32Array, logProbs: half }),
          TypeError,
          /logProbs must be float32: it is bfloat16/,
        );
      },
    },
  ],
  bench: [{ rows: 512, cols: 1000 }],
};
