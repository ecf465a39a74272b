// Probes: each runs small and finds what theory foretells, their options are checked, and a loss broken on purpose is found.
import { readFileSync } from 'node:fs';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { probeOptions, probes, runProbe } from '../src/distill/probes/index.js';
import * as losses from '../src/losses/index.js';
import * as targets from '../src/targets/index.js';
import { scale } from '../src/index.js';

// The probes call the library through its own modules: there a function can be put in another's place.
vi.mock('../src/losses/index.js', async (original) => ({ ...(await original<typeof losses>()) }));
vi.mock('../src/targets/index.js', async (original) => ({ ...(await original<typeof targets>()) }));
afterEach(() => vi.restoreAllMocks());

/** Bounds of every value: [least, most]. */
const expected: Record<string, { options?: object; values: Record<string, [number, number]> }> = {
  hinton_gradient: {
    options: { rows: 16, cols: 40 },
    values: {
      squaredRatio: [1, 1.6],
      plainRatio: [300, 1e4],
      limitError: [0, 1e-3],
      float16Error: [0, 2e-3],
      bfloat16Error: [0, 2e-2],
      maskedLargest: [0, 0],
      unmaskedLeast: [1e-3, 10],
    },
  },
  softening_axioms: {
    options: { rows: 8, cols: 20 },
    values: {
      rankBroken: [0, 0],
      jump: [0, 1e-5],
      entropyLeastRise: [1e-9, 10],
      identityGap: [0, 1e-15],
      'hotGap.power': [0, 1e-9],
      'hotGap.uniform_mix': [0, 1e-9],
      'hotGap.odds': [0, 1e-9],
      'hotGap.log_link': [0, 0.05],
      powerGap: [0, 1e-6],
    },
  },
  softening_equivalence: {
    options: { rows: 20, inputs: 8, cols: 5, steps: 20 },
    values: { sameClassGap: [0, 1e-6], composedGap: [0, 1e-6], otherClassGap: [1e-3, 1], moved: [0.05, 1] },
  },
  recursion_exact: {
    options: { generations: 20 },
    values: {
      excess: [-1, 1e-9],
      geometricGap: [0, 1],
      unanchoredRatio: [1 - 1e-9, 1 + 1e-9],
      driftAnchored: [0, 0.3],
      driftUnanchored: [0.5, 5],
      fixedPointGap: [0, 0.02],
      startGap: [0.1, 1],
    },
  },
  kernel_toy: {
    values: {
      limitGap: [0, 1e-12],
      settledNorm: [0.3, 1],
      collapsedNorm: [0, 0.05],
      settledLoss: [0, 0.3],
      collapsedLoss: [0.3, 3],
      contraction: [0, 0.65],
    },
  },
  sampled_unbiased: {
    options: { cols: 60, draws: 8, targets: 2000 },
    values: {
      chiSquare: [-4, 4],
      'deviation.with_replacement': [0.7, 1.4],
      'deviation.race': [0.7, 1.4],
      'deviation.head_tail': [0.6, 1.4],
      'gradientError.with_replacement': [0, 0.05],
      'gradientError.race': [0, 0.05],
      'gradientError.head_tail': [0, 0.05],
      'gradientError.topk_truncate': [0.1, 5],
      'gradientError.topk_renormalize': [0.1, 5],
      kernelGap: [0, 1e-6],
    },
  },
  tinyvit_target: {
    options: { rows: 8, cols: 300 },
    values: { sumGap: [0, 1e-6], gradientGap: [0, 1e-5], lossGap: [0, 1e-5], stateArrays: [0.9, 1.1], targetShare: [0.01, 0.2] },
  },
  taid_properties: {
    options: { steps: 100 },
    values: {
      leastRise: [0, 1],
      lead: [0.01, 0.6],
      lineGap: [0, 1e-12],
      endGap: [0, 1e-12],
      fullGap: [0, 0],
      frozenError: [0, 1e-6],
      movingGap: [0.1, 10],
    },
  },
  amid_identities: {
    values: { skewGap: [0, 1e-9], geometricGap: [0, 1e-9], plainGap: [0, 1e-9], gradientError: [0, 1e-8], notFinite: [0, 0] },
  },
  pld_identities: {
    options: { wide: 1000 },
    values: {
      crossEntropyGap: [0, 1e-9],
      listMleGap: [0, 1e-5],
      offsetGap: [0, 1e-9],
      tieGap: [0, 0],
      gradientError: [0, 1e-9],
      wideSum: [0, 1e-4],
      wideLoss: [1, 100],
    },
  },
  bild_identities: {
    options: { k: 5 },
    values: {
      pairLoss: [0, 0],
      forwardGap: [0, 1e-9],
      reverseGap: [0, 1e-9],
      gradientError: [0, 1e-9],
      offsetGap: [0, 1e-9],
      strayGradients: [0, 0],
      missingGradients: [0, 0],
      bothGap: [0, 1e-12],
    },
  },
  selection_rules: {
    options: { rows: 60 },
    values: {
      keptGap: [0, 0],
      weightsGrad: [0, 0],
      gradientGap: [0, 0],
      acceptanceGap: [0, 1e-9],
      acceptance: [0.05, 0.6],
      wholeGap: [0, 1e-6],
      unchosenLargest: [0, 0],
    },
  },
  adakd_temperatures: {
    values: {
      rowGap: [0, 1e-5],
      scoreGap: [0, 1e-5],
      formulaGap: [0, 1e-5],
      outOfBounds: [0, 0],
      spread: [1.5, Math.exp(1) + 1e-6],
      traceGap: [0, 1e-9],
    },
  },
};

/** Values outside of their bounds. */
async function broken(name: string, seed = 1): Promise<string[]> {
  const { options, values: bounds } = expected[name]!;
  const { values } = await runProbe(name, { ...options }, { device: 'cpu', seed });
  return Object.entries(bounds)
    .filter(([key, [least, most]]) => !(values[key]! >= least && values[key]! <= most))
    .map(([key]) => `${key} is ${values[key]}`);
}

describe('probes', () => {
  it('are all tried here, and say what each of their values is', async () => {
    expect(Object.keys(expected).sort()).toEqual(Object.keys(probes).sort());
    for (const [name, { options, values }] of Object.entries(expected)) {
      const result = await runProbe(name, { ...options }, { device: 'cpu', seed: 1 });
      expect(Object.keys(result.values).sort(), name).toEqual(Object.keys(probes[name]!.values).sort());
      expect(Object.keys(values).sort(), name).toEqual(Object.keys(probes[name]!.values).sort());
      for (const { x, lines } of result.series ?? [])
        for (const line of lines) {
          expect(line.values.length, `${name}: ${line.name}`).toBe(x.values.length);
          expect(line.values.every(Number.isFinite), `${name}: ${line.name}`).toBe(true);
        }
    }
  });

  it.each(Object.keys(expected))('%s finds what theory says, for several seeds', async (name) => {
    for (const seed of [1, 2, 3]) expect(await broken(name, seed)).toEqual([]);
  });

  it('are on their page with every option and value', () => {
    const page = readFileSync('docs/guides/probes.md', 'utf8');
    const parts = new Map(page.split(/^## /m).map((part) => [part.split('\n')[0]!, part]));
    for (const { name, options, values } of Object.values(probes)) {
      expect(parts.has(name), name).toBe(true);
      for (const each of [...Object.keys(options), ...Object.keys(values)]) expect(parts.get(name), name).toContain(`\`${each}\``);
    }
  });

  it('give the same numbers for the same seed, and others for another', async () => {
    const values = async (seed: number) => (await runProbe('hinton_gradient', { rows: 8, cols: 10 }, { device: 'cpu', seed })).values;
    expect(await values(1)).toEqual(await values(1));
    expect(await values(1)).not.toEqual(await values(2));
  });
});

describe('a probe fails where the library is wrong', () => {
  it('a loss that forgets T²', async () => {
    const { kdLoss } = losses;
    vi.spyOn(losses, 'kdLoss').mockImplementation((z, t, options) => kdLoss(z, t, { ...options, temperatureSquared: false }));
    expect((await broken('hinton_gradient')).join()).toContain('squaredRatio');
  });

  it('a mixture that forgets its anchor', async () => {
    const { mixTargets } = targets;
    vi.spyOn(targets, 'mixTargets').mockImplementation(((parts: { target: never }[]) =>
      mixTargets([{ target: parts[1]!.target, weight: 1 }])) as never);
    expect((await broken('recursion_exact')).join()).toContain('excess');
  });

  it('draws at another temperature', async () => {
    const { sampleTarget } = targets;
    vi.spyOn(targets, 'sampleTarget').mockImplementation((logits, draws, options) =>
      sampleTarget(logits, draws, { ...options, temperature: 1.2 }),
    );
    expect((await broken('sampled_unbiased')).join()).toMatch(/chiSquare.*deviation/);
  });

  it('a gradient through TAID’s target', async () => {
    const { kdLoss } = losses;
    // Half the gradient, the loss as it was.
    vi.spyOn(losses, 'kdLoss').mockImplementation((z, t, options) => scale(kdLoss(z, t, options), 0.5));
    const found = (await broken('taid_properties')).join();
    expect(found).toContain('frozenError');
    expect((await broken('amid_identities')).join()).toContain('gradientError');
  });

  it('PLD whose temperature divides the student too', async () => {
    const { plackettLuceLoss } = losses;
    vi.spyOn(losses, 'plackettLuceLoss').mockImplementation((z, t, options) =>
      plackettLuceLoss(scale(z, 1 / ((options?.temperature as number | undefined) ?? 1)), t, options),
    );
    expect((await broken('pld_identities')).join()).toMatch(/listMleGap.*gradientError/);
  });

  it('a mask that keeps one row too many', async () => {
    const { topFractionMask } = losses;
    vi.spyOn(losses, 'topFractionMask').mockImplementation((scores, keep) => topFractionMask(scores, Math.min(1, keep + 1 / scores.size)));
    expect((await broken('selection_rules')).join()).toContain('keptGap');
  });
});

describe('options of probes', () => {
  const refused = (name: string, options: Record<string, unknown>): string => {
    try {
      probeOptions(probes[name]!, options, (text) => {
        throw new TypeError(text);
      });
    } catch (error) {
      return (error as Error).message;
    }
    return '';
  };

  it('have defaults, bounds and errors with names', async () => {
    expect(refused('kernel_toy', {})).toBe('');
    expect(refused('kernel_toy', { alhpa: 0.5 })).toBe('.options has no field "alhpa": did you mean "alpha"?');
    expect(refused('kernel_toy', { alpha: 2 })).toBe('.options.alpha must be a number in [0.01, 1]: it is 2');
    expect(refused('kernel_toy', { points: 2.5 })).toContain('.options.points must be a whole number');
    expect(refused('hinton_gradient', { temperatures: 3 })).toContain('.options.temperatures must be a list of numbers');
    expect(refused('hinton_gradient', { temperatures: [] })).toContain('must be a list');
    await expect(runProbe('kernel_toi', {}, { device: 'cpu', seed: 1 })).rejects.toThrow('did you mean "kernel_toy"?');
    await expect(runProbe('kernel_toy', { alpha: NaN }, { device: 'cpu', seed: 1 })).rejects.toThrow('options.alpha must be a number');
  });
});
