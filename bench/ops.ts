// Times the kernels behind the main job on preallocated memory, and sets each beside the copy rate of the same machine in the same run.
import { native, findCode, type DeviceBuffer, type Handle, type Native } from '../src/native.js';

export interface Timing {
  op: string;
  rows: number;
  cols: number;
  k?: number;
  /** Milliseconds: the median, and the spread between the 10th and 90th percentile as a share of it. */
  median: number;
  spread: number;
  samples: number;
  /** Bytes that any implementation must move: inputs once, outputs once. */
  bytes: number;
  gigabytesPerSecond: number;
  /** Share of `copy`, the best rate measured here for reading and writing memory. */
  shareOfCopy: number;
}

export interface BenchReport {
  version: string;
  device: string;
  instructionSet: string;
  threads: number;
  matrixProduct: string;
  copyGigabytesPerSecond: number;
  rotatedMegabytes: number;
  timings: Timing[];
}

export interface BenchOptions {
  device: 'cpu' | 'cuda';
  /** Seconds per measurement. */
  seconds?: number;
  /** Memory that the rotating buffers take together; more than the last cache level. */
  rotateBytes?: number;
  shapes?: { rows: number; cols: number }[];
  k?: number;
  onTiming?: (timing: Timing) => void;
}

export const SHAPES = [
  { rows: 256, cols: 32_000 },
  { rows: 64, cols: 128_256 },
  { rows: 4096, cols: 1000 },
  { rows: 16_384, cols: 10 },
];

/** Every divergence and residual is timed at this many columns, the main ones at all shapes. */
const OTHERS_AT = 32_000;

const NO_LABEL = -2_147_483_648;

type Numbers = Float32Array | Int32Array;

/** The kernel of the row losses with its parameters by name: the mean over rows at temperature 2 unless something else is said. */
function rowLossCall(addon: Native, given: Record<string, Handle | number | null> & { cols: number }): () => void {
  const { cols } = given;
  const defaults: typeof given = {
    cols,
    student_stride: cols,
    teacher_stride: cols,
    gradient_stride: cols,
    residual: findCode('residual', 'none'),
    log_prob_scale: 1,
    temperature: 2,
    temperature_squared: 1,
    ignore_index: -100,
    unlabelled_index: NO_LABEL,
    reduction: findCode('reduction', 'mean'),
    denominator: findCode('denominator', 'rows'),
  };
  const parameters = addon.schema.divergence!.split(', ').map((parameter) => {
    const [kind, name] = parameter.split(' ') as [string, string];
    return given[name] ?? defaults[name] ?? (kind === 'Int' || kind === 'Float' ? 0 : null);
  });
  const kernel = addon.kernels.divergence as (...parameters: (Handle | number | null)[]) => void;
  return () => kernel(...parameters);
}

/** Memory on the device under test. */
class Arena {
  private readonly buffers: DeviceBuffer[] = [];

  constructor(
    private readonly addon: Native,
    private readonly device: 'cpu' | 'cuda',
  ) {}

  place(values: Numbers): Handle {
    if (this.device === 'cpu') return values;
    const buffer = this.addon.allocate(0, values instanceof Int32Array ? 'int32' : 'float32', values.length);
    this.addon.upload(buffer, values);
    this.buffers.push(buffer);
    return buffer;
  }

  free(): void {
    for (const buffer of this.buffers.splice(0)) buffer.free();
  }
}

/** Logits with a spread like a trained model's: sums of uniform numbers times 3. */
function logits(size: number, seed: number): Float32Array {
  let state = (seed * 2_654_435_761) >>> 0 || 1;
  const next = () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 4_294_967_296 - 0.5;
  };
  const values = new Float32Array(size);
  for (let i = 0; i < size; i += 1) values[i] = 3 * (next() + next() + next());
  return values;
}

/** Runs one set of buffers per call, in turn, so that no call finds its inputs in a cache. */
function time(
  addon: Native,
  device: 'cpu' | 'cuda',
  calls: (() => void)[],
  seconds: number,
): { median: number; spread: number; samples: number } {
  const wait = () => device === 'cuda' && addon.synchronize(0);
  for (const call of calls.slice(0, 3)) call();
  wait();
  const samples: number[] = [];
  const end = performance.now() + 1000 * seconds;
  for (let i = 0; samples.length < 5 || (performance.now() < end && samples.length < 2000); i += 1) {
    const begin = performance.now();
    (calls[i % calls.length] as () => void)();
    wait();
    samples.push(performance.now() - begin);
  }
  samples.sort((a, b) => a - b);
  const at = (share: number) => samples[Math.min(samples.length - 1, Math.floor(share * samples.length))] as number;
  return { median: at(0.5), spread: (at(0.9) - at(0.1)) / at(0.5), samples: samples.length };
}

export function benchOps(options: BenchOptions): BenchReport {
  const addon = native();
  const { device, seconds = 0.5, rotateBytes = 512e6, shapes = SHAPES, k = 64 } = options;
  const info = addon.info();
  const arena = new Arena(addon, device);
  const setsFor = (bytes: number) => Math.min(256, Math.max(2, Math.ceil(rotateBytes / bytes)));

  function run(op: string, rows: number, cols: number, bytes: number, build: (set: number) => () => void, sets = setsFor(bytes)): Timing {
    const calls = Array.from({ length: sets }, (_, set) => build(set));
    const { median, spread, samples } = time(addon, device, calls, seconds);
    arena.free();
    const gigabytesPerSecond = bytes / median / 1e6;
    return { op, rows, cols, median, spread, samples, bytes, gigabytesPerSecond, shareOfCopy: gigabytesPerSecond / copyRate };
  }

  let copyRate = NaN;
  const size = 1 << 23;
  const copyCode = findCode('unary', 'copy');
  const ours = run('copy', 1, size, 8 * size, () => {
    const from = arena.place(new Float32Array(size).fill(1));
    const to = arena.place(new Float32Array(size).fill(1));
    return () => addon.kernels.unary(from, to, size, copyCode, 0);
  });
  copyRate = ours.gigabytesPerSecond;
  if (device === 'cpu') {
    const plain = run('copy', 1, size, 8 * size, () => {
      const from = new Float32Array(size).fill(1);
      const to = new Float32Array(size).fill(1);
      return () => to.set(from);
    });
    copyRate = Math.max(copyRate, plain.gigabytesPerSecond);
  }

  const timings: Timing[] = [];
  // A residual this build knows by name only.
  const attempted = (measure: () => void) => {
    try {
      measure();
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      arena.free();
    }
  };
  const report = (timing: Timing) => {
    timings.push(timing);
    options.onTiming?.(timing);
  };

  for (const { rows, cols } of shapes) {
    const elements = rows * cols;
    const source = logits(elements, 1);
    const other = logits(elements, 2);
    const kept = Math.min(k, cols);
    const kl = findCode('divergence', 'forward_kl');

    const dense = (name: string, code: number, parameter: number) =>
      run(name, rows, cols, 12 * elements, () => {
        const student = arena.place(source.slice());
        const teacher = arena.place(other.slice());
        const gradient = arena.place(new Float32Array(elements).fill(1));
        const rowLoss = arena.place(new Float32Array(rows).fill(1));
        const loss = arena.place(new Float32Array(1));
        const target = findCode('target', 'logits');
        return rowLossCall(addon, {
          student,
          teacher,
          row_loss: rowLoss,
          loss,
          gradient,
          rows,
          cols,
          target,
          divergence: code,
          parameter_a: parameter,
        });
      });
    report(dense('dense KD, loss and gradient', kl, 0));
    if (cols === OTHERS_AT) {
      addon.codes.divergence.forEach((name, code) => {
        if (code !== kl) report(dense(`dense ${name}`, code, name === 'jensen_shannon' ? 0.5 : 0.1));
      });
    }
    report(
      run('cross-entropy and gradient', rows, cols, 8 * elements, () => {
        const student = arena.place(source.slice());
        const gradient = arena.place(new Float32Array(elements).fill(1));
        const labels = arena.place(Int32Array.from({ length: rows }, (_, r) => (7919 * r) % cols));
        const rowLoss = arena.place(new Float32Array(rows).fill(1));
        const loss = arena.place(new Float32Array(1));
        const target = findCode('target', 'none');
        return rowLossCall(addon, {
          student,
          labels,
          row_loss: rowLoss,
          loss,
          gradient,
          rows,
          cols,
          target,
          divergence: kl,
          temperature: 1,
          temperature_squared: 0,
          hard_weight: 1,
        });
      }),
    );

    const indices = new Int32Array(rows * kept);
    const logProbs = new Float32Array(rows * kept);
    const tail = new Float32Array(rows);
    {
      const [a, b, c, d, e] = [source, indices, logProbs, tail, new Float32Array(rows)].map((values) => arena.place(values as Numbers)) as [
        Handle,
        Handle,
        Handle,
        Handle,
        Handle,
      ];
      addon.kernels.capture_top_k(a, null, b, c, d, e, rows, cols, kept, 2);
      if (device === 'cuda') {
        addon.download(b as DeviceBuffer, indices);
        addon.download(c as DeviceBuffer, logProbs);
        addon.download(d as DeviceBuffer, tail);
      }
      arena.free();
    }
    if (kept < cols) {
      const sparse = (name: string, residual: string) =>
        run(name, rows, cols, 8 * elements + 8 * rows * kept, () => {
          const student = arena.place(other.slice());
          const gradient = arena.place(new Float32Array(elements).fill(1));
          const ids = arena.place(indices.slice());
          const sampled = residual === 'sampled';
          const values = arena.place(sampled ? logProbs.map((value) => Math.exp(value)) : logProbs.slice());
          const tails = sampled ? null : arena.place(tail.slice());
          const rowLoss = arena.place(new Float32Array(rows).fill(1));
          const loss = arena.place(new Float32Array(1));
          const target = findCode('target', sampled ? 'sparse_weights' : 'sparse_log_probs');
          const divergence = sampled ? findCode('divergence', 'soft_cross_entropy') : kl;
          const rule = findCode('residual', residual);
          const labels = residual === 'label' ? arena.place(Int32Array.from({ length: rows }, (_, r) => (7919 * r) % cols)) : null;
          return rowLossCall(addon, {
            student,
            indices: ids,
            values,
            tail_log_mass: tails,
            row_loss: rowLoss,
            loss,
            gradient,
            rows,
            cols,
            k: kept,
            target,
            divergence,
            residual: rule,
            labels,
          });
        });
      report({ ...sparse('sparse KD, loss and gradient', 'tail_bucket'), k: kept });
      if (cols === OTHERS_AT) {
        for (const residual of addon.codes.residual) {
          if (residual !== 'none' && residual !== 'tail_bucket')
            attempted(() => report({ ...sparse(`sparse ${residual}`, residual), k: kept }));
        }
      }
      report({
        ...run('capture of the top k', rows, cols, 4 * elements + 8 * rows * kept + 8 * rows, () => {
          const x = arena.place(source.slice());
          const ids = arena.place(new Int32Array(rows * kept));
          const values = arena.place(new Float32Array(rows * kept));
          const tails = arena.place(new Float32Array(rows));
          const sums = arena.place(new Float32Array(rows));
          return () => addon.kernels.capture_top_k(x, null, ids, values, tails, sums, rows, cols, kept, 2);
        }),
        k: kept,
      });
    }
    report(
      run('softmax', rows, cols, 8 * elements, () => {
        const x = arena.place(source.slice());
        const y = arena.place(new Float32Array(elements).fill(1));
        return () => addon.kernels.softmax(x, null, y, rows, cols, 2, 0);
      }),
    );
  }

  if (device === 'cpu' && options.shapes === undefined) {
    // The contract's share of the copy rate: student, teacher and gradient together take 1 GiB.
    const rows = Math.floor(2 ** 30 / 12 / OTHERS_AT);
    const elements = rows * OTHERS_AT;
    const part = logits(64 * OTHERS_AT, 3);
    const filled = (shift: number) => {
      const all = new Float32Array(elements);
      for (let at = 0; at < elements; at += part.length) all.set(part.subarray(0, Math.min(part.length, elements - at)), at);
      return all.map((value, i) => value * (1 + shift * (i % 3)));
    };
    const [target, kl] = [findCode('target', 'logits'), findCode('divergence', 'forward_kl')];
    const timing = run(
      'dense KD of 1 GiB',
      rows,
      OTHERS_AT,
      12 * elements,
      () => {
        const [student, teacher, gradient] = [filled(0), filled(0.3), new Float32Array(elements).fill(1)];
        const [rowLoss, loss] = [new Float32Array(rows), new Float32Array(1)];
        return rowLossCall(addon, { student, teacher, row_loss: rowLoss, loss, gradient, rows, cols: OTHERS_AT, target, divergence: kl });
      },
      1,
    );
    report(timing);
  }

  const card = info.cuda.devices[0]?.name ?? 'cuda';
  return {
    version: info.version,
    device: device === 'cuda' ? card : 'cpu',
    instructionSet: info.instructionSet,
    threads: info.threads,
    matrixProduct: info.matrixProduct,
    copyGigabytesPerSecond: copyRate,
    rotatedMegabytes: rotateBytes / 1e6,
    timings,
  };
}

/** One line of the printed table. */
export function formatTiming(timing: Timing): string {
  const shape = `${timing.rows}x${timing.cols}${timing.k === undefined ? '' : `, k ${timing.k}`}`;
  return [
    timing.op.padEnd(29),
    shape.padEnd(19),
    `${timing.median.toFixed(3)} ms`.padStart(12),
    `±${((100 * timing.spread) / 2).toFixed(0)} %`.padStart(7),
    `${timing.gigabytesPerSecond.toFixed(1)} GB/s`.padStart(12),
    `${(100 * timing.shareOfCopy).toFixed(0)} % of copy`.padStart(15),
  ].join('');
}
