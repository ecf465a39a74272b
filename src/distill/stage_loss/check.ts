// What a JSON schema cannot say of a target: names that must exist, and options that do not go together.
import { divergenceEntry, type Divergence } from '../../losses/divergences.js';
import { isRenormalizing, type Residual } from '../../losses/settings.js';
import type { CapturedTarget, LossSpec, Scheduled, TargetSpec, TeacherTarget } from './spec.js';

/** What the recipe around a target knows. */
export interface TargetReferences {
  /** Throws; the text begins with the field. */
  refuse(text: string): never;
  /** Refuses a name that is not an earlier stage with a model; `field` is the part after the stage: 'target.from'. */
  teacher(field: string, name: string): void;
  /** Refuses a name that is not an earlier capture stage; says whether that one is of draws. */
  capture(field: string, name: string): { isSampled: boolean };
  /** The stage's own path: 'stages[2]'. */
  at: string;
  /** Whether several students learn from each other. */
  isMutual?: boolean;
}

/** Names of a target's teachers and of what it reads. */
export interface TargetNeeds {
  teachers: string[];
  captures: string[];
  /** Whether student and teachers must give their features. */
  features: boolean;
  peers: boolean;
}

/** How a loss is called, whether it was written as a name or with parameters. */
export function lossName(loss: LossSpec): Exclude<LossSpec, object> {
  return typeof loss === 'string' ? loss : loss.kind;
}

function divergenceName(divergence: Divergence): Parameters<typeof divergenceEntry>[0] {
  return typeof divergence === 'string' ? divergence : divergence.kind;
}

/** What must be there for a target to be learnt from. */
export function targetNeeds(target: TargetSpec): TargetNeeds {
  const none: TargetNeeds = { teachers: [], captures: [], features: false, peers: false };
  const all = (parts: readonly { target: TargetSpec }[]): TargetNeeds => {
    const needs = parts.map((part) => targetNeeds(part.target));
    return {
      teachers: [...new Set(needs.flatMap(({ teachers }) => teachers))],
      captures: [...new Set(needs.flatMap(({ captures }) => captures))],
      features: needs.some(({ features }) => features),
      peers: needs.some(({ peers }) => peers),
    };
  };
  if (target.kind === 'captured') return { ...none, captures: [target.from] };
  if (target.kind === 'features') return { ...none, teachers: [target.from], features: true };
  if (target.kind === 'sum') return all(target.parts);
  if (target.kind === 'heads') return all(target.heads);
  if (target.kind !== 'teacher') return none;
  const { from, anchor, select } = target;
  const teachers = typeof from === 'string' ? (from === 'peers' || from === 'self' ? [] : [from]) : from.map(({ name }) => name);
  if (anchor !== undefined) teachers.push(anchor.from);
  if (select?.rule === 'adaspec') teachers.push(select.reference);
  return { ...none, teachers: [...new Set(teachers)], peers: from === 'peers' };
}

/** @throws TypeError by way of `references.refuse`, naming the field */
export function checkTarget(target: TargetSpec, references: TargetReferences, field = 'target', isExit = false): void {
  const at = `${references.at}.${field}`;
  if (target.kind === 'captured') checkCaptured(target, references, field, at);
  else if (target.kind === 'teacher') checkTeacherTarget(target, references, field, at, isExit);
  else if (target.kind === 'features') {
    references.teacher(`${field}.from`, target.from);
    target.pairs.forEach(({ loss, projector }, i) => {
      if (projector === true && !['mse', 'cosine', 'huber', 'contrastive'].includes(loss))
        references.refuse(`${at}.pairs[${i}].projector must not be true with loss "${loss}", which compares relations: it is true`);
    });
  } else if (target.kind === 'sum') {
    target.parts.forEach((part, i) => {
      if (i === 0 && part.weight === 'ratio')
        references.refuse(`${at}.parts[0].weight must be a number, for "ratio" compares with the first part: it is "ratio"`);
      if (typeof part.weight !== 'string') checkSchedule(part.weight, references, `${at}.parts[${i}].weight`);
      checkTarget(part.target, references, `${field}.parts[${i}].target`, isExit);
    });
  } else if (target.kind === 'heads') {
    if (isExit) references.refuse(`${at}.kind must not be "heads" inside of "heads": it is`);
    target.heads.forEach(({ head, target: own }, i) => checkTarget(own, references, `${field}.heads[${i}].target`, head !== 'final'));
  } else if (target.kind === 'custom') {
    if ((target.loss === undefined) === (target.target === undefined))
      references.refuse(`${at} must have a loss or a target, one of the two: it has ${target.loss === undefined ? 'none' : 'both'}`);
  }
}

function checkSchedule(value: Scheduled | undefined, { refuse }: TargetReferences, at: string): void {
  if (typeof value !== 'object' || value.kind !== 'exponential') return;
  if (!(value.start > 0 && value.end > 0))
    refuse(`${at} must start and end above 0 with kind "exponential": it goes from ${value.start} to ${value.end}`);
}

/** The rules of kdLoss for sparse targets. */
function checkSparse(
  { residual, divergence, assistant }: { residual?: Residual; divergence: Divergence; assistant?: object },
  isSampled: boolean,
  { refuse }: TargetReferences,
  at: string,
): void {
  if (isSampled && residual !== undefined && residual !== 'sampled')
    refuse(`${at}.residual must be "sampled" or left out for targets of draws: it is "${residual}"`);
  if (!isSampled && residual === undefined) refuse(`${at}.residual must be given: it is absent`);
  if (!isSampled && residual === 'sampled') refuse(`${at}.residual must not be "sampled" for targets of probabilities: it is`);
  const rule = isSampled ? 'sampled' : residual;
  const name = divergenceName(divergence);
  const entry = divergenceEntry(name);
  if (entry.byRow) refuse(`${at}.divergence must not be "${name}" for sparse targets, whose other columns it needs: it is`);
  if ((rule === 'truncate' || rule === 'sampled') && !entry.anyMass)
    refuse(`${at}.divergence must be forward_kl or soft_cross_entropy with residual "${rule}": it is "${name}"`);
  if (rule === 'renormalize' && entry.infiniteOffTarget)
    refuse(`${at}.divergence must be finite where the teacher is 0 with residual "renormalize": it is "${name}"`);
  if (assistant !== undefined && (rule === 'truncate' || rule === 'sampled'))
    refuse(`${at}.assistant must not be given with residual "${rule}", which says nothing of the other columns: it is`);
}

function checkCaptured(target: CapturedTarget, references: TargetReferences, field: string, at: string): void {
  const { isSampled } = references.capture(`${field}.from`, target.from);
  checkSparse(target, isSampled, references, at);
  checkSchedule(target.hardWeight, references, `${at}.hardWeight`);
  checkSchedule(target.temperature, references, `${at}.temperature`);
  if (target.temperature !== undefined && !isRenormalizing(target.residual ?? 'none'))
    references.refuse(
      `${at}.temperature must be left out (the one of the capture) where the residual does not renormalise: it is ${JSON.stringify(target.temperature)}`,
    );
}

/** Losses that look at differences of logits only, and so may be given logarithms of probabilities. */
const perRowTemperature = ['divergence', 'pld', 'dkd', 'standardized'];
const withoutTemperature = ['listmle', 'concrete_score', 'logit_mse', 'ofa'];

function checkTeacherTarget(target: TeacherTarget, references: TargetReferences, field: string, at: string, isExit: boolean): void {
  const { refuse } = references;
  const { from, access, divergence, temperature, soften, select, anchor, taid, assistant, groundTruth } = target;
  const loss = lossName(target.loss);
  const isOne = temperature === undefined || temperature === 1;
  const isRule = typeof temperature === 'object' && 'rule' in temperature;
  const needs = (isThere: unknown, name: string, why: string): void => {
    if (isThere === undefined) refuse(`${at}.${name} must be given with ${why}: it is absent`);
  };
  const forbids = (value: unknown, name: string, why: string): void => {
    if (value !== undefined) refuse(`${at}.${name} must not be given ${why}: it is ${JSON.stringify(value)}`);
  };

  // Who teaches.
  const names = typeof from === 'string' ? [from] : from.map(({ name }) => name);
  names.forEach((name, i) => {
    const place = typeof from === 'string' ? `${field}.from` : `${field}.from[${i}].name`;
    if (name === 'peers' || name === 'self') {
      if (typeof from !== 'string') refuse(`${references.at}.${place} must be the name of a stage in a list: it is "${name}"`);
      if (name === 'peers' && !references.isMutual)
        refuse(`${at}.from must not be "peers" outside of a mutual stage, where there are none: it is`);
      if (name === 'self' && !isExit)
        refuse(`${at}.from must not be "self" but for an exit of "heads", which learns from the last head: it is`);
    } else references.teacher(place, name);
    if (names.indexOf(name) !== i) refuse(`${references.at}.${place} must differ from the other teachers: it is "${name}" again`);
  });
  if (typeof from !== 'string' && !from.some(({ weight = 1 }) => weight > 0))
    refuse(`${at}.from must give at least one teacher a weight above 0: it does not`);
  if (anchor !== undefined) references.teacher(`${field}.anchor.from`, anchor.from);
  if (target.mixWeights !== 'fixed' && names.length < 2 && from !== 'peers')
    refuse(`${at}.mixWeights must be "fixed" with a single teacher: it is "${target.mixWeights}"`);
  if (target.mixWeights === 'learned' && from === 'peers')
    refuse(`${at}.mixWeights must not be "learned" for peers, who change themselves: it is`);

  // What of them may be seen.
  if (access === 'topk') needs(target.k, 'k', 'access "topk"');
  else forbids(target.k, 'k', `but with access "topk"`);
  if (access === 'sampled') needs(target.draws, 'draws', 'access "sampled"');
  else {
    forbids(target.draws, 'draws', 'but with access "sampled"');
    forbids(target.method, 'method', 'but with access "sampled"');
  }
  if (access !== 'text') forbids(target.text, 'text', 'but with access "text"');
  if (access === 'topk' || access === 'sampled') checkSparse(target, access === 'sampled', references, at);
  else forbids(target.residual, 'residual', 'for a dense target');
  if (access === 'topk' || access === 'sampled' || access === 'text') {
    const why = `with access "${access}"`;
    if (loss !== 'divergence') refuse(`${at}.loss must be "divergence" ${why}: it is "${loss}"`);
    if (names.length > 1 || from === 'peers') refuse(`${at}.from must be a single teacher ${why}: it is not`);
    for (const name of ['anchor', 'soften', 'labelCorrection', 'groundTruth', 'taid'] as const) forbids(target[name], name, why);
    if (isRule) refuse(`${at}.temperature must be a number ${why}: it is a rule`);
    if (access === 'text') {
      for (const name of ['assistant', 'select'] as const) forbids(target[name], name, why);
      if (!isOne) refuse(`${at}.temperature must be 1 ${why}: it is ${JSON.stringify(temperature)}`);
      if (divergenceName(divergence) !== 'forward_kl')
        refuse(`${at}.divergence must be left out ${why}: it is "${divergenceName(divergence)}"`);
    }
  }

  // How the two are compared.
  if (loss !== 'divergence') {
    if (loss !== 'standardized' && divergence !== 'forward_kl')
      refuse(`${at}.divergence must be left out with loss "${loss}": it is ${JSON.stringify(divergence)}`);
    forbids(assistant, 'assistant', `with loss "${loss}"`);
    forbids(taid, 'taid', `with loss "${loss}"`);
    if (soften?.sides === 'both') refuse(`${at}.soften.sides must be "teacher" with loss "${loss}": it is "both"`);
    if (isRule && !perRowTemperature.includes(loss))
      refuse(`${at}.temperature must be a number with loss "${loss}": it is a rule for each row`);
    if (!isOne && withoutTemperature.includes(loss))
      refuse(`${at}.temperature must be 1 with loss "${loss}", which has none: it is ${JSON.stringify(temperature)}`);
    if (loss === 'logit_mse' && access === 'probs' && !(typeof target.loss === 'object' && 'centred' in target.loss && target.loss.centred))
      refuse(`${at}.loss must be { "kind": "logit_mse", "centred": true } with access "probs", which has no offset: it is not centred`);
    if (select?.rule === 'adaspec')
      refuse(`${at}.select.rule must not be "adaspec" with loss "${loss}", whose gap is of a divergence: it is`);
  }
  if (soften !== undefined && !isOne)
    refuse(`${at}.temperature must be 1 with soften, which has one of its own: it is ${JSON.stringify(temperature)}`);
  if (soften?.operator === 'uniform_mix' && soften.temperature < 1)
    refuse(`${at}.soften.temperature must be at least 1 for "uniform_mix": it is ${soften.temperature}`);
  if (soften?.sides === 'both') {
    forbids(taid, 'taid', 'with soften on both sides');
    forbids(groundTruth, 'groundTruth', 'with soften on both sides');
  }
  if (taid !== undefined) {
    const name = divergenceName(divergence);
    if (name !== 'forward_kl' && name !== 'soft_cross_entropy')
      refuse(
        `${at}.divergence must be forward_kl or soft_cross_entropy with taid, whose schedule follows the cross-entropy: it is "${name}"`,
      );
    forbids(assistant, 'assistant', 'with taid, which has a mixture of its own');
    const { tStart = 0.4, tEnd = 1 } = taid;
    if (tEnd < tStart) refuse(`${at}.taid.tEnd must be at least tStart (${tStart}): it is ${tEnd}`);
  }
  if (select?.rule === 'adaspec') references.teacher(`${field}.select.reference`, select.reference);
  if (select?.rule === 'adakd' && (select.keep ?? 1) < (select.least ?? 0.1))
    refuse(`${at}.select.keep must be at least select.least (${select.least ?? 0.1}): it is ${select.keep}`);
  checkSchedule(target.hardWeight, references, `${at}.hardWeight`);
  checkSchedule(groundTruth, references, `${at}.groundTruth`);
  if (!isRule) checkSchedule(temperature as Scheduled, references, `${at}.temperature`);
}
