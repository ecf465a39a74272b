// Recordings of a teacher on disk, and rows drawn by domain.
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openRecording, recordTargets, type RecordingOptions } from '../src/distill/recording.js';
import { kdLoss } from '../src/losses/index.js';
import { captureTopK, sampleTarget } from '../src/targets/index.js';
import { hostCopy, randn, type Tensor } from '../src/tensor.js';
import { DomainSampler } from '../src/text/index.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'limbeck-recording-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const [ROWS, EACH, COLS] = [60, 16, 50];

/** The teacher: a row of the data always gives the same logits. */
function teacher(): { logits: (from: number, count: number) => Tensor; all: Tensor } {
  const all = randn([ROWS * EACH, COLS], { seed: 3 });
  const values = all.data as Float32Array;
  return {
    all,
    logits: (from, count) => {
      const part = randn([count * EACH, COLS], { seed: 1 });
      (part.data as Float32Array).set(values.subarray(from * EACH * COLS, (from + count) * EACH * COLS));
      return part;
    },
  };
}

const options = (change: Partial<RecordingOptions>): RecordingOptions => ({
  rows: ROWS,
  rowsEach: EACH,
  cols: COLS,
  seed: 7,
  hash: 'sha256:rows',
  rowsAtOnce: 8,
  logits: teacher().logits,
  ...change,
});

const numbersOf = (tensor: Tensor | null) => [...(hostCopy(tensor!, 'test') as Float32Array)];

describe('recordings', () => {
  it('give back the k best of any rows, in their order', async () => {
    const path = join(folder, 'best');
    const done: number[] = [];
    const facts = await recordTargets(path, options({ k: 8, temperature: 2, bits: 16, onRows: (rows) => done.push(rows) }));
    expect(done).toEqual([8, 16, 24, 32, 40, 48, 56, 60]);
    expect(facts).toMatchObject({ rows: ROWS * EACH, k: 8, kind: 'log_probs' });
    const whole = captureTopK(teacher().all, 8, { temperature: 2 });
    const tails = numbersOf(whole.tailLogMass);
    expect(facts!.meanTail).toBeCloseTo(tails.reduce((sum, tail) => sum + Math.exp(tail), 0) / tails.length, 6);
    const recording = await openRecording(path, { rowsEach: EACH, hash: 'sha256:rows' });
    expect(recording.temperature).toBe(2);
    const rows = [41, 3, 41];
    const target = recording.rows(rows);
    const expected = whole.rows(rows.flatMap((row) => Array.from({ length: EACH }, (_, i) => row * EACH + i)));
    expect(numbersOf(target.indices)).toEqual(numbersOf(expected.indices));
    const [was, is] = [numbersOf(expected.logProbs), numbersOf(target.logProbs)];
    is.forEach((value, i) => expect(Math.abs(value - was[i]!)).toBeLessThan(2e-4));
    expect(() => recording.rows([60])).toThrow(RangeError);
    await recording.close();
    await expect(openRecording(path, { rowsEach: EACH, hash: 'sha256:others' })).rejects.toThrow(/sha256:others/);
  });

  it('of drawn entries are those of one draw over all rows, counts exactly', async () => {
    const path = join(folder, 'drawn');
    const facts = await recordTargets(path, options({ sample: { draws: 12 } }));
    expect(facts).toMatchObject({ kind: 'counts', meanTail: 0 });
    const whole = sampleTarget(teacher().all, 12, { seed: 7 });
    const recording = await openRecording(path, { rowsEach: EACH, hash: 'sha256:rows' });
    const target = recording.rows(Array.from({ length: ROWS }, (_, i) => i));
    expect(numbersOf(target.indices)).toEqual(numbersOf(whole.indices));
    expect(numbersOf(target.weights)).toEqual(numbersOf(whole.weights));
    await recording.close();
  });

  it('of text are one token a row, whose loss is cross-entropy with it', async () => {
    const path = join(folder, 'text');
    const facts = await recordTargets(path, options({ access: 'text' }));
    expect(facts!.bytesPerRow).toBeLessThan(8);
    const recording = await openRecording(path, { rowsEach: EACH, hash: 'sha256:rows' });
    const target = recording.rows([5]);
    const logits = teacher().logits(5, 1);
    const values = logits.data as Float32Array;
    for (let r = 0; r < EACH; r++) {
      const row = [...values.subarray(r * COLS, (r + 1) * COLS)];
      expect((hostCopy(target.indices, 'test') as Int32Array)[r]).toBe(row.indexOf(Math.max(...row)));
    }
    const student = randn([EACH, COLS], { seed: 2 });
    const loss = kdLoss(student, target, { reduction: 'none' });
    const z = student.data as Float32Array;
    const ids = hostCopy(target.indices, 'test') as Int32Array;
    numbersOf(loss).forEach((value, r) => {
      const row = [...z.subarray(r * COLS, (r + 1) * COLS)];
      const expected = Math.log(row.reduce((sum, x) => sum + Math.exp(x), 0)) - row[ids[r]!]!;
      expect(value).toBeCloseTo(expected, 4);
    });
    await recording.close();
    const drawn = await recordTargets(join(folder, 'drawn text'), options({ access: 'text', sample: { draws: 1 } }));
    expect(drawn!.k).toBe(1);
  });

  it('that are stopped go on to the same bytes', async () => {
    const bytesOf = (path: string) => readdirSync(path).map((name) => readFileSync(join(path, name)));
    const whole = join(folder, 'whole');
    const stopped = join(folder, 'stopped');
    for (const sample of [{ draws: 5, method: 'race' as const }, { draws: 9 }]) {
      await recordTargets(`${whole}${sample.draws}`, options({ sample }));
      let sittings = 0;
      let facts = null;
      while (facts === null) {
        sittings++;
        facts = await recordTargets(`${stopped}${sample.draws}`, options({ sample, isStopped: () => true }));
      }
      expect(sittings).toBe(8);
      expect(bytesOf(`${stopped}${sample.draws}`)).toEqual(bytesOf(`${whole}${sample.draws}`));
      expect(await recordTargets(`${whole}${sample.draws}`, options({ sample }))).toEqual(facts);
    }
  });

  it.each([
    [{}, 'k or sample must be given'],
    [{ k: 51 }, 'k must be a whole number in [1, 50]'],
    [{ k: 3, sample: { draws: 3 } }, 'must not both be given'],
    [{ access: 'topk', sample: { draws: 3 } }, "must not be given with access 'topk'"],
    [{ access: 'text', sample: { draws: 3 } }, "must be 1 with access 'text'"],
    [{ access: 'text', k: 2 }, 'which is one token'],
    [{ access: 'weights', k: 2 }, "access must be 'full', 'topk' or 'text'"],
    [{ k: 3, temperature: 0 }, 'temperature must be positive'],
  ])('refuse %j', async (change, text) => {
    await expect(recordTargets(join(folder, 'refused'), options(change as never))).rejects.toThrow(text);
  });
});

describe('domain-weighted sampling', () => {
  const domains = Uint8Array.from({ length: 100 }, (_, row) => (row < 60 ? 0 : row < 90 ? 1 : 2));
  const make = (change = {}) => new DomainSampler({ domains, names: ['a', 'b', 'c'], seed: 5, ...change });

  it('begins with the shares of the rows and follows the rule of DDK', () => {
    const sampler = make({ alpha: 0.8 });
    expect(sampler.weights).toEqual({ a: 0.6, b: 0.3, c: 0.1 });
    sampler.update({ a: 20, b: 30, c: 25 }, { a: 20, b: 20, c: 10 });
    const psi = [0.6 * Math.exp(1), 0.3 * Math.exp(1.5), 0.1 * Math.exp(2.5)];
    const sum = psi.reduce((x, y) => x + y);
    Object.values(sampler.weights).forEach((weight, d) => expect(weight).toBeCloseTo((0.8 * psi[d]!) / sum + 0.2 / 3, 12));
    sampler.update({ a: 1e9, b: 1, c: 1 }, { a: 1, b: 1, c: 1 });
    expect(sampler.weights['a']).toBeCloseTo(0.8 + 0.2 / 3, 12);
  });

  it('draws by the weights, every row of a domain once before one comes again', () => {
    const sampler = make({ weights: { a: 1, b: 1, c: 2 } });
    const counts = [0, 0, 0];
    const rows = sampler.draw(4000);
    for (const row of rows) counts[domains[row]!]!++;
    // Four standard deviations of a share p are 4·√(p(1 − p)/4000), 0.032 at most.
    [0.25, 0.25, 0.5].forEach((share, d) => expect(Math.abs(counts[d]! / 4000 - share)).toBeLessThan(0.032));
    const ofC = [...rows].filter((row) => domains[row] === 2);
    expect(new Set(ofC.slice(0, 10)).size).toBe(10);
    expect(new Set(ofC.slice(10, 20)).size).toBe(10);
    expect(ofC.slice(0, 10)).not.toEqual(ofC.slice(10, 20));
  });

  it('goes on exactly, in any portions', () => {
    const one = make();
    const first = one.draw(37);
    one.update({ a: 5, b: 5, c: 9 }, { a: 4, b: 4, c: 4 });
    const saved = JSON.parse(JSON.stringify(one.state())) as ReturnType<typeof one.state>;
    const rest = one.draw(200);
    const two = make();
    expect(two.draw(37)).toEqual(first);
    two.restore(saved);
    expect([...two.draw(11), ...two.draw(189)]).toEqual([...rest]);
    expect(two.state()).toEqual(one.state());
  });

  it.each([
    [() => make({ domains: [0, 3] }), 'domains must be whole numbers in [0, 2]'],
    [() => make({ domains: [0, 1] }), "'c' has none"],
    [() => make({ weights: { d: 1 } }), "'d' is none"],
    [() => make({ weights: { a: 0 } }), 'not all 0'],
    [() => make({ alpha: 1.5 }), 'alpha must be in [0, 1]'],
    [() => make().update({ a: 1, b: 1, c: 0.5 }, { a: 1, b: 1, c: 1 }), "student['c'] must be a finite perplexity"],
    [() => make().update({ a: 1, b: 1 }, { a: 1, b: 1, c: 1 }), "student must have a perplexity for 'c'"],
    [() => make().restore({ weights: [1], drawn: [0] }), 'one number for each of 3 domains'],
  ])('refuses %#', (call, text) => {
    expect(call).toThrow(text);
  });
});
