// A probe stage: an exact experiment that gives named numbers and lines of a plot.
import type { RunContext, UnitPlan } from '../context.js';
import { probeOptions, probes, type Probe } from '../probes/index.js';
import { suggestion } from '../recipe_errors.js';
import type { ProbeResult } from '../results.js';
import type { ProbeStage } from '../spec.js';
import { finishUnit } from './train.js';

/** The probe of a stage and its options, complete. @throws TypeError that names the field */
export function findProbe(spec: ProbeStage, at: string, what: string, custom: Readonly<Record<string, Probe>> = {}) {
  const all = { ...probes, ...custom };
  const probe = Object.hasOwn(all, spec.probe) ? all[spec.probe]! : undefined;
  if (!probe)
    throw new TypeError(
      `Cannot use ${what}: ${at}.probe must name a probe: it is "${spec.probe}", ${suggestion(spec.probe, Object.keys(all))}`,
    );
  const options = probeOptions(probe, spec.options, (text) => {
    throw new TypeError(`Cannot use ${what}: ${at}${text}`);
  });
  return { probe, options };
}

export async function probeUnit(context: RunContext, index: number, unit: UnitPlan, spec: ProbeStage): Promise<void> {
  context.listen({ type: 'unit', index, unit, step: 0 });
  const { recipe, device, signal, custom, folder } = context;
  const { probe, options } = findProbe(spec, `stage "${spec.name}"`, `recipe ${recipe.name}`, custom.probes);
  const started = performance.now();
  let found: Awaited<ReturnType<Probe['run']>>;
  try {
    found = await probe.run(options, { device, seed: unit.seed, ...(signal ? { signal } : {}) });
  } catch (error) {
    if (signal?.aborted) await context.interrupt();
    throw error;
  }
  const { values, series = [] } = found;
  const result: ProbeResult = {
    stage: spec.name,
    title: spec.title ?? probe.says,
    probe: spec.probe,
    options: { ...options },
    values,
    series,
    seconds: (performance.now() - started) / 1000,
  };
  folder.state.probes.push(result);
  context.listen({ type: 'step', index, step: 1, rows: 0 });
  context.listen({ type: 'probe', index, result });
  if (await context.isStopped()) {
    await finishUnit(context, unit);
    await context.interrupt();
  }
  await finishUnit(context, unit);
}
