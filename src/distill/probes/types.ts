// Named exact experiments: what one is given, and what it gives back.
import type { Device } from '../../device.js';

/** One option of a probe: a number or a list of numbers, with its default and bounds. */
export interface ProbeOption {
  says: string;
  default: number | readonly number[];
  /** Least and most of the number, or of each number of the list. */
  least?: number;
  most?: number;
  whole?: boolean;
}

/** Options as a probe is run with: all that it has. */
export type ProbeOptions = Readonly<Record<string, number | readonly number[]>>;

/** Lines over a common x. */
export interface ProbeSeries {
  /** Short name, as in a file. */
  name: string;
  title: string;
  x: { label: string; values: number[] };
  y: { label: string; isLogarithmic?: boolean };
  lines: { name: string; values: number[] }[];
}

/** What a probe found: numbers by name, which checks may use, and series to plot. */
export interface ProbeResult {
  values: Record<string, number>;
  series?: ProbeSeries[];
}

export interface ProbeContext {
  device: Device;
  seed: number;
  signal?: AbortSignal;
}

/** An experiment whose result theory foretells: no training, no data. */
export interface Probe {
  name: string;
  /** One sentence: what it computes. */
  says: string;
  /** Where the claim is from. */
  source: string;
  options: Readonly<Record<string, ProbeOption>>;
  /** Names of its values and what each is, for the documentation. */
  values: Readonly<Record<string, string>>;
  run(options: ProbeOptions, context: ProbeContext): Promise<ProbeResult> | ProbeResult;
}
