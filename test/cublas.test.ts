// cuBLAS opened at run time: a stand-in library compiled here sees each call as the real one would, on the emulated device's memory.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { expectClose } from './compare.js';
import { fromBits, rounded, spacing, toBits, type HalfType } from './half.js';
import { normals } from './random.js';
import { matmul as reference } from './reference.js';

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), '..');
const addon = path.join(process.env.LIMBECK_ADDON_DIR ?? path.join(root, 'build/Release'), 'limbeck_emulated.node');
const compiler = process.env.CXX ?? 'g++';
const canCompile = process.platform === 'linux' && spawnSync(compiler, ['--version']).status === 0;
if (!canCompile) console.log(`cuBLAS: not tested, there is no ${compiler} to compile its stand-in`);

// Column by column, as cuBLAS counts; a leading dimension too short for its matrix is refused, as are types that cublasGemmEx does not take.
const source = String.raw`
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
namespace {
struct Handle { int mode = 0; void* stream = nullptr; void* workspace = nullptr; };
void say(const char* text) {
  FILE* log = std::fopen(std::getenv("STAND_IN_LOG"), "a");
  std::fprintf(log, "%s\n", text);
  std::fclose(log);
}
float half(uint16_t bits) {
  const int exponent = bits >> 10 & 31, fraction = bits & 1023;
  const float size = exponent == 0 ? fraction * 0x1p-24f : (1024 + fraction) * 0x1p-25f * float(1u << exponent);
  return bits >> 15 ? -size : size;
}
float bfloat(uint16_t bits) {
  const uint32_t wide = uint32_t(bits) << 16;
  float value;
  std::memcpy(&value, &wide, 4);
  return value;
}
float read(const void* data, int type, int64_t i) {
  if (type == 0) return static_cast<const float*>(data)[i];
  const uint16_t bits = static_cast<const uint16_t*>(data)[i];
  return type == 2 ? half(bits) : bfloat(bits);
}
void write(void* data, int type, int64_t i, float value) {
  if (type == 0) static_cast<float*>(data)[i] = value;
  else if (type == 2) {
    const _Float16 narrow = static_cast<_Float16>(value);
    std::memcpy(static_cast<uint16_t*>(data) + i, &narrow, 2);
  } else {
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    static_cast<uint16_t*>(data)[i] = uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }
}
}  // namespace
extern "C" {
int cublasCreate_v2(void** handle) { return say("create"), *handle = new Handle, 0; }
int cublasDestroy_v2(void* handle) { return say("destroy"), delete static_cast<Handle*>(handle), 0; }
int cublasGetVersion_v2(void*, int* version) { return *version = 130205, 0; }
int cublasSetStream_v2(void* handle, void* stream) {
  static_cast<Handle*>(handle)->stream = stream;
  static_cast<Handle*>(handle)->workspace = nullptr;
  return say("stream"), 0;
}
int cublasSetWorkspace_v2(void* handle, void* workspace, size_t bytes) {
  static_cast<Handle*>(handle)->workspace = workspace;
  char text[64];
  std::snprintf(text, sizeof text, "workspace %zu", bytes);
  return say(text), reinterpret_cast<uintptr_t>(workspace) % 256 == 0 && workspace ? 0 : 7;
}
int cublasSetMathMode(void* handle, int mode) { return static_cast<Handle*>(handle)->mode = mode, 0; }
int cublasGemmEx(void* opaque, int op_a, int op_b, int m, int n, int k, const void* alpha, const void* a, int type_a, int lda, const void* b, int type_b, int ldb,
                 const void* beta, void* c, int type_c, int ldc, int compute, int algorithm) {
  Handle* handle = static_cast<Handle*>(opaque);
  char text[200];
  std::snprintf(text, sizeof text, "gemm %d %d %d %d %d types %d %d %d compute %d algorithm %d mode %d", op_a, op_b, m, n, k, type_a, type_b, type_c, compute, algorithm, handle->mode);
  say(text);
  if (const char* status = std::getenv("STAND_IN_STATUS")) return std::atoi(status);
  if (!handle->stream || !handle->workspace) return 1;
  if (lda < (op_a ? k : m) || ldb < (op_b ? n : k) || ldc < m) return 7;
  if (type_a != type_b || (type_c != type_a && type_c != 0)) return 15;
  const float scale = *static_cast<const float*>(alpha), keep = *static_cast<const float*>(beta);
  for (int64_t col = 0; col < n; col++)
    for (int64_t row = 0; row < m; row++) {
      float sum = 0;
      for (int64_t i = 0; i < k; i++) sum += read(a, type_a, op_a ? i + row * lda : row + i * lda) * read(b, type_b, op_b ? col + i * ldb : i + col * ldb);
      const int64_t at = row + col * ldc;
      write(c, type_c, at, scale * sum + (keep == 0 ? 0 : keep * read(c, type_c, at)));
    }
  return 0;
}
}
`;

// Reads calls from standard input, makes them with the addon that the environment configures, prints the results.
const child = `
const addon = require(process.env.ADDON);
const arrays = { float32: Float32Array, float16: Uint16Array, bfloat16: Int16Array };
const { calls, lazy } = JSON.parse(require('node:fs').readFileSync(0, 'utf8'));
addon.emulator.configure({ lazy, seed: 1 });
const results = calls.map(({ types, operands, sizes, strides, flags, scale }) => {
  const buffers = operands.map((values, i) => {
    const buffer = addon.allocate(0, types[i], values.length);
    addon.upload(buffer, arrays[types[i]].from(values));
    return buffer;
  });
  try {
    addon.kernels.matmul(...buffers, ...sizes, ...strides, ...flags, scale);
  } catch (error) {
    return String(error.code) + ': ' + error.message;
  }
  const out = new arrays[types[2]](operands[2].length);
  addon.download(buffers[2], out);
  return Array.from(out);
});
console.log(JSON.stringify({ results, product: addon.cudaMatrixProduct() }));
`;

type Type = HalfType | 'float32';

interface Call {
  types: [Type, Type, Type];
  operands: number[][];
  sizes: [number, number, number];
  strides: [number, number, number];
  flags: number[];
  scale: number;
}

const held = (x: Float32Array, type: Type): Float32Array => (type === 'float32' ? x : rounded(x, type));
const stored = (x: Float32Array, type: Type): number[] => Array.from(type === 'float32' ? x : toBits(x, type));

function callOf(types: Call['types'], sizes: Call['sizes'], flags: number[], scale: number): Call {
  const [m, n, k] = sizes;
  const values = [normals(1, m * k), normals(2, k * n), normals(3, m * n)];
  return {
    types,
    operands: values.map((each, i) => stored(each, types[i] as Type)),
    sizes,
    strides: [flags[0] === 1 ? m : k, flags[1] === 1 ? k : n, n],
    flags,
    scale,
  };
}

function check({ types, sizes, flags, scale }: Call, result: unknown): void {
  const [m, n, k] = sizes;
  const [a, b, start] = [m * k, k * n, m * n].map((size, i) => held(normals(i + 1, size), types[i] as Type)) as [
    Float32Array,
    Float32Array,
    Float32Array,
  ];
  const { c, size } = reference(a, b, m, n, k, flags[0] === 1, flags[1] === 1);
  const expected = c.map((value, i) => scale * value + (flags[2] === 1 ? (start[i] as number) : 0));
  const type = types[2];
  const got = type === 'float32' ? Float32Array.from(result as number[]) : fromBits(Uint16Array.from(result as number[]), type);
  expectClose(`${types.join(', ')} ${flags.join('')}`, got, expected, (i) => {
    const error = 1e-6 * ((size[i] as number) + Math.abs(expected[i] as number));
    return error + (type === 'float32' ? 0 : spacing(Math.abs(expected[i] as number) + error, type) / 2);
  });
}

const flags = [0, 1].flatMap((a) => [0, 1].flatMap((b) => [0, 1].map((add) => [a, b, add])));
const pairs: [Type, Type][] = [
  ['float32', 'float32'],
  ['float16', 'float16'],
  ['float16', 'float32'],
  ['bfloat16', 'bfloat16'],
  ['bfloat16', 'float32'],
];
const calls = pairs.flatMap(([type, c]) => flags.map((each) => callOf([type, type, c], [3, 5, 4], each, each[2] === 1 ? 1 : 0.5)));

describe.skipIf(!canCompile || !existsSync(addon))('cuBLAS', () => {
  let folder = '';
  let library = '';
  beforeAll(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'limbeck-cublas-'));
    library = path.join(folder, 'libcublas.so');
    writeFileSync(path.join(folder, 'stand_in.cpp'), source);
    execFileSync(compiler, ['-std=c++17', '-O1', '-shared', '-fPIC', path.join(folder, 'stand_in.cpp'), '-o', library]);
  }, 60_000);
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  function run(given: Call[], env: Record<string, string>, lazy = false): { results: unknown[]; product: string; log: string[] } {
    const log = path.join(folder, 'log');
    writeFileSync(log, '');
    const out = execFileSync(process.execPath, ['-e', child], {
      input: JSON.stringify({ calls: given, lazy }),
      env: { ...process.env, ADDON: addon, STAND_IN_LOG: log, ...env },
      encoding: 'utf8',
      maxBuffer: 1 << 26,
    });
    return { ...(JSON.parse(out) as { results: unknown[]; product: string }), log: readFileSync(log, 'utf8').trim().split('\n') };
  }

  test('every type, transpose, sum and scale reaches it as it is meant; with late streams, too', () => {
    for (const lazy of [false, true]) {
      const { results, product, log } = run(calls, { LIMBECK_CUBLAS: library }, lazy);
      expect(product).toBe('cuBLAS 13.2.5');
      // The workspace after the stream, which takes it away; float32 sums, no TF32, no reduction in a half type.
      expect(log.slice(0, 3)).toEqual(['create', 'stream', `workspace ${32 << 20}`]);
      expect(log.filter((line) => line.startsWith('create'))).toHaveLength(1);
      const products = log.filter((line) => line.startsWith('gemm'));
      expect(products).toHaveLength(calls.length);
      expect(products.filter((line) => !line.endsWith('compute 68 algorithm -1 mode 16'))).toEqual([]);
      calls.forEach((call, i) => check(call, results[i]));
    }
  });

  test('lines with space between them: the strides are its leading dimensions', () => {
    const call = callOf(['bfloat16', 'bfloat16', 'float32'], [3, 5, 4], [1, 1, 0], 1);
    const [a, b, c] = call.operands as [number[], number[], number[]];
    const apart = (x: number[], run: number, stride: number): number[] =>
      Array.from({ length: (x.length / run) * stride }, (_, i) =>
        i % stride < run ? (x[Math.floor(i / stride) * run + (i % stride)] as number) : 0x7fc0,
      );
    const wide: Call = { ...call, operands: [apart(a, 3, 8), apart(b, 4, 9), apart(c, 5, 7)], strides: [8, 9, 7] };
    const { results, log } = run([wide], { LIMBECK_CUBLAS: library });
    expect(log.filter((line) => line.startsWith('gemm'))).toHaveLength(1);
    const whole = run([call], { LIMBECK_CUBLAS: library }).results[0] as number[];
    expect(results[0]).toEqual(Array.from({ length: 21 }, (_, i) => (i % 7 < 5 ? whole[Math.floor(i / 7) * 5 + (i % 7)] : 0x7fc0)));
  });

  test('what it does not take goes to the kernels of limbeck, without a word', () => {
    const mixed = [
      callOf(['bfloat16', 'float32', 'float32'], [3, 5, 4], [0, 1, 0], 1),
      callOf(['float16', 'float16', 'bfloat16'], [3, 5, 4], [0, 0, 0], 1),
    ];
    const { results, log } = run(mixed, { LIMBECK_CUBLAS: library });
    expect(log).toEqual(['']);
    mixed.forEach((call, i) => check(call, results[i]));
    // CUBLAS_STATUS_ARCH_MISMATCH and CUBLAS_STATUS_NOT_SUPPORTED.
    for (const status of ['8', '15']) {
      const refused = run(calls.slice(0, 3), { LIMBECK_CUBLAS: library, STAND_IN_STATUS: status });
      expect(refused.log.filter((line) => line.startsWith('gemm'))).toHaveLength(3);
      calls.slice(0, 3).forEach((call, i) => check(call, refused.results[i]));
    }
  });

  test('what fails on the device is an error with a code', () => {
    const { results } = run(calls.slice(0, 1), { LIMBECK_CUBLAS: library, STAND_IN_STATUS: '13' });
    expect(results[0]).toMatch(/^device_failed: cublasGemmEx must succeed: status 13$/);
  });

  test('LIMBECK_CUBLAS: OFF leaves it out, a path that leads nowhere is told', () => {
    for (const [value, product] of [
      ['OFF', /^limbeck$/],
      ['/nowhere/libcublas.so', /^limbeck \(\/nowhere\/libcublas\.so: cannot open/],
      ['13', /^limbeck \(LIMBECK_CUBLAS must be AUTO, OFF or a path: it is 13\)$/],
    ] as const) {
      const off = run(calls.slice(0, 1), { LIMBECK_CUBLAS: value });
      expect(off.product).toMatch(product);
      expect(off.log).toEqual(['']);
      check(calls[0] as Call, off.results[0]);
    }
  });
});
