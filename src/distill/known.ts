// Which numbers a stage can give, known before it runs: a check that asks for another is refused when the recipe is read.
import { nearest } from '../errors.js';
import { typescriptDomains } from '../text/corpus.js';
import { domainMetrics, modelMetrics, spreadMetrics } from './checks.js';
import { probes, type Probe } from './probes/index.js';
import { generationTarget, onceByStage, resultNames, teacherStage } from './references.js';
import { stageLevels, type Recipe, type StageSpec, type TrainingStage, type ValueSpec } from './spec.js';
import { targetNumbers } from './stage_loss/numbers.js';

const captureMetrics = ['bytes', 'rows', 'cols', 'k', 'temperature', 'meanTail', 'seconds'] as const;

/** The numbers of one stage. */
interface Known {
  names: readonly string[];
  /** Beginnings of names whose ends only the data know. */
  beginnings: readonly string[];
  /** Models that a `level` may choose among; undefined for what has none. */
  levels?: number;
}

/** What the stage with a name gives; null where a part written in TypeScript has names of its own. */
function known(recipe: Recipe, name: string, custom: Readonly<Record<string, Probe>>): Known | null {
  const stage = recipe.stages.find((each) => each.name === name || resultNames(each).includes(name))!;
  const isText = recipe.data.format === 'text';
  if (stage.kind === 'probe') {
    const all = { ...probes, ...custom };
    return Object.hasOwn(all, stage.probe) ? { names: Object.keys(all[stage.probe]!.values), beginnings: [] } : null;
  }
  if (stage.kind === 'capture') return { names: isText ? [...captureMetrics, 'bytesPerRow'] : captureMetrics, beginnings: [] };
  const own = lossNumbers(stage);
  if (own === null) return null;
  const isTaught = hasTeacher(recipe, stage, name);
  const left = new Set<string>();
  if (!isTaught) for (const metric of ['klToTeacher', 'agreement']) left.add(metric);
  // Data that a caller brings may count bytes.
  if (!isText && recipe.data.format !== 'custom') left.add('bitsPerByte');
  if (!('acceptIf' in stage && stage.acceptIf)) left.add('accepted');
  const once = onceByStage(recipe);
  const isOneModel = stage.kind === 'train' || stage.kind === 'prune' || stage.name !== name;
  const hasSpread = isOneModel && isTaught && recipe.repeats > 1 && once.get(name) === false && once.get(teacherStage(recipe)!) === true;
  const names = [...modelMetrics.filter((metric) => !left.has(metric)), ...(hasSpread ? spreadMetrics : []), ...own];
  const byDomain = domainNumbers(recipe, stage, isTaught);
  return { names: [...names, ...byDomain.names], beginnings: byDomain.beginnings, levels: levelsOf(stage, name) };
}

/** What is measured by domain, and the weights that rows are drawn with; a folder's domains are not known before it is read. */
function domainNumbers({ data, stages }: Recipe, stage: TrainingStage, isTaught: boolean): Pick<Known, 'names' | 'beginnings'> {
  if (!stages.some((each) => 'training' in each && each.training.domains)) return { names: [], beginnings: [] };
  const beginnings = domainMetrics.filter((metric) => isTaught || metric !== 'klToTeacher').map((metric) => `${metric}.`);
  if (stage.training.domains) beginnings.push('domain.');
  const domains = data.format !== 'text' ? undefined : (data.domains ?? (data.corpus === 'typescript' ? typescriptDomains : undefined));
  if (domains === undefined) return { names: [], beginnings };
  return { names: beginnings.flatMap((beginning) => domains.map((domain) => beginning + domain)), beginnings: [] };
}

function levelsOf(stage: TrainingStage, name: string): number {
  if (stage.kind === 'prune') return stageLevels(stage).length;
  if (stage.name !== name) return 1;
  return stage.kind === 'recursion' ? stage.generations : stage.kind === 'mutual' ? stage.models.length : 1;
}

function lossNumbers(stage: TrainingStage): string[] | null {
  if (stage.kind === 'recursion') {
    const names = [stage.from, ...resultNames(stage).slice(1, -1)].map((before) => targetNumbers(generationTarget(stage, before)));
    return names.some((each) => each === null) ? null : [...new Set(names.flatMap((each) => each!))];
  }
  if (stage.kind !== 'mutual') return targetNumbers(stage.target);
  const students = resultNames(stage);
  const names = students.map((student) => {
    const own = targetNumbers(
      stage.target,
      students.filter((other) => other !== student),
    );
    return students.length > 1 ? (own?.map((each) => `${student}.${each}`) ?? null) : own;
  });
  return names.some((each) => each === null) ? null : names.flatMap((each) => each!);
}

/** Whether the teacher of the recipe is there before a stage, and another than it. */
function hasTeacher(recipe: Recipe, stage: StageSpec, name: string): boolean {
  const teacher = teacherStage(recipe);
  if (teacher === undefined || teacher === name) return false;
  const place = recipe.stages.findIndex((each) => each.name === teacher || resultNames(each).includes(teacher));
  const own = recipe.stages.indexOf(stage);
  // Generations are measured against earlier ones of their recursion.
  return place < own || (place === own && stage.kind === 'recursion');
}

/**
 * Refuses metrics and levels that no stage of the recipe can give. Names of stages must have been checked.
 *
 * @param custom probes that a program brings; where they are not known yet, their stages are left out
 * @throws TypeError that names the field, what there is, and the nearest of it
 */
export function checkMetrics(recipe: Recipe, what: string, custom: Readonly<Record<string, Probe>> = {}): void {
  const refuse = (text: string): never => {
    throw new TypeError(`Cannot use ${what}: ${text}`);
  };
  const check = (at: string, stage: string, metric: string, level: number | undefined, without: readonly string[] = []): void => {
    const there = known(recipe, stage, custom);
    if (there === null) return;
    const { beginnings, levels } = there;
    const names = there.names.filter((name) => !without.includes(name));
    if (!names.includes(metric) && !beginnings.some((beginning) => metric.startsWith(beginning))) {
      const near = nearest(metric, names);
      const legal = [...names, ...beginnings.map((beginning) => `${beginning}…`)].join(', ');
      refuse(
        `${at}.metric must be a number of stage "${stage}", which has ${legal}: it is "${metric}"${near === undefined ? '' : `, did you mean "${near}"?`}`,
      );
    }
    if (level === undefined) return;
    if (levels === undefined) refuse(`${at}.level must be left out for stage "${stage}", which has no levels: it is ${level}`);
    else if (level < -levels || level >= levels)
      refuse(`${at}.level must be from ${-levels} to ${levels - 1} for stage "${stage}": it is ${level}`);
  };
  (recipe.checks ?? []).forEach((one, i) => {
    // At the other size a stage may run for one seed, or have fewer levels.
    if (!one.sizes.includes(recipe.size)) return;
    for (const side of ['value', 'than'] as const) {
      const value: ValueSpec = one[side];
      if (typeof value === 'number') continue;
      const { stage, metric, level } = value;
      check(`checks[${i}].${side}`, stage, metric, level);
      for (const other of ['minus', 'dividedBy'] as const) {
        const second = value[other];
        if (second) check(`checks[${i}].${side}.${other}`, second.stage ?? stage, second.metric ?? metric, second.level ?? level);
      }
    }
  });
  recipe.stages.forEach((stage, i) => {
    if (!('acceptIf' in stage) || !stage.acceptIf) return;
    const { metric, than } = stage.acceptIf;
    const at = `stages[${i}].acceptIf`;
    // Bias and variance are there at the end of a run only.
    check(at, resultNames(stage).at(-1)!, metric, undefined, [...spreadMetrics, 'accepted']);
    if (than === 'before' && 'from' in stage) check(at, stage.from!, metric, undefined, spreadMetrics);
    if (typeof than === 'object') check(`${at}.than`, than.stage, than.metric ?? metric, than.level, spreadMetrics);
  });
}
