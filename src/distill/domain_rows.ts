// The rows of a stage that draws by domain: some are set aside to measure on, and the weights follow what is found there.
import { noGrad, tidy } from '../autograd.js';
import type { Module } from '../nn/index.js';
import { deriveSeed } from '../nn/seed.js';
import type { Tensor } from '../tensor.js';
import { DomainSampler, type DomainSamplerState } from '../text/domains.js';
import { output } from './build.js';
import { Evaluator } from './metrics.js';
import type { DataSource } from './source.js';
import type { DomainsSpec } from './spec.js';
import type { StudentOutput } from './stage_loss/index.js';

/** By domain. */
type ByDomain = Record<string, number>;

/** What a measurement found, and the weights that follow from it. */
export interface DomainMeasurement {
  weights: ByDomain;
  /** Perplexities on the rows that are set aside. */
  student: ByDomain;
  teacher: ByDomain;
}

/** All that the coming rows depend on, as JSON. */
export interface DomainRowsState {
  sampler: DomainSamplerState;
  /** The teacher does not change: it is measured once. */
  teacher: ByDomain | null;
}

export interface DomainRowsOptions {
  source: DataSource;
  spec: DomainsSpec;
  /** Of the rows' order. */
  seed: number;
  /** What the teacher says of an input. */
  teacher: (input: Tensor) => StudentOutput;
}

/** Logits that are looked at together when perplexities are measured. */
const MOST_LOGITS = 1 << 22;

/** Training rows drawn domain by domain; the last `spec.rows` of each domain are never drawn, and measure both models. */
export class DomainRows {
  private readonly sampler: DomainSampler;
  /** Of the rows that are drawn, by the sampler's number. */
  private readonly drawn: Int32Array;
  private readonly aside: readonly { name: string; rows: Int32Array }[];
  private teacher: ByDomain | null = null;

  constructor(private readonly options: DomainRowsOptions) {
    const { source, spec, seed } = options;
    const names = source.domains!;
    const domainOf = source.trainDomains!;
    // Rows come in an order that the data fix by chance: the last of a domain are a sample of it.
    const left = names.map(() => spec.rows);
    const kept: number[] = [];
    const aside: number[][] = names.map(() => []);
    for (let row = source.trainRows - 1; row >= 0; row--) {
      const domain = domainOf[row]!;
      if (left[domain]!-- > 0) aside[domain]!.push(row);
      else kept.push(row);
    }
    this.drawn = Int32Array.from(kept.reverse());
    this.aside = names.map((name, d) => ({ name, rows: Int32Array.from(aside[d]!.reverse()) }));
    this.sampler = new DomainSampler({
      domains: Array.from(this.drawn, (row) => domainOf[row]!),
      names,
      alpha: spec.alpha,
      ...(spec.weights === undefined ? {} : { weights: spec.weights }),
      seed: deriveSeed(seed, 'domains'),
    });
  }

  /** The next rows to train on. */
  draw(count: number): Int32Array {
    return this.sampler.draw(count).map((place) => this.drawn[place]!);
  }

  /** Whether the weights are taken anew before the step with this number. */
  isDue(step: number): boolean {
    return step > 0 && step % this.options.spec.every === 0;
  }

  /** Measures student and teacher and moves the weights. */
  measure(student: Module): DomainMeasurement {
    const { source, teacher } = this.options;
    this.teacher ??= this.perplexities(teacher);
    const wasTraining = student.training;
    student.eval();
    let found: ByDomain;
    try {
      found = this.perplexities((input) => output(student, input, source.cols));
    } finally {
      student.train(wasTraining);
    }
    this.sampler.update(found, this.teacher);
    return { weights: this.sampler.weights, student: found, teacher: this.teacher };
  }

  private perplexities(model: (input: Tensor) => StudentOutput): ByDomain {
    const { source } = this.options;
    const { cols, rowsEach } = source;
    const step = Math.max(1, Math.floor(MOST_LOGITS / (rowsEach * cols)));
    return Object.fromEntries(
      this.aside.map(({ name, rows }) => {
        const evaluator = new Evaluator({ cols });
        for (let from = 0; from < rows.length; from += step) {
          tidy(() =>
            noGrad(() => {
              const { input, labels } = source.batch(rows.subarray(from, from + step), 0, 0);
              evaluator.add(model(input).logits, labels);
            }),
          );
        }
        return [name, evaluator.result().perplexity];
      }),
    );
  }

  /** The weights, for the log and for checks. */
  numbers(): Record<string, number> {
    return Object.fromEntries(Object.entries(this.sampler.weights).map(([name, weight]) => [`domain.${name}`, weight]));
  }

  state(): DomainRowsState {
    return { sampler: this.sampler.state(), teacher: this.teacher };
  }

  restore({ sampler, teacher }: DomainRowsState): void {
    this.sampler.restore(sampler);
    this.teacher = teacher;
  }
}
