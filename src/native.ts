// Finds and loads the addon on first use, and types its kernels from a mirror of native/kernels.inc.
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { DType, TypedArray } from './dtypes.js';
import { LimbeckError, wording } from './errors.js';

/** The parameter list of every kernel, as in native/kernels.inc; a test compares it with what the addon reports. */
export const schema = {
  softmax: 'In x, In row_temperature, Out y, Int rows, Int cols, Float temperature, Int is_log',
  softmax_backward: 'In y, In gradient_y, In row_temperature, Out gradient_x, Int rows, Int cols, Float temperature, Int is_log',
  top_k: 'In x, Out values, Out indices, Int rows, Int cols, Int k',
  capture_top_k:
    'In logits, In row_temperature, Out indices, Out log_probs, Out tail_log_mass, Out log_sum_exp, Int rows, Int cols, Int k, Float temperature',
  sample_target:
    'In logits, In row_temperature, Out indices, Out weights, Int rows, Int cols, Int draws, Int method, Float temperature, Int seed, Int row_offset',
  divergence:
    'In student, In teacher, In indices, In values, In tail_log_mass, In labels, In row_weights, In row_temperature, In anchor, In row_parameter, Out row_loss, Out loss, Out gradient, Int rows, Int cols, Int student_stride, Int teacher_stride, Int gradient_stride, Int k, Int target, Int divergence, Float parameter_a, Float parameter_b, Float interpolation, Int assisted, Float assistant_alpha, Float assistant_lambda, Int residual, Float log_prob_scale, Float temperature, Int temperature_squared, Float hard_weight, Float label_smoothing, Int ignore_index, Int unlabelled_index, Int reduction, Int denominator, Float denominator_value',
  matmul:
    'In a, In b, Out c, Int m, Int n, Int k, Int a_stride, Int b_stride, Int c_stride, Int transpose_a, Int transpose_b, Int accumulate, Float scale',
  unary: 'In x, Out y, Int size, Int function, Float parameter',
  unary_backward: 'In x, In y, In gradient_y, Out gradient_x, Int size, Int function, Float parameter',
  binary: 'In a, In b, Out y, Int rows, Int cols, Int function, Int broadcast',
  reduce: 'In x, Out y, Int rows, Int cols, Int function, Int axis',
  dropout: 'In x, Out y, Int size, Float probability, Int seed, Int offset',
  bias_activation: 'In x, In bias, Out y, Int rows, Int cols, Int function, Float probability, Int seed, Int offset',
  bias_activation_backward:
    'In x, In bias, In gradient_y, Out gradient_x, Int rows, Int cols, Int function, Float probability, Int seed, Int offset',
  gather_rows: 'In x, In indices, Out y, Int rows, Int cols, Int count',
  label_target: 'In x, In labels, Out y, Int rows, Int cols, Int function, Float parameter, Int ignore_index, Int unlabelled_index',
  argsort: 'In x, Out indices, Int rows, Int cols, Int descending',
  gather_cols: 'In x, In indices, Out y, Int rows, Int cols, Int count, Int index_stride',
  scatter_cols: 'In x, In indices, Out y, Int rows, Int cols, Int count, Int index_stride, Int distinct',
  scan: 'In x, Out y, Int rows, Int cols, Int function, Int reverse',
  scan_backward: 'In y, In gradient_y, Out gradient_x, Int rows, Int cols, Int relative, Int reverse',
  add_rows: 'In x, In indices, Out y, Int rows, Int cols, Int count',
  transpose: 'In x, Out y, Int batch, Int rows, Int cols',
  layer_norm: 'In x, In weight, In bias, Out y, Out mean, Out inverse_deviation, Int rows, Int cols, Float epsilon',
  layer_norm_backward: 'In x, In weight, In mean, In inverse_deviation, In gradient_y, Out gradient_x, Out scaled, Int rows, Int cols',
  attention: 'In qkv, Out y, Out log_sums, Int batch, Int tokens, Int heads, Int head_width, Int causal, Float scale',
  attention_backward:
    'In qkv, In y, In log_sums, In gradient_y, Out gradient_qkv, Int batch, Int tokens, Int heads, Int head_width, Int causal, Float scale',
  im2col:
    'In x, Out columns, Int images, Int channels, Int height, Int width, Int kernel_height, Int kernel_width, Int stride, Int padding',
  col2im:
    'In columns, Out x, Int images, Int channels, Int height, Int width, Int kernel_height, Int kernel_width, Int stride, Int padding',
  pool: 'In x, Out y, Out places, Int planes, Int height, Int width, Int window, Int stride, Int function',
  pool_backward: 'In gradient_y, In places, Out gradient_x, Int planes, Int height, Int width, Int window, Int stride, Int function',
  fill: 'Out y, Int size, Float value',
  square_sums: 'Ins tensors, Ints sizes, Out y',
  scale_tensors: 'InOuts tensors, Ints sizes, Float factor',
  ema: 'InOuts averages, Ins parameters, Ins masks, Ints sizes, Float share',
  sgd: 'InOuts parameters, Ins gradients, InOuts momentum_buffers, Ins masks, Ints sizes, Float learning_rate, Float momentum, Float weight_decay, Int nesterov, Float gradient_scale',
  lion: 'InOuts parameters, Ins gradients, InOuts momentum_buffers, Ins masks, Ints sizes, Float learning_rate, Float beta1, Float beta2, Float weight_decay, Float gradient_scale',
  adamw:
    'InOuts parameters, Ins gradients, InOuts first_moments, InOuts second_moments, Ins masks, Ints sizes, Float learning_rate, Float beta1, Float beta2, Float epsilon, Float weight_decay, Int step, Float gradient_scale',
} as const;

export type KernelName = keyof typeof schema;

/** Memory on a CUDA device, owned by the addon. */
export interface DeviceBuffer {
  readonly size: number;
  readonly dtype: DType;
  readonly device: number;
  readonly bytes: number;
  free(): void;
}

/** What a kernel takes for a tensor: an Int16Array stands for bfloat16; null where the tensor is absent. */
export type Handle = TypedArray | Int16Array | DeviceBuffer;

type ArgumentOf<P extends string> = P extends `${'Int' | 'Float'} ${string}`
  ? number
  : P extends `${'In' | 'Out' | 'InOut'} ${string}`
    ? Handle | null
    : P extends `${'Ins' | 'InOuts'} ${string}`
      ? readonly (Handle | null)[]
      : P extends `Ints ${string}`
        ? readonly number[]
        : never;

type ArgumentsOf<S extends string, A extends unknown[] = []> = S extends `${infer First}, ${infer Rest}`
  ? ArgumentsOf<Rest, [...A, ArgumentOf<First>]>
  : [...A, ArgumentOf<S>];

/** The call of a kernel, worked out from its line in {@link schema}. */
export type KernelCall<N extends KernelName> = (...args: ArgumentsOf<(typeof schema)[N]>) => void;

export interface NativeDevice {
  name: string;
  major: number;
  minor: number;
  multiprocessors: number;
  totalBytes: number;
  freeBytes: number;
  /** The last level of cache. */
  cacheBytes: number;
  usable: boolean;
  code: string;
  reason: string;
}

export interface NativeInfo {
  version: string;
  instructionSet: string;
  instructionSets: string[];
  instructionSetError: string | null;
  threads: number;
  matrixProduct: string;
  cuda: {
    built: boolean;
    emulated: boolean;
    architectures: string;
    driverVersion: number;
    runtimeVersion: number;
    code: string;
    reason: string;
    devices: NativeDevice[];
  };
}

export interface NativeMemory {
  liveBytes: number;
  liveBlocks: number;
  pooledBytes: number;
  peakBytes: number;
}

/** The emulated device's controls; only the emulated addon has them. */
export interface NativeEmulator {
  configure(options: {
    seed?: number;
    races?: boolean;
    failAllocation?: number;
    failLaunch?: number;
    asyncLate?: boolean;
    lazy?: boolean;
    /** The n-th wait of a stream for an event is left out. */
    dropWait?: number;
    multiprocessors?: number;
  }): void;
  audit(): {
    kernel: string;
    launches: number;
    bytesLoaded: number;
    /** Of single threads. */
    loads: number;
    bytesStored: number;
    sectorsLoaded: number;
    sectorsStored: number;
    blockBarriers: number;
    clusterBarriers: number;
    exponentials: number;
    block: number;
    cluster: number;
    sharedBytes: number;
  }[];
  /** Calls that made the host wait, or may on a real device, by name since the last reset. */
  waits(): Record<string, number>;
  resetAudit(): void;
  selfTest(name?: string): unknown;
}

export type CodeList =
  | 'target'
  | 'residual'
  | 'reduction'
  | 'denominator'
  | 'unary'
  | 'activation'
  | 'binary'
  | 'broadcast'
  | 'reduce'
  | 'scan'
  | 'sample_method'
  | 'label_function'
  | 'pool_function'
  | 'divergence';

export interface Native {
  kernels: { [N in KernelName]: KernelCall<N> };
  /** The same on a thread of libuv's; arrays must lie in SharedArrayBuffers. On CUDA the launch is at once and only the wait is not. */
  kernelsAsync: { [N in KernelName]: (...args: Parameters<KernelCall<N>>) => Promise<void> };
  schema: Record<string, string>;
  codes: Record<CodeList, string[]>;
  info(): NativeInfo;
  cudaMatrixProduct(): string;
  setThreads(count: number): void;
  allocate(device: number, dtype: DType, size: number): DeviceBuffer;
  /** Memory of another addon on a CUDA device, not owned. */
  borrow(device: number, dtype: DType, size: number, pointer: bigint): DeviceBuffer;
  /** Memory of another addon on the host, not owned. */
  hostMemory(pointer: bigint, bytes: number): ArrayBuffer;
  address(memory: Handle): bigint;
  /** Asks the system for large pages behind fresh memory. */
  preferLargePages(memory: TypedArray): void;
  upload(buffer: DeviceBuffer, from: Handle): void;
  download(buffer: DeviceBuffer, into: Handle): void;
  downloadAsync(buffer: DeviceBuffer, into: Handle): Promise<void>;
  copy(to: DeviceBuffer, from: DeviceBuffer): void;
  /** Lines of so many bytes, which begin so many bytes apart on either side. */
  copyLines(to: DeviceBuffer, from: DeviceBuffer, lines: number, bytes: number, toStride: number, fromStride: number): void;
  synchronize(device: number): void;
  /** Notes in slot [0, 4096) of a device when the work queued so far is done. */
  mark(device: number, slot: number): void;
  /** Milliseconds between two marks; waits for the second. */
  elapsed(device: number, from: number, to: number): number;
  memory(device: number): NativeMemory;
  trim(device: number): void;
  emulator?: NativeEmulator;
}

const here = fileURLToPath(import.meta.url);
// Not called `require`: bundlers follow that name and would look for the binary while bundling.
const load = createRequire(import.meta.url);

/** The folder of the nearest package.json above this file, or above the installed package where this file is bundled elsewhere. */
function packageRoots(): string[] {
  const roots: string[] = [];
  for (let folder = dirname(here); ; folder = dirname(folder)) {
    if (existsSync(join(folder, 'package.json'))) {
      roots.push(folder);
      break;
    }
    if (dirname(folder) === folder) break;
  }
  try {
    const installed = dirname(load.resolve('limbeck/package.json'));
    if (!roots.includes(installed)) roots.push(installed);
  } catch {
    // Not installed as a package; the folder above is the only place.
  }
  return roots;
}

/** The version in package.json. */
export function packageVersion(): string {
  for (const root of packageRoots()) {
    const { name, version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { name?: string; version?: string };
    if (name === 'limbeck' && version !== undefined) return version;
  }
  return 'unknown';
}

function libc(): string {
  if (process.platform !== 'linux') return '';
  return process.env.LIBC ?? (existsSync('/etc/alpine-release') ? 'musl' : 'glibc');
}

/** Where a binary may lie, in the order tried: the folder LIMBECK_ADDON_DIR names, else a build of one's own, then the prebuilt one of this platform. */
function candidates(name: string): string[] {
  if (process.env.LIMBECK_ADDON_DIR) return [join(process.env.LIMBECK_ADDON_DIR, `${name}.node`)];
  const places: string[] = [];
  for (const root of packageRoots()) {
    if (process.env.PREBUILDS_ONLY === undefined) places.push(join(root, 'build', 'Release', `${name}.node`));
    if (name !== 'limbeck') continue;
    try {
      const place = (load('node-gyp-build') as { resolve(folder: string): string }).resolve(root);
      if (!places.includes(place)) places.push(place);
    } catch {
      places.push(join(root, 'prebuilds', `${process.platform}-${process.arch}`));
    }
  }
  return places;
}

function find(): Native {
  const emulated = process.env.LIMBECK_EMULATE_CUDA === '1';
  const name = emulated ? 'limbeck_emulated' : 'limbeck';
  const tried: string[] = [];
  for (const place of candidates(name)) {
    if (!place.endsWith('.node') || !existsSync(place)) {
      tried.push(place.endsWith('.node') ? `${place}: not there` : `${place}: nothing for this platform`);
      continue;
    }
    try {
      return load(place) as Native;
    } catch (error) {
      tried.push(`${place}: ${(error as Error).message.split('\n')[0]}`);
    }
  }
  const platform = [process.platform, process.arch, libc()].filter((part) => part !== '').join(' ');
  const cure = emulated
    ? 'build it in a clone of the repository with: npm run build:native (the emulated device is not part of the published package)'
    : 'build it with: npm explore limbeck -- npm run build:native (needs CMake and a C++20 compiler; in a clone: npm run build:native)';
  throw new LimbeckError(
    'no_binary',
    `${wording('load limbeck', `there must be a binary for this platform (${platform}, Node ${process.versions.node})`)}\n` +
      `Tried:\n${tried.map((line) => `  ${line}`).join('\n')}\nCure: ${cure}`,
  );
}

let loaded: Native | undefined;

/** The addon. The first call loads it. @throws LimbeckError `no_binary` with the places tried and the cure */
export function native(): Native {
  return (loaded ??= find());
}

const codesOf = new Map<CodeList, Map<string, number>>();

/** The integer behind a name of native/core/codes.h, or -1 where this build has no such name. */
export function findCode(list: CodeList, name: string): number {
  let codes = codesOf.get(list);
  if (codes === undefined) {
    codes = new Map(native().codes[list].map((entry, code) => [entry, code]));
    codesOf.set(list, codes);
  }
  return codes.get(name) ?? -1;
}

/** A native failure in the words of the public function that ran into it. */
export function reword(error: unknown, action: string): unknown {
  if (!(error instanceof Error) || error instanceof LimbeckError) return error;
  const message = wording(action, error.message);
  const code = (error as NodeJS.ErrnoException).code;
  if (error instanceof TypeError) return new TypeError(message, { cause: error });
  if (error instanceof RangeError) return new RangeError(message, { cause: error });
  return typeof code === 'string' ? new LimbeckError(code, message, { cause: error }) : new Error(message, { cause: error });
}

/** Runs native code, rewording what it throws. */
export function attempt<T>(action: string, run: (addon: Native) => T): T {
  const addon = native();
  try {
    return run(addon);
  } catch (error) {
    throw reword(error, action);
  }
}

/** A kernel to call; `action` ("compute softmax") starts its error messages. Nothing is loaded before the first call. */
export function kernel<N extends KernelName>(name: N, action: string): KernelCall<N> {
  let target: KernelCall<N> | undefined;
  return (...args) => {
    target ??= native().kernels[name] as KernelCall<N>;
    try {
      target(...args);
    } catch (error) {
      throw reword(error, action);
    }
  };
}
