// What a JSON schema cannot say of a recipe: names that must exist and come before, and fields that exclude or need each other.
import { suggestion } from './recipe_errors.js';
import { checkTarget, targetNeeds } from './stage_loss/check.js';
import {
  stageLevels,
  type AcceptSpec,
  type CaptureStage,
  type Recipe,
  type RecursionStage,
  type StageSpec,
  type TargetSpec,
  type TrainingStage,
  type ValueSpec,
} from './spec.js';

/** In a recursion's target: the generation before. */
export const PREVIOUS = 'previous';
/** In a mutual stage's target: the other students. */
export const PEERS = 'peers';
/** In any target: the student's own last head. */
export const SELF = 'self';

/** What a name in a recipe stands for. */
interface Place {
  kind: 'model' | 'capture' | 'probe';
  once: boolean;
  stage: StageSpec;
}

/** Whether a loss looks at inner values of the models. */
export function wantsFeatures(target: TargetSpec): boolean {
  if (target.kind === 'sum') return target.parts.some((part) => wantsFeatures(part.target));
  if (target.kind === 'heads') return true;
  return target.kind === 'features' || target.kind === 'custom';
}

/** What a generation of a recursion learns from: the anchor and the generation before in their places. */
export function generationTarget({ target, anchor }: Pick<RecursionStage, 'target' | 'anchor'>, before: string): TargetSpec {
  if (anchor !== undefined && target.kind === 'teacher' && typeof target.from === 'string') {
    const { from, ...rest } = target;
    return anchor === 0 ? { ...rest, from: before } : { ...rest, from: before, anchor: { from, lambda: anchor } };
  }
  return renamed(target, before);
}

function renamed(target: TargetSpec, before: string): TargetSpec {
  const name = (from: string): string => (from === PREVIOUS ? before : from);
  switch (target.kind) {
    case 'teacher': {
      const { from, anchor, select } = target;
      return {
        ...target,
        from: typeof from === 'string' ? name(from) : from.map((each) => ({ ...each, name: name(each.name) })),
        ...(anchor ? { anchor: { ...anchor, from: name(anchor.from) } } : {}),
        ...(select?.rule === 'adaspec' ? { select: { ...select, reference: name(select.reference) } } : {}),
      };
    }
    case 'features':
      return { ...target, from: name(target.from) };
    case 'sum':
      return { ...target, parts: target.parts.map((part) => ({ ...part, target: renamed(part.target, before) })) };
    case 'heads':
      return { ...target, heads: target.heads.map((head) => ({ ...head, target: renamed(head.target, before) })) };
    default:
      return target;
  }
}

/** The stage whose model the others are measured against. */
export function teacherStage(recipe: Recipe): string | undefined {
  if (recipe.teacher !== undefined) return recipe.teacher;
  for (const stage of recipe.stages) if (stage.kind === 'capture') return stage.from;
  for (const stage of recipe.stages) {
    if (!('target' in stage)) continue;
    const named = targetNeeds(stage.target).teachers.find((name) => name !== PREVIOUS);
    if (named !== undefined) return named;
  }
  return undefined;
}

/** The names that a stage gives to its results: its own, and those of its generations or students. */
export function resultNames(stage: StageSpec): string[] {
  if (stage.kind === 'mutual') return stage.models.map((_, i) => `${stage.name}-${i + 1}`);
  if (stage.kind === 'recursion') return [stage.name, ...Array.from({ length: stage.generations }, (_, g) => `${stage.name}-g${g + 1}`)];
  return [stage.name];
}

/** Whether each stage runs once, by name: what prunes or captures does as the stage that it is from, unless it says otherwise. */
export function onceByStage(recipe: Recipe): Map<string, boolean> {
  const once = new Map<string, boolean>();
  for (const stage of recipe.stages) {
    const runsOnce = stage.kind === 'probe' || (stage.once ?? ('from' in stage && once.get(stage.from!) !== false));
    for (const name of resultNames(stage)) once.set(name, runsOnce);
  }
  return once;
}

/** @throws TypeError that names the field and the nearest legal name */
export function checkReferences(recipe: Recipe, what: string): void {
  const refuse = (text: string): never => {
    throw new TypeError(`Cannot use ${what}: ${text}`);
  };
  const once = onceByStage(recipe);
  const earlier = new Map<string, Place>();
  const words = { model: 'train, prune, recursion or mutual', capture: 'capture', probe: 'probe' } as const;

  const named = (field: string, name: string, kind: 'model' | 'capture', also: readonly string[] = []): Place | undefined => {
    if (also.includes(name)) return undefined;
    const found = earlier.get(name);
    if (found?.kind === kind) return found;
    const legal = [...[...earlier].filter(([, place]) => place.kind === kind).map(([legalName]) => legalName), ...also];
    const hint = legal.length > 0 ? suggestion(name, legal) : 'there is none before it';
    return refuse(`${field} must name an earlier ${words[kind]} stage: it is "${name}", ${hint}`);
  };
  const model = (field: string, name: string): void => {
    const names = Object.keys(recipe.models);
    if (!Object.hasOwn(recipe.models, name))
      refuse(`${field} must name one of the models: it is "${name}", ${names.length > 0 ? suggestion(name, names) : 'there are none'}`);
  };
  /** A stage that runs once cannot look at one that runs for each seed. */
  const fits = (field: string, name: string, stage: StageSpec): void => {
    if (once.get(resultNames(stage)[0]!) === true && once.get(name) === false)
      refuse(`${field} must name a stage that runs once, as "${stage.name}" does: "${name}" runs for each seed`);
  };
  const training = (at: string, stage: TrainingStage): void => {
    const { training: spec, target } = stage;
    const { epochs, steps, shift, domains } = spec;
    if ((epochs === undefined) === (steps === undefined))
      refuse(`${at}.training must have either epochs or steps: it has ${epochs === undefined ? 'neither' : 'both'}`);
    if (recipe.data.format === 'none') refuse(`data must be given where a stage trains: it is "none", and ${at} trains`);
    if (shift > 0 && recipe.data.format !== 'mnist') refuse(`${at}.training.shift must be 0 where the data are no images: it is ${shift}`);
    const { captures } = targetNeeds(target);
    if (shift > 0 && captures.length > 0)
      refuse(
        `${at}.training.shift must be 0 where the target is captured, which belongs to the images that the teacher saw (the capture's own shift moves both): it is ${shift}`,
      );
    const moved = captures.filter((name) => (earlier.get(name)!.stage as CaptureStage).shift > 0);
    if (moved.length > 0 && captures.length > 1)
      refuse(`${at}.target must have no other capture beside one of moved images: it has ${captures.join(' and ')}`);
    if (!domains) return;
    const place = `${at}.training.domains`;
    if (recipe.data.format !== 'text' && recipe.data.format !== 'custom')
      refuse(`${place} must be left out where the data have no domains: it is given`);
    if (stage.kind === 'mutual') refuse(`${place} must be left out of a mutual stage, whose students share their rows: it is given`);
    const teacher = domains.teacher ?? teacherStage(recipe);
    if (teacher === undefined) refuse(`${place}.teacher must name the stage to compare with: it is absent, and the recipe has no teacher`);
    else {
      named(`${place}.teacher`, teacher, 'model');
      fits(`${place}.teacher`, teacher, stage);
    }
    if (domains.weights && !Object.values(domains.weights).some((weight) => weight > 0))
      refuse(`${place}.weights must give at least one domain a weight above 0: they do not`);
  };
  const accept = (at: string, spec: AcceptSpec | undefined, from: string | undefined): void => {
    if (!spec) return;
    if (from === undefined) refuse(`${at}.acceptIf must have a student to fall back to: the stage has no "from"`);
    if (typeof spec.than === 'object') named(`${at}.acceptIf.than.stage`, spec.than.stage, 'model');
  };

  recipe.stages.forEach((stage, i) => {
    const at = `stages[${i}]`;
    for (const name of [stage.name, ...resultNames(stage)]) {
      if (earlier.has(name)) refuse(`${at}.name must differ from the other stages' names: it is "${name}" again`);
      if ([PREVIOUS, PEERS, SELF].includes(name)) refuse(`${at}.name must not be a name with a meaning of its own: it is "${name}"`);
    }
    if (stage.kind === 'train') {
      const { model: fresh, from } = stage;
      if ((fresh === undefined) === (from === undefined))
        refuse(
          `${at} must have either model (a student that starts afresh) or from (one that goes on): it has ${fresh === undefined ? 'neither' : 'both'}`,
        );
      if (fresh !== undefined) model(`${at}.model`, fresh);
    }
    if (stage.kind === 'recursion' && stage.model !== undefined) model(`${at}.model`, stage.model);
    if (stage.kind === 'mutual') stage.models.forEach((name, m) => model(`${at}.models[${m}]`, name));
    if ('from' in stage && stage.from !== undefined) {
      named(`${at}.from`, stage.from, 'model');
      fits(`${at}.from`, stage.from, stage);
    }
    if (stage.kind === 'capture') {
      const { k, sample, access } = stage;
      const given = [k, sample].filter((value) => value !== undefined).length;
      if (access === 'text' ? given > 0 : given !== 1)
        refuse(
          access === 'text'
            ? `${at} must have neither k nor sample where access is "text": it has ${given === 2 ? 'both' : k === undefined ? 'sample' : 'k'}`
            : `${at} must have either k or sample: it has ${given === 0 ? 'neither' : 'both'}`,
        );
      if (stage.shift > 0 && recipe.data.format !== 'mnist')
        refuse(`${at}.shift must be 0 where the data are no images: it is ${stage.shift}`);
      if (stage.views > 1 && stage.shift === 0) refuse(`${at}.views must be 1 where no image is moved (shift 0): it is ${stage.views}`);
      if (access === 'topk' && sample) refuse(`${at}.sample must be absent where access is "topk": an endpoint that draws lets out text`);
      if (recipe.data.format === 'none') refuse(`data must be given where a stage captures: it is "none", and ${at} captures`);
    }
    if (stage.kind === 'prune') {
      const { sparsity, structure } = stage;
      if ((sparsity === undefined) !== (typeof structure === 'object'))
        refuse(
          `${at}.sparsity must be ${sparsity === undefined ? 'given: it is absent' : 'left out for n of m, which says it: it is given'}`,
        );
      const levels = stageLevels(stage);
      if (levels.some((s, l) => l > 0 && !(s > levels[l - 1]!)))
        refuse(`${at}.sparsity must rise from level to level: it is [${levels.map((s) => Number(s.toFixed(6))).join(', ')}]`);
    }
    if ((stage.kind === 'prune' || stage.kind === 'recursion') && typeof stage.structure === 'object') {
      const { n, m } = stage.structure;
      if (n >= m) refuse(`${at}.structure.n must be less than m: they are ${n} and ${m}`);
    }
    if ('target' in stage) {
      const target = {
        at,
        refuse,
        isMutual: stage.kind === 'mutual',
        teacher: (field: string, name: string) => {
          named(`${at}.${field}`, name, 'model', stage.kind === 'recursion' ? [PREVIOUS] : []);
          fits(`${at}.${field}`, name, stage);
        },
        capture: (field: string, name: string) => {
          const { stage: from } = named(`${at}.${field}`, name, 'capture')!;
          fits(`${at}.${field}`, name, stage);
          const { access, sample } = from as CaptureStage;
          return { isSampled: access === 'text' || sample !== undefined };
        },
      };
      checkTarget(stage.target, target);
      if (stage.kind === 'recursion' && stage.anchor !== undefined) {
        const { target: own } = stage;
        if (own.kind !== 'teacher' || own.anchor || typeof own.from !== 'string' || own.from === PREVIOUS)
          refuse(`${at}.anchor must stand with a target of kind "teacher" from a single stage, with no anchor of its own: it does not`);
        checkTarget(generationTarget(stage, PREVIOUS), target);
      }
      training(at, stage);
      if ('acceptIf' in stage) accept(at, stage.acceptIf, 'from' in stage ? stage.from : undefined);
    }
    const kind = stage.kind === 'capture' || stage.kind === 'probe' ? stage.kind : 'model';
    for (const name of resultNames(stage)) earlier.set(name, { kind, once: once.get(name)!, stage });
  });

  if (recipe.teacher !== undefined) named('teacher', recipe.teacher, 'model');
  (recipe.checks ?? []).forEach((check, i) => {
    const at = `checks[${i}]`;
    const stageOf = (field: string, name: string): void => {
      const names = [...new Set([...recipe.stages.map((stage) => stage.name), ...earlier.keys()])];
      if (!names.includes(name)) refuse(`${field} must name a stage: it is "${name}", ${suggestion(name, names)}`);
    };
    for (const side of ['value', 'than'] as const) {
      const value: ValueSpec = check[side];
      if (typeof value === 'number') continue;
      stageOf(`${at}.${side}.stage`, value.stage);
      for (const other of ['minus', 'dividedBy'] as const) {
        const stage = value[other]?.stage;
        if (stage !== undefined) stageOf(`${at}.${side}.${other}.stage`, stage);
      }
      if (value.minus && value.dividedBy) refuse(`${at}.${side} must have minus or dividedBy: it has both`);
    }
    if (typeof check.value === 'number') refuse(`${at}.value must name a stage and a metric: it is ${check.value}`);
    if (check.is === 'within' && !(check.plus >= 0)) refuse(`${at}.plus must be at least 0, the distance allowed: it is ${check.plus}`);
  });
}
