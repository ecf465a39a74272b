// A capture stage: what a model says of every training row, kept as sparse targets in a file.
import { stat } from 'node:fs/promises';
import { noGrad, tidy } from '../../autograd.js';
import { KeptCounter } from '../../cache/summary.js';
import { deriveSeed } from '../../nn/seed.js';
import { captureTopK, sampleTarget, saveTargets, sparseTarget, type SparseTarget } from '../../targets/index.js';
import { hostCopy, tensor, type Tensor } from '../../tensor.js';
import { output } from '../build.js';
import type { RunContext, UnitPlan } from '../context.js';
import type { CaptureResult, Moves } from '../results.js';
import type { CaptureStage } from '../spec.js';
import { recordingRows, recordTargets } from '../recording.js';
import { viewSeed } from '../views.js';
import { finishUnit } from './train.js';

// Rows of logits that are looked at together, in elements.
const MOST_LOGITS = 1 << 23;
const MOST_ROWS = 1000;

/** Batches of a capture. */
export function captureSteps(rows: number, rowsEach: number, cols: number, views = 1): number {
  return views * Math.ceil(rows / (rowsEach === 1 ? rowsAtOnce(rowsEach, cols) : recordingRows(rowsEach, cols)));
}

function rowsAtOnce(rowsEach: number, cols: number): number {
  return Math.max(1, Math.min(MOST_ROWS, Math.floor(MOST_LOGITS / (rowsEach * cols))));
}

/** What is taken of a batch's logits. */
function taken(logits: Tensor, spec: CaptureStage, seed: number, rowOffset: number): SparseTarget {
  const { temperature, sample, access } = spec;
  if (access === 'text') return sampleTarget(logits, 1, { temperature, method: 'with_replacement', seed, rowOffset });
  if (sample) return sampleTarget(logits, sample.draws, { temperature, method: sample.method, seed, rowOffset });
  return captureTopK(logits, spec.k!, { temperature });
}

export async function captureUnit(context: RunContext, index: number, unit: UnitPlan, spec: CaptureStage): Promise<void> {
  context.listen({ type: 'unit', index, unit, step: 0 });
  const started = performance.now();
  const { source, folder } = context;
  const { cols, rowsEach, trainRows } = source;
  if (rowsEach > 1) return recordUnit(context, index, unit, spec);
  const { model } = context.load(context.resultOf(spec.from, unit.seed));
  const seed = deriveSeed(unit.seed, 'capture', spec.name);
  const { shift, views } = spec;
  // Rows of the file: all images of the first view, then of the second, …
  const rows = trainRows * views;
  const moves: Moves | null = shift === 0 ? null : { shift, views, seed: deriveSeed(unit.seed, 'moves', spec.name) };
  const step = rowsAtOnce(rowsEach, cols);
  let k = 0;
  let indices = new Int32Array();
  let values = new Float32Array();
  let isWeights = false;
  const tailLogMass = new Float32Array(rows);
  try {
    model.eval();
    const perView = Math.ceil(trainRows / step);
    for (let number = 1; number <= views * perView; number++) {
      const view = Math.floor((number - 1) / perView);
      const row = ((number - 1) % perView) * step;
      const count = Math.min(step, trainRows - row);
      tidy(() =>
        noGrad(() => {
          const chosen = Int32Array.from({ length: count }, (_, i) => row + i);
          const { input } = moves === null ? source.batch(chosen, 0, 0) : source.moved!(chosen, viewSeed(moves, view), shift);
          const at = view * trainRows + row;
          const target = taken(output(model, input, cols).logits, spec, seed, at);
          if (at === 0) {
            k = target.indices.shape[1]!;
            isWeights = target.weights !== null;
            indices = new Int32Array(rows * k);
            values = new Float32Array(rows * k);
          }
          indices.set(hostCopy(target.indices, 'capture') as Int32Array, at * k);
          values.set(hostCopy((target.weights ?? target.logProbs)!, 'capture') as Float32Array, at * k);
          if (target.tailLogMass) tailLogMass.set(hostCopy(target.tailLogMass, 'capture') as Float32Array, at);
        }),
      );
      context.listen({ type: 'step', index, step: number, rows: count });
      if (await context.isStopped()) await context.interrupt();
    }
  } finally {
    // From here on the students learn from the file alone.
    model.dispose();
  }
  // An endpoint that shows its best log-probabilities says nothing of the others' mass but that it is the rest.
  const file = `targets/${unit.key}.safetensors`;
  tidy(() => {
    const host = (data: Int32Array | Float32Array, width?: number) =>
      tensor(data, { shape: width === undefined ? [rows] : [rows, width], device: 'cpu' });
    const target = sparseTarget({
      indices: host(indices, k),
      ...(isWeights ? { weights: host(values, k) } : { logProbs: host(values, k), tailLogMass: host(tailLogMass) }),
      temperature: spec.temperature,
      cols,
    });
    saveTargets(folder.file(file), target);
  });
  let tail = 0;
  if (!isWeights) for (const mass of tailLogMass) tail += Math.exp(mass);
  const counter = new KeptCounter(isWeights ? 'weights' : 'log_probs', k);
  for (let row = 0; row < rows; row++) counter.add(row, indices, values, isWeights ? null : tailLogMass);
  const result: CaptureResult = {
    stage: spec.name,
    from: spec.from,
    file,
    bytes: (await stat(folder.file(file))).size,
    seed: unit.seed,
    once: unit.once,
    rows,
    cols,
    k,
    ...(moves === null ? {} : { moves }),
    ...(isWeights ? { sample: spec.sample?.method ?? 'with_replacement' } : {}),
    access: spec.access,
    temperature: spec.temperature,
    meanTail: tail / rows,
    kept: counter.spreads(),
    seconds: (performance.now() - started) / 1000,
  };
  folder.state.captures.push(result);
  context.listen({ type: 'capture', index, result });
  await finishUnit(context, unit);
}

/** Rows of several logits each are many: they are streamed to a folder, and a stopped stage goes on behind what is there. */
async function recordUnit(context: RunContext, index: number, unit: UnitPlan, spec: CaptureStage): Promise<void> {
  const started = performance.now();
  const { source, folder } = context;
  const { cols, rowsEach, trainRows } = source;
  const { k, sample, access, temperature } = spec;
  const { model } = context.load(context.resultOf(spec.from, unit.seed));
  const file = `targets/${unit.key}`;
  let done = 0;
  try {
    model.eval();
    const recording = await recordTargets(folder.file(file), {
      rows: trainRows,
      rowsEach,
      cols,
      access,
      temperature,
      ...(k === undefined ? {} : { k }),
      // Text is what a teacher writes: one outcome, drawn.
      ...(access === 'text' ? { sample: { draws: 1 } } : sample === undefined ? {} : { sample }),
      ...(source.hash ? { hash: source.hash() } : {}),
      seed: deriveSeed(unit.seed, 'capture', spec.name),
      logits: (from, count) =>
        output(
          model,
          source.batch(
            Int32Array.from({ length: count }, (_, i) => from + i),
            0,
            0,
          ).input,
          cols,
        ).logits,
      onRows: (rows) => {
        context.listen({ type: 'step', index, step: Math.ceil(rows / recordingRows(rowsEach, cols)), rows: rows - done });
        done = rows;
      },
      isStopped: () => context.isStopped(),
    });
    if (recording === null) return await context.interrupt();
    const result: CaptureResult = {
      stage: spec.name,
      from: spec.from,
      file,
      bytes: recording.bytes,
      bytesPerRow: recording.bytesPerRow,
      seed: unit.seed,
      once: unit.once,
      rows: recording.rows,
      cols,
      k: recording.k,
      ...(recording.kind === 'log_probs' ? {} : { sample: sample?.method ?? 'with_replacement' }),
      access,
      temperature,
      meanTail: recording.meanTail,
      kept: recording.kept,
      seconds: (performance.now() - started) / 1000,
    };
    folder.state.captures.push(result);
    context.listen({ type: 'capture', index, result });
  } finally {
    model.dispose();
  }
  await finishUnit(context, unit);
}
