// What ptxas said of the CUDA kernels when they were built: no spills, no local memory, registers and shared memory for the blocks they are
// launched with; and what the PTX of a row kernel moves its bytes with.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..');
const folder = path.join(root, 'build/CMakeFiles/limbeck.dir');
const reports = !existsSync(folder)
  ? []
  : (readdirSync(folder, { recursive: true }) as string[]).filter((file) => file.endsWith('.ptxas')).map((file) => path.join(folder, file));

interface Kernel {
  name: string;
  architecture: string;
  registers: number;
  stack: number;
  spills: number;
  /** Static shared memory. */
  shared: number;
}

function kernelsOf(report: string): Kernel[] {
  return report
    .split("Compiling entry function '")
    .slice(1)
    .map((part) => {
      const [, name = '', architecture = ''] = /^(\w+)' for '(\w+)'/.exec(part) ?? [];
      const [, stack, stores, loads] = /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/.exec(part) ?? [];
      const [, registers] = /Used (\d+) registers/.exec(part) ?? [];
      const [, shared = '0'] = /(\d+) bytes smem/.exec(part) ?? [];
      return {
        name,
        architecture,
        registers: Number(registers),
        stack: Number(stack),
        spills: Number(stores) + Number(loads),
        shared: Number(shared),
      };
    });
}

const kernels = reports.flatMap((file) => kernelsOf(readFileSync(file, 'utf8')));

// Those a training step or a capture spends its time in.
const hot =
  /divergence_(dense|sparse)|softmax_(backward_)?rows|capture_top_k|sample_rows|layer_norm|attention|adamw|sgd|lion|square_sums|scale_all|ema_tensors|bias_activation|unary|binary|matmul/;

const told = ({ name, architecture, registers, stack, spills }: Kernel): string =>
  `${name} (${architecture}): ${registers} registers, stack ${stack}, spills ${spills}`;

describe.skipIf(kernels.length === 0)('ptxas', () => {
  test('every report is read, for each architecture', () => {
    for (const { name, registers, stack, spills } of kernels) {
      expect(name).not.toBe('');
      for (const number of [registers, stack, spills]) expect(Number.isInteger(number), name).toBe(true);
    }
    expect(kernels.filter(({ name }) => hot.test(name)).length).toBeGreaterThan(70);
  });

  test('at most 400 kernels', () => {
    const architectures = new Set(kernels.map(({ architecture }) => architecture));
    expect(kernels.length / architectures.size).toBeLessThanOrEqual(400);
  });

  // What still spills, by the most bytes written and read: every thread for each row, not for each column.
  const spilling: { what: string; name: RegExp; most: number }[] = [
    // Two blocks of 256 threads leave a thread 128 registers. The assistant calls its formulas, beside what lists in double keep.
    { what: 'the assistant against a sparse target, on clusters', name: /divergence_sparse.*8assisted.*ClusterGroup/, most: 256 },
  ];

  test('hot kernels keep everything in registers', () => {
    const spilt = kernels.filter(({ name, stack, spills }) => hot.test(name) && (spills > 0 || stack > 0));
    expect(spilt.filter(({ name, spills }) => !spilling.some((one) => one.name.test(name) && spills <= one.most)).map(told)).toEqual([]);
  });

  // What the schedule assumes: two blocks of 256 threads where a block or a cluster has a row; three of four warps, which have a row each,
  // of a sparse target, whose lists are walked in double, and four of a dense one.
  test('as many blocks of a row kernel as its launch counts on fit a multiprocessor', () => {
    const row = /divergence_(dense|sparse)|softmax_(backward_)?rows|sample_rows|matmul_halves/;
    const threads = (name: string): number => (/divergence_sparse.*WarpGroup/.test(name) ? 3 * 128 : 2 * 256);
    const wide = kernels.filter(({ name, registers }) => row.test(name) && Math.ceil(registers / 8) * 8 * threads(name) > 65_536);
    expect(wide.map(told)).toEqual([]);
  });

  // limits.h asks for all of a block's shared memory but 4 KiB, of which the system takes one: the rest is for static variables.
  test('rows that wait in shared memory leave room for static variables', () => {
    const staged = kernels.filter(({ name }) => /divergence_(dense|sparse)|softmax_(backward_)?rows|sample_rows/.test(name));
    expect(staged.filter(({ shared }) => shared > 3072).map(({ name, shared }) => `${name}: ${shared} bytes`)).toEqual([]);
    expect(staged.some(({ shared }) => shared > 1024)).toBe(true);
  });
});

const nvcc = process.env['CUDACXX'] ?? 'nvcc';
const hasNvcc = spawnSync(nvcc, ['--version']).status === 0;

// All row kernels load, stage and store by the functions of native/cuda/rows.h: one of them shows what they become.
test.skipIf(!hasNvcc)(
  'the PTX of a row kernel has 16-byte accesses, asynchronous copies, clusters and no local memory',
  { timeout: 120_000 },
  () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'limbeck-ptx-'));
    try {
      const file = path.join(folder, 'softmax_backward.ptx');
      const source = path.join(root, 'native/ops/softmax_backward/cuda.cu');
      const given = [
        '-std=c++20',
        '-O3',
        '--expt-relaxed-constexpr',
        '-I',
        path.join(root, 'native'),
        '-arch=sm_90a',
        '-ptx',
        source,
        '-o',
        file,
      ];
      const made = spawnSync(nvcc, given, { encoding: 'utf8' });
      expect(made.status, made.stderr).toBe(0);
      const kernel = readFileSync(file, 'utf8')
        .split('.entry ')
        .find((text) => /^\w*softmax_backward_rows\w*ClusterGroup/.test(text))!;
      for (const expected of [
        /\bld(\.global)?(\.nc)?\.v4\.[bfu]32/,
        /\bst(\.global)?\.v4\.[bfu]32/,
        /\bld\.shared\.v4\.[bfu]32/,
        /cp\.async\.cg\.shared\.global \[\S+\], \[\S+\], 16;/,
        /mapa\.u64/,
        /barrier\.cluster\.arrive/,
      ])
        expect(kernel).toMatch(expected);
      expect(kernel).not.toMatch(/\.local\b/);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  },
);
