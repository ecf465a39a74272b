// mixTargets: every kind of target against a float64 mixture, and the gradient against the mixture of gradients.
import { expectClose, expectEqual, expectThrows, expectTrue } from '../compare.js';
import { normals, uniforms } from '../random.js';
import { logSoftmaxRow, sum } from '../reference.js';
import type { CaseFile, Limbeck, Subject } from '../subject.js';

type Tensor = ReturnType<Limbeck['tensor']>;
type Dense = ReturnType<Limbeck['denseTarget']>;
type Kind = 'logits' | 'probs' | 'log_probs';

const KINDS: Kind[] = ['logits', 'probs', 'log_probs'];
const ROWS = 5;

/** What a teacher says, as the numbers of a target of this kind. */
function valuesOf(kind: Kind, logits: Float32Array, cols: number): Float32Array {
  if (kind === 'logits') return logits;
  const out = new Float32Array(logits.length);
  for (let r = 0; r < logits.length / cols; r++) {
    const logs = logSoftmaxRow(logits.subarray(r * cols, (r + 1) * cols), 1);
    out.set(kind === 'probs' ? logs.map(Math.exp) : logs, r * cols);
  }
  return out;
}

/** Log-probabilities at T of a row of a target, in float64 from the very numbers it holds. */
function logsOf(kind: Kind, row: Float32Array, T: number): Float64Array {
  const logs = kind === 'probs' ? Float64Array.from(row, Math.log) : Float64Array.from(row);
  return T === 1 && kind !== 'logits' ? logs : logSoftmaxRow(logs, T);
}

function made(subject: Subject, kind: Kind, values: Float32Array, cols: number): Dense {
  const x = subject.limbeck.tensor(values.slice(), { shape: [values.length / cols, cols], device: subject.device });
  const { denseTarget } = subject.limbeck;
  return kind === 'logits' ? denseTarget({ logits: x }) : kind === 'probs' ? denseTarget({ probs: x }) : denseTarget({ logProbs: x });
}

const at = (T: number | Float32Array, r: number): number => (typeof T === 'number' ? T : (T[r] as number));

function onDevice({ limbeck, device }: Subject, x: number | Float32Array): number | Tensor {
  return typeof x === 'number' ? x : limbeck.tensor(x.slice(), { device });
}

/** Three weights for each row that sum to 1 in float32. */
function rowWeights(seed: number): Float32Array[] {
  const raw = uniforms(seed, 3 * ROWS);
  raw[1] = 0;
  return [0, 1, 2].map((m) =>
    Float32Array.from({ length: ROWS }, (_, r) => (raw[3 * r + m] as number) / sum(raw.subarray(3 * r, 3 * r + 3))),
  );
}

interface Mixture {
  target: Dense;
  /** The mixture's probabilities at each row's T, [ROWS · cols]. */
  probs: Float64Array;
  parts: Dense[];
  weights: (number | Float32Array)[];
}

function mixture(
  subject: Subject,
  cols: number,
  weights: (number | Float32Array)[],
  T: number | Float32Array,
  isGeometric: boolean,
): Mixture {
  const values = KINDS.map((kind, m) => valuesOf(kind, normals(cols + 10 * m, ROWS * cols, 3, m), cols));
  const parts = KINDS.map((kind, m) => made(subject, kind, values[m] as Float32Array, cols));
  const probs = new Float64Array(ROWS * cols);
  for (let r = 0; r < ROWS; r++) {
    const rows = KINDS.map((kind, m) =>
      logsOf(kind, (values[m] as Float32Array).subarray(r * cols, (r + 1) * cols), isGeometric ? 1 : at(T, r)),
    );
    const alphas = weights.map((weight) => at(weight, r));
    const row = Float64Array.from({ length: cols }, (_, c) =>
      sum(rows.map((logs, m) => (alphas[m] as number) * (isGeometric ? (logs[c] as number) : Math.exp(logs[c] as number)))),
    );
    probs.set(isGeometric ? logSoftmaxRow(row, at(T, r)).map(Math.exp) : row, r * cols);
  }
  const given = parts.map((target, m) => ({ target, weight: onDevice(subject, weights[m] as number | Float32Array) }));
  const target = subject.limbeck.mixTargets(given, isGeometric ? { kind: 'geometric' } : { temperature: onDevice(subject, T) });
  return { target, probs, parts, weights };
}

const TEMPERATURES: (number | Float32Array)[] = [1, 2.5, 0.3, Float32Array.of(1, 2, 0.5, 7, 30)];

function softmaxAt(values: Float32Array, cols: number, T: number | Float32Array): Float64Array {
  const out = new Float64Array(values.length);
  for (let r = 0; r < values.length / cols; r++)
    out.set(logSoftmaxRow(values.subarray(r * cols, (r + 1) * cols), at(T, r)).map(Math.exp), r * cols);
  return out;
}

async function gradientOf(subject: Subject, z: Float32Array, cols: number, target: Dense, T: number | Float32Array): Promise<Float32Array> {
  const { limbeck, device } = subject;
  const student = limbeck.tensor(z.slice(), { shape: [ROWS, cols], device, requiresGrad: true });
  limbeck.kdLoss(student, target, { temperature: onDevice(subject, T), reduction: 'sum' }).backward();
  return (await (student.grad as Tensor).read()) as Float32Array;
}

export const mix_targets: CaseFile = {
  op: 'mix_targets',
  kernels: [],
  checks: [
    ...[false, true].map((isGeometric) => ({
      name: `${isGeometric ? 'geometric' : 'arithmetic'} mixtures of logits, probabilities and log-probabilities`,
      async run(subject: Subject) {
        for (const cols of [1, 3, 33, 1025])
          for (const T of TEMPERATURES)
            for (const weights of [[0.5, 0.2, 0.3], [0, 1, 0], rowWeights(cols)]) {
              const { target, probs } = mixture(subject, cols, weights, T, isGeometric);
              const what = `V ${cols}, T ${String(T)}, ${typeof weights[0]} weights`;
              expectEqual('kind', target.kind, !isGeometric && T === 1 ? 'log_probs' : 'logits');
              const values = (await target.values.read()) as Float32Array;
              const actual = target.kind === 'log_probs' ? Float64Array.from(values, Math.exp) : softmaxAt(values, cols, T);
              // A logarithm of p in float32 is off by |ln p|·2^-24, which the temperature divides and multiplies again.
              expectClose(what, actual, probs, (i) => 4e-6 * (probs[i] as number) * Math.max(1, -Math.log(probs[i] as number) / 4) + 1e-37);
            }
      },
    })),
    {
      name: 'forward KL to an arithmetic mixture has the mixture of the gradients',
      async run(subject) {
        for (const T of TEMPERATURES)
          for (const weights of [[0.5, 0.2, 0.3], rowWeights(9)]) {
            const cols = 33;
            const z = normals(77, ROWS * cols, 3);
            const { target, probs, parts } = mixture(subject, cols, weights, T, false);
            const whole = await gradientOf(subject, z, cols, target, T);
            const each = await Promise.all(parts.map((part) => gradientOf(subject, z, cols, part, T)));
            const q = softmaxAt(z, cols, T);
            const exact = q.map((value, i) => at(T, Math.floor(i / cols)) * (value - (probs[i] as number)));
            const bound = (i: number): number => 1e-5 * at(T, Math.floor(i / cols)) * Math.max(q[i] as number, probs[i] as number);
            expectClose(`T ${String(T)}: T·(q − p)`, whole, exact, bound);
            const mixed = exact.map((_, i) => sum(each.map((g, m) => at(weights[m] as number, Math.floor(i / cols)) * (g[i] as number))));
            expectClose(`T ${String(T)}: Σ α gradient`, whole, mixed, (i) => 2 * bound(i));
          }
      },
    },
    {
      name: 'an anchored recursion contracts: KL(anchor‖λ·anchor + (1 − λ)·q) is at most (1 − λ)·KL(anchor‖q) (arXiv 2601.13100)',
      async run(subject) {
        const { limbeck, device } = subject;
        const cols = 33;
        const anchorValues = normals(1, ROWS * cols, 2);
        const anchor = limbeck.tensor(anchorValues.slice(), { shape: [ROWS, cols], device });
        const rowOf = (values: Float32Array, r: number): Float64Array => logSoftmaxRow(values.subarray(r * cols, (r + 1) * cols), 1);
        const distances = (values: Float32Array): number[] =>
          Array.from({ length: ROWS }, (_, r) => {
            const [p, q] = [rowOf(anchorValues, r), rowOf(values, r)];
            return sum(p.map((log, c) => Math.exp(log) * (log - (q[c] as number))));
          });
        let current = limbeck.denseTarget({ logits: limbeck.tensor(normals(2, ROWS * cols, 2), { shape: [ROWS, cols], device }) });
        let before = distances((await current.values.read()) as Float32Array);
        for (let generation = 0; generation < 8; generation++) {
          current = limbeck.mixTargets([
            { target: anchor, weight: 0.25 },
            { target: current, weight: 0.75 },
          ]);
          const after = distances((await current.values.read()) as Float32Array);
          after.forEach((distance, r) =>
            expectTrue(`generation ${generation}, row ${r}: ${distance}`, distance > 0 && distance <= 0.75 * (before[r] as number) + 1e-7),
          );
          before = after;
        }
      },
    },
    {
      name: 'geometric: what one teacher excludes is excluded, unless its weight is 0',
      async run(subject) {
        const { limbeck, device } = subject;
        const inf = -Infinity;
        const first = limbeck.tensor(
          [
            [1, 2, inf],
            [1, 2, inf],
            [inf, inf, 0],
          ],
          { device },
        );
        const second = limbeck.tensor(
          [
            [3, 1, 1],
            [3, 1, 1],
            [1, 1, inf],
          ],
          { device },
        );
        const weights = [limbeck.tensor([0.5, 0, 0.5], { device }), limbeck.tensor([0.5, 1, 0.5], { device })] as const;
        const mixed = limbeck.mixTargets(
          [
            { target: first, weight: weights[0] },
            { target: second, weight: weights[1] },
          ],
          { kind: 'geometric' },
        );
        const values = (await mixed.values.read()) as Float32Array;
        expectClose('kept', logSoftmaxRow(values.subarray(0, 3), 1).map(Math.exp), logSoftmaxRow([2, 1.5, inf], 1).map(Math.exp), 1e-6);
        expectClose('weight 0', logSoftmaxRow(values.subarray(3, 6), 1).map(Math.exp), logSoftmaxRow([3, 1, 1], 1).map(Math.exp), 1e-6);
        const student = limbeck.tensor(
          [
            [1, 2, 3],
            [1, 2, 3],
            [1, 2, 3],
          ],
          { device },
        );
        const loss = (await limbeck.kdLoss(student, mixed, { reduction: 'none' }).read()) as Float32Array;
        expectEqual('rows without an outcome are NaN', Array.from(loss, Number.isNaN), [false, false, true]);
      },
    },
    {
      name: 'arithmetic: probabilities far below the smallest float32 stay, so that reverse KL is finite; weight 0 silences a NaN',
      async run({ limbeck, device }) {
        const first = limbeck.tensor(
          [
            [0, -200, -400],
            [0, 0, 0],
          ],
          { device },
        );
        const second = limbeck.tensor(
          [
            [0, -300, -150],
            [NaN, 1, 2],
          ],
          { device },
        );
        const weights = [limbeck.tensor([0.25, 1], { device }), limbeck.tensor([0.75, 0], { device })] as const;
        const mixed = limbeck.mixTargets([
          { target: first, weight: weights[0] },
          { target: second, weight: weights[1] },
        ]);
        const third = -Math.log(3);
        const expected = [0, Math.log(0.25) - 200, Math.log(0.75) - 150, third, third, third];
        expectClose('logarithms', (await mixed.values.read()) as Float32Array, expected, 2e-5);
        const student = limbeck.tensor(
          [
            [1, 2, 3],
            [1, 2, 3],
          ],
          { device, requiresGrad: true },
        );
        const q = logSoftmaxRow([1, 2, 3], 1);
        const exact = [0, 3].map((at) => sum(q.map((log, c) => Math.exp(log) * (log - (expected[at + c] as number)))));
        const loss = limbeck.kdLoss(student, mixed, { divergence: 'reverse_kl', reduction: 'none' });
        expectClose('reverse KL', (await loss.read()) as Float32Array, exact, (i) => 1e-5 * (exact[i] as number));
      },
    },
    {
      name: 'offsets of 1e4 cost no digits',
      async run(subject) {
        const cols = 9;
        const x = normals(1, ROWS * cols, 2);
        const y = normals(2, ROWS * cols, 2);
        const parts = [
          {
            target: made(
              subject,
              'logits',
              x.map((value) => value + 8192),
              cols,
            ),
            weight: 0.25,
          },
          {
            target: made(
              subject,
              'logits',
              y.map((value) => value - 8192),
              cols,
            ),
            weight: 0.75,
          },
        ];
        const shifted = [x.map((value) => Math.fround(value + 8192) - 8192), y.map((value) => Math.fround(value - 8192) + 8192)] as const;
        const values = (await subject.limbeck.mixTargets(parts, { kind: 'geometric' }).values.read()) as Float32Array;
        const exact = Float64Array.from(shifted[0], (value, i) => 0.25 * value + 0.75 * (shifted[1][i] as number));
        const expected = new Float64Array(exact.length);
        for (let r = 0; r < ROWS; r++) expected.set(logSoftmaxRow(exact.subarray(r * cols, (r + 1) * cols), 1).map(Math.exp), r * cols);
        expectClose('probabilities', softmaxAt(values, cols, 1), expected, (i) => 2e-6 * (expected[i] as number));
      },
    },
    {
      name: 'sampled targets: every id once, weights added, gradients mixed',
      async run(subject) {
        const { limbeck, device } = subject;
        const cols = 40;
        const z = normals(5, ROWS * cols, 2);
        const sampled = [0, 1].map((m) =>
          limbeck.sampleTarget(limbeck.tensor(normals(m, ROWS * cols, 2), { shape: [ROWS, cols], device }), 30, { seed: m }),
        );
        const alpha = Float32Array.of(0.5, 0.25, 0, 1, 0.75);
        const weights = [
          limbeck.tensor(alpha.slice(), { device }),
          limbeck.tensor(
            alpha.map((value) => 1 - value),
            { device },
          ),
        ] as const;
        const mixed = limbeck.mixTargets(sampled.map((target, m) => ({ target, weight: weights[m as 0 | 1] })));
        const ids = (await mixed.indices.read()) as Int32Array;
        const values = (await (mixed.weights as Tensor).read()) as Float32Array;
        const expected = new Float64Array(ROWS * cols);
        for (const [m, target] of sampled.entries()) {
          const own = (await target.indices.read()) as Int32Array;
          const given = (await (target.weights as Tensor).read()) as Float32Array;
          own.forEach((id, i) => {
            const row = Math.floor(i / target.k);
            const share = m === 0 ? (alpha[row] as number) : 1 - (alpha[row] as number);
            if (id !== -1) expected[row * cols + id] = (expected[row * cols + id] as number) + share * (given[i] as number);
          });
        }
        const dense = new Float64Array(ROWS * cols);
        ids.forEach((id, i) => {
          if (id === -1) return;
          const place = Math.floor(i / mixed.k) * cols + id;
          expectTrue(`id ${id} stands once in its row`, dense[place] === 0);
          dense[place] = values[i] as number;
        });
        expectTrue('no more entries than columns', mixed.k <= cols);
        expectClose('weights', dense, expected, (i) => 1e-7 * (expected[i] as number));
        const gradient = async (target: typeof mixed): Promise<Float32Array> => {
          const student = limbeck.tensor(z.slice(), { shape: [ROWS, cols], device, requiresGrad: true });
          limbeck.kdLoss(student, target, { reduction: 'sum' }).backward();
          return (await (student.grad as Tensor).read()) as Float32Array;
        };
        const [whole, first, second] = [
          await gradient(mixed),
          await gradient(sampled[0] as typeof mixed),
          await gradient(sampled[1] as typeof mixed),
        ];
        const shares = first.map((value, i) => {
          const share = alpha[Math.floor(i / cols)] as number;
          return share * value + (1 - share) * (second[i] as number);
        });
        expectClose('gradient', whole, shares, 1e-6);
      },
    },
    {
      name: 'top-k targets of the same ids: probabilities and tails mixed, in any order of the ids',
      async run({ limbeck, device }) {
        const put = (indices: number[][], probs: number[][]): ReturnType<Limbeck['sparseTarget']> =>
          limbeck.sparseTarget({ indices, probs, cols: 6, temperature: 2 }).to(device);
        const mixed = limbeck.mixTargets([
          {
            target: put(
              [
                [4, 2, -1],
                [0, 1, 2],
              ],
              [
                [0.5, 0.25, 0],
                [0.5, 0.3, 0.2],
              ],
            ),
            weight: 0.75,
          },
          {
            target: put(
              [
                [2, 4, -1],
                [2, 0, 1],
              ],
              [
                [0.125, 0.5, 0],
                [0.1, 0.6, 0.2],
              ],
            ),
            weight: 0.25,
          },
        ]);
        expectEqual('carried', [mixed.temperature, mixed.cols, mixed.k], [2, 6, 3]);
        expectEqual('ids', await mixed.indices.read(), Int32Array.of(4, 2, -1, 0, 1, 2));
        const logs = (await (mixed.logProbs as Tensor).read()) as Float32Array;
        const tail = (await (mixed.tailLogMass as Tensor).read()) as Float32Array;
        const probs = [0.5, 0.75 * 0.25 + 0.25 * 0.125, NaN, 0.75 * 0.5 + 0.25 * 0.6, 0.75 * 0.3 + 0.25 * 0.2, 0.75 * 0.2 + 0.25 * 0.1];
        for (const i of [0, 1, 3, 4, 5]) expectClose(`entry ${i}`, [Math.exp(logs[i] as number)], [probs[i] as number], 1e-7);
        expectClose('tail', Array.from(tail, Math.exp), [0.75 * 0.25 + 0.25 * 0.375, 0.25 * 0.1], 1e-7);
        const student = limbeck.tensor(normals(3, 12), { shape: [2, 6], device });
        expectTrue('a finite loss', Number.isFinite(limbeck.kdLoss(student, mixed, { residual: 'tail_bucket' }).item()));
        expectThrows(
          'other ids',
          () =>
            limbeck.mixTargets([
              { target: put([[4, 2]], [[0.5, 0.25]]), weight: 0.5 },
              { target: put([[4, 3]], [[0.5, 0.25]]), weight: 0.5 },
            ]),
          RangeError,
          /^Cannot mix targets: sparse targets of probabilities must name the same ids in each row, for the others are unknown: id 3 of row 0 is in parts\[1\]\.target and not in parts\[0\]\.target$/,
        );
      },
    },
    {
      name: 'no memory is left behind, and the teachers stay as they are',
      async run(subject) {
        const { limbeck, device } = subject;
        const cols = 17;
        const x = limbeck.tensor(normals(1, ROWS * cols), { shape: [ROWS, cols], device });
        const y = limbeck.tensor(normals(2, ROWS * cols), { shape: [ROWS, cols], device });
        const before = Float32Array.from((await x.read()) as Float32Array);
        const count = (): number => limbeck.memory()[x.device]!.tensors;
        const start = count();
        for (const options of [{}, { temperature: 2 }, { kind: 'geometric' }] as const) {
          const mixed = limbeck.mixTargets(
            [
              { target: x, weight: 0.5 },
              { target: limbeck.denseTarget({ logits: y }), weight: 0.5 },
            ],
            options,
          );
          mixed.dispose();
        }
        // denseTarget() makes a view of its own each time.
        expectEqual('live tensors', count() - start, 3);
        expectEqual('the teacher', await x.read(), before);
      },
    },
    {
      name: 'float64 on the CPU, refused elsewhere',
      async run(subject) {
        const { limbeck, device } = subject;
        if (device !== 'cpu') return;
        const rows = [Float64Array.from(normals(1, 12)), Float64Array.from(normals(2, 12))] as const;
        const parts = rows.map((row, m) => ({
          target: limbeck.tensor(row.slice(), { shape: [1, 12] }),
          weight: limbeck.tensor([m === 0 ? 0.25 : 0.75]),
        }));
        const values = await limbeck.mixTargets(parts, { temperature: 3 }).values.read();
        const expected = Float64Array.from({ length: 12 }, (_, c) =>
          sum(rows.map((row, m) => (m === 0 ? 0.25 : 0.75) * Math.exp(logSoftmaxRow(row, 3)[c] as number))),
        );
        expectClose('probabilities', logSoftmaxRow(values as unknown as number[], 3).map(Math.exp), expected, 1e-14);
      },
    },
    {
      name: 'what cannot be mixed says why',
      run({ limbeck, device }) {
        const x = limbeck.tensor([[1, 2]], { device });
        const sparse = limbeck.sparseTarget({ indices: [[0]], probs: [[0.5]] }).to(device);
        const weights = limbeck.sparseTarget({ indices: [[0]], weights: [[0.5]] }).to(device);
        const grad = limbeck.tensor([[1, 2]], { device, requiresGrad: true });
        const column = (values: number[]): Tensor => limbeck.tensor(values, { device });
        const mix = (parts: unknown, options?: object) => () => limbeck.mixTargets(parts as never, options as never);
        const refused: [string, () => unknown, typeof TypeError | typeof RangeError, string][] = [
          ['no list', mix(x), TypeError, 'parts must be an array of { target, weight }: it is a Tensor'],
          ['empty', mix([]), RangeError, 'parts must hold at least one target: there is none'],
          [
            'missing weight',
            mix([{ target: x }]),
            TypeError,
            'parts[0].weight must be a number or a Tensor with one for each row: it is missing',
          ],
          [
            'negative',
            mix([
              { target: x, weight: 2 },
              { target: x, weight: -1 },
            ]),
            RangeError,
            'parts[1].weight must be at least 0 and finite: it is -1',
          ],
          [
            'sum',
            mix([
              { target: x, weight: 0.5 },
              { target: x, weight: 0.4 },
            ]),
            RangeError,
            'the weights must sum to 1 within 1e-6: they sum to 0.9',
          ],
          [
            'sum of a row',
            mix([{ target: x, weight: column([0.5]) }]),
            RangeError,
            'the weights must sum to 1 within 1e-6: they sum to 0.5 in row 0',
          ],
          [
            'weights of other rows',
            mix([{ target: x, weight: column([0.5, 0.5]) }]),
            RangeError,
            'parts[0].weight must have shape [1], one for each row: it has [2]',
          ],
          [
            'grad',
            mix([{ target: grad, weight: 1 }]),
            TypeError,
            'parts[0].target must not require grad: it does; pass it through detach()',
          ],
          [
            'grad of a weight',
            mix([{ target: x, weight: limbeck.tensor([1], { device, requiresGrad: true }) }]),
            TypeError,
            'parts[0].weight must not require grad: it does; pass it through detach()',
          ],
          [
            'shape',
            mix([
              { target: x, weight: 0.5 },
              { target: limbeck.tensor([[1, 2, 3]], { device }), weight: 0.5 },
            ]),
            RangeError,
            'parts[1].target must have shape [1, 2] like parts[0].target: it has [1, 3]',
          ],
          [
            'kind',
            mix([{ target: x, weight: 1 }], { kind: 'harmonic' }),
            RangeError,
            "kind must be 'arithmetic' or 'geometric': it is 'harmonic'",
          ],
          [
            'geometric at T',
            mix([{ target: x, weight: 1 }], { kind: 'geometric', temperature: 2 }),
            TypeError,
            "temperature must not be given with kind 'geometric', which holds at every one: it is 2",
          ],
          [
            'dense and sparse',
            mix([
              { target: x, weight: 0.5 },
              { target: sparse, weight: 0.5 },
            ]),
            TypeError,
            'parts[0].target must be sparse like the others: it is a Tensor',
          ],
          [
            'weights and probabilities',
            mix([
              { target: sparse, weight: 0.5 },
              { target: weights, weight: 0.5 },
            ]),
            TypeError,
            'parts[1].target must be of probabilities like parts[0].target: it is of weights',
          ],
          [
            'geometric of sparse',
            mix([{ target: sparse, weight: 1 }], { kind: 'geometric' }),
            RangeError,
            "kind must be 'arithmetic' with sparse targets, whose other probabilities are unknown: it is 'geometric'",
          ],
          [
            'temperature of sparse',
            mix([{ target: sparse, weight: 1 }], { temperature: 2 }),
            TypeError,
            'temperature must not be given with sparse targets, which carry their own: it is 2',
          ],
          [
            'sparse at another temperature',
            mix([
              { target: sparse, weight: 0.5 },
              { target: limbeck.sparseTarget({ indices: [[0]], probs: [[0.5]], temperature: 2 }).to(device), weight: 0.5 },
            ]),
            RangeError,
            'parts[1].target must have been taken at temperature 1 like parts[0].target: it was at 2',
          ],
          [
            'mass',
            mix([{ target: limbeck.denseTarget({ probs: limbeck.tensor([[0.5, 0.25]], { device }) }), weight: 1 }], { temperature: 2 }),
            RangeError,
            'the probabilities of a row must sum to 1 within 1e-3 at a temperature other than 1: they sum to 0.75 in row 0',
          ],
        ];
        for (const [what, fn, type, message] of refused)
          expectEqual(what, expectThrows(what, fn, type, /^Cannot mix targets: /).message, `Cannot mix targets: ${message}`);
      },
    },
  ],
  bench: [],
};
