// The divergences by name: their parameters with defaults, and what limits them. One line each; the formulas are in
// native/ops/divergence/formulas.

interface Entry {
  /** Name and default of each parameter, in the order of the kernel's parameters. */
  readonly parameters: Readonly<Record<string, number>>;
  /** Meaningful for a target whose mass is not 1. */
  readonly anyMass?: boolean;
  /** Infinite where the teacher is 0 and the student is not. */
  readonly infiniteOffTarget?: boolean;
  /** Its first parameter is found for each row, from the columns of a dense target. */
  readonly byRow?: boolean;
}

export const divergences = {
  forward_kl: { parameters: {}, anyMass: true },
  reverse_kl: { parameters: {}, infiniteOffTarget: true },
  symmetric_kl: { parameters: {}, infiniteOffTarget: true },
  jensen_shannon: { parameters: { beta: 0.5 } },
  skew_forward_kl: { parameters: { alpha: 0.1 } },
  skew_reverse_kl: { parameters: { alpha: 0.1 } },
  total_variation: { parameters: {} },
  squared_hellinger: { parameters: {} },
  soft_cross_entropy: { parameters: {}, anyMass: true },
  adaptive_kl: { parameters: { head: 0.5 }, infiniteOffTarget: true, byRow: true },
} as const satisfies Record<string, Entry>;

/** Names of divergences; not all of them have a kernel yet. */
export type DivergenceName = keyof typeof divergences;

/** A divergence by name, with its default parameters, or with parameters of one's own. */
export type Divergence =
  | DivergenceName
  | { kind: 'jensen_shannon'; beta?: number }
  | { kind: 'skew_forward_kl' | 'skew_reverse_kl'; alpha?: number }
  | { kind: 'adaptive_kl'; head?: number }
  | { kind: DivergenceName };

export function divergenceEntry(name: DivergenceName): Entry {
  return divergences[name];
}

export const divergenceNames = Object.keys(divergences) as DivergenceName[];
