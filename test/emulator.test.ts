// The emulated CUDA device tested by itself: kernels that must pass, kernels that must be caught, and each barrier of the real kernels left out in turn.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { NativeEmulator } from '../src/native.js';
import { toBits, type HalfType } from './half.js';
import { integers, normals, uniforms } from './random.js';

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), '..');
const addonPath = path.join(process.env.LIMBECK_ADDON_DIR ?? path.join(root, 'build/Release'), 'limbeck_emulated.node');

// Int32Array and Float32Array, or the bits of float16 and of bfloat16.
type Data = Float32Array | Int32Array | Uint16Array | Int16Array;
type Buffer = { size: number; free(): void };
type Options = {
  seed?: number;
  races?: boolean;
  sectors?: boolean;
  asyncLate?: boolean;
  lazy?: boolean;
  failAllocation?: number;
  failLaunch?: number;
  memoryBytes?: number;
  multiprocessors?: number;
  skipSync?: string;
};
type Addon = {
  kernels: Record<string, (...args: (Buffer | number | null)[]) => void>;
  schema: Record<string, string>;
  codes: Record<string, string[]>;
  allocate(device: number, dtype: string, size: number): Buffer;
  upload(buffer: Buffer, data: Data): void;
  download(buffer: Buffer, data: Data): void;
  memory(device: number): { liveBytes: number; liveBlocks: number };
  trim(device: number): void;
  emulator: {
    configure(options?: Options): void;
    fault(): string;
    audit: NativeEmulator['audit'];
    resetAudit(): void;
    syncSites(): { site: string; kind: string; kernels: string[] }[];
    resetSyncSites(): void;
    selfTest(name?: string): { name: string; expected: string; got: string; ok: boolean }[];
  };
};

const isBuilt = existsSync(addonPath);
const addon = (isBuilt ? createRequire(import.meta.url)(addonPath) : null) as Addon;
const defaults: Options = { seed: 0, races: true, sectors: true, asyncLate: true, lazy: false, memoryBytes: 2 ** 32, multiprocessors: 1 };

function dtypeOf(data: Data): string {
  if (data instanceof Float32Array) return 'float32';
  if (data instanceof Int32Array) return 'int32';
  return data instanceof Uint16Array ? 'float16' : 'bfloat16';
}

/** Arguments by name, in the order of the native schema; typed arrays go to the device, `out` names come back. */
function call(kernel: string, given: Record<string, Data | number | null>, out: string[]): Data[] {
  const parameters = addon.schema[kernel]!.split(',').map((entry) => entry.trim().split(/\s+/) as [string, string]);
  const buffers = new Map<string, Buffer>();
  try {
    const args = parameters.map(([kind, name]) => {
      const value = given[name];
      if (kind === 'Int' || kind === 'Float') return (value as number | undefined) ?? 0;
      if (value === undefined || value === null || typeof value === 'number') return null;
      const buffer = addon.allocate(0, dtypeOf(value), value.length);
      buffers.set(name, buffer);
      addon.upload(buffer, value);
      return buffer;
    });
    addon.kernels[kernel]!(...args);
    return out.map((name) => {
      const result = (given[name] as Data).slice();
      addon.download(buffers.get(name)!, result);
      return result;
    });
  } finally {
    for (const buffer of buffers.values()) buffer.free();
  }
}

const empty = (size: number) => new Float32Array(size).fill(NaN);
const code = (list: string, name: string) => {
  const index = addon.codes[list]!.indexOf(name);
  if (index < 0) throw new Error(`no ${list} is called ${name}`);
  return index;
};

/** `multiprocessors`: of the device it runs on. */
type Case = { name: string; run: () => Data[]; multiprocessors?: number };

function divergenceCase(rows: number, cols: number, target: string, more: Record<string, Data | number | null> = {}): Case {
  const k = target === 'sparse_log_probs' ? Math.min(5, cols) : 0;
  return {
    name: `divergence ${target} ${rows}x${cols}`,
    run: () => {
      const values = new Float32Array(rows * k).fill(Math.log(0.9 / k));
      const indices = Int32Array.from({ length: rows * k }, (_, i) => ((i % k) * 7 + Math.floor(i / k)) % cols);
      const labels = integers(3, rows, 0, cols);
      if (rows > 1) labels[0] = -100;
      const given = {
        student: normals(1, rows * cols, 2),
        teacher: k > 0 ? null : normals(2, rows * cols, 2),
        indices: k > 0 ? indices : null,
        values: k > 0 ? values : null,
        tail_log_mass: k > 0 ? new Float32Array(rows).fill(Math.log(0.1)) : null,
        labels,
        row_weights: uniforms(4, rows, 0.5, 2),
        row_loss: empty(rows),
        loss: empty(1),
        gradient: new Float32Array(rows * ((more.gradient_stride as number | undefined) ?? cols)),
        rows,
        cols,
        student_stride: cols,
        teacher_stride: cols,
        gradient_stride: cols,
        k,
        target: code('target', target),
        divergence: code('divergence', 'forward_kl'),
        residual: code('residual', k > 0 ? 'tail_bucket' : 'none'),
        log_prob_scale: 1,
        temperature: 2,
        temperature_squared: 1,
        interpolation: 0,
        assisted: 0,
        assistant_alpha: 0,
        assistant_lambda: 0,
        hard_weight: 0.25,
        label_smoothing: 0.1,
        ignore_index: -100,
        unlabelled_index: -2147483648,
        reduction: code('reduction', 'mean'),
        denominator: code('denominator', 'rows'),
        denominator_value: 1,
        ...more,
      };
      return call('divergence', given, ['row_loss', ...(given.loss === null ? [] : ['loss']), 'gradient']);
    },
  };
}

/** On a device with room for eight blocks to a row. */
function shared(one: Case): Case {
  return { ...one, name: `${one.name}, blocks that share a run`, multiprocessors: 32 };
}

const settings = (one: Case, more: Options = {}): Options => ({ ...defaults, multiprocessors: one.multiprocessors ?? 1, ...more });

/** Student of float16 or bfloat16, a dense teacher of the other one, gradient of the student's type. */
function halfCase(rows: number, cols: number, target: string, type: HalfType, more: Record<string, Data | number | null> = {}): Case {
  const teacher: Record<string, Data> =
    target === 'logits' ? { teacher: toBits(normals(2, rows * cols, 2), type === 'float16' ? 'bfloat16' : 'float16') } : {};
  const stride = (more.gradient_stride as number | undefined) ?? cols;
  const gradient = toBits(new Float32Array(rows * stride), type);
  const one = divergenceCase(rows, cols, target, { student: toBits(normals(1, rows * cols, 2), type), gradient, ...teacher, ...more });
  return { ...one, name: `${one.name}, ${type}` };
}

function selectionCase(kernel: 'top_k' | 'capture_top_k', rows: number, cols: number, k: number): Case {
  return {
    name: `${kernel} ${rows}x${cols}, k ${k}`,
    run: () => {
      // Rounded, so that ties occur.
      const x = normals(5, rows * cols, 3).map((v) => Math.round(v * 4) / 4);
      const indices = new Int32Array(rows * k).fill(-7);
      if (kernel === 'top_k') return call(kernel, { x, values: empty(rows * k), indices, rows, cols, k }, ['values', 'indices']);
      const given = {
        logits: x,
        indices,
        log_probs: empty(rows * k),
        tail_log_mass: empty(rows),
        log_sum_exp: empty(rows),
        rows,
        cols,
        k,
        temperature: 2,
      };
      return call(kernel, given, ['indices', 'log_probs', 'tail_log_mass', 'log_sum_exp']);
    },
  };
}

function softmaxCase(rows: number, cols: number, isLog: number): Case {
  return {
    name: `softmax ${rows}x${cols}${isLog ? ', log' : ''} and its gradient`,
    run: () => {
      const shape = { rows, cols, temperature: 3, is_log: isLog };
      const [y] = call('softmax', { x: normals(6, rows * cols, 4), y: empty(rows * cols), ...shape }, ['y']);
      const given = { y: y!, gradient_y: normals(7, rows * cols), gradient_x: empty(rows * cols), ...shape };
      return [y!, ...call('softmax_backward', given, ['gradient_x'])];
    },
  };
}

function sampleCase(method: string, rows: number, cols: number, draws: number): Case {
  return {
    name: `sample_target ${method} ${rows}x${cols}, ${draws} draws`,
    run: () => {
      const slots = rows * Math.min(draws, cols);
      const given = {
        logits: normals(5, rows * cols, 3),
        indices: new Int32Array(slots).fill(-7),
        weights: empty(slots),
        rows,
        cols,
        draws,
        method: code('sample_method', method),
        temperature: 2,
        seed: 3,
      };
      return call('sample_target', given, ['indices', 'weights']);
    },
  };
}

function reduceCase(rows: number, cols: number, axis: number): Case {
  return {
    name: `reduce ${rows}x${cols} over axis ${axis}`,
    run: () =>
      call(
        'reduce',
        { x: normals(8, rows * cols), y: empty(axis === 0 ? cols : rows), rows, cols, function: code('reduce', 'sum'), axis },
        ['y'],
      ),
  };
}

function matmulCase(m: number, n: number, k: number, transposeA: number, transposeB: number, type: HalfType | 'float32' = 'float32'): Case {
  const operand = (seed: number, size: number): Data => (type === 'float32' ? normals(seed, size) : toBits(normals(seed, size), type));
  return {
    name: `matmul ${type} ${m}x${n}x${k}, transposed ${transposeA}${transposeB}`,
    run: () => {
      const given = {
        a: operand(9, m * k),
        b: operand(10, k * n),
        c: empty(m * n),
        m,
        n,
        k,
        a_stride: transposeA ? m : k,
        b_stride: transposeB ? k : n,
        c_stride: n,
        transpose_a: transposeA,
        transpose_b: transposeB,
        accumulate: 0,
        scale: 1,
      };
      return call('matmul', given, ['c']);
    },
  };
}

/** Attention and its gradient; more queries than warps of the grid use shared memory again. */
function attentionCase(batch: number, tokens: number, heads: number, head_width: number, causal: number): Case {
  return {
    name: `attention ${batch}x${tokens}, ${heads} heads of ${head_width}, causal ${causal}`,
    run: () => {
      const size = batch * tokens * heads * head_width;
      const shape = { batch, tokens, heads, head_width, causal, scale: 0.7 };
      const qkv = normals(12, 3 * size);
      const [y, log_sums] = call('attention', { qkv, y: empty(size), log_sums: empty(batch * tokens * heads), ...shape }, [
        'y',
        'log_sums',
      ]);
      const given = { qkv, y: y!, log_sums: log_sums!, gradient_y: normals(13, size), gradient_qkv: empty(3 * size), ...shape };
      return [y!, log_sums!, ...call('attention_backward', given, ['gradient_qkv'])];
    },
  };
}

/** Layer norm with and without a mean, and its gradient. */
function normCase(rows: number, cols: number, isCentred: boolean): Case {
  return {
    name: `layer_norm ${rows}x${cols}, mean ${isCentred}`,
    run: () => {
      const [x, weight] = [normals(14, rows * cols), normals(15, cols)];
      const forward = { x, weight, bias: null, y: empty(x.length), mean: isCentred ? empty(rows) : null, inverse_deviation: empty(rows) };
      const outputs = isCentred ? ['y', 'inverse_deviation', 'mean'] : ['y', 'inverse_deviation'];
      const [y, inverse_deviation, mean = null] = call('layer_norm', { ...forward, rows, cols, epsilon: 1e-5 }, outputs);
      const gradients = { gradient_y: normals(16, x.length), gradient_x: empty(x.length), scaled: empty(x.length) };
      const given = { x, weight, mean, inverse_deviation: inverse_deviation!, ...gradients, rows, cols };
      return [y!, inverse_deviation!, ...call('layer_norm_backward', given, ['gradient_x', 'scaled'])];
    },
  };
}

function transposeCase(batch: number, rows: number, cols: number): Case {
  return {
    name: `transpose ${batch}x${rows}x${cols}`,
    run: () => call('transpose', { x: normals(17, batch * rows * cols), y: empty(batch * rows * cols), batch, rows, cols }, ['y']),
  };
}

/** Sorting, running results and their gradients, and adding into columns. */
function columnsCase(rows: number, cols: number): Case {
  return {
    name: `argsort, scan, scan_backward, scatter_cols ${rows}x${cols}`,
    run: () => {
      const x = normals(11, rows * cols, 3).map((v) => Math.round(v * 4) / 4);
      const shape = { rows, cols };
      const [indices] = call('argsort', { x, indices: new Int32Array(rows * cols).fill(-7), ...shape, descending: 1 }, ['indices']);
      const scanned = ['sum', 'log_sum_exp', 'log_sum_exp_relative'].map(
        (name) => call('scan', { x, y: empty(rows * cols), ...shape, function: code('scan', name), reverse: 1 }, ['y'])[0]!,
      );
      const given = {
        y: scanned[2]!,
        gradient_y: normals(12, rows * cols),
        gradient_x: empty(rows * cols),
        ...shape,
        relative: 1,
        reverse: 1,
      };
      const added = [0, 1].map((distinct) => {
        const y = empty(rows * cols);
        return call('scatter_cols', { x, indices: indices!, y, ...shape, count: cols, index_stride: cols, distinct }, ['y'])[0]!;
      });
      return [indices!, ...scanned, ...call('scan_backward', given, ['gradient_x']), ...added];
    },
  };
}

// Every schedule: a warp per row and a block per row, more rows than groups of a block, rows in shared memory and not.
const cases: Case[] = !isBuilt
  ? []
  : [
      ...[7, 257, 1030, 2500].flatMap((cols) =>
        ['logits', 'log_probs', 'probs', 'sparse_log_probs'].map((target) =>
          divergenceCase(9, cols, target, target === 'probs' ? { teacher: uniforms(2, 9 * cols, 0.01, 1) } : {}),
        ),
      ),
      divergenceCase(5, 33, 'sparse_log_probs', { residual: code('residual', 'renormalize') }),
      divergenceCase(5, 1100, 'sparse_log_probs', { residual: code('residual', 'truncate') }),
      ...[33, 1100].map((cols) => divergenceCase(5, cols, 'sparse_log_probs', { residual: code('residual', 'label') })),
      divergenceCase(5, 70_001, 'logits'),
      ...(['tail_bucket', 'uniform'] as const).flatMap((residual) =>
        [33, 1100].map((cols) =>
          divergenceCase(5, cols, 'sparse_log_probs', {
            residual: code('residual', residual),
            divergence: code('divergence', 'reverse_kl'),
            assisted: 1,
            assistant_alpha: 0.5,
            assistant_lambda: 0.3,
          }),
        ),
      ),
      divergenceCase(5, 70_001, 'sparse_log_probs'),
      // More than a cluster's shared memory, and more than a window of columns.
      divergenceCase(1, 300_001, 'logits'),
      divergenceCase(1, 530_001, 'sparse_log_probs'),
      // The gradient waits in shared memory, in each block of a cluster.
      divergenceCase(2, 32_003, 'logits', { gradient_stride: 32_005 }),
      divergenceCase(2, 70_003, 'sparse_log_probs', { gradient_stride: 70_005 }),
      shared(divergenceCase(2, 2500, 'logits')),
      shared(divergenceCase(2, 32_003, 'logits', { gradient_stride: 32_005 })),
      shared(softmaxCase(2, 5003, 0)),
      divergenceCase(300, 20, 'logits'),
      divergenceCase(700, 3, 'sparse_log_probs'),
      divergenceCase(70, 1027, 'logits'),
      divergenceCase(70, 1027, 'sparse_log_probs'),
      ...['logits', 'sparse_log_probs'].flatMap((target) => [
        divergenceCase(70, 1028, target, { gradient_stride: 1029 }),
        divergenceCase(700, 8, target, { gradient_stride: 9 }),
      ]),
      halfCase(9, 257, 'logits', 'bfloat16'),
      halfCase(5, 1030, 'logits', 'float16'),
      halfCase(9, 1028, 'sparse_log_probs', 'bfloat16', { gradient_stride: 1029 }),
      halfCase(3, 70_001, 'logits', 'bfloat16'),
      ...[5, 130, 1030, 5000].flatMap((cols) => [softmaxCase(9, cols, 0), softmaxCase(9, cols, 1)]),
      softmaxCase(70, 1025, 0),
      softmaxCase(70, 1025, 1),
      softmaxCase(5, 70_001, 1),
      ...[1, 4, 40].flatMap((k) => [selectionCase('top_k', 9, 300, k), selectionCase('capture_top_k', 9, 300, k)]),
      ...[1, 8, 64].flatMap((k) => [selectionCase('top_k', 5, 3000, k), selectionCase('capture_top_k', 5, 3000, k)]),
      selectionCase('top_k', 5, 17, 17),
      selectionCase('capture_top_k', 70, 1100, 4),
      selectionCase('top_k', 70, 1100, 4),
      selectionCase('capture_top_k', 3, 70_001, 300),
      selectionCase('top_k', 3, 70_001, 300),
      ...['with_replacement', 'race', 'head_tail'].map((method) => sampleCase(method, 9, 300, 12)),
      ...['with_replacement', 'race', 'head_tail'].map((method) => sampleCase(method, 2, 70_001, 12)),
      sampleCase('with_replacement', 3, 300, 300),
      sampleCase('with_replacement', 70, 30, 2100),
      // More than a race lists in shared memory.
      sampleCase('race', 3, 1500, 600),
      reduceCase(70, 90, 0),
      reduceCase(70, 90, 1),
      reduceCase(5, 5000, 1),
      reduceCase(5000, 5, 0),
      reduceCase(40, 2200, 0),
      ...[7, 257, 1030].map((cols) => columnsCase(9, cols)),
      columnsCase(70, 1027),
      columnsCase(2, 8200),
      matmulCase(60, 65, 130, 0, 0),
      matmulCase(70, 65, 130, 0, 0),
      matmulCase(132, 72, 68, 0, 1),
      matmulCase(68, 132, 72, 1, 0),
      matmulCase(33, 40, 70, 0, 1),
      matmulCase(33, 40, 70, 1, 0),
      matmulCase(40, 72, 104, 0, 1, 'bfloat16'),
      matmulCase(33, 70, 131, 1, 0, 'float16'),
      attentionCase(2, 5, 2, 40, 1),
      attentionCase(1, 70, 1, 3, 0),
      attentionCase(30, 20, 2, 2, 1),
      ...[7, 1030].flatMap((cols) => [normCase(9, cols, true), normCase(9, cols, false)]),
      normCase(70, 1027, true),
      transposeCase(2, 40, 33),
      transposeCase(140, 3, 2),
    ];

function same(a: Data[], b: Data[]): boolean {
  return a.every((x, i) => x.every((v, j) => Object.is(v, b[i]![j])));
}

// Barriers whose absence this device cannot show, by the file and the text of the line, and why.
const invisible: { file: string; text: string; reason: string }[] = [];

/** Every barrier in the kernels' files, as file:line. */
function barriersOfTheSource(): string[] {
  const native = path.join(root, 'native');
  const files = [
    ...readdirSync(path.join(native, 'cuda')).map((name) => `cuda/${name}`),
    ...readdirSync(path.join(native, 'ops')).map((op) => `ops/${op}/cuda.cu`),
  ].filter((file) => file !== 'cuda/device.h' && existsSync(path.join(native, file)));
  return files.flatMap((file) =>
    readFileSync(path.join(native, file), 'utf8')
      .split('\n')
      .flatMap((text, index) =>
        /\bsync_(block|warp|cluster)\(\)|\.sync\(\)|copy_async_wait<\w+>\(\)/.test(text) ? [`${file}:${index + 1}`] : [],
      ),
  );
}

/** Why leaving out this barrier changes nothing here, or undefined. */
function excuse(site: string): string | undefined {
  const colon = site.lastIndexOf(':');
  const line = readFileSync(path.join(root, 'native', site.slice(0, colon)), 'utf8').split('\n')[Number(site.slice(colon + 1)) - 1] ?? '';
  return invisible.find((entry) => site.startsWith(`${entry.file}:`) && line.includes(entry.text))?.reason;
}

describe.skipIf(!isBuilt)('emulated device', () => {
  beforeEach(() => addon.emulator.configure(defaults));
  afterEach(() => addon.emulator.configure(defaults));

  describe('its own kernels, twenty orders of threads each', () => {
    for (const result of isBuilt ? addon.emulator.selfTest() : []) {
      test(`${result.name}: ${result.expected}`, () => {
        expect(result.ok, result.got).toBe(true);
      });
    }
  });

  describe('the kernels of limbeck', () => {
    for (const one of cases) {
      test(`${one.name}: the same bits in every order, no report`, () => {
        // With one multiprocessor, where no blocks share a run.
        const expected = one.run();
        for (const seed of [1, 2, 3]) {
          addon.emulator.configure(settings(one, { seed }));
          expect(same(one.run(), expected), `seed ${seed}`).toBe(true);
        }
      });
    }
  });

  test('each barrier, left out, is missed', { timeout: 180_000 }, () => {
    // Quick cases are tried first.
    const cost: number[] = [];
    const expected = cases.map((one, index) => {
      addon.emulator.configure(settings(one));
      const start = performance.now();
      const result = one.run();
      cost[index] = performance.now() - start;
      return result;
    });
    const missing: string[] = [];
    const sites = new Map<string, Set<number>>();
    cases.forEach((one, index) => {
      addon.emulator.configure(settings(one));
      addon.emulator.resetSyncSites();
      one.run();
      for (const { site } of addon.emulator.syncSites()) sites.set(site, (sites.get(site) ?? new Set()).add(index));
    });
    expect(barriersOfTheSource().filter((site) => !sites.has(site))).toEqual([]);
    for (const [site, users] of sites) {
      const isCaught = [...users]
        .sort((a, b) => cost[a]! - cost[b]!)
        .some((index) =>
          [0, 1, 2, 3].some((seed) => {
            addon.emulator.configure(settings(cases[index]!, { seed, skipSync: site }));
            try {
              return !same(cases[index]!.run(), expected[index]!);
            } catch (error) {
              if ((error as { code?: string }).code !== 'emulator_fault') throw error;
              return true;
            }
          }),
        );
      const reason = excuse(site);
      if (!isCaught && reason === undefined) missing.push(site);
      if (isCaught && reason !== undefined) missing.push(`${site} is excused (${reason}), and yet it is caught`);
    }
    expect(missing, missing.join(', ')).toEqual([]);
  });

  // The barrier of a merge: its absence is a fault in every order.
  function someSite(one: Case): string {
    addon.emulator.resetSyncSites();
    one.run();
    return addon.emulator.syncSites().find((entry) => entry.kind === 'sync_block' && entry.site.startsWith('cuda/merge.h'))!.site;
  }

  test('the same seed gives the same fault', () => {
    const one = divergenceCase(4, 2500, 'logits');
    const skipSync = someSite(one);
    const faults = [5, 5].map((seed) => {
      addon.emulator.configure({ ...defaults, seed, skipSync });
      expect(() => one.run()).toThrow();
      return addon.emulator.fault();
    });
    expect(faults[0]).toContain('kernel divergence');
    expect(faults[1]).toBe(faults[0]);
  });

  test('a fault stays until the emulator is configured', () => {
    const one = divergenceCase(4, 2500, 'logits');
    const expected = one.run();
    addon.emulator.configure({ ...defaults, skipSync: someSite(one) });
    expect(() => one.run()).toThrow(expect.objectContaining({ code: 'emulator_fault' }));
    expect(() => one.run()).toThrow();
    addon.emulator.configure(defaults);
    expect(same(one.run(), expected)).toBe(true);
  });

  test('streams that do their work late give the same bits', () => {
    const some = [
      divergenceCase(5, 1100, 'logits'),
      divergenceCase(9, 257, 'sparse_log_probs'),
      matmulCase(33, 40, 70, 0, 1),
      reduceCase(5000, 5, 0),
    ];
    // More than the staging buffers of a copy hold.
    const size = 3_000_000;
    const x = Float32Array.from({ length: size }, (_, i) => i % 4099);
    const large: Case = {
      name: 'large copies',
      run: () => [
        ...call('unary', { x, y: empty(size), size, function: code('unary', 'scale'), parameter: 2 }, ['x', 'y']),
        ...call('fill', { y: empty(size), size, value: 3 }, ['y']),
      ],
    };
    addon.emulator.configure({ ...defaults, races: false });
    const expected = [...some, large].map((one) => one.run());
    for (const seed of [0, 1, 2, 3]) {
      addon.emulator.configure({ ...defaults, seed, lazy: true, races: seed < 2 });
      [...some, large].forEach((one, index) => {
        expect(same(one.run(), expected[index]!), `${one.name}, seed ${seed}`).toBe(true);
      });
    }
  });

  test('with lazy streams a fault shows where something waits', () => {
    const one = divergenceCase(4, 2500, 'logits');
    addon.emulator.configure({ ...defaults, skipSync: someSite(one), lazy: true });
    expect(() => one.run()).toThrow(expect.objectContaining({ code: 'emulator_fault' }));
  });

  test('a failed allocation and a failed launch are errors with a code, and pass', () => {
    const one = divergenceCase(4, 100, 'logits');
    const expected = one.run();
    const live = addon.memory(0).liveBlocks;
    for (const [options, wanted] of [
      [{ failAllocation: 1, memoryBytes: 2 ** 32 }, 'out_of_memory'],
      [{ failLaunch: 1 }, 'launch_failed'],
      [{ failLaunch: 2 }, 'launch_failed'],
    ] as const) {
      addon.trim(0);
      addon.emulator.configure({ ...defaults, ...options });
      expect(() => one.run()).toThrow(expect.objectContaining({ code: wanted }));
      expect(addon.memory(0).liveBlocks).toBe(live);
      expect(same(one.run(), expected)).toBe(true);
    }
  });

  test('an allocation beyond the device is out_of_memory', () => {
    addon.trim(0);
    addon.emulator.configure({ ...defaults, memoryBytes: 1 << 20 });
    expect(() => addon.allocate(0, 'float32', 1 << 20)).toThrow(expect.objectContaining({ code: 'out_of_memory' }));
  });

  test('the audit counts what softmax must move', () => {
    const [rows, cols] = [8, 1024];
    addon.emulator.resetAudit();
    softmaxCase(rows, cols, 0).run();
    const softmax = addon.emulator.audit().find((entry) => entry.kernel.startsWith('softmax') && !entry.kernel.includes('backward'))!;
    expect(softmax.launches).toBe(1);
    expect(softmax.bytesStored).toBe(4 * rows * cols);
    expect(softmax.sectorsStored).toBe((4 * rows * cols) / 32);
    expect(softmax.bytesLoaded).toBeGreaterThanOrEqual(4 * rows * cols);
    expect(softmax.sectorsLoaded).toBe(softmax.bytesLoaded / 32);
  });

  test('the audit counts two bytes for each element of a half type, read once and written once', () => {
    const [rows, cols] = [8, 2048];
    const type: HalfType = 'bfloat16';
    const plain = { labels: null, row_weights: null, hard_weight: 0, reduction: code('reduction', 'none'), loss: null };
    const bits = (seed: number) => toBits(normals(seed, rows * cols), type);
    for (const [name, teacher, read] of [
      ['bfloat16 beside bfloat16', bits(2), 4],
      ['bfloat16 beside float32', normals(2, rows * cols), 6],
    ] as const) {
      addon.emulator.resetAudit();
      divergenceCase(rows, cols, 'logits', {
        ...plain,
        student: bits(1),
        teacher,
        gradient: toBits(new Float32Array(rows * cols), type),
      }).run();
      const dense = addon.emulator.audit().find((entry) => entry.kernel.startsWith('divergence_dense'))!;
      expect(dense.bytesLoaded, name).toBe(read * rows * cols);
      expect(dense.sectorsLoaded, name).toBe((read * rows * cols) / 32);
      // The gradient, and one float32 loss for each row.
      expect(dense.bytesStored, name).toBe(2 * rows * cols + 4 * rows);
    }
  });

  test('the audit counts the bytes that docs/index.md says a loss costs', () => {
    const page = readFileSync(path.join(root, 'docs/index.md'), 'utf8');
    const said = (start: string): number[] =>
      page
        .split('\n')
        .find((line) => line.startsWith(`| ${start}`))!
        .split('|')
        .slice(3, 5)
        .map((cell) => parseInt(cell, 10));
    const rows = 1;
    const lengths = [64_000, 480_001];
    for (const [start, target, divergence] of [
      ['dense, `forward_kl`', 'logits', 'forward_kl'],
      ['dense, the other', 'logits', 'reverse_kl'],
      ['sparse', 'sparse_log_probs', 'reverse_kl'],
    ] as const) {
      const counted = lengths.map((cols) => {
        const one = divergenceCase(rows, cols, target, { labels: null, hard_weight: 0, divergence: code('divergence', divergence) });
        addon.emulator.resetAudit();
        one.run();
        const audit = addon.emulator.audit().find(({ kernel }) => /^divergence_(dense|sparse)/.test(kernel))!;
        return Math.round((audit.bytesLoaded + audit.bytesStored) / (rows * cols));
      });
      expect(counted, start).toEqual(said(start));
    }
  });

  test('worker threads share the device', async () => {
    const source = `
      const { parentPort, workerData } = require('node:worker_threads');
      const addon = require(workerData.addonPath);
      const n = 1000;
      const x = addon.allocate(0, 'float32', n), y = addon.allocate(0, 'float32', n);
      let wrong = 0;
      for (let round = 0; round < 50; round++) {
        addon.upload(x, new Float32Array(n).fill(workerData.value + round));
        addon.kernels.fill(y, n, workerData.value);
        addon.kernels.binary(y, x, y, 1, n, 0, 0);
        const out = new Float32Array(n);
        addon.download(y, out);
        if (!out.every((v) => v === 2 * workerData.value + round)) wrong++;
      }
      x.free(); y.free();
      parentPort.postMessage(wrong);`;
    expect(addon.codes.binary![0]).toBe('add');
    const wrong = await Promise.all(
      [1, 2, 3].map(
        (value) =>
          new Promise<number>((resolve, reject) => {
            const worker = new Worker(source, { eval: true, workerData: { addonPath, value } });
            worker.once('message', resolve);
            worker.once('error', reject);
          }),
      ),
    );
    expect(wrong).toEqual([0, 0, 0]);
  });
});
