// linearKdLoss: against the float64 reference of the loss and of the products around it, and bit by bit against kdLoss of whole logits.
import { expectAll, expectClose, expectEqual, expectSameBits, expectThrows, expectTrue } from '../compare.js';
import { spacing, toBits, type HalfType } from '../half.js';
import { integers, random } from '../random.js';
import { rowLossReference, type LossCall } from '../reference.js';
import { sanitized } from '../sizes.js';
import type { CaseFile, Limbeck, Subject } from '../subject.js';
import { optionsOf, targetOf } from './kd_loss.js';
import { EXACTNESS, denseCall, probabilities, randomCall, sparseCall } from './row_loss.js';

type Tensor = ReturnType<Limbeck['tensor']>;
type Floats = Float32Array | Float64Array;
type Options = NonNullable<Parameters<Limbeck['linearKdLoss']>[3]>;
type Target = Parameters<Limbeck['linearKdLoss']>[2];

/** A last layer whose logits float32 holds exactly: the reference then sees what the kernels see. */
interface Layer {
  rows: number;
  cols: number;
  inputs: number;
  hidden: Float32Array;
  weight: Float32Array;
  bias: Float32Array;
  logits: Float32Array;
  /** What the operands are stored in; float32 where none is named. */
  types?: Types;
}

type Name = 'hidden' | 'weight' | 'bias';
type Types = Partial<Record<Name, HalfType>>;

const eighths = (seed: number, size: number, most: number): Float32Array =>
  Float32Array.from(integers(seed, size, -8 * most, 8 * most + 1), (value) => value / 8);

function layerOf(seed: number, rows: number, cols: number, inputs = 6): Layer {
  const hidden = eighths(seed, rows * inputs, 1);
  const weight = eighths(seed + 1, cols * inputs, 2);
  const bias = eighths(seed + 2, cols, 1);
  const logits = new Float32Array(rows * cols);
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < cols; c++) {
      let sum = bias[c] as number;
      for (let i = 0; i < inputs; i++) sum += (hidden[r * inputs + i] as number) * (weight[c * inputs + i] as number);
      logits[r * cols + c] = sum;
    }
  return { rows, cols, inputs, hidden, weight, bias, logits };
}

interface Operands {
  hidden: Tensor;
  weight: Tensor;
  bias: Tensor;
}

function operandsOf({ limbeck, device }: Subject, layer: Layer, requiresGrad = true): Operands {
  const { rows, cols, inputs, types = {} } = layer;
  const put = (name: Name, shape: number[]): Tensor => {
    const type = types[name];
    const data = type === undefined ? layer[name].slice() : new Uint16Array(toBits(layer[name], type).buffer);
    return limbeck.tensor(data, { shape, device, requiresGrad, ...(type === undefined ? {} : { dtype: type }) });
  };
  return { hidden: put('hidden', [rows, inputs]), weight: put('weight', [cols, inputs]), bias: put('bias', [cols]) };
}

/** Values coarse enough that both half types hold them, and the logits, exactly. */
function halfLayerOf(seed: number, rows: number, cols: number, types: Types): Layer {
  const layer = layerOf(seed, rows, cols);
  const { inputs, hidden, weight, bias, logits } = layer;
  for (const [values, step] of [
    [hidden, 2],
    [weight, 4],
    [bias, 8],
  ] as const)
    values.forEach((value, i) => (values[i] = Math.round(value * step) / step));
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < cols; c++) {
      let sum = bias[c] as number;
      for (let i = 0; i < inputs; i++) sum += (hidden[r * inputs + i] as number) * (weight[c * inputs + i] as number);
      logits[r * cols + c] = sum;
    }
  return { ...layer, types };
}

/** The type of the logits of a chunk, where it is a half type. */
const logitsType = ({ types = {} }: Layer): HalfType | undefined => (types.hidden === types.weight ? types.hidden : undefined);

interface Result {
  loss: Floats;
  hidden: Floats;
  weight: Floats;
  bias: Floats;
}

async function resultOf(subject: Subject, loss: Tensor, { hidden, weight, bias }: Operands, upstream?: Float32Array): Promise<Result> {
  const { limbeck, device } = subject;
  const value = (await loss.read()) as Floats;
  const g = upstream ?? (loss.shape.length === 0 ? undefined : new Float32Array(loss.size).fill(1));
  if (g === undefined) loss.backward();
  else loss.backward(limbeck.tensor(g.slice(), { shape: [...loss.shape], device }));
  const gradient = async (x: Tensor): Promise<Floats> => {
    expectTrue('there is a gradient', x.grad !== null);
    expectEqual('dtype of the gradient', (x.grad as Tensor).dtype, x.dtype);
    return (await (x.grad as Tensor).read(x.dtype === 'float64' ? {} : { as: 'float32' })) as Floats;
  };
  return { loss: value, hidden: await gradient(hidden), weight: await gradient(weight), bias: await gradient(bias) };
}

/** Through linearKdLoss with so much scratch. */
async function inChunks(
  subject: Subject,
  layer: Layer,
  target: Target,
  options: Options,
  scratchBytes: number | undefined,
  upstream?: Float32Array,
): Promise<Result> {
  const own = operandsOf(subject, layer);
  const given = { ...options, bias: own.bias, ...(scratchBytes === undefined ? {} : { scratchBytes }) };
  return resultOf(subject, subject.limbeck.linearKdLoss(own.hidden, own.weight, target, given), own, upstream);
}

/** Through linear and kdLoss. */
async function whole(
  { limbeck, ...rest }: Subject,
  layer: Layer,
  target: Parameters<Limbeck['kdLoss']>[1],
  options: Options,
  upstream?: Float32Array,
): Promise<Result> {
  const subject = { limbeck, ...rest };
  const own = operandsOf(subject, layer);
  return resultOf(subject, limbeck.kdLoss(limbeck.linear(own.hidden, own.weight, own.bias), target, options), own, upstream);
}

/** The least scratch a call takes: what one row needs. */
function leastScratch(subject: Subject, layer: Layer, target: Target, options: Options): number {
  const own = operandsOf(subject, layer, false);
  try {
    subject.limbeck.linearKdLoss(own.hidden, own.weight, target, { ...options, bias: own.bias, scratchBytes: 1 });
  } catch (error) {
    const bytes = Number(/needs, (\d+) bytes/.exec((error as Error).message)?.[1]);
    expectTrue(`scratch of 1 byte is refused with what a row needs: ${String(error)}`, bytes > 0);
    return bytes;
  }
  throw new Error('scratch of 1 byte must be refused');
}

function expectSame(what: string, result: Result, expected: Result): void {
  for (const part of ['loss', 'hidden', 'weight', 'bias'] as const) expectSameBits(`${what}: ${part}`, result[part], expected[part]);
}

// A float32 sum of n products in any order, as in the cases of matmul.
const summed = (n: number): number => 4 * (Math.sqrt(n) + 4) * 2 ** -24;

/** Loss and the three gradients against float64, in chunks of so many rows. */
async function check(subject: Subject, what: string, layer: Layer, given: LossCall, chunks: number[]): Promise<void> {
  const { rows, cols, inputs, hidden, weight } = layer;
  const call: LossCall = { reduction: 'mean', ...given, student: layer.logits };
  const reference = rowLossReference(call);
  const half = logitsType(layer);
  const divisor = call.reduction === 'mean' ? rows : 1;
  const options = optionsOf(subject.limbeck, call, subject.device);
  const captured = call.rowTemperature === undefined ? undefined : (options.temperature as Tensor);
  const target = targetOf(subject.limbeck, call, subject.device, captured);
  const product = (size: number, add: (into: (at: number, g: number, bound: number, factor: number) => void) => void) => {
    const value = new Float64Array(size);
    const bound = new Float64Array(size);
    add((at, g, error, factor) => {
      value[at] = (value[at] as number) + g * factor;
      bound[at] = (bound[at] as number) + (error + summed(rows + cols) * Math.abs(g)) * Math.abs(factor);
    });
    return { value, bound };
  };
  const each = (visit: (r: number, c: number, g: number, bound: number) => void): void => {
    for (let i = 0; i < rows * cols; i++) {
      const g = reference.gradient[i] as number;
      // Of a half type, it is rounded before it is divided.
      const error = half === undefined ? 0 : spacing(g * divisor, half) / 2 / divisor;
      visit(Math.floor(i / cols), i % cols, g, EXACTNESS * (reference.gradientScale[i] as number) + error);
    }
  };
  const atMost =
    (name: Name, { value, bound }: { value: Float64Array; bound: Float64Array }) =>
    (i: number) => {
      const type = layer.types?.[name];
      return (bound[i] as number) + (type === undefined ? 0 : spacing(Math.abs(value[i] as number) + (bound[i] as number), type) / 2);
    };
  const ofHidden = product(rows * inputs, (into) =>
    each((r, c, g, bound) => {
      for (let i = 0; i < inputs; i++) into(r * inputs + i, g, bound, weight[c * inputs + i] as number);
    }),
  );
  const ofWeight = product(cols * inputs, (into) =>
    each((r, c, g, bound) => {
      for (let i = 0; i < inputs; i++) into(c * inputs + i, g, bound, hidden[r * inputs + i] as number);
    }),
  );
  const ofBias = product(cols, (into) => each((_, c, g, bound) => into(c, g, bound, 1)));
  const least = leastScratch(subject, layer, target, options);
  for (const chunk of chunks) {
    const result = await inChunks(subject, layer, target, options, Number.isFinite(chunk) ? chunk * least : undefined);
    const at = `${what}, chunks of ${chunk}`;
    const rounding = (value: number): number => 6e-8 * Math.abs(value);
    if (call.reduction === 'none')
      expectClose(
        `${at}: rows`,
        result.loss,
        reference.rowLoss,
        (r) => EXACTNESS * (reference.rowScale[r] as number) + rounding(reference.rowLoss[r] as number),
      );
    else
      expectClose(
        `${at}: loss`,
        result.loss,
        [reference.loss],
        EXACTNESS * reference.lossScale + 2 * rounding(reference.loss) + summed(rows) * reference.lossScale,
      );
    expectClose(`${at}: hidden`, result.hidden, ofHidden.value, atMost('hidden', ofHidden));
    expectClose(`${at}: weight`, result.weight, ofWeight.value, atMost('weight', ofWeight));
    expectClose(`${at}: bias`, result.bias, ofBias.value, atMost('bias', ofBias));
  }
}

const DIVERGENCES = [
  'forward_kl',
  'reverse_kl',
  'symmetric_kl',
  { kind: 'jensen_shannon', beta: 0.3 },
  { kind: 'skew_forward_kl', alpha: 0.2 },
  { kind: 'skew_reverse_kl', alpha: 0.2 },
  'total_variation',
  'squared_hellinger',
  'soft_cross_entropy',
  'adaptive_kl',
] as const;

export const linear_kd_loss: CaseFile = {
  op: 'linear_kd_loss',
  kernels: ['divergence', 'matmul', 'binary', 'reduce', 'gather_rows'],
  checks: [
    {
      name: 'every target and reduction, in chunks of 1, 2, 3 and all rows',
      async run(subject) {
        const [rows, cols] = [7, 33];
        const layer = layerOf(1, rows, cols);
        const chunks = sanitized ? [2, Infinity] : [1, 2, 3, 7, Infinity];
        for (const reduction of ['mean', 'sum', 'none'] as const) {
          const dense = denseCall(2, rows, cols, { temperature: 2, reduction });
          const probs = probabilities(dense.teacher as Float32Array, rows, cols);
          await check(subject, `logits, ${reduction}`, layer, dense, chunks);
          await check(subject, `probs, ${reduction}`, layer, { ...dense, target: 'probs', teacher: probs }, chunks);
          await check(subject, `log-probs, ${reduction}`, layer, { ...dense, target: 'log_probs', teacher: probs.map(Math.log) }, chunks);
          for (const residual of ['renormalize', 'renormalize_both', 'truncate', 'tail_bucket', 'uniform', 'label'] as const)
            await check(subject, `${residual}, ${reduction}`, layer, sparseCall(3, rows, cols, 5, { residual, reduction }), chunks);
        }
      },
    },
    {
      name: 'half types and mixed ones: logits of the dtype of both factors or float32, gradients summed in float32 and rounded once',
      async run(subject) {
        const [rows, cols] = [7, 33];
        const every: Types[] = [
          { hidden: 'bfloat16', weight: 'bfloat16', bias: 'bfloat16' },
          { hidden: 'float16', weight: 'float16' },
          { hidden: 'bfloat16' },
          { weight: 'float16', bias: 'bfloat16' },
          { hidden: 'float16', weight: 'bfloat16', bias: 'float16' },
        ];
        for (const [at, types] of every.entries()) {
          const layer = halfLayerOf(20 + at, rows, cols, types);
          const what = JSON.stringify(types);
          for (const reduction of ['mean', 'none'] as const) {
            const dense = denseCall(2, rows, cols, { temperature: 2, reduction });
            await check(subject, `${what}, logits, ${reduction}`, layer, dense, [2, Infinity]);
            const sparse = sparseCall(3, rows, cols, 5, { residual: 'tail_bucket', reduction });
            await check(subject, `${what}, tail_bucket, ${reduction}`, layer, sparse, [3, Infinity]);
          }
        }
      },
    },
    {
      name: 'half types: a teacher of another dtype, padding, rows that do not count, a divisor that float16 would not hold',
      async run(subject) {
        const { limbeck, device } = subject;
        const [rows, cols] = [6, 21];
        const layer = halfLayerOf(30, rows, cols, { hidden: 'float16', weight: 'float16' });
        const other = halfLayerOf(31, rows, cols, { hidden: 'bfloat16' });
        const labels = Int32Array.of(1, -100, 2, 3, -100, 4);
        const exact = limbeck.tensor(other.logits.slice(), { shape: [rows, cols], device });
        for (const denominator of ['rows', 1e6] as const) {
          const options: Options = { labels, hardWeight: 0.5, cols: cols - 4, denominator };
          // The same numbers in float32, through kdLoss of whole logits.
          const expected = await whole(subject, { ...layer, types: {} }, exact, options);
          for (const chunk of [2, Infinity]) {
            const teacher = { ...operandsOf(subject, other, false) };
            const scratch = Number.isFinite(chunk) ? chunk * leastScratch(subject, layer, teacher, options) : undefined;
            const result = await inChunks(subject, layer, teacher, options, scratch);
            const what = `${denominator}, chunks of ${chunk}`;
            expectClose(`${what}: loss`, result.loss, expected.loss, 2e-5 * Math.abs(Number(expected.loss[0])));
            // A gradient of at most 1 is a sum of 17 or of 4, each rounded to float16 before it was divided.
            const divisor = denominator === 'rows' ? 4 : denominator;
            for (const part of ['hidden', 'weight', 'bias'] as const)
              expectClose(
                `${what}: ${part}`,
                result[part],
                expected[part],
                (i) => (2 ** -9 + spacing(Math.abs(expected[part][i] as number) * divisor, 'float16')) / divisor + 2 ** -25,
              );
            expectAll(`${what}: padding`, result.weight.subarray((cols - 4) * layer.inputs), (value) => Object.is(value, 0), '0');
          }
        }
      },
    },
    {
      name: 'every option at random',
      async run(subject) {
        for (let seed = 1; seed <= (sanitized ? 10 : 40); seed++) {
          const given = randomCall(100 * seed, ['renormalize', 'renormalize_both', 'truncate', 'tail_bucket', 'uniform', 'label'], true);
          // That residual needs the label of every row.
          if (given.residual === 'label') delete given.unlabelledIndex;
          const { rows, cols } = given;
          await check(subject, `seed ${seed}`, layerOf(seed, rows, cols), given, [1 + Math.floor(random(seed)() * rows)]);
        }
      },
    },
    {
      name: 'every divergence, an assistant, interpolated and weighted targets: the bits of kdLoss of whole logits',
      async run(subject) {
        const { limbeck, device } = subject;
        const [rows, cols] = [5, 19];
        const layer = layerOf(3, rows, cols);
        const put = (values: Float32Array): Tensor => limbeck.tensor(values.slice(), { shape: [rows, cols], device });
        const teacher = put(layerOf(4, rows, cols).logits);
        const labels = integers(5, rows, 0, cols);
        const calls: [string, Parameters<Limbeck['kdLoss']>[1], Options][] = DIVERGENCES.map((divergence) => [
          JSON.stringify(divergence),
          teacher,
          { divergence, labels, hardWeight: 0.25, labelSmoothing: 0.1, temperatureSquared: false, temperature: 1.5 },
        ]);
        calls.push(['assistant', teacher, { divergence: 'reverse_kl', assistant: { alpha: 0.5, lambda: 0.3 } }]);
        calls.push(['interpolated', limbeck.interpolateTarget(put(layer.logits), teacher, { t: 0.4 }), { temperature: 2 }]);
        // The student's rows lie at other distances than those of whole logits, and fewer columns count.
        calls.push(['interpolated, padded', limbeck.interpolateTarget(put(layer.logits), teacher, { t: 0.4 }), { cols: cols - 4 }]);
        calls.push(['sampled', limbeck.sampleTarget(teacher, 6, { seed: 8 }), {}]);
        calls.push(['captured', limbeck.captureTopK(teacher, 4, { temperature: 2 }), { residual: 'tail_bucket' }]);
        calls.push(['captured, other', limbeck.captureTopK(teacher, 4, { temperature: 2 }), { residual: 'renormalize', temperature: 3 }]);
        for (const [what, target, options] of calls)
          for (const reduction of ['mean', 'none'] as const) {
            const own = { ...options, reduction };
            const expected = await whole(subject, layer, target, own);
            const least = leastScratch(subject, layer, target, own);
            const all = await inChunks(subject, layer, target, own, undefined);
            // A sum over rows is a reduction of its own: half a step of the loss.
            if (reduction === 'mean') {
              expectClose(`${what}: loss`, all.loss, expected.loss, 2e-7 * Math.abs(Number(expected.loss[0])));
              all.loss = expected.loss;
            }
            expectSame(what, all, expected);
            const two = await inChunks(subject, layer, target, own, 2 * least);
            if (reduction === 'none') expectSameBits(`${what}, chunks of 2: rows`, two.loss, expected.loss);
            expectSameBits(`${what}, chunks of 2: hidden`, two.hidden, expected.hidden);
          }
      },
    },
    {
      name: "a teacher's own last layer, of another width",
      async run(subject) {
        const { limbeck, device } = subject;
        const [rows, cols] = [6, 21];
        const layer = layerOf(5, rows, cols);
        const other = layerOf(6, rows, cols, 11);
        const teacher = operandsOf(subject, other, false);
        const logits = limbeck.tensor(other.logits.slice(), { shape: [rows, cols], device });
        const options: Options = { divergence: 'reverse_kl', temperature: 2, reduction: 'none' };
        const expected = await whole(subject, layer, logits, options);
        for (const chunk of [1, 4, 6]) {
          const result = await inChunks(
            subject,
            layer,
            { ...teacher },
            options,
            chunk * leastScratch(subject, layer, { ...teacher }, options),
          );
          expectSameBits(`${chunk}: rows`, result.loss, expected.loss);
          expectSameBits(`${chunk}: hidden`, result.hidden, expected.hidden);
          expectClose(`${chunk}: weight`, result.weight, expected.weight, 1e-6);
        }
        // The padding of both vocabularies is unread.
        const valid = cols - 4;
        for (const side of [layer, other]) side.weight.fill(NaN, valid * side.inputs);
        const padded = await inChunks(subject, layer, { ...operandsOf(subject, other, false) }, { ...options, cols: valid }, undefined);
        expectAll('rows', padded.loss, Number.isFinite, 'finite');
        expectAll('padding', padded.weight.subarray(valid * layer.inputs), (value) => Object.is(value, 0), '0');
        expectAll('padding', padded.bias.subarray(valid), (value) => Object.is(value, 0), '0');
        expectAll('weights', padded.weight, Number.isFinite, 'finite');
        layer.weight.fill(0, valid * layer.inputs);
        const same = await whole(subject, layer, logits, { ...options, cols: valid });
        expectSameBits('rows of valid columns', padded.loss, same.loss);
        expectClose('hidden of valid columns', padded.hidden, same.hidden, 1e-6);
      },
    },
    {
      name: 'rows that do not count: unread, gradient exactly 0, no part of any sum',
      async run(subject) {
        const { limbeck, device } = subject;
        const [rows, cols] = [9, 13];
        const layer = layerOf(7, rows, cols);
        const broken = { ...layer, hidden: layer.hidden.slice() };
        const labels = integers(8, rows, 0, cols);
        const rowWeights = Float32Array.from({ length: rows }, (_, r) => (r === 4 ? 0 : 0.5 + r));
        labels[0] = labels[6] = -100;
        const out = [0, 4, 6];
        for (const r of out) broken.hidden.fill(r === 4 ? Infinity : NaN, r * layer.inputs, (r + 1) * layer.inputs);
        const teacher = limbeck.tensor(layerOf(9, rows, cols).logits, { shape: [rows, cols], device });
        for (const target of [teacher, limbeck.captureTopK(teacher, 3), limbeck.denseTarget({ probs: limbeck.softmax(teacher) })])
          for (const reduction of ['mean', 'sum', 'none'] as const)
            for (const denominator of ['rows', 'weights', 3] as const) {
              const options: Options = {
                labels,
                hardWeight: 0.5,
                reduction,
                denominator,
                rowWeights: limbeck.tensor(rowWeights.slice(), { device }),
                ...(target instanceof limbeck.SparseTarget ? { residual: 'tail_bucket' as const } : {}),
              };
              const expected = await whole(subject, layer, target, options);
              for (const chunk of [1, 4, 9]) {
                const what = `${reduction}, ${denominator}, ${chunk}`;
                const result = await inChunks(subject, broken, target, options, chunk * leastScratch(subject, broken, target, options));
                expectClose(`${what}: loss`, result.loss, expected.loss, 1e-6 * Math.max(...expected.loss.map(Math.abs)));
                expectSameBits(`${what}: hidden`, result.hidden, expected.hidden);
                expectClose(`${what}: weight`, result.weight, expected.weight, 1e-5);
                for (const r of out)
                  expectAll(
                    `${what}: row ${r}`,
                    result.hidden.subarray(r * layer.inputs, (r + 1) * layer.inputs),
                    (value) => Object.is(value, 0),
                    '0',
                  );
              }
            }
      },
    },
    {
      name: 'nothing to divide by gives 0; weights whose sum is below 0 divide by it',
      async run(subject) {
        const { limbeck, device } = subject;
        const layer = layerOf(10, 3, 5);
        const teacher = limbeck.tensor(layerOf(11, 3, 5).logits, { shape: [3, 5], device });
        const weights = (...values: number[]): Options => ({
          rowWeights: limbeck.tensor(Float32Array.from(values), { device }),
          denominator: 'weights',
        });
        for (const [what, options] of [
          ['all ignored', { labels: [-100, -100, -100] }],
          ['weights 0', weights(0, 0, 0)],
          ['weights that cancel', weights(1, -1, 0)],
        ] as [string, Options][])
          for (const [part, values] of Object.entries(await inChunks(subject, layer, teacher, options, undefined)))
            expectAll(`${what}: ${part}`, values as Floats, (value) => value === 0, '0');
        const options = weights(1, -3, 0.5);
        const expected = await whole(subject, layer, teacher, options);
        const result = await inChunks(subject, layer, teacher, options, leastScratch(subject, layer, teacher, options));
        for (const part of ['loss', 'hidden', 'weight', 'bias'] as const) expectClose(part, result[part], expected[part], 2e-6);
      },
    },
    {
      name: 'upstream gradients, retainGraph, a second backward, noGrad, gradients of some operands alone',
      async run(subject) {
        const { limbeck, device } = subject;
        const [rows, cols] = [5, 17];
        const layer = layerOf(12, rows, cols);
        const teacher = limbeck.tensor(layerOf(13, rows, cols).logits, { shape: [rows, cols], device });
        for (const reduction of ['mean', 'none'] as const) {
          const upstream = reduction === 'mean' ? Float32Array.of(3.7) : Float32Array.of(3.7, -1, 0, 1, 0.25);
          const expected = await whole(subject, layer, teacher, { reduction }, upstream);
          const result = await inChunks(subject, layer, teacher, { reduction }, 2 * 17 * 4 + 200, upstream);
          for (const part of ['hidden', 'weight', 'bias'] as const)
            expectClose(`${reduction}: ${part}`, result[part], expected[part], 3e-6);
        }
        // What was given as numbers may have changed by the time of backward().
        const labels = Int32Array.of(1, -100, 2, 3, 4);
        const changed = operandsOf(subject, layer);
        const kept = operandsOf(subject, layer);
        const options: Options = { labels, hardWeight: 0.5, reduction: 'none' };
        const late = limbeck.linearKdLoss(changed.hidden, changed.weight, teacher, options);
        const direct = limbeck.linearKdLoss(kept.hidden, kept.weight, teacher, { ...options, labels: labels.slice() });
        labels.fill(0);
        for (const each of [late, direct]) limbeck.sum(each).backward();
        expectSameBits('labels', await (changed.weight.grad as Tensor).read(), await (kept.weight.grad as Tensor).read());
        const own = operandsOf(subject, layer);
        const loss = limbeck.linearKdLoss(own.hidden, own.weight, teacher, { bias: own.bias });
        loss.backward(null, { retainGraph: true });
        const once = (await (own.weight.grad as Tensor).read()) as Float32Array;
        loss.backward();
        expectSameBits(
          'twice',
          (await (own.weight.grad as Tensor).read()) as Float32Array,
          once.map((value) => 2 * value),
        );
        expectThrows('freed', () => loss.backward(), limbeck.LimbeckError, /linearKdLoss was freed/);
        const before = limbeck.memory()[device === 'cpu' ? 'cpu' : 'cuda']?.tensors;
        const still = limbeck.noGrad(() => limbeck.linearKdLoss(own.hidden, own.weight, teacher));
        expectEqual('requiresGrad under noGrad', still.requiresGrad, false);
        expectEqual('one tensor more, the loss', limbeck.memory()[device === 'cpu' ? 'cpu' : 'cuda']?.tensors, (before as number) + 1);
        for (const some of ['hidden', 'weight', 'bias'] as const) {
          const all = operandsOf(subject, layer);
          const part = operandsOf(subject, layer, false);
          part[some].requiresGrad = true;
          limbeck.linearKdLoss(all.hidden, all.weight, teacher, { bias: all.bias }).backward();
          limbeck.linearKdLoss(part.hidden, part.weight, teacher, { bias: part.bias }).backward();
          expectSameBits(some, await (part[some].grad as Tensor).read(), await (all[some].grad as Tensor).read());
          for (const name of ['hidden', 'weight', 'bias'] as const) expectEqual(name, part[name].grad === null, name !== some);
        }
      },
    },
    {
      name: 'leading dimensions, and the loss in the middle of a graph',
      async run(subject) {
        const { limbeck, device } = subject;
        const layer = layerOf(14, 6, 7);
        const own = operandsOf(subject, layer);
        const teacher = limbeck.tensor(layerOf(15, 6, 7).logits, { shape: [2, 3, 7], device });
        const shaped = limbeck.linearKdLoss(own.hidden.reshape([2, 3, 6]), own.weight, teacher, { reduction: 'none' });
        expectEqual('shape', shaped.shape, [2, 3]);
        limbeck.sum(limbeck.mul(shaped, 2)).backward();
        const other = operandsOf(subject, layer);
        limbeck
          .mul(limbeck.kdLoss(limbeck.linear(other.hidden, other.weight), teacher.reshape([6, 7]), { reduction: 'sum' }), 2)
          .backward();
        for (const name of ['hidden', 'weight'] as const)
          expectClose(
            name,
            (await (own[name].grad as Tensor).read()) as Floats,
            (await (other[name].grad as Tensor).read()) as Floats,
            1e-5,
          );
        const empty = limbeck.linearKdLoss(limbeck.zeros([0, 6], { device }), own.weight, limbeck.zeros([0, 7], { device }));
        expectEqual('no rows', empty.item(), 0);
      },
    },
    {
      name: 'chunks of 512 rows and of 1024 give the bits of all at once; others round the sums over rows differently',
      async run(subject) {
        const { limbeck, device, native } = subject;
        const [rows, cols] = [1100, 5];
        const layer = layerOf(16, rows, cols, 3);
        const teacher = limbeck.tensor(layerOf(17, rows, cols, 3).logits, { shape: [rows, cols], device });
        const options: Options = { temperature: 3 };
        const least = leastScratch(subject, layer, teacher, options);
        const all = await inChunks(subject, layer, teacher, options, rows * least);
        for (const chunk of [512, 1024, 300]) {
          const result = await inChunks(subject, layer, teacher, options, chunk * least);
          expectSameBits(`${chunk}: loss`, result.loss, all.loss);
          expectSameBits(`${chunk}: hidden`, result.hidden, all.hidden);
          expectClose(`${chunk}: weight`, result.weight, all.weight, 1e-6);
          expectClose(`${chunk}: bias`, result.bias, all.bias, 1e-6);
          // A library's products make no such promise.
          if (chunk !== 300 && native.info().matrixProduct === 'limbeck') expectSameBits(`${chunk}: weight`, result.weight, all.weight);
        }
      },
    },
    {
      name: 'float64 on the CPU',
      async run(subject) {
        const { limbeck, device } = subject;
        if (device !== 'cpu') return;
        const layer = layerOf(18, 4, 9);
        const wide = (values: Float32Array, shape: number[]): Tensor =>
          limbeck.tensor(
            Float64Array.from(values, (value) => value / 3),
            { shape, requiresGrad: true },
          );
        const make = (): Operands => ({
          hidden: wide(layer.hidden, [4, 6]),
          weight: wide(layer.weight, [9, 6]),
          bias: wide(layer.bias, [9]),
        });
        const teacher = wide(layerOf(19, 4, 9).logits, [4, 9]).detach();
        const a = make();
        const b = make();
        const one = await resultOf(subject, limbeck.linearKdLoss(a.hidden, a.weight, teacher, { bias: a.bias, scratchBytes: 300 }), a);
        const two = await resultOf(subject, limbeck.kdLoss(limbeck.linear(b.hidden, b.weight, b.bias), teacher), b);
        for (const part of ['loss', 'hidden', 'weight', 'bias'] as const) expectClose(part, one[part], two[part], 1e-15);
      },
    },
    {
      name: 'errors name the row of the call, and nothing is left behind',
      run({ limbeck, device }) {
        const [rows, cols] = [5, 7];
        const hidden = limbeck.randn([rows, 3], { seed: 1, device, requiresGrad: true });
        const weight = limbeck.randn([cols, 3], { seed: 2, device });
        const teacher = limbeck.randn([rows, cols], { seed: 3, device });
        const labels = [0, -100, 1, 2, 99];
        const tensors = (): number => limbeck.memory()[device === 'cpu' ? 'cpu' : 'cuda']?.tensors as number;
        const before = tensors();
        expectThrows(
          'label',
          () => limbeck.linearKdLoss(hidden, weight, teacher, { labels, hardWeight: 0.5, scratchBytes: 150 }),
          RangeError,
          /^Cannot compute linearKdLoss: labels must be in \[0, 7\): label 4 is 99$/,
        );
        const probs = limbeck.full([rows, cols], 0.5, { device });
        expectThrows(
          'mass',
          () => limbeck.linearKdLoss(hidden, weight, limbeck.denseTarget({ probs }), { temperature: 2, labels: [-100, -100, -100, 1, 1] }),
          RangeError,
          /they sum to 3.5 in row 3$/,
        );
        expectEqual('tensors', tensors(), before + 2);
      },
    },
  ],
  bench: [],
};
