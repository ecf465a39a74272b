// Times the kernels of the losses on one device, beside the rate at which the same device copies memory: `limbeck bench` and the GPU bundle.
import { parseDevice, deviceName, type Device } from '../device.js';
import { findCode, native, type Handle, type Native } from '../native.js';
import { Arena, type BenchDType } from './arena.js';
import { linearBytes, linearCall, linearFlops, linearMemory, type LinearMemory, type LinearShape } from './linear.js';

/** One kernel on one shape. */
export interface BenchLine {
  task: string;
  dtype: BenchDType;
  rows: number;
  cols: number;
  /** Columns kept or draws of each row, where there are any. */
  k?: number;
  /** Width of the hidden states, where the logits are made of them. */
  inputs?: number;
}

/** What was measured. */
export interface BenchTiming extends BenchLine, Partial<LinearMemory> {
  /** The median, and the spread between the 10th and 90th percentile as a share of it. */
  milliseconds: number;
  spread: number;
  samples: number;
  /** Bytes that any implementation must move: inputs once, outputs once. */
  bytes: number;
  gigabytesPerSecond: number;
  /** Of the best rate measured here for copying memory. */
  shareOfCopy: number;
  /** Where products take the time. */
  flops?: number;
}

/** What was not, and why. */
export interface BenchSkipped extends BenchLine {
  skipped: string;
}

export interface BenchReport {
  limbeck: string;
  device: Device;
  name: string;
  /** The stand-in on the host: its times say nothing of any card. */
  emulated: boolean;
  /** Where times come from: events of the device, or the host's clock. */
  clock: 'events' | 'host';
  instructionSet: string;
  threads: number;
  copyGigabytesPerSecond: number;
  /** Bytes that the buffers of a task take together at least, so that no call finds its inputs in a cache. */
  rotatedBytes: number;
  lines: (BenchTiming | BenchSkipped)[];
}

export interface BenchOptions {
  device?: Device;
  /** Default 4096; on the CPU fewer where there are many columns, on the emulated device 2. */
  rows?: number;
  cols?: readonly number[];
  dtypes?: readonly BenchDType[];
  /** Columns kept of a row. Default 64. */
  k?: number;
  /** For each measurement. Default 0.3, quick 0.05. */
  seconds?: number;
  /** Two vocabularies, forward KL alone of the divergences. */
  quick?: boolean;
  onStart?: (line: BenchLine) => void;
  onLine?: (line: BenchTiming | BenchSkipped) => void;
}

export const COLS: readonly number[] = [1_000, 32_000, 50_257, 128_256, 151_936, 262_144];
const QUICK_COLS: readonly number[] = [1_000, 128_256];
const DIVERGENCES = ['forward_kl', 'reverse_kl', 'jensen_shannon', 'skew_forward_kl', 'total_variation'];
const DRAWS = 50;
const WIDTH: Record<BenchDType, number> = { float32: 4, bfloat16: 2, float16: 2 };
const TEMPERATURE = 2;
/** The vocabulary of the line of linearKdLoss; the first one where it is not among them. */
const LINEAR_COLS = 128_256;
const LINEAR_SCRATCH = 512e6;
/** Products that the emulated device is asked for at most: they take it seconds. */
const EMULATED_PRODUCTS = 2 ** 24;

/** A task on one shape: the least bytes a call moves, those its buffers take, and a call on buffers of its own. */
interface Task extends BenchLine {
  bytes: number;
  held: number;
  build: (arena: Arena) => () => void;
  /** What else is told of a call. */
  more?: (call: () => void) => Partial<BenchTiming>;
}

function tasksOf(addon: Native, rows: number, cols: number, dtype: BenchDType, k: number, divergences: readonly string[]): Task[] {
  const size = rows * cols;
  const width = WIDTH[dtype];
  const shape = { dtype, rows, cols };
  const kept = Math.min(k, cols);
  const draws = Math.min(DRAWS, cols);
  const rowLoss = (arena: Arena, given: Record<string, Handle | number>): (() => void) =>
    rowLossCall(addon, {
      rows,
      cols,
      row_loss: arena.zeros('float32', rows),
      loss: arena.zeros('float32', 1),
      target: findCode('target', 'logits'),
      ...given,
    });
  /** A teacher's logits, and room for `count` ids and numbers of each row. */
  const listed = (arena: Arena, seed: number, count: number): [Handle, Handle, Handle] => [
    arena.logits(dtype, size, seed),
    arena.zeros('int32', rows * count),
    arena.zeros('float32', rows * count),
  ];
  const tasks: Task[] = [];
  for (const name of divergences) {
    const parameter = name === 'jensen_shannon' ? 0.5 : name.startsWith('skew') ? 0.1 : 0;
    tasks.push({
      task: `${name}, loss and gradient`,
      ...shape,
      bytes: 3 * width * size + 4 * rows,
      held: 3 * width * size,
      build: (arena) =>
        rowLoss(arena, {
          student: arena.logits(dtype, size, 1),
          teacher: arena.logits(dtype, size, 2),
          gradient: arena.zeros(dtype, size),
          divergence: findCode('divergence', name),
          parameter_a: parameter,
        }),
    });
  }
  const sparse = (task: string, withGradient: boolean): Task => ({
    task,
    ...shape,
    k: kept,
    bytes: (withGradient ? 2 : 1) * width * size + 8 * rows * kept + 8 * rows,
    held: (withGradient ? 2 : 1) * width * size,
    build: (arena) => {
      // The target is captured from the student's own memory, before another student overwrites what was read.
      const [student, indices, values] = listed(arena, 3, kept);
      const tails = arena.zeros('float32', rows);
      addon.kernels.capture_top_k(student, null, indices, values, tails, null, rows, cols, kept, TEMPERATURE);
      arena.overwrite(student, dtype, size, 4);
      return rowLoss(arena, {
        student,
        indices,
        values,
        tail_log_mass: tails,
        ...(withGradient ? { gradient: arena.zeros(dtype, size) } : {}),
        k: kept,
        target: findCode('target', 'sparse_log_probs'),
        residual: findCode('residual', 'tail_bucket'),
        divergence: findCode('divergence', 'forward_kl'),
      });
    },
  });
  if (kept < cols) {
    tasks.push(sparse('sparse forward_kl, loss and gradient', true), sparse('sparse forward_kl, loss alone', false));
    tasks.push({
      task: 'captureTopK',
      ...shape,
      k: kept,
      bytes: width * size + 8 * rows * kept + 8 * rows,
      held: width * size,
      build: (arena) => {
        const [logits, ids, logProbs] = listed(arena, 5, kept);
        const [tails, sums] = [arena.zeros('float32', rows), arena.zeros('float32', rows)];
        return () => addon.kernels.capture_top_k(logits, null, ids, logProbs, tails, sums, rows, cols, kept, TEMPERATURE);
      },
    });
  }
  tasks.push({
    task: 'sampleTarget, with replacement',
    ...shape,
    k: draws,
    bytes: width * size + 8 * rows * draws,
    held: width * size,
    build: (arena) => {
      const [logits, ids, weights] = listed(arena, 6, draws);
      const method = findCode('sample_method', 'with_replacement');
      let seed = 0;
      return () => addon.kernels.sample_target(logits, null, ids, weights, rows, cols, draws, method, TEMPERATURE, seed++, 0);
    },
  });
  tasks.push({
    task: 'softmax',
    ...shape,
    bytes: 2 * width * size,
    held: 2 * width * size,
    build: (arena) => {
      const [x, y] = [arena.logits(dtype, size, 7), arena.zeros(dtype, size)];
      return () => addon.kernels.softmax(x, null, y, rows, cols, TEMPERATURE, 0);
    },
  });
  return tasks;
}

/** linearKdLoss with k entries of each row kept, the row on a card: its own way of working through the logits, not one kernel. */
function linearTask(ordinal: number, shape: LinearShape): Task {
  const width = WIDTH[shape.dtype];
  const bytes = linearBytes(shape, width);
  return {
    task: 'linear, sparse forward_kl, gradients',
    ...shape,
    bytes,
    // Beside operands and gradients: a chunk, and sums in float32.
    held: bytes + Math.min(LINEAR_SCRATCH, width * shape.rows * shape.cols) + (width < 4 ? 4 * shape.cols * shape.inputs : 0),
    build: (arena) => linearCall(arena, ordinal, shape, TEMPERATURE),
    more: (call) => ({ flops: linearFlops(shape), ...linearMemory(ordinal, call) }),
  };
}

/** The kernel of the row losses with its parameters by name: the mean over rows, and nothing that is not said. */
function rowLossCall(addon: Native, given: Record<string, Handle | number> & { cols: number }): () => void {
  const { cols } = given;
  const defaults: Record<string, number> = {
    student_stride: cols,
    teacher_stride: cols,
    gradient_stride: cols,
    residual: findCode('residual', 'none'),
    log_prob_scale: 1,
    temperature: TEMPERATURE,
    temperature_squared: 1,
    ignore_index: -100,
    unlabelled_index: -2_147_483_648,
    reduction: findCode('reduction', 'mean'),
    denominator: findCode('denominator', 'rows'),
  };
  const parameters = addon.schema['divergence']!.split(', ').map((parameter) => {
    const [kind, name] = parameter.split(' ') as [string, string];
    return given[name] ?? defaults[name] ?? (kind === 'Int' || kind === 'Float' ? 0 : null);
  });
  const kernel = addon.kernels.divergence as (...parameters: (Handle | number | null)[]) => void;
  return () => kernel(...parameters);
}

interface Samples {
  milliseconds: number;
  spread: number;
  samples: number;
}

function summary(samples: number[]): Samples {
  samples.sort((a, b) => a - b);
  const at = (share: number): number => samples[Math.min(samples.length - 1, Math.floor(share * samples.length))]!;
  return { milliseconds: at(0.5), spread: (at(0.9) - at(0.1)) / at(0.5), samples: samples.length };
}

const LEAST = 5;
const MOST = 1000;
/** Calls between two looks at the clock: the host queues them ahead of the device. */
const ROUND = 16;

/** The device under test. */
interface Under {
  addon: Native;
  ordinal: number;
  emulated: boolean;
}

/** Runs the calls in turn and times each. On a device between events, with work queued before so that the device never waits for the host. */
function time({ addon, ordinal, emulated }: Under, calls: readonly (() => void)[], seconds: number, ahead: () => void): Samples {
  const round = emulated ? 1 : ROUND;
  for (const call of calls.slice(0, 2)) call();
  if (ordinal >= 0) addon.synchronize(ordinal);
  const samples: number[] = [];
  const end = performance.now() + 1000 * seconds;
  for (let i = 0; samples.length < LEAST || (performance.now() < end && samples.length < MOST);) {
    if (ordinal < 0) {
      const begin = performance.now();
      calls[i++ % calls.length]!();
      samples.push(performance.now() - begin);
      continue;
    }
    ahead();
    addon.mark(ordinal, 0);
    for (let n = 1; n <= round; n++) {
      calls[i++ % calls.length]!();
      addon.mark(ordinal, n);
    }
    // The last one first: all are done then.
    for (let n = round; n >= 1; n--) samples.push(addon.elapsed(ordinal, n - 1, n));
  }
  return summary(samples);
}

/**
 * Measures the losses: dense divergences, sparse targets, capture, sampling and softmax, for each vocabulary and dtype; for one vocabulary
 * linearKdLoss, with hidden states of 4096 on a card, 256 on the CPU, and the bytes it makes meanwhile. Each call runs on other
 * buffers than the one before until they fill eight times the last cache. What does not fit the memory is skipped, with the reason.
 *
 * @throws LimbeckError where the device cannot be used
 */
export function benchLosses(options: BenchOptions = {}): BenchReport {
  const addon = native();
  const ordinal = parseDevice('run the bench', options.device ?? 'cpu');
  const info = addon.info();
  const card = ordinal < 0 ? undefined : info.cuda.devices[ordinal]!;
  const emulated = card !== undefined && info.cuda.emulated;
  const { quick = false, k = 64, dtypes = ['bfloat16', 'float32'] } = options;
  const { seconds = quick ? 0.05 : 0.3, cols = quick ? QUICK_COLS : COLS } = options;
  const rowsOf = (width: number): number => {
    if (options.rows !== undefined) return options.rows;
    if (emulated) return 2;
    // On the CPU a matrix of 2^24 numbers: beyond the caches, and done in milliseconds.
    return ordinal >= 0 ? 4096 : Math.max(16, Math.min(4096, 2 ** Math.floor(Math.log2(2 ** 24 / width))));
  };
  // What is free is known from the probe; nine tenths of it leave room for working memory.
  const free = card === undefined ? Infinity : 0.9 * card.freeBytes || Infinity;
  const rotatedBytes = emulated ? 0 : card === undefined ? 256e6 : 8 * card.cacheBytes;

  const arena = new Arena(addon, ordinal);
  const under: Under = { addon, ordinal, emulated };
  const copy = copyRate(under, arena, emulated ? 2 ** 14 : 2 ** 26, seconds);
  const report: BenchReport = {
    limbeck: info.version,
    device: deviceName(ordinal),
    name: card?.name ?? 'CPU',
    emulated,
    clock: ordinal >= 0 ? 'events' : 'host',
    instructionSet: info.instructionSet,
    threads: info.threads,
    copyGigabytesPerSecond: copy.gigabytesPerSecond,
    rotatedBytes,
    lines: [],
  };
  const tell = (line: BenchTiming | BenchSkipped): void => {
    report.lines.push(line);
    options.onLine?.(line);
  };
  const divergences = quick ? DIVERGENCES.slice(0, 1) : DIVERGENCES;
  const linearCols = cols.includes(LINEAR_COLS) ? LINEAR_COLS : cols[0];
  const inputs = ordinal < 0 ? (quick ? 64 : 256) : emulated ? 32 : 4096;
  for (const width of cols)
    for (const dtype of dtypes) {
      const rows = rowsOf(width);
      const tasks = tasksOf(addon, rows, width, dtype, k, divergences);
      const isSlow = emulated && rows * width * inputs > EMULATED_PRODUCTS;
      if (width === linearCols && k < width && !isSlow) tasks.push(linearTask(ordinal, { dtype, rows, cols: width, inputs, k }));
      for (const { bytes, held, build, more, ...line } of tasks) {
        options.onStart?.(line);
        if (held > free) {
          tell({ ...line, skipped: `${gibibytes(held)} are needed and ${gibibytes(free)} are there` });
          continue;
        }
        try {
          const sets = Math.max(1, Math.min(512, Math.ceil(rotatedBytes / held), Math.floor(free / held)));
          const calls = Array.from({ length: sets }, () => build(arena));
          const told = more?.(calls[0]!);
          const samples = time(under, calls, seconds, copy.ahead);
          const gigabytesPerSecond = bytes / samples.milliseconds / 1e6;
          const shareOfCopy = gigabytesPerSecond / copy.gigabytesPerSecond;
          tell({ ...line, ...samples, bytes, gigabytesPerSecond, shareOfCopy, ...told });
        } catch (error) {
          const code = (error as NodeJS.ErrnoException).code;
          if (code !== 'out_of_memory' && !(error instanceof RangeError && /Array buffer allocation/.test(error.message))) throw error;
          tell({ ...line, skipped: `memory is short: ${(error as Error).message.split(';')[0]}` });
        } finally {
          arena.free();
        }
      }
    }
  copy.free();
  return report;
}

function gibibytes(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(1)} GiB`;
}

/** The best rate of reading and writing memory, and a piece of work to queue before what is timed. */
function copyRate(
  under: Under,
  arena: Arena,
  size: number,
  seconds: number,
): { gigabytesPerSecond: number; ahead: () => void; free: () => void } {
  const { addon } = under;
  const [from, to] = [arena.zeros('float32', size), arena.zeros('float32', size)];
  const code = findCode('unary', 'copy');
  const kernel = (): void => addon.kernels.unary(from, to, size, code, 0);
  const plain = (): void => {
    if ('free' in from && 'free' in to) addon.copy(to, from);
    else (to as Float32Array).set(from as Float32Array);
  };
  const best = Math.min(...[kernel, plain].map((call) => time(under, [call], seconds, kernel).milliseconds));
  const ahead = (): void => {
    if (!under.emulated) for (let i = 0; i < 3; i++) kernel();
  };
  return { gigabytesPerSecond: (8 * size) / best / 1e6, ahead, free: arena.release() };
}
