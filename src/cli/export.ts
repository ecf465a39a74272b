// `limbeck export`: a student of a run as an ONNX file.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { shortPath } from '../distill/files.js';
import type { RunState } from '../distill/folder.js';
import { count } from '../distill/results.js';
import { LimbeckError, nearest } from '../errors.js';
import { load } from '../nn/index.js';
import { exportOnnx } from '../onnx/index.js';

export interface ExportFlags {
  out: string;
  seed?: number;
  level?: number;
}

/** Writes the model that a stage of a run handed on. @throws TypeError that names the stages there are */
export async function exportStage(run: string, stage: string, { out, seed, level }: ExportFlags): Promise<string> {
  const action = `export from ${shortPath(run)}`;
  let models: RunState['models'];
  try {
    ({ models } = JSON.parse(await readFile(join(run, 'run.json'), 'utf8')) as RunState);
  } catch (error) {
    throw new LimbeckError('bad_file', `Cannot ${action}: it must be the folder of a run: ${(error as Error).message}`, { cause: error });
  }
  const ofStage = models.filter((m) => m.stage === stage || m.of === stage || m.key === stage);
  if (ofStage.length === 0) {
    const names = [...new Set(models.map((m) => m.stage))];
    const near = nearest(stage, names);
    throw new TypeError(
      `Cannot ${action}: the stage must have a model: "${stage}" has none, ${near === undefined ? `those that have one are ${names.join(', ') || 'none'}` : `did you mean "${near}"?`}`,
    );
  }
  const seeds = [...new Set(ofStage.map((m) => m.seed))];
  const chosen = ofStage.filter((m) => m.seed === (seed ?? seeds[0]));
  const result = level === undefined ? chosen.at(-1) : chosen.at(level);
  if (!result)
    throw new RangeError(
      `Cannot ${action}: seed and level must be those of a model: the seeds are ${seeds.join(', ')}, each with ${ofStage.length / seeds.length} levels`,
    );
  const model = load(join(run, result.checkpoint));
  try {
    await exportOnnx(model, out, { metadata: { stage: result.stage, seed: String(result.seed) } });
  } finally {
    model.dispose();
  }
  return `${shortPath(out)}: ${result.title}, seed ${result.seed}, ${count(result.parameters)} parameters\n`;
}
