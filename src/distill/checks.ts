// The pass rule of a recipe: its checks against the numbers of a run.
import { nearest } from '../errors.js';
import { meanAndDeviation } from './metrics.js';
import type { CheckResult, ModelResult, Results } from './results.js';
import type { AcceptSpec, CheckSpec, OtherValue, Relation, StatisticName, ValueSpec } from './spec.js';

type Numbers = Pick<Results, 'models' | 'captures' | 'probes' | 'spreads'>;

/** What can be asked of a stage's students together: bias and variance over the seeds. */
export const spreadMetrics = ['squaredError', 'squaredBias', 'variance', 'kl', 'klBias', 'klVariance'] as const;

/** What can be asked of a model. */
const ofModel: Record<string, (model: ModelResult) => number | undefined> = {
  accuracy: (m) => m.evaluation.accuracy,
  nll: (m) => m.evaluation.nll,
  perplexity: (m) => m.evaluation.perplexity,
  ece: (m) => m.evaluation.ece,
  brier: (m) => m.evaluation.brier,
  klToTeacher: (m) => m.evaluation.klToTeacher,
  agreement: (m) => m.agreement,
  bitsPerByte: (m) => m.evaluation.bitsPerByte,
  parameters: (m) => m.parameters,
  nonZero: (m) => m.nonZero,
  sparsity: (m) => m.sparsity,
  flops: (m) => m.flops,
  flopsNonZero: (m) => m.flopsNonZero,
  seconds: (m) => m.seconds,
  steps: (m) => m.steps,
  loss: (m) => m.curve.at(-1)?.loss,
  accepted: (m) => (m.accepted === undefined ? undefined : Number(m.accepted)),
};

/** The names of {@link modelMetric}. */
export const modelMetrics = Object.keys(ofModel);

/** What is measured by domain: 'nll.node'. */
export const domainMetrics = ['accuracy', 'nll', 'perplexity', 'klToTeacher'] as const;

function domainMetric(model: ModelResult, metric: string): number | undefined {
  const name = domainMetrics.find((each) => metric.startsWith(`${each}.`));
  return name === undefined ? undefined : model.domains?.[metric.slice(name.length + 1)]?.[name];
}

/** A number of a model, by its name in checks; of one domain; or one that its loss told of its last batch. */
export function modelMetric(model: ModelResult, metric: string): number | undefined {
  return Object.hasOwn(ofModel, metric) ? ofModel[metric]!(model) : (model.numbers?.[metric] ?? domainMetric(model, metric));
}

/** A value for each seed: of models by seed, of what runs once under null. */
type BySeed = Map<number | null, number>;

function unknown(what: string, metric: string, legal: readonly string[]): never {
  const near = nearest(metric, legal);
  throw new RangeError(
    `Cannot check: ${what} must have a number "${metric}": it has ${legal.join(', ')}${near === undefined ? '' : `; did you mean "${near}"?`}`,
  );
}

/** What a stage has under a metric. @throws RangeError that names what there is */
export function stageValues(numbers: Numbers, stage: string, metric: string, level?: number): BySeed {
  const probe = numbers.probes?.find((each) => each.stage === stage);
  if (probe) {
    const value = probe.values[metric];
    return value === undefined ? unknown(`probe "${stage}"`, metric, Object.keys(probe.values)) : new Map([[null, value]]);
  }
  const captures = numbers.captures.filter((each) => each.stage === stage);
  if (captures.length > 0) {
    return new Map(
      captures.map((each) => {
        const value = (each as unknown as Record<string, unknown>)[metric];
        if (typeof value === 'number') return [each.once === false ? each.seed! : null, value];
        return unknown(
          `stage "${stage}"`,
          metric,
          Object.entries(each).flatMap(([name, v]) => (typeof v === 'number' ? [name] : [])),
        );
      }),
    );
  }
  const spread = spreadMetrics.find((name) => name === metric);
  if (spread !== undefined) {
    const found = numbers.spreads?.filter((each) => each.stage === stage).at(level ?? -1);
    if (found === undefined)
      throw new RangeError(
        `Cannot check: stage "${stage}" must run for two seeds, against a teacher that runs once, to have a ${metric}: it does not, or its logits are too many to compare`,
      );
    return new Map([[null, found[spread]]]);
  }
  const bySeed = new Map<number | null, ModelResult[]>();
  for (const model of numbers.models) {
    if (model.stage !== stage && model.of !== stage) continue;
    const seed = model.once ? null : model.seed;
    bySeed.set(seed, [...(bySeed.get(seed) ?? []), model]);
  }
  if (bySeed.size === 0) throw new RangeError(`Cannot check: stage "${stage}" must have a result: it has none`);
  return new Map(
    [...bySeed].map(([seed, models]) => {
      const model = models.at(level ?? -1);
      if (!model) {
        throw new RangeError(
          `Cannot check: level of stage "${stage}" must be from ${-models.length} to ${models.length - 1}: it is ${level}`,
        );
      }
      const value = modelMetric(model, metric);
      if (value === undefined) {
        const domains = Object.keys(model.domains ?? {}).flatMap((domain) => domainMetrics.map((name) => `${name}.${domain}`));
        const legal = [...modelMetrics, ...domains].filter((name) => modelMetric(model, name) !== undefined);
        legal.push(...Object.keys(model.numbers ?? {}));
        return unknown(`stage "${stage}"`, metric, legal);
      }
      return [seed, value];
    }),
  );
}

/** Two values seed by seed; what runs once goes with every seed. */
function paired(a: BySeed, b: BySeed, combine: (x: number, y: number) => number): BySeed {
  const only = (values: BySeed) => (values.size === 1 && values.has(null) ? values.get(null)! : undefined);
  const [a1, b1] = [only(a), only(b)];
  if (b1 !== undefined) return new Map([...a].map(([seed, x]) => [seed, combine(x, b1)]));
  if (a1 !== undefined) return new Map([...b].map(([seed, y]) => [seed, combine(a1, y)]));
  return new Map([...a].flatMap(([seed, x]) => (b.has(seed) ? [[seed, combine(x, b.get(seed)!)] as const] : [])));
}

function valueBySeed(numbers: Numbers, spec: Exclude<ValueSpec, number>): BySeed {
  const own = stageValues(numbers, spec.stage, spec.metric, spec.level);
  const other = ({ stage = spec.stage, metric = spec.metric, level = spec.level }: OtherValue) =>
    stageValues(numbers, stage, metric, level);
  if (spec.minus) return paired(own, other(spec.minus), (x, y) => x - y);
  if (spec.dividedBy) return paired(own, other(spec.dividedBy), (x, y) => x / y);
  return own;
}

const statistics: Record<StatisticName, (values: readonly number[]) => number> = {
  mean: (values) => meanAndDeviation(values).mean,
  max: (values) => Math.max(...values),
  min: (values) => Math.min(...values),
  sum: (values) => values.reduce((sum, v) => sum + v, 0),
  deviation: (values) => meanAndDeviation(values).deviation,
  error: (values) => meanAndDeviation(values).deviation / Math.sqrt(values.length),
  median: (values) => {
    const sorted = [...values].sort((a, b) => a - b);
    const middle = sorted.length / 2;
    return Number.isInteger(middle) ? (sorted[middle - 1]! + sorted[middle]!) / 2 : sorted[Math.floor(middle)]!;
  },
};

/** x `is` bound; false where either is no number. */
export function holds(x: number, is: Relation, bound: number): boolean {
  if (is === '<') return x < bound;
  if (is === '<=') return x <= bound;
  if (is === '>') return x > bound;
  return x >= bound;
}

function compared(check: CheckSpec, value: number, than: number): boolean {
  const { is, times, plus } = check;
  return is === 'within' ? Math.abs(value - than * times) <= plus : holds(value, is, than * times + plus);
}

const shown = (value: number): string => (Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(5))));

function name(spec: ValueSpec): string {
  if (typeof spec === 'number') return '';
  const at = (stage: string, level: number | undefined) => (level === undefined ? stage : `${stage}[${level}]`);
  const own = `${spec.metric} of ${at(spec.stage, spec.level)}`;
  const other = spec.minus ?? spec.dividedBy;
  const second = other
    ? ` ${spec.minus ? '−' : '/'} ${other.metric !== undefined && other.metric !== spec.metric ? `${other.metric} of ` : ''}${at(other.stage ?? spec.stage, other.level ?? spec.level)}`
    : '';
  const statistic = spec.statistic === undefined || spec.statistic === 'mean' ? '' : `${spec.statistic} of `;
  return `${statistic}${own}${second}`;
}

function bound({ is, times, plus }: CheckSpec, than: number, of: string): string {
  const base = of === '' ? shown(than) : `${shown(than)} (${of})`;
  const factor = times === 1 ? base : `${shown(times)} × ${base}`;
  if (is === 'within') return `${factor} ± ${shown(plus)}`;
  return plus === 0 ? factor : `${factor} ${plus < 0 ? '−' : '+'} ${shown(Math.abs(plus))}`;
}

/** What the checks say of a run, those of its size. A number that is not there is a check that fails. */
export function evaluateChecks(checks: readonly CheckSpec[], size: 'full' | 'quick', numbers: Numbers): CheckResult[] {
  return checks.filter(({ sizes }) => sizes.includes(size)).map((check) => evaluateCheck(check, numbers));
}

function evaluateCheck(check: CheckSpec, numbers: Numbers): CheckResult {
  const { says, is, everySeed } = check;
  const sign = is === 'within' ? 'is' : is.replace('<=', '≤').replace('>=', '≥');
  try {
    const read = (spec: ValueSpec): BySeed => (typeof spec === 'number' ? new Map([[null, spec]]) : valueBySeed(numbers, spec));
    const [own, other] = [read(check.value), read(check.than)];
    if (everySeed) {
      const pairs = paired(own, other, () => 0);
      const outcomes = [...pairs.keys()].map((seed) => {
        const [value, than] = [own.get(seed) ?? own.get(null)!, other.get(seed) ?? other.get(null)!];
        return { seed, value, than, passed: compared(check, value, than) };
      });
      const worst = outcomes.find(({ passed }) => !passed) ?? outcomes[0];
      if (!worst) throw new RangeError('Cannot check: both values must have a seed in common: they have none');
      const kept = outcomes.filter(({ passed }) => passed).length;
      return {
        says,
        passed: kept === outcomes.length,
        text: `for ${kept} of ${outcomes.length} seeds; ${worst.seed === null ? '' : `seed ${worst.seed}: `}${name(check.value)} ${shown(worst.value)} ${sign} ${bound(check, worst.than, name(check.than))}`,
        value: worst.value,
        than: worst.than,
      };
    }
    const over = (spec: ValueSpec, values: BySeed) =>
      typeof spec === 'number' ? spec : statistics[spec.statistic ?? 'mean']([...values.values()]);
    const [value, than] = [over(check.value, own), over(check.than, other)];
    return {
      says,
      passed: compared(check, value, than),
      text: `${name(check.value)} ${shown(value)} ${sign} ${bound(check, than, name(check.than))}`,
      value,
      than,
    };
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    return { says, passed: false, text: error.message, value: null, than: null };
  }
}

/** Whether a stage's student is kept: `candidate` against what acceptIf names. */
export function isAccepted(spec: AcceptSpec, candidate: ModelResult, before: ModelResult, numbers: Numbers): boolean {
  const { metric, is, than, times, plus } = spec;
  const read = (model: ModelResult, name: string): number => {
    const value = modelMetric(model, name);
    if (value !== undefined) return value;
    return unknown(
      `stage "${model.stage}"`,
      name,
      modelMetrics.filter((each) => modelMetric(model, each) !== undefined),
    );
  };
  let limit: number;
  if (typeof than === 'number') limit = than;
  else if (than === 'before') limit = read(before, metric);
  else {
    const values = stageValues(numbers, than.stage, than.metric ?? metric, than.level);
    limit = values.get(candidate.seed) ?? values.get(null) ?? NaN;
  }
  return holds(read(candidate, metric), is, limit * times + plus);
}
