// The places that must agree: kernels.inc, its TypeScript mirror, the case files, the built objects, the number of CUDA kernels.
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { native, schema } from '../src/native.js';
import { cases } from './cases/index.js';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');

function files(folder: string, ending: string): string[] {
  const at = path.join(root, folder);
  if (!existsSync(at)) return [];
  return readdirSync(at, { recursive: true })
    .map(String)
    .filter((name) => name.endsWith(ending))
    .map((name) => path.join(at, name));
}

// kernels.inc without its comments, one entry per K(name, parameters).
function declared(): Record<string, string> {
  const text = readFileSync(path.join(root, 'native/kernels.inc'), 'utf8').replace(/^\/\/.*$/gm, '');
  return Object.fromEntries(
    [...text.matchAll(/^K\((\w+),\s*([^)]*)\)/gm)].map((match) => [match[1], (match[2] as string).replace(/\s+/g, ' ').trim()]),
  );
}

describe('schema', () => {
  test('the mirror in src/native.ts is what the addon reports; on a mismatch this prints the line to paste', () => {
    expect(schema).toEqual(native().schema);
  });

  test('the addon was built from this kernels.inc', () => {
    expect(native().schema).toEqual(declared());
  });

  test('every kernel is run by a case file, and every case file names kernels that exist', () => {
    const run = new Set(cases.flatMap((file) => file.kernels));
    expect([...run].sort()).toEqual(Object.keys(declared()).sort());
  });

  test('every kernel has the files its name says', () => {
    for (const name of Object.keys(declared())) {
      for (const file of ['check.h', 'cpu.h', 'cuda.cu'])
        expect(existsSync(path.join(root, 'native/ops', name, file)), `native/ops/${name}/${file}`).toBe(true);
    }
  });

  test('op names are unique and snake_case', () => {
    const names = cases.map((file) => file.op);
    expect(new Set(names).size).toBe(names.length);
    for (const name of names) expect(name).toMatch(/^[a-z0-9]+(_[a-z0-9]+)*$/);
    for (const file of cases) expect(new Set(file.checks.map((check) => check.name)).size, file.op).toBe(file.checks.length);
  });

  test('each divergence of the addon has a case file', () => {
    const names = new Set(cases.map((file) => file.op));
    for (const divergence of native().codes.divergence) expect(names).toContain(divergence);
  });
});

describe('sources', () => {
  test('no op is named by the binding, the autograd engine or the case runner', () => {
    // These words also name lists of codes, or say what a buffer needs.
    const names = Object.keys(declared()).filter((name) => !['fill', 'binary', 'unary', 'reduce', 'scan', 'divergence'].includes(name));
    for (const file of [
      'native/binding.cpp',
      'src/autograd.ts',
      'test/run-cases.ts',
      'test/ops.device.test.ts',
      'CMakeLists.txt',
      'binding.gyp',
    ]) {
      if (!existsSync(path.join(root, file))) continue;
      const text = readFileSync(path.join(root, file), 'utf8');
      for (const name of names) expect(new RegExp(`\\b${name}\\b`).test(text), `${file} names ${name}`).toBe(false);
    }
  });

  test('fewer than 400 CUDA kernels', () => {
    const found = files('native/ops', '.cu').flatMap((file) => [...readFileSync(file, 'utf8').matchAll(/\bLIMBECK_KERNEL\b/g)]);
    expect(found.length).toBeGreaterThan(0);
    expect(found.length).toBeLessThan(400);
    const addon = path.join(root, 'build/Release/limbeck.node');
    if (!native().info().cuda.built || !existsSync(addon)) return;
    // Each instantiation registers itself under its mangled name; the stubs are the count that fills the binary.
    let symbols: string;
    try {
      symbols = execFileSync('nm', ['-C', addon], { encoding: 'utf8', maxBuffer: 1 << 28, stdio: ['ignore', 'pipe', 'ignore'] });
    } catch {
      return;
    }
    const stubs = new Set([...symbols.matchAll(/__device_stub__\S+.*$/gm)].map((match) => match[0]));
    expect(stubs.size).toBeLessThan(400);
  });

  test('kernels reach the device through device.h alone', () => {
    for (const file of files('native/ops', '.cu')) {
      const text = readFileSync(file, 'utf8').replace(/\/\/.*$/gm, '');
      expect(/<<<|cooperative_groups|__syncthreads|__shfl|__shared__|cudaMalloc|threadIdx|blockIdx/.test(text), file).toBe(false);
    }
  });

  test('the objects of the instruction sets hold no weak functions', () => {
    const objects = files('build', '.o').filter((file) => /isa_\w+\.cpp\.o$/.test(file));
    if (objects.length === 0) return;
    for (const file of objects) {
      const weak = execFileSync('nm', [file], { encoding: 'utf8', maxBuffer: 1 << 28 })
        .split('\n')
        // Weak data (V) is the same whatever the instruction set; a weak function (W) may not run on the machine that gets it.
        .filter((line) => / W /.test(line));
      expect(weak, file).toEqual([]);
    }
  });

  test('no typed number compares past a NaN: bounds are written !(error <= bound)', () => {
    const text = readFileSync(path.join(root, 'test/compare.ts'), 'utf8');
    expect(text).toContain('!(Math.abs(a - e) <= b)');
  });
});
