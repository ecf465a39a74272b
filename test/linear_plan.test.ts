// The plans of linearKdLoss: never more than the scratch they are given, and nothing written over what is still to be read.
import { expect, test } from 'vitest';
import { planOf, type Plan, type Shape } from '../src/losses/linear_plan.js';
import { integers } from './random.js';

const shapeOf = (rows: number, cols: number, inputs: number, more: Partial<Shape> = {}): Shape => ({
  rows,
  cols,
  inputs,
  perRow: Math.ceil(cols / 8) * 16 + 64,
  scratch: 478e6,
  longest: Infinity,
  beside: 0,
  isGathered: true,
  mayKeep: true,
  copy: 0,
  skipped: 0,
  ...more,
});

const bytesOf = ({ chunk, room }: Plan, { perRow, beside }: Shape): number => chunk * perRow + room + beside;

/** Where the sums or kept blocks of a part lie in the gradient [cols, inputs] of two bytes, and which of its bytes each later product writes. */
function checkParts({ way, parts, width, room }: Plan, { rows, cols, inputs, skipped, copy }: Shape): void {
  const line = 2 * inputs;
  let to = cols;
  for (const part of parts) {
    expect(part.to).toBe(to);
    expect(part.from).toBeGreaterThanOrEqual(0);
    expect(part.from).toBeLessThan(to);
    to = part.from;
    if (way === 'sums') {
      expect(part.inRoom * 4 * inputs).toBeLessThanOrEqual(room);
      const outside = part.to - part.from - part.inRoom;
      // Rounded sums are written behind all sums.
      if (outside > 0) expect(skipped + outside * 4 * inputs).toBeLessThanOrEqual(part.from * line);
    }
    if (way === 'kept') {
      const block = 2 * rows * width;
      expect(part.inRoom * block + copy).toBeLessThanOrEqual(room);
      expect(width % 8).toBe(0);
      for (let b = part.inRoom; part.from + b * width < part.to; b++) {
        const end = skipped + (b - part.inRoom + 1) * block;
        expect(end).toBeLessThanOrEqual((part.from + b * width) * line);
      }
    }
  }
  expect(to).toBe(0);
}

test('4,096 rows of 128,256 columns and 4,096 inputs: one walk, nothing summed; more rows cost further walks', () => {
  const at = (rows: number, cols = 128256, inputs = 4096): Plan => planOf(shapeOf(rows, cols, inputs));
  expect(at(4096)).toMatchObject({ way: 'kept', chunk: 1536, parts: { length: 1 } });
  expect(at(5120)).toMatchObject({ way: 'kept', parts: { length: 1 } });
  expect(at(8192)).toMatchObject({ way: 'kept', parts: { length: 3 } });
  expect(at(65536)).toMatchObject({ way: 'sums', parts: { length: 5 } });
  expect(at(8192, 50257, 768)).toMatchObject({ way: 'sums', parts: { length: 1 } });
  expect(at(1000)).toMatchObject({ way: 'direct', chunk: 1000, room: 0 });
});

test('any shape and scratch: parts follow each other, fit, and lie over nothing that is still read', () => {
  const ways = new Map<string, number>();
  for (let seed = 0; seed < 600; seed++) {
    const [rows, cols, inputs, rest] = integers(seed, 4, 1, 1 << 16) as unknown as [number, number, number, number];
    const small = seed % 3 === 0;
    const shape = shapeOf(1 + (rows % (small ? 40 : 9000)), 1 + (cols % (small ? 90 : 60000)), 1 + (inputs % (small ? 30 : 3000)), {
      longest: seed % 4 === 0 ? 512 : Infinity,
      mayKeep: seed % 5 !== 0,
      skipped: (rest % 8) * 2,
      copy: seed % 7 === 0 ? 16 * (rest % 1000) : 0,
      beside: seed % 11 === 0 ? 4 * (1 + (cols % 90)) : 0,
    });
    const least = shape.perRow + shape.beside + 4 * shape.inputs;
    // From just enough to all of it at once.
    const scratch = Math.floor(least * (1 + ((rest % 97) / 96) ** 4 * 1.2 * shape.rows));
    const given = { ...shape, scratch };
    const plan = planOf(given);
    if (plan.way !== 'direct' || plan.chunk < shape.rows) expect(bytesOf(plan, given)).toBeLessThanOrEqual(scratch);
    expect(plan.chunk).toBeGreaterThanOrEqual(1);
    expect(plan.chunk).toBeLessThanOrEqual(Math.min(shape.rows, shape.longest));
    checkParts(plan, given);
    const name = `${plan.way}, ${plan.parts.length > 1 ? 'parts' : 'one'}`;
    ways.set(name, (ways.get(name) ?? 0) + 1);
  }
  for (const name of ['direct, one', 'sums, one', 'sums, parts', 'kept, one', 'kept, parts'])
    expect(ways.get(name), name).toBeGreaterThan(5);
});
