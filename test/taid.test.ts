// TAID's schedule: a trace by hand, the straight line without adaptation, never falling, and going on from a checkpoint.
import { describe, expect, test } from 'vitest';
import { TaidScheduler, tensor, type TaidOptions, type TaidState } from '../src/index.js';
import { random } from './random.js';

function trace(options: TaidOptions, losses: readonly number[]): number[] {
  const taid = new TaidScheduler(options);
  return losses.map((loss) => taid.update(loss));
}

describe('TaidScheduler', () => {
  test('a trace by hand: α 0.5, ten steps', () => {
    const ts = trace({ steps: 10, alpha: 0.5 }, [2, 1.5, 1.8, 1.8]);
    // m = 0.01·0.25; t = 0.4 + 0.5·σ(0.0025)·0.6 is above the line's 0.46
    // m = 0.99·0.0025 − 0.01·0.2 = 0.000475; t = 0.5501875 + 0.5·σ(0.000475)·0.4498125
    // m = 0.99·0.000475; t = 0.6626673 + 0.5·σ(0.00047025)·0.3373327
    const expected = [0.4, 0.5501874999, 0.6626673325, 0.7470203282];
    ts.forEach((t, i) => expect(Math.abs(t - expected[i]!) <= 1e-8, `step ${i}: ${t}`).toBe(true));
  });

  test('with the published settings the line leads where it is ahead', () => {
    const ts = trace({ steps: 4 }, [3, 2, 1, 0.5, 0.4, 0.3]);
    [0.4, 0.55, 0.7, 0.85, 1, 1].forEach((t, i) => expect(ts[i]).toBeCloseTo(t, 12));
    const slow = trace({ steps: 1e9 }, [3, 1]);
    expect(slow[1]).toBeCloseTo(0.4 + (5e-4 * 0.6) / (1 + Math.exp(-0.01 * (2 / 3))), 12);
  });

  test('adaptation off: the straight line, whatever the loss', () => {
    const next = random(1);
    for (const [tStart, tEnd, steps] of [
      [0.4, 1, 100],
      [0, 0.5, 7],
      [0.3, 0.3, 10],
    ] as const) {
      const losses = Array.from({ length: 2 * steps }, () => 10 * next());
      trace({ steps, tStart, tEnd, adaptive: false, alpha: 1 }, losses).forEach((t, n) =>
        expect(t).toBeCloseTo(tStart + (tEnd - tStart) * Math.min(1, n / steps), 12),
      );
    }
  });

  test('never falls, never leaves its range, never lags the line; α 0 is the line', () => {
    const next = random(2);
    for (const alpha of [0, 5e-4, 0.1, 1])
      for (const beta of [0, 0.9, 1]) {
        const losses = Array.from({ length: 300 }, () => 5 * next() ** 8);
        let before = 0.4;
        trace({ steps: 200, alpha, beta }, losses).forEach((t, n) => {
          expect(t).toBeGreaterThanOrEqual(before);
          expect(t).toBeLessThanOrEqual(1);
          const line = 0.4 + 0.6 * Math.min(1, n / 200);
          expect(t).toBeGreaterThanOrEqual(line - 1e-15);
          if (alpha === 0) expect(t).toBeCloseTo(line, 12);
          before = t;
        });
      }
  });

  test('a falling loss speeds it up and a rising one slows it down', () => {
    const options = { steps: 1e6, alpha: 0.01, beta: 0.5 };
    const end = (losses: number[]): number => trace(options, losses).at(-1)!;
    const flat = end([1, 1, 1, 1, 1]);
    expect(end([1, 0.5, 0.25, 0.1, 0.05])).toBeGreaterThan(flat);
    expect(end([1, 2, 4, 8, 16])).toBeLessThan(flat);
  });

  test('goes on from a state through JSON as if nothing had happened', () => {
    const next = random(3);
    const losses = Array.from({ length: 40 }, () => 1 + next());
    const options = { steps: 100, alpha: 0.05 };
    const whole = trace(options, losses);
    for (const cut of [0, 1, 17]) {
      const first = new TaidScheduler(options);
      for (const loss of losses.slice(0, cut)) first.update(loss);
      const second = new TaidScheduler(options);
      second.load(JSON.parse(JSON.stringify(first.state())) as TaidState);
      expect(second.t).toBe(first.t);
      expect(losses.slice(cut).map((loss) => second.update(loss))).toEqual(whole.slice(cut));
    }
    const taid = new TaidScheduler(options);
    taid.state().t = 0.9;
    expect(taid.t).toBe(0.4);
  });

  test('a loss may be a Tensor; a loss of 0 is no accident', () => {
    const taid = new TaidScheduler({ steps: 10 });
    taid.update(tensor([2]));
    expect(taid.update(tensor([0]))).toBeCloseTo(0.46, 12);
    expect(taid.update(0)).toBeCloseTo(0.52, 12);
  });

  test('what it refuses', () => {
    const make = (options: object) => () => new TaidScheduler(options as TaidOptions);
    const taid = new TaidScheduler({ steps: 10 });
    const load = (state: object | undefined) => () => taid.load(state as TaidState);
    const good = { step: 3, t: 0.5, momentum: 0, previousLoss: 1 };
    for (const [fn, message] of [
      [make({}), 'TypeError: Cannot make a TAID schedule: steps must be a number: it is missing'],
      [make({ steps: 0 }), 'RangeError: Cannot make a TAID schedule: steps must be a whole number of at least 1: it is 0'],
      [make({ steps: 1, tStart: 1 }), 'RangeError: Cannot make a TAID schedule: tStart must be in [0, 1): it is 1'],
      [make({ steps: 1, tEnd: 0.3 }), 'RangeError: Cannot make a TAID schedule: tEnd must be above 0 and at least tStart (0.4): it is 0.3'],
      [make({ steps: 1, alpha: 2 }), 'RangeError: Cannot make a TAID schedule: alpha must be in [0, 1]: it is 2'],
      [
        make({ steps: 1, gamma: 2 }),
        "TypeError: Cannot make a TAID schedule: options must be among steps, tStart, tEnd, alpha, beta, adaptive: 'gamma' is not",
      ],
      [() => taid.update(NaN), 'RangeError: Cannot update a TAID schedule: loss must be finite and at least 0: it is NaN'],
      [() => taid.update('1' as never), "TypeError: Cannot update a TAID schedule: loss must be a number or a Tensor: it is '1'"],
      [load(undefined), 'TypeError: Cannot load a TAID schedule: state must be an object: it is missing'],
      [load({ ...good, t: 0.2 }), 'RangeError: Cannot load a TAID schedule: t must be in [0.4, 1]: it is 0.2'],
      [
        load({ ...good, previousLoss: null }),
        'RangeError: Cannot load a TAID schedule: previousLoss must be null at step 0 and a number after it: it is null at step 3',
      ],
      [load({ ...good, momentum: Infinity }), 'RangeError: Cannot load a TAID schedule: momentum must be finite: it is Infinity'],
    ] as const) {
      let said = 'nothing';
      try {
        fn();
      } catch (error) {
        said = `${(error as Error).constructor.name}: ${(error as Error).message}`;
      }
      expect(said.slice(0, message.length)).toBe(message);
    }
    expect(taid.state()).toEqual({ step: 0, t: 0.4, momentum: 0, previousLoss: null });
  });
});
