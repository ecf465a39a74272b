// The interface of teachers: models behind a function, vocabularies, recorded answers of every format, and text.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { captureTopK, DenseTarget, kdLoss, LimbeckError, log, sampleTarget, tensor, type SparseTarget, type Tensor } from '../src/index.js';
import {
  answersTeacher,
  logitsTeacher,
  readAnswers,
  readVocabulary,
  textTeacher,
  vocabulary,
  type AnswerOptions,
  type LogitsOptions,
  type TeacherTarget,
} from '../src/teachers/index.js';

const folder = mkdtempSync(path.join(os.tmpdir(), 'limbeck-teachers-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const numbers = (x: Tensor | null): number[] => Array.from((x as Tensor).data as Float32Array);
const ln = Math.log;
const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

async function collect<B>(targets: AsyncIterable<TeacherTarget<B>>): Promise<TeacherTarget<B>[]> {
  const all: TeacherTarget<B>[] = [];
  for await (const it of targets) all.push(it);
  return all;
}

async function failure(call: Promise<unknown>): Promise<Error> {
  const error: unknown = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(Error);
  expect((error as Error).message).toMatch(/^Cannot /);
  return error as Error;
}

const logits = [
  [
    [2, 1, 0, -1],
    [0, 3, 1, 1],
  ],
  [[5, 0, 0, 1]],
];

describe('logitsTeacher', () => {
  const targetsOf = (options: LogitsOptions, batches: unknown[] = logits) =>
    collect(logitsTeacher((batch) => tensor(batch as number[][]), options).targets(batches));

  it('changes only the target with its access; the loop is the same', async () => {
    const student = tensor([
      [1, 0, 2, 0],
      [0, 1, 0, 1],
    ]);
    const options: LogitsOptions[] = [
      { access: 'full' },
      { access: 'topk', k: 2, residual: 'tail_bucket' },
      { access: 'topk', draws: 5, seed: 3, residual: 'tail_bucket' },
      { access: 'text', residual: 'tail_bucket' },
    ];
    const losses: number[] = [];
    for (const each of options) {
      for await (const it of logitsTeacher((batch: number[][]) => tensor(batch), each).targets([logits[0]!])) {
        losses.push(kdLoss(student, it.target, { ...it.lossOptions }).item());
        expect(it.rows).toBe(2);
        expect(it.batch).toBe(logits[0]);
      }
    }
    const whole = tensor(logits[0]!);
    const choice = kdLoss(student, tensor([[1e4, 0, 0, 0], [0, 1e4, 0, 0]])).item(); // prettier-ignore
    expect(losses).toEqual([
      kdLoss(student, whole).item(),
      kdLoss(student, captureTopK(whole, 2), { residual: 'tail_bucket' }).item(),
      kdLoss(student, sampleTarget(whole, 5, { seed: 3 })).item(),
      expect.closeTo(choice, 5),
    ]);
  });

  it('draws for each batch what one call over all rows would', async () => {
    const [a, b] = await targetsOf({ access: 'topk', draws: 6, seed: 9, method: 'head_tail', temperature: 2 });
    const once = sampleTarget(tensor(logits.flat()), 6, { seed: 9, method: 'head_tail', temperature: 2 });
    const ids = [a!, b!].flatMap(({ target }) => numbers((target as SparseTarget).indices));
    expect(ids).toEqual(numbers(once.indices));
    const weights = [a!, b!].flatMap(({ target }) => numbers((target as SparseTarget).weights));
    expect(weights).toEqual(numbers(once.weights));
  });

  it('takes probabilities and log-probabilities, of plain numbers with a shape, as what they are', async () => {
    const dims = [1, 2, 4];
    const p = new Float32Array([0.5, 0.25, 0.125, 0.125, 0.1, 0.7, 0.2, 0]);
    const run = (values: 'probs' | 'log_probs', extra: LogitsOptions) =>
      collect(logitsTeacher(() => ({ data: values === 'probs' ? p : p.map(Math.log), dims }), { values, ...extra }).targets([0]));
    for (const values of ['probs', 'log_probs'] as const) {
      const [full] = await run(values, {});
      expect(full!.target).toBeInstanceOf(DenseTarget);
      const [top] = await run(values, { access: 'topk', k: 2, temperature: 2 });
      const expected = captureTopK(log(tensor(p, { shape: [2, 4] })), 2, { temperature: 2 });
      expect(numbers((top!.target as SparseTarget).logProbs)).toEqual(numbers(expected.logProbs));
      const [text] = await run(values, { access: 'text' });
      expect(Array.from(text!.labels!)).toEqual([0, 1]);
    }
  });

  it('says what is wrong with the numbers of a model', async () => {
    const run = (data: number[], extra: LogitsOptions = {}, dims = [1, data.length]) =>
      failure(collect(logitsTeacher(() => ({ data: Float32Array.from(data), dims }), extra).targets([0])));
    expect((await run([0.5, 0.25, 0.25])).message).toContain("values must be 'probs'");
    expect((await run([0.5, 0.6], { values: 'probs' })).message).toContain('sum to 1');
    expect((await run([NaN, 1])).message).toContain('NaN in row 0');
    expect((await run([1, 2], {}, [3, 2])).message).toContain('size of its shape');
    expect(await run([0.5, 0.6], { values: 'probs' })).toMatchObject({ code: 'bad_output' });
    const widths = logitsTeacher((n: number) => tensor([Array.from({ length: n }, (_, i) => i)]));
    expect((await failure(collect(widths.targets([3, 4])))).message).toContain('3 columns like the first');
    expect((await failure(collect(logitsTeacher(() => 5 as never).targets([0])))).message).toContain('Tensor or { data, dims }');
    expect((await failure(collect(widths.targets(5 as never)))).message).toContain('batches must be');
  });

  it('refuses options that would not be read, before anything runs', () => {
    const make = (options: object) => () => logitsTeacher(() => tensor([[0]]), options as LogitsOptions);
    expect(make({ access: 'topk' })).toThrow(TypeError);
    expect(make({ access: 'topk', k: 1, draws: 1 })).toThrow(/exactly one of k and draws/);
    expect(make({ k: 3 })).toThrow(/k must not be given with access 'full'/);
    expect(make({ access: 'topk', k: 2, method: 'race' })).toThrow(/method must not be given/);
    expect(make({ access: 'some' })).toThrow(RangeError);
    expect(make({ residual: 'tail' })).toThrow(RangeError);
    expect(make({ acess: 'full' })).toThrow(/did you mean 'access'/);
    expect(() => logitsTeacher(5 as never)).toThrow(TypeError);
  });

  it('disposes what a model made for it, and leaves the batch alone', async () => {
    const made: Tensor[] = [];
    const scaled = logitsTeacher((batch: Tensor) => {
      made.push(tensor(numbers(batch), { shape: batch.shape }));
      return made[made.length - 1]!;
    });
    const batch = tensor([[1, 2]]);
    const [it] = await collect(scaled.targets([batch]));
    expect(() => made[0]!.data).toThrow();
    expect(numbers((it!.target as DenseTarget).values)).toEqual([1, 2]);
    await collect(logitsTeacher((x: Tensor) => x).targets([batch]));
    expect(numbers(batch)).toEqual([1, 2]);
  });

  it('stops at a signal and lets errors of the model through', async () => {
    const controller = new AbortController();
    let runs = 0;
    const teacher = logitsTeacher(() => {
      if (++runs === 2) controller.abort(new Error('enough'));
      return tensor([[0, 1]]);
    });
    await expect(collect(teacher.targets([1, 2, 3], { signal: controller.signal }))).rejects.toThrow('enough');
    expect(runs).toBe(2);
    const broken = logitsTeacher((): Tensor => {
      throw new Error('model broke');
    });
    await expect(collect(broken.targets([1]))).rejects.toThrow('model broke');
  });
});

describe('vocabulary', () => {
  it('finds tokens by text and by bytes, in each encoding', () => {
    const plain = vocabulary(['a', ' b', 'é']);
    expect([plain.idOf(' b'), plain.idOf('c'), plain.idOfBytes([0xc3, 0xa9]), plain.textOf(2), plain.size]).toEqual([
      1,
      undefined,
      2,
      'é',
      3,
    ]);
    const gpt = vocabulary({ Ġcat: 4, Ċ: 1, 'Ã©': 2, '<|end|>': 7 }, { encoding: 'byte_level' });
    expect([gpt.idOf(' cat'), gpt.idOf('\n'), gpt.idOf('é'), gpt.idOf('<|end|>'), gpt.size]).toEqual([4, 1, 2, 7, 8]);
    const piece = vocabulary(new Map([['▁cat', 0], ['<0x0A>', 1], ['<0xE2>', 2]]), { encoding: 'sentencepiece', size: 10 }); // prettier-ignore
    expect([piece.idOf(' cat'), piece.idOf('\n'), piece.idOfBytes([0xe2]), piece.size]).toEqual([0, 1, 2, 10]);
    expect(vocabulary(['x', 'x']).ambiguous).toBe(1);
    expect(vocabulary(['x', 'x']).idOf('x')).toBe(0);
  });

  it('is read from the files there are', () => {
    const write = (name: string, text: string): string => {
      const file = path.join(folder, name);
      writeFileSync(file, text);
      return file;
    };
    const bpe = {
      model: { type: 'BPE', vocab: { Ġthe: 0, cat: 1 } },
      decoder: { type: 'ByteLevel' },
      added_tokens: [{ id: 2, content: '<|end|>' }],
    };
    expect(readVocabulary(write('tokenizer.json', JSON.stringify(bpe))).idOf(' the')).toBe(0);
    const unigram = { model: { type: 'Unigram', vocab: [['<unk>', 0], ['▁the', -1]] }, decoder: { type: 'Metaspace', replacement: '▁' } }; // prettier-ignore
    expect(readVocabulary(write('unigram.json', JSON.stringify(unigram))).idOf(' the')).toBe(1);
    expect(readVocabulary(write('vocab.json', '{"a": 0, "b": 1}')).idOf('b')).toBe(1);
    expect(readVocabulary(write('vocab.txt', 'a\r\nb\n')).idOf('b')).toBe(1);
    for (const file of [write('bad.json', '{'), write('none.json', '{}'), path.join(folder, 'missing.txt')])
      expect(() => readVocabulary(file)).toThrow(LimbeckError);
  });

  it('refuses what cannot be', () => {
    expect(() => vocabulary({ a: 1, b: 1 })).toThrow(/used once/);
    expect(() => vocabulary({ a: 1.5 })).toThrow(RangeError);
    expect(() => vocabulary(['a', 'b'], { size: 1 })).toThrow(RangeError);
    expect(() => vocabulary([1] as never)).toThrow(TypeError);
    expect(() => vocabulary([])).toThrow(RangeError);
  });
});

const words = vocabulary(['the', ' cat', ' dog', ' sat', ' ran', '.']);
const utf8 = (text: string): number[] => [...Buffer.from(text)];

interface Found {
  ids: number[][];
  probs: number[][];
  tail: number[];
  labels: number[];
}

async function read(answer: unknown, options: Partial<AnswerOptions> = {}, digits = 5) {
  const teacher = answersTeacher({ vocabulary: words, k: 3, ...options });
  const [it] = await collect(teacher.targets([[answer]]));
  const target = it!.target as SparseTarget;
  const slots = target.k;
  const ids = numbers(target.indices);
  const logs = numbers(target.logProbs);
  const found: Found = { ids: [], probs: [], tail: numbers(target.tailLogMass).map(Math.exp), labels: Array.from(it!.labels!) };
  for (let r = 0; r < it!.rows; r++) {
    const own = ids.slice(r * slots, (r + 1) * slots);
    const kept = own.filter((id) => id !== -1);
    expect(own.slice(kept.length).every((id) => id === -1)).toBe(true);
    found.ids.push(kept);
    found.probs.push(logs.slice(r * slots, r * slots + kept.length).map((value) => Number(Math.exp(value).toFixed(6))));
    // Whatever was dropped, a row is whole.
    expect(sum(found.probs[r]!) + found.tail[r]!).toBeCloseTo(1, digits);
  }
  return { ...found, it: it!, report: teacher.report };
}

const entry = (token: string, p: number, extra: object = {}) => ({ token, logprob: p === 0 ? -9999 : ln(p), bytes: utf8(token), ...extra });
const chat = (...places: { chosen: object; top: object[] }[]) => ({
  choices: [{ message: { content: '' }, logprobs: { content: places.map(({ chosen, top }) => ({ ...chosen, top_logprobs: top })) } }],
});

describe('answersTeacher reads', () => {
  it('a chat', async () => {
    const { ids, probs, labels } = await read(
      chat(
        { chosen: entry('the', 0.9), top: [entry('the', 0.9), entry('.', 0.05)] },
        { chosen: entry(' dog', 0.2), top: [entry(' cat', 0.6), entry(' dog', 0.2), entry(' sat', 0.1)] },
      ),
    );
    expect(ids).toEqual([[0, 5], [1, 2, 3]]); // prettier-ignore
    expect(probs).toEqual([[0.9, 0.05], [0.6, 0.2, 0.1]]); // prettier-ignore
    expect(labels).toEqual([0, 2]);
  });

  it('a completion, with and without echo', async () => {
    const logprobs = {
      tokens: ['the', ' cat', ' ran'],
      token_logprobs: [null, ln(0.5), ln(0.25)],
      top_logprobs: [null, { ' cat': ln(0.5), ' dog': ln(0.25) }, { ' sat': ln(0.5), ' ran': ln(0.25) }],
      text_offset: [0, 3, 7],
    };
    const { ids, labels } = await read({ choices: [{ text: '', logprobs }] });
    expect(ids).toEqual([[1, 2], [3, 4]]); // prettier-ignore
    expect(labels).toEqual([1, 4]);
  });

  it("vLLM's prompt_logprobs, whose ids JSON puts in order, and its token_id: texts", async () => {
    const place = (...list: [number, number, string][]) =>
      Object.fromEntries(list.map(([id, p, decoded_token], i) => [id, { logprob: ln(p), rank: i + 1, decoded_token }]));
    const answer = {
      choices: [
        {
          text: '',
          prompt_token_ids: [0, 2, 3],
          prompt_logprobs: [null, place([2, 0.1, ' dog'], [1, 0.8, ' cat']), place([3, 0.5, ' sat'])],
        },
      ],
    };
    const own = await read(answer);
    const theirs = await read(answer, { ids: 'server' });
    for (const { ids, labels } of [own, theirs]) {
      expect(ids).toEqual([[1, 2], [3]]);
      expect(labels).toEqual([2, 3]);
    }
    const named = chat({ chosen: { token: 'token_id:4', logprob: ln(0.5) }, top: [{ token: 'token_id:4', logprob: ln(0.5) }] });
    expect((await read(named, { vocabulary: undefined, cols: 6 })).ids).toEqual([[4]]);
    expect((await failure(read(named))).message).toContain("ids: 'server'");
  });

  it("llama.cpp's, of before and after the end of 2024, and after sampling", async () => {
    const old = {
      content: ' cat',
      completion_probabilities: [{ content: ' cat', probs: [{ tok_str: ' cat', prob: 0.75 }, { tok_str: ' dog', prob: 0.25 }] }], // prettier-ignore
    };
    const since = {
      completion_probabilities: [
        {
          id: 1,
          token: ' cat',
          bytes: utf8(' cat'),
          logprob: ln(0.75),
          top_logprobs: [entry(' cat', 0.75, { id: 1 }), entry(' dog', 0.25, { id: 2 })],
        },
      ],
    };
    const after = {
      completion_probabilities: [
        { id: 1, token: ' cat', bytes: [], prob: 0.75, top_probs: [{ id: 1, token: ' cat', bytes: [], prob: 0.75 }, { id: 2, token: ' dog', bytes: [], prob: 0.25 }] }, // prettier-ignore
      ],
    };
    for (const answer of [old, since, after]) {
      const { ids, probs, labels, tail } = await read(answer);
      expect([ids, probs, labels]).toEqual([[[1, 2]], [[0.75, 0.25]], [1]]);
      expect(tail[0]).toBeLessThan(1e-6);
    }
    expect((await read(since, { ids: 'server' })).ids).toEqual([[1, 2]]);
  });
});

describe('answersTeacher handles', () => {
  it('a chosen token outside the best: it is kept, with its own probability', async () => {
    const top = [entry('the', 0.5), entry(' cat', 0.2), entry(' dog', 0.1)];
    const { ids, labels, report } = await read(chat({ chosen: entry('.', 0.01), top }));
    expect(ids).toEqual([[0, 1, 2, 5]]);
    expect(labels).toEqual([5]);
    expect(report.chosenOutside).toBe(1);
  });

  it('−9999, null and −Infinity as probability 0', async () => {
    const top = [entry('the', 0.5), entry(' cat', 0), { token: ' dog', logprob: null }, { token: ' sat', logprob: '-Infinity' }];
    const { ids, labels, report, tail } = await read(chat({ chosen: entry('.', 0), top }));
    expect(ids).toEqual([[0]]);
    expect(labels).toEqual([5]);
    expect(tail[0]).toBeCloseTo(0.5, 6);
    expect(report.sentinels).toBe(4);
  });

  it('twenty entries at most, and rows of different length', async () => {
    const many = vocabulary(Array.from({ length: 40 }, (_, i) => `t${i}`));
    const place = (n: number) => {
      const top = Array.from({ length: n }, (_, i) => entry(`t${i}`, 0.5 / n));
      return { chosen: top[0] ?? entry('t39', 0), top };
    };
    const { ids, it, report } = await read(chat(place(20), place(3), place(0)), { vocabulary: many, k: 20 });
    expect(ids.map((row) => row.length)).toEqual([20, 3, 0]);
    expect((it.target as SparseTarget).k).toBe(21);
    expect(numbers(it.rowWeights)).toEqual([1, 1, 0]);
    expect(report.emptyRows).toBe(1);
    const student = tensor(new Float32Array(3 * 40), { shape: [3, 40], requiresGrad: true });
    for (const residual of ['tail_bucket', 'renormalize'] as const) {
      const losses = kdLoss(student, it.target, { ...it.lossOptions, residual, reduction: 'none' });
      expect(numbers(losses).every(Number.isFinite)).toBe(true);
      expect(numbers(losses)[2]).toBe(0);
    }
  });

  it('more entries than are wanted: the likeliest stay, the rest is tail', async () => {
    const top = [entry('.', 0.05), entry('the', 0.5), entry(' cat', 0.2), entry(' dog', 0.1)];
    const { ids, tail, report } = await read(chat({ chosen: top[1]!, top }), { k: 2 });
    expect(ids).toEqual([[0, 1]]);
    expect(tail[0]).toBeCloseTo(0.3, 6);
    expect(report.cut).toBe(2);
  });

  it('tokens the vocabulary lacks: their mass is tail, exact and counted', async () => {
    // So small a tail has no digits as 1 − Σp; what was left out has.
    const top = [entry('the', 1), entry(' whale', 1e-12), entry('\uFFFD', 1e-13, { bytes: null })];
    const { tail, report } = await read(chat({ chosen: entry(' whale', 1e-12), top }));
    expect(tail[0]! / 1.1e-12).toBeCloseTo(1, 5);
    expect(report).toMatchObject({ unmapped: 2, unlabelled: 1, rows: 1 });
    expect(report.unmappedMass / 1.1e-12).toBeCloseTo(1, 6);
  });

  it('different tokens of one text or one id: their probabilities are added', async () => {
    const lower = vocabulary(['cat', 'dog']);
    const top = [entry('cat', 0.4), entry('dog', 0.1), { token: 'cat', logprob: ln(0.2), bytes: null }, entry('cat', 0.4)];
    const { ids, probs, report } = await read(chat({ chosen: entry('cat', 0.4), top }), { vocabulary: lower });
    expect([ids, probs]).toEqual([[[0, 1]], [[0.6, 0.1]]]);
    expect(report).toMatchObject({ merged: 1, repeated: 1 });
  });

  it('a chosen token that is written with less detail than in the list', async () => {
    const top = [entry('the', 0.6, { id: 0 }), entry(' cat', 0.3, { id: 1 })];
    for (const chosen of [
      { token: 'the', logprob: ln(0.6) },
      { token: 'the', logprob: ln(0.6), bytes: utf8('the') },
    ]) {
      const { ids, probs, report } = await read(chat({ chosen, top }));
      expect([ids, probs]).toEqual([[[0, 1]], [[0.6, 0.3]]]);
      expect(report.chosenOutside).toBe(0);
    }
  });

  it('anything: a changed answer is refused in words, or gives rows that are sound', async () => {
    const answers = [
      chat(
        { chosen: entry('the', 0.9), top: [entry('the', 0.9), entry('.', 0.05)] },
        { chosen: entry(' dog', 0.01), top: [entry(' cat', 0.6)] },
      ),
      {
        choices: [
          { text: 'x', logprobs: { tokens: [' cat', '.'], token_logprobs: [-0.5, -1], top_logprobs: [{ ' cat': -0.5 }, { '.': -1 }] } },
        ],
      },
      {
        choices: [
          {
            prompt_token_ids: [0, 1],
            prompt_logprobs: [null, { 1: { logprob: -0.5, decoded_token: ' cat' }, 2: { logprob: -2, decoded_token: ' dog' } }],
          },
        ],
      },
      { completion_probabilities: [{ id: 1, token: ' cat', bytes: [], prob: 0.75, top_probs: [entry(' cat', 0.7, { id: 1 }), entry(' dog', 0.2, { id: 2 })] }] }, // prettier-ignore
    ];
    const junk: unknown[] = [
      null,
      -1,
      1e9,
      0.5,
      5,
      -9999,
      -1e300,
      2 ** 31,
      'x',
      ' cat',
      '',
      '\uFFFD',
      [],
      {},
      [1],
      [null],
      true,
      undefined,
    ];
    let state = 1;
    const random = (below: number): number => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    const places = (value: unknown, found: [Record<string, unknown>, string][] = []): [Record<string, unknown>, string][] => {
      if (value === null || typeof value !== 'object') return found;
      for (const [key, inner] of Object.entries(value)) {
        found.push([value as Record<string, unknown>, key]);
        places(inner, found);
      }
      return found;
    };
    const counts = { refused: 0, sound: 0 };
    for (let i = 0; i < 3000; i++) {
      const answer: unknown = structuredClone(answers[i % answers.length]);
      for (let changes = 1 + random(2); changes > 0; changes--) {
        const all = places(answer);
        const [holder, key] = all[random(all.length)]!;
        holder[key] = structuredClone(junk[random(junk.length)]);
      }
      const teacher = answersTeacher({ vocabulary: words, k: 3, ids: i % 8 > 3 && i % 4 > 1 ? 'server' : 'vocabulary' });
      try {
        for await (const { target } of teacher.targets([[answer]])) {
          const { indices, logProbs, tailLogMass, k } = target as SparseTarget;
          const [ids, logs] = [numbers(indices), numbers(logProbs)];
          numbers(tailLogMass).forEach((tail, row) => {
            const own = ids.slice(row * k, (row + 1) * k).filter((id) => id !== -1);
            expect(new Set(own).size).toBe(own.length);
            expect(own.every((id) => id >= 0 && id < words.size)).toBe(true);
            const mass = sum(own.map((_, j) => Math.exp(logs[row * k + j]!))) + Math.exp(tail);
            expect(mass).toBeGreaterThan(1 - 1e-5);
            expect(mass).toBeLessThan(1 + 1.01e-3);
          });
        }
        counts.sound++;
      } catch (error) {
        expect(error, JSON.stringify(answer)).toBeInstanceOf(LimbeckError);
        counts.refused++;
      }
    }
    expect(Math.min(counts.refused, counts.sound)).toBeGreaterThan(300);
  });

  it('probabilities rounded to a little above 1', async () => {
    const { tail } = await read(chat({ chosen: entry('the', 1), top: [{ ...entry('the', 1), logprob: 5e-4 }] }), {}, 2);
    expect(tail[0]).toBe(0);
  });
});

describe('readAnswers', () => {
  const file = path.join(folder, 'answers.jsonl');
  const answer = chat({ chosen: entry('the', 0.9), top: [entry('the', 0.9)] });

  it('reads lines, batch-job output and empty lines in batches', async () => {
    writeFileSync(file, ['\uFEFF' + JSON.stringify(answer), '', JSON.stringify({ custom_id: 'x', response: { status_code: 200, body: answer } }), JSON.stringify(answer)].join('\r\n')); // prettier-ignore
    const teacher = answersTeacher({ vocabulary: words });
    const all = await collect(teacher.targets(readAnswers(file, { batch: 2 })));
    expect(all.map(({ rows }) => rows)).toEqual([2, 1]);
  });

  it('names the line that is wrong: no JSON, cut off, or an answer that cannot be used', async () => {
    const run = () => failure(collect(answersTeacher({ vocabulary: words }).targets(readAnswers(file))));
    const line = JSON.stringify(answer);
    writeFileSync(file, `${line}\nnot json\n${line}\n`);
    expect(await run()).toMatchObject({ code: 'bad_file', message: expect.stringContaining('line 2') as string });
    writeFileSync(file, `${line}\n${line.slice(0, 50)}`);
    expect(await run()).toMatchObject({ code: 'bad_file', message: expect.stringContaining('line 2') as string });
    writeFileSync(file, `${line}\n${line}\n{"choices": []}\n`);
    expect(await run()).toMatchObject({ code: 'bad_answer', message: expect.stringContaining('line 3') as string });
    rmSync(file);
    expect(await run()).toMatchObject({ code: 'bad_file' });
  });

  it('skips what cannot be used where that is asked for', async () => {
    const line = JSON.stringify(answer);
    writeFileSync(file, `${line}\n{"error": {"message": "failed"}}\n${line}\n`);
    const teacher = answersTeacher({ vocabulary: words, badAnswers: 'skip' });
    const [it] = await collect(teacher.targets(readAnswers(file)));
    expect(it!.lengths).toEqual([1, 0, 1]);
    expect(teacher.report.problems).toEqual([expect.stringContaining('line 2')]);
  });

  it('reads a large file without holding it', async () => {
    const line = JSON.stringify(answer);
    writeFileSync(file, `${line}\n`.repeat(20_000));
    let rows = 0;
    let most = 0;
    for await (const it of answersTeacher({ vocabulary: words }).targets(readAnswers(file, { batch: 100 }))) {
      rows += it.rows;
      most = Math.max(most, it.rows);
      it.dispose();
    }
    expect([rows, most]).toEqual([20_000, 100]);
    expect(readFileSync(file).length).toBeGreaterThan(4e6);
  });

  it('refuses options that cannot be', () => {
    expect(() => answersTeacher({ vocabulary: words, access: 'full' as 'topk' })).toThrow(/an API has no whole rows/);
    expect(() => answersTeacher({})).toThrow(/exactly one of vocabulary and cols/);
    expect(() => answersTeacher({ cols: 5, ids: 'vocabulary' })).toThrow(TypeError);
    expect(() => answersTeacher({ vocabulary: words, tokenize: () => [] })).toThrow(/tokenize/);
    expect(() => answersTeacher({ vocabulary: words, k: 0 })).toThrow(RangeError);
  });
});

describe('textTeacher', () => {
  const student = () =>
    tensor(
      [
        [1, 0, 2, 0],
        [0, 1, 0, 1],
        [0, 0, 0, 3],
      ],
      { requiresGrad: true },
    );

  it('gives cross-entropy on the tokens, weighted by the critic', async () => {
    const teacher = textTeacher({ cols: 4 });
    const [it] = await collect(teacher.targets([[{ tokens: [2, 1], weight: 0.5 }, { tokens: [3], tokenWeights: [2] }]])); // prettier-ignore
    const z = student();
    const losses = numbers(kdLoss(z, it!.target, { ...it!.lossOptions, reduction: 'none' }));
    const rows = [[1, 0, 2, 0], [0, 1, 0, 1], [0, 0, 0, 3]]; // prettier-ignore
    const expected = [2, 1, 3].map((label, r) => [0.5, 0.5, 2][r]! * (ln(sum(rows[r]!.map(Math.exp))) - rows[r]![label]!));
    losses.forEach((value, r) => expect(value).toBeCloseTo(expected[r]!, 5));
    expect(it!.lengths).toEqual([2, 1]);
    expect(teacher.report).toEqual({ sequences: 2, rejected: 0, rows: 3, learned: 3 });
  });

  it('leaves out prompts and what the critic rejects, and shares weights out over a sequence', async () => {
    const teacher = textTeacher({ cols: 4, threshold: 0.5, per: 'sequence', tokenize: (text) => [...text].map(Number) });
    const batch = [{ text: '0123', prompt: 2, weight: 0.8 }, { tokens: [1, 2], weight: 0.4 }, '33'];
    const [it] = await collect(teacher.targets([batch]));
    expect(Array.from(it!.labels!)).toEqual([-100, -100, 2, 3, -100, -100, 3, 3]);
    expect(numbers(it!.rowWeights)).toEqual([0, 0, 0.4, 0.4, 0, 0, 0.5, 0.5].map(Math.fround));
    expect(numbers((it!.target as SparseTarget).indices)).toEqual([-1, -1, 2, 3, -1, -1, 3, 3]);
    expect(teacher.report).toMatchObject({ rejected: 1, learned: 4 });
  });

  it('says what is wrong with a sequence', async () => {
    const run = (sequence: object) => failure(collect(textTeacher({ cols: 4 }).targets([[sequence as never]])));
    expect((await run({ tokens: [4] })).message).toContain('[0, 4)');
    expect((await run({ tokens: [1], weight: -1 })).message).toContain('at least 0');
    expect((await run({ tokens: [1], weight: NaN })).message).toContain('finite');
    expect((await run({ tokens: [1], tokenWeights: [1, 2] })).message).toContain('1 like its tokens');
    expect((await run({ tokens: [1], prompt: 2 })).message).toContain('prompt');
    expect((await run({ text: 'a' })).message).toContain('tokenize');
    expect((await run({})).message).toContain('either tokens or text');
  });
});
