// limbeck capture: a teacher's targets into a shard of a cache, from a file of logits or from the teacher of a recipe's run.
import { createReadStream } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { createHash } from 'node:crypto';
import { join, resolve } from 'node:path';
import { noGrad, tidy } from '../autograd.js';
import { TargetCacheWriter } from '../cache/writer.js';
import { setDevice, type Device } from '../device.js';
import { loadModel, output } from '../distill/build.js';
import { shortPath } from '../distill/files.js';
import { openSource } from '../distill/open_source.js';
import { checkRecipe, loadRecipe, type CaptureStage, type Recipe } from '../distill/recipe.js';
import { count, size, type ModelResult } from '../distill/results.js';
import { LimbeckError } from '../errors.js';
import { badFile, fileError } from '../safetensors.js';
import { captureTopK } from '../targets/capture.js';
import { sampleTarget, type SampleMethod } from '../targets/sample.js';
import type { SparseTarget } from '../targets/target.js';
import { gatherRows } from '../ops/index.js';
import { tensor, type Tensor } from '../tensor.js';
import { openLogits, type LogitsSource } from './logits.js';
import { RowProgress } from './row-progress.js';

export interface CaptureFlags {
  logits?: string;
  tensor?: string;
  run?: string;
  stage?: string;
  out: string;
  k?: number;
  temperature?: number;
  method: SampleMethod | 'top_k';
  draws: number;
  seed: number;
  bits?: number;
  rows?: { begin: number; end: number };
  shard: number;
  inputs?: string;
  vocabulary?: string;
  device: string;
  resume?: true;
  fresh?: true;
}

interface Source extends LogitsSource {
  inputHash?: string;
  k: number;
  temperature: number;
}

const pieceElements = 1 << 22;
const defaultK = 64;

/** Captures; true where it ran to its end, false where the signal stopped it with everything so far in the shard. */
export async function capture(recipePath: string | undefined, flags: CaptureFlags, signal: AbortSignal): Promise<boolean> {
  const source = flags.logits === undefined ? await openTeacher(recipePath!, flags) : fromLogits(flags.logits, flags);
  try {
    return await captureFrom(source, flags, signal);
  } finally {
    source.close();
  }
}

async function captureFrom(source: Source, flags: CaptureFlags, signal: AbortSignal): Promise<boolean> {
  const { begin, end } = flags.rows ?? { begin: 0, end: source.rows };
  if (end > source.rows) throw new RangeError(`Cannot capture: --rows must end at ${source.rows} at most: it ends at ${end}`);
  const { method, draws, seed } = flags;
  const k = Math.min(flags.k ?? source.k, source.cols);
  const temperature = flags.temperature ?? source.temperature;
  const isCounts = method === 'with_replacement';
  const inputHash = flags.inputs === undefined ? source.inputHash : await fileHash(flags.inputs);
  const writer = await TargetCacheWriter.open(flags.out, {
    shard: flags.shard,
    firstRow: begin,
    cols: source.cols,
    ...(inputHash === undefined ? {} : { inputHash }),
    ...(flags.vocabulary === undefined ? {} : { vocabularyHash: await fileHash(flags.vocabulary) }),
    ...(isCounts ? { draws } : flags.bits === undefined ? {} : { bits: flags.bits }),
    resume: flags.resume === true,
    fresh: flags.fresh === true,
  });
  const before = begin + writer.rows;
  if (before > end) {
    await writer.close();
    throw new LimbeckError(
      'wrong_target',
      `Cannot go on with ${flags.out}: it must be of the same rows: it holds ${writer.rows}, and these are ${end - begin}`,
    );
  }
  if (writer.isFinished) {
    process.stdout.write(`${shortPath(flags.out)} holds rows ${begin} to ${before - 1} already\n`);
    return true;
  }
  const piece = Math.max(1, Math.min(1024, Math.floor(pieceElements / source.cols)));
  const started = performance.now();
  const progress = new RowProgress(process.stderr, 'capturing', end - begin);
  progress.startAt(before - begin);
  try {
    for (let row = before; row < end; row += piece) {
      const next = Math.min(end, row + piece);
      const target = tidy(() =>
        noGrad((): SparseTarget => {
          const logits = source.read(row, next);
          return method === 'top_k'
            ? captureTopK(logits, k, { temperature })
            : sampleTarget(logits, draws, { method, seed, temperature, rowOffset: row });
        }),
      );
      await writer.append(target);
      target.dispose();
      progress.show(next - begin);
      // Signals come in between turns of the loop.
      await new Promise((resume) => setImmediate(resume));
      if (signal.aborted) {
        await writer.close();
        return false;
      }
    }
    const { path, rows, bytes } = await writer.finish();
    progress.clear();
    const seconds = (performance.now() - started) / 1000;
    const gigabytes = ((end - before) * source.cols * 4) / 1e9;
    const what = method === 'top_k' ? `the ${k} best of ${count(source.cols)}` : `${draws} draws (${method}) of ${count(source.cols)}`;
    process.stdout.write(
      `${shortPath(path)}: ${count(rows)} rows, ${what} at temperature ${temperature}, ${size(bytes)}, ${(bytes / rows).toFixed(1)} bytes a row ` +
        `(${seconds.toFixed(1)} s, ${(gigabytes / seconds).toFixed(2)} GB of logits a second)\n`,
    );
    return true;
  } finally {
    progress.clear();
    await writer.close();
  }
}

function fromLogits(path: string, flags: CaptureFlags): Source {
  const { device } = setDevice(flags.device as Device);
  const source = openLogits(path, flags.tensor);
  const read = (begin: number, end: number) => source.read(begin, end).to(device);
  return { ...source, read, k: defaultK, temperature: 1 };
}

/** The teacher of a run, from its checkpoint, on the recipe's training rows. */
async function openTeacher(recipePath: string, flags: CaptureFlags): Promise<Source> {
  const { name } = await loadRecipe(recipePath);
  const run = flags.run ?? resolve('runs', name);
  const { recipe, models } = await readRun(run, recipePath);
  const captures = recipe.stages.filter((stage): stage is CaptureStage => stage.kind === 'capture');
  const stage = flags.stage === undefined ? captures[0] : captures.find((each) => each.name === flags.stage);
  if (stage === undefined)
    throw new RangeError(
      `Cannot capture from ${recipePath}: it must have a capture stage${flags.stage === undefined ? '' : ` '${flags.stage}'`}: its capture stages are ${captures.map((each) => each.name).join(', ') || 'none'}`,
    );
  if (stage.shift > 0)
    throw new RangeError(
      `Cannot capture from ${recipePath}: stage '${stage.name}' must not move images, which a run alone can replay: its shift is ${stage.shift}`,
    );
  const trained = models.filter((model) => model.stage === stage.from).at(-1);
  if (trained === undefined)
    throw new LimbeckError(
      'not_trained',
      `Cannot capture from ${recipePath}: stage '${stage.from}' must be a model that is trained in ${shortPath(run)}: it is not (limbeck distill trains it)`,
    );
  const { device } = setDevice(flags.device as Device);
  const source = await openSource(recipe, device, { recipePath });
  const { rowsEach, cols } = source;
  const { model } = loadModel(join(run, trained.checkpoint), recipe.models, { source, device });
  model.eval();
  const read = (begin: number, end: number): Tensor => {
    // Rows of logits: those of a text begin and end within its sequences.
    const first = Math.floor(begin / rowsEach);
    const rows = Int32Array.from({ length: Math.ceil(end / rowsEach) - first }, (_, i) => first + i);
    const { logits } = output(model, source.batch(rows, 0, 0).input, cols);
    return rowsEach === 1
      ? logits
      : gatherRows(
          logits,
          tensor(
            Int32Array.from({ length: end - begin }, (_, i) => begin - first * rowsEach + i),
            { device },
          ),
        );
  };
  return {
    rows: source.trainRows * rowsEach,
    cols,
    read,
    close: () => {
      source.dispose();
      model.dispose();
    },
    ...(source.hash ? { inputHash: source.hash() } : {}),
    k: stage.k ?? defaultK,
    temperature: stage.temperature,
  };
}

async function readRun(run: string, recipePath: string): Promise<{ recipe: Recipe; models: ModelResult[] }> {
  const path = join(run, 'run.json');
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    throw new LimbeckError(
      'not_trained',
      `Cannot capture from ${recipePath}: its teacher must be trained: ${shortPath(run)} holds no run (limbeck distill ${recipePath} makes it, --run names another)`,
      { cause: error },
    );
  }
  try {
    const { recipe, models } = JSON.parse(text) as { recipe: Recipe; models: ModelResult[] };
    if (Array.isArray(models)) return { recipe: await checkRecipe(recipe), models };
  } catch {
    // Said below.
  }
  throw badFile(path, 'it must be the state of a run', 'it is not');
}

/** The same as hashOf of the file's bytes, however large it is. */
async function fileHash(path: string): Promise<string> {
  try {
    const bytes = (await stat(path)).size;
    const hash = createHash('sha256').update(`bUint8Array ${bytes}:`);
    for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
    return `sha256:${hash.digest('hex')}`;
  } catch (error) {
    throw fileError('read', path, 'the file must be readable', error);
  }
}
