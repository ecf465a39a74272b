// What ptxas said of the CUDA kernels when they were built: no spills, no local memory, registers for the blocks they are launched with.
import { existsSync, readdirSync, readFileSync } from 'node:fs';
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
}

function kernelsOf(report: string): Kernel[] {
  return report
    .split("Compiling entry function '")
    .slice(1)
    .map((part) => {
      const [, name = '', architecture = ''] = /^(\w+)' for '(\w+)'/.exec(part) ?? [];
      const [, stack, stores, loads] = /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/.exec(part) ?? [];
      const [, registers] = /Used (\d+) registers/.exec(part) ?? [];
      return { name, architecture, registers: Number(registers), stack: Number(stack), spills: Number(stores) + Number(loads) };
    });
}

const kernels = reports.flatMap((file) => kernelsOf(readFileSync(file, 'utf8')));

// Those a training step or a capture spends its time in.
const hot =
  /divergence_(dense|sparse)|softmax_rows|capture_top_k|sample_rows|layer_norm|attention|adamw|sgd|lion|square_sums|bias_activation|unary|binary/;

const rarer = /divergence_sparse|assisted/;
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

  test('hot kernels keep everything in registers', () => {
    const spilt = kernels.filter(({ name, stack, spills }) => hot.test(name) && !rarer.test(name) && (spills > 0 || stack > 0));
    expect(spilt.map(told)).toEqual([]);
  });

  // The support of a sparse target is computed in double: its numbers do not all fit beside those of the walk. What spills is written and
  // read a few times for each row, not for each element; with more registers one block instead of two would fit a multiprocessor.
  test('sparse targets spill little, the assistant a little more', () => {
    const wide = kernels.filter(({ name, spills }) => rarer.test(name) && spills > (/assisted/.test(name) ? 1200 : 800));
    expect(wide.map(told)).toEqual([]);
  });

  test('two blocks of a row kernel fit a multiprocessor', () => {
    const wide = kernels.filter(
      ({ name, registers }) => /divergence_(dense|sparse)|softmax_rows/.test(name) && registers * 256 * 2 > 65_536,
    );
    expect(wide.map(told)).toEqual([]);
  });
});
