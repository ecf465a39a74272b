// Whether a name that a document or the list of methods uses is there, and more than a stub.
import * as limbeck from '../src/index.js';
import { captureTopK, kdLoss, LimbeckError, sampleTarget, soften, tensor } from '../src/index.js';
import type { KdLossOptions, SampleOptions, SoftenOptions } from '../src/index.js';

async function isStub(call: () => unknown): Promise<boolean> {
  try {
    await call();
  } catch (error) {
    return error instanceof LimbeckError && error.code === 'not_available';
  }
  return false;
}

/** An export of limbeck by its path ('nn.Linear') that is a function or class with something behind it. */
export async function isExported(path: string): Promise<boolean> {
  const found = path.split('.').reduce<unknown>((at, key) => (at as Record<string, unknown> | undefined)?.[key], limbeck);
  // Every public function refuses the absence of its arguments.
  return typeof found === 'function' && !(await isStub(() => (found as () => unknown)()));
}

const student = () => tensor([[1, 2, 0]]);

/** Whether an option's value is taken; `name` and `value` as they stand in a call. */
export function takesOption(name: string, value: unknown): boolean {
  const teacher = tensor([[0, 1, 2]]);
  const attempts: Record<string, () => unknown> = {
    divergence: () => kdLoss(student(), teacher, { divergence: value } as KdLossOptions),
    assistant: () => kdLoss(student(), teacher, { assistant: value } as KdLossOptions),
    residual: () => kdLoss(student(), captureTopK(teacher, 2), { residual: value, labels: [0] } as KdLossOptions),
    method: () => sampleTarget(teacher, 2, { method: value } as SampleOptions),
    operator: () => soften(tensor([[0.5, 0.25, 0.25]]), { operator: value, temperature: 2 } as SoftenOptions),
  };
  const attempt = attempts[name];
  if (attempt === undefined) throw new Error(`takesOption knows no option '${name}'`);
  try {
    attempt();
    return true;
  } catch {
    return false;
  }
}

/** The functions that a line of code calls. */
export function calledNames(code: string): string[] {
  return [...code.matchAll(/(?<![\w.])([a-z]\w*(?:\.\w+)*)\(/gi)].map((match) => match[1]!);
}

/** The options of kdLoss, soften and sampleTarget that a line of code names: [option, value]. */
export function namedOptions(code: string): [string, string][] {
  const found = [...code.matchAll(/(divergence|residual|operator): (?:\{ kind: )?'(\w+)'/g)];
  if (code.startsWith('sampleTarget(')) found.push(...code.matchAll(/(method): '(\w+)'/g));
  return found.map((match) => [match[1]!, match[2]!]);
}
