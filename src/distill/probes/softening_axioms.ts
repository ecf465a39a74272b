// The five axioms of softening operators, on random rows; and that 'power' is what a temperature does to logits.
import { tidy } from '../../autograd.js';
import { soften, softeningOperators, softmax } from '../../ops/index.js';
import { asTensor, entropyOf, largestGap, normals, numbersOf, rowOf, softmaxOf, widest } from './numbers.js';
import type { Probe } from './types.js';

/** Item 1: rank, continuity, entropy, identity and limits of every operator. */
export const softeningAxioms: Probe = {
  name: 'softening_axioms',
  says: 'The five axioms of the Sparse KD framework for every softening operator, and that power equals softmax(u/T).',
  source: 'Flouro & Chadwick 2026 (arXiv 2601.03195); the wording of the axioms is ours',
  options: {
    rows: { says: 'Random rows.', default: 32, least: 1, most: 65536, whole: true },
    cols: { says: 'Outcomes.', default: 50, least: 2, most: 65536, whole: true },
    spread: { says: 'Standard deviation of the logits.', default: 2, least: 0, most: 30 },
    temperatures: { says: 'Rising temperatures, from 1 on.', default: [1, 1.5, 2, 3, 5, 10, 100], least: 1, most: 1e6 },
    hot: { says: 'The temperature of the limit.', default: 1e30, least: 10, most: 1e37 },
  },
  values: {
    rankBroken: 'pairs of neighbours in rank that an operator turns over (axiom 1)',
    jump: 'largest change of a probability when the temperature grows by a millionth of itself (axiom 2)',
    entropyLeastRise: 'smallest rise of the entropy from one temperature to the next (axiom 3)',
    identityGap: 'largest |S₁(p) − p| (axiom 4)',
    'hotGap.power': 'largest distance from the limit at the hot temperature (axiom 5); one for each operator',
    'hotGap.uniform_mix': 'the same',
    'hotGap.odds': 'the same',
    'hotGap.log_link': 'the same, relative to the distance at T = 2: this one approaches its limit as 1/ln T',
    powerGap: 'largest |S_T(softmax(u)) − softmax(u/T)| of power in float32',
  },
  run(options, { device, seed }) {
    const { rows, cols, spread, hot } = options as Record<string, number>;
    const temperatures = options['temperatures'] as readonly number[];
    return tidy(() => {
      const u = normals(rows! * cols!, seed, spread);
      const p = softmaxOf(u, cols!);
      const probs = asTensor(p, cols!, device, widest(device));
      const given = numbersOf(probs);
      const values: Record<string, number> = { rankBroken: 0, jump: 0, entropyLeastRise: Infinity, identityGap: 0 };
      const entropies: { name: string; values: number[] }[] = [];
      for (const { name: operator, hot: limit } of softeningOperators) {
        const at = (temperature: number): Float64Array => numbersOf(soften(probs, { operator, temperature }));
        const all = temperatures.map(at);
        temperatures.forEach((temperature, i) => {
          const nudged = at(temperature * (1 + 1e-6));
          values['jump'] = Math.max(values['jump']!, largestGap(nudged, all[i]!));
        });
        for (let r = 0; r < rows!; r++) {
          const order = Array.from({ length: cols! }, (_, c) => c).sort((a, b) => given[r * cols! + b]! - given[r * cols! + a]!);
          for (const softened of all) {
            const row = rowOf(softened, r, cols!);
            for (let c = 1; c < cols!; c++) if (row[order[c - 1]!]! < row[order[c]!]!) values['rankBroken']!++;
          }
          for (let i = 1; i < all.length; i++) {
            const rise = entropyOf(rowOf(all[i]!, r, cols!)) - entropyOf(rowOf(all[i - 1]!, r, cols!));
            values['entropyLeastRise'] = Math.min(values['entropyLeastRise']!, rise);
          }
        }
        values['identityGap'] = Math.max(values['identityGap']!, largestGap(at(1), given));
        // Every outcome of these rows has some probability: both limits are the uniform distribution.
        if (limit !== 'uniform on the support' && limit !== 'uniform on all outcomes') throw new Error(`no limit for ${operator}`);
        const far = largestGap(at(hot!), 1 / cols!);
        values[`hotGap.${operator}`] = operator === 'log_link' ? far / largestGap(at(2), 1 / cols!) : far;
        const mean = (softened: Float64Array): number => {
          let sum = 0;
          for (let r = 0; r < rows!; r++) sum += entropyOf(rowOf(softened, r, cols!));
          return sum / rows!;
        };
        entropies.push({ name: operator, values: all.map(mean) });
      }
      const narrow = asTensor(u, cols!, device);
      values['powerGap'] = 0;
      for (const temperature of temperatures) {
        const softened = numbersOf(soften(softmax(narrow), { operator: 'power', temperature }));
        values['powerGap'] = Math.max(values['powerGap'], largestGap(softened, numbersOf(softmax(narrow, { temperature }))));
      }
      return {
        values,
        series: [
          {
            name: 'entropy',
            title: 'Entropy of the softened rows over the temperature',
            x: { label: 'temperature', values: [...temperatures] },
            y: { label: 'mean entropy in nats' },
            lines: entropies,
          },
        ],
      };
    });
  },
};
