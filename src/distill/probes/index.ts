// The probes by name, and the check of their options.
import { kindError, nearest } from '../../errors.js';
import { adakdTemperatures } from './adakd_temperatures.js';
import { amidIdentities } from './amid_identities.js';
import { bildIdentities } from './bild_identities.js';
import { hintonGradient } from './hinton_gradient.js';
import { kernelToy } from './kernel_toy.js';
import { pldIdentities } from './pld_identities.js';
import { recursionExact } from './recursion_exact.js';
import { sampledUnbiased } from './sampled_unbiased.js';
import { selectionRules } from './selection_rules.js';
import { softeningAxioms } from './softening_axioms.js';
import { softeningEquivalence } from './softening_equivalence.js';
import { taidProperties } from './taid_properties.js';
import { tinyvitTarget } from './tinyvit_target.js';
import type { Probe, ProbeContext, ProbeOptions, ProbeResult } from './types.js';

export type { Probe, ProbeContext, ProbeOption, ProbeOptions, ProbeResult, ProbeSeries } from './types.js';

/** All probes there are, by name. */
export const probes: Readonly<Record<string, Probe>> = Object.fromEntries(
  [
    adakdTemperatures,
    amidIdentities,
    bildIdentities,
    hintonGradient,
    kernelToy,
    pldIdentities,
    recursionExact,
    sampledUnbiased,
    selectionRules,
    softeningAxioms,
    softeningEquivalence,
    taidProperties,
    tinyvitTarget,
  ].map((probe) => [probe.name, probe]),
);

/**
 * A probe's options with its defaults filled in.
 *
 * @param refuse throws; its text is what must hold and what was, without the field in front: '.options.trials must be …'
 */
export function probeOptions(probe: Probe, given: Readonly<Record<string, unknown>>, refuse: (text: string) => never): ProbeOptions {
  const options: Record<string, number | readonly number[]> = {};
  for (const name of Object.keys(given)) {
    if (Object.hasOwn(probe.options, name)) continue;
    const near = nearest(name, Object.keys(probe.options));
    refuse(
      `.options has no field "${name}": ${near === undefined ? `legal names are ${Object.keys(probe.options).join(', ')}` : `did you mean "${near}"?`}`,
    );
  }
  for (const [name, { default: usual, least = -Infinity, most = Infinity, whole }] of Object.entries(probe.options)) {
    const value = given[name] ?? usual;
    const isList = Array.isArray(usual);
    const numbers: unknown[] = isList ? (Array.isArray(value) ? value : [undefined]) : [value];
    const fits = (each: unknown): boolean =>
      typeof each === 'number' && each >= least && each <= most && Number.isFinite(each) && (!whole || Number.isInteger(each));
    if (numbers.length === 0 || !numbers.every(fits)) {
      const range = least === -Infinity && most === Infinity ? '' : most === Infinity ? ` of at least ${least}` : ` in [${least}, ${most}]`;
      const kind = `${isList ? (whole ? 'whole numbers' : 'numbers') : whole ? 'a whole number' : 'a number'}`;
      refuse(`.options.${name} must be ${isList ? 'a list of ' : ''}${kind}${range}: it is ${JSON.stringify(value)}`);
    }
    options[name] = value as number | readonly number[];
  }
  return options;
}

/** Runs a probe by name with checked options. */
export async function runProbe(name: string, given: Readonly<Record<string, unknown>>, context: ProbeContext): Promise<ProbeResult> {
  if (typeof name !== 'string') throw kindError('run a probe', 'name must be a string', name);
  const action = `run probe "${name}"`;
  for (const [what, value] of [
    ['options', given],
    ['context', context],
  ] as const) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw kindError(action, `${what} must be an object`, value);
  }
  const probe = Object.hasOwn(probes, name) ? probes[name]! : undefined;
  if (probe === undefined) {
    const near = nearest(name, Object.keys(probes));
    throw new TypeError(
      `Cannot ${action}: it must be one of ${Object.keys(probes).join(', ')}${near === undefined ? ': it is not' : `: did you mean "${near}"?`}`,
    );
  }
  const options = probeOptions(probe, given, (text) => {
    throw new TypeError(`Cannot ${action}: ${text.slice(1)}`);
  });
  return probe.run(options, context);
}
