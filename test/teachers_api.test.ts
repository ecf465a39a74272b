// Teachers behind an endpoint: a server of this test that is well, slow, failing or lying.
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { kdLoss, LimbeckError, tensor } from '../src/index.js';
import {
  answersTeacher,
  apiTeacher,
  EndpointError,
  readAnswers,
  vocabulary,
  type ApiOptions,
  type ApiRequest,
} from '../src/teachers/index.js';

type Body = Record<string, unknown>;
type Handler = (body: Body, response: ServerResponse, count: number, request: IncomingMessage) => void;

const words = vocabulary(['the', ' cat', ' dog', ' sat', ' ran', '.']);
const ln = Math.log;

let folder: string;
let server: Server;
let handler: Handler;
let asked: { body: Body; at: number; authorization: string | undefined }[];
let base: string;

beforeEach(async () => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'limbeck-api-'));
  asked = [];
  server = createServer((request, response) => {
    const parts: Buffer[] = [];
    request.on('data', (part: Buffer) => parts.push(part));
    request.on('end', () => {
      const body = JSON.parse(Buffer.concat(parts).toString()) as Body;
      asked.push({ body, at: performance.now(), authorization: request.headers.authorization });
      handler(body, response, asked.length, request);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});

afterEach(async () => {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  rmSync(folder, { recursive: true, force: true });
});

const json = (response: ServerResponse, value: unknown, status = 200, headers: Record<string, string> = {}): void => {
  response.writeHead(status, { 'content-type': 'application/json', ...headers }).end(JSON.stringify(value));
};

/** A chat answer of one token ' cat' with the candidates given. */
const chatOf = (top: [string, number][], chosen: [string, number] = top[0]!): unknown => ({
  choices: [
    {
      message: { role: 'assistant', content: chosen[0] },
      logprobs: {
        content: [
          {
            token: chosen[0],
            logprob: chosen[1],
            bytes: null,
            top_logprobs: top.map(([token, logprob]) => ({ token, logprob, bytes: null })),
          },
        ],
      },
    },
  ],
});
const good = chatOf([
  [' cat', ln(0.6)],
  [' dog', ln(0.3)],
]);

const options = (extra: Partial<ApiOptions> = {}): ApiOptions => ({
  url: `${base}/v1/chat/completions`,
  vocabulary: words,
  k: 3,
  minDelay: 1,
  maxDelay: 2000,
  timeout: 5000,
  ...extra,
});

async function all(extra: Partial<ApiOptions>, batches: ApiRequest[][], signal?: AbortSignal) {
  const teacher = apiTeacher(options(extra));
  const targets = [];
  for await (const it of teacher.targets(batches, { signal })) targets.push(it);
  return { teacher, targets };
}

async function failure(call: Promise<unknown>): Promise<LimbeckError> {
  const error: unknown = await call.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  expect(error).toBeInstanceOf(LimbeckError);
  expect((error as Error).message).toMatch(/^Cannot /);
  return error as LimbeckError;
}

describe('an endpoint that is well', () => {
  it('is asked for log-probabilities, and what it says is a target that a loss takes', async () => {
    handler = (_, response) => json(response, good);
    const { targets, teacher } = await all({ apiKey: 'secret', parameters: { model: 'm', max_tokens: 1 }, residual: 'tail_bucket' }, [
      ['a', 'b'],
      [[{ role: 'user', content: 'c' }]],
    ]);
    expect(asked.map(({ body }) => body)[0]).toEqual({
      messages: [{ role: 'user', content: 'a' }],
      logprobs: true,
      top_logprobs: 3,
      model: 'm',
      max_tokens: 1,
    });
    expect(asked.every(({ authorization }) => authorization === 'Bearer secret')).toBe(true);
    expect(targets.map(({ rows, lengths }) => [rows, lengths])).toEqual([
      [2, [1, 1]],
      [1, [1]],
    ]);
    const { target, lossOptions, labels } = targets[0]!;
    expect(Array.from(labels!)).toEqual([1, 1]);
    const student = tensor(new Float32Array(12), { shape: [2, 6], requiresGrad: true });
    const loss = kdLoss(student, target, { ...lossOptions, reduction: 'none' });
    // Against uniform student: 0.6 and 0.3 on one sixth each, 0.1 on the other four.
    const expected = 0.6 * ln(0.6 * 6) + 0.3 * ln(0.3 * 6) + 0.1 * ln((0.1 * 6) / 4);
    for (const value of loss.data) expect(Math.abs((value as number) - expected)).toBeLessThan(1e-6);
    expect(teacher.progress).toMatchObject({ answered: 3, fromJournal: 0, retries: 0, pending: 0 });
  });

  it('is asked in the way of its address', async () => {
    handler = (body, response) =>
      json(
        response,
        'n_probs' in body
          ? {
              content: ' cat',
              completion_probabilities: [
                {
                  id: 1,
                  token: ' cat',
                  bytes: [],
                  logprob: ln(0.6),
                  top_logprobs: [{ id: 1, token: ' cat', bytes: [], logprob: ln(0.6) }],
                },
              ],
            }
          : 'prompt_logprobs' in body
            ? { choices: [{ text: '', prompt_logprobs: [null, { 1: { logprob: ln(0.6), rank: 1, decoded_token: ' cat' } }] }] }
            : {
                choices: [{ text: ' cat', logprobs: { tokens: [' cat'], token_logprobs: [ln(0.6)], top_logprobs: [{ ' cat': ln(0.6) }] } }],
              },
      );
    await all({ url: `${base}/v1/completions` }, [['p']]);
    await all({ url: `${base}/completion` }, [['p']]);
    await all({ url: `${base}/v1/completions`, format: 'prompt_logprobs' }, [['p']]);
    await all({ url: `${base}/own`, request: (one) => ({ prompt: one, own: true, n_probs: 5 }) }, [['p']]);
    expect(asked.map(({ body }) => body)).toEqual([
      { prompt: 'p', logprobs: 3 },
      { prompt: 'p', n_probs: 3 },
      { prompt: 'p', prompt_logprobs: 3, max_tokens: 1 },
      { prompt: 'p', own: true, n_probs: 5 },
    ]);
    expect(() => apiTeacher(options({ url: `${base}/own` }))).toThrow(/url must end in/);
  });

  it("gives the same rows to access 'text', as labels", async () => {
    handler = (_, response) => json(response, good);
    const read = await all({ access: 'text' }, [['a']]);
    expect(Array.from(read.targets[0]!.labels!)).toEqual([1]);
    const written = await all({ access: 'text', tokenize: (text) => (text === ' cat' ? [1] : []) }, [['a']]);
    const logits = [0.5, 1, -1, 0, 2, 0];
    for (const { target, lossOptions } of [read.targets[0]!, written.targets[0]!]) {
      const loss = kdLoss(tensor([logits]), target, lossOptions).item();
      const expected = ln(logits.reduce((sum, z) => sum + Math.exp(z), 0)) - 1;
      expect(Math.abs(loss - expected)).toBeLessThan(1e-6);
    }
    expect(asked[0]!.body).toHaveProperty('logprobs');
    expect(asked[1]!.body).not.toHaveProperty('logprobs');
  });

  it('is asked for no more at a time than allowed', async () => {
    let now = 0;
    let most = 0;
    handler = (_, response) => {
      most = Math.max(most, ++now);
      setTimeout(() => {
        now--;
        json(response, good);
      }, 20);
    };
    await all({ concurrency: 3 }, [Array.from({ length: 12 }, (_, i) => `p${i}`)]);
    expect(most).toBe(3);
  });

  it('is asked no faster than allowed', async () => {
    handler = (_, response) => json(response, good);
    await all({ requestsPerMinute: 1200, concurrency: 8 }, [Array.from({ length: 7 }, (_, i) => `p${i}`)]);
    // A question that was late on its way leaves a shorter gap behind it; all together keep the rate.
    for (let i = 1; i < asked.length; i++) expect(asked[i]!.at - asked[i - 1]!.at).toBeGreaterThan(15);
    expect(asked[6]!.at - asked[0]!.at).toBeGreaterThan(280);
  });
});

describe('an endpoint that fails', () => {
  it.each([
    ['429', (response: ServerResponse) => json(response, { error: { message: 'slow down' } }, 429)],
    ['500', (response: ServerResponse) => json(response, {}, 500)],
    [
      'a cut answer',
      (response: ServerResponse) => response.writeHead(200, { 'content-length': '9999' }).write('{"choices": [', () => response.destroy()),
    ],
    ['half an answer', (response: ServerResponse) => response.writeHead(200).end('{"choices": [')],
    ['a page', (response: ServerResponse) => response.writeHead(200).end('<html>Bad gateway</html>')],
    ['no connection', (response: ServerResponse) => response.destroy()],
  ])('with %s is asked again, and then it is well', async (_, fail) => {
    handler = (__, response, count) => (count <= 2 ? fail(response) : json(response, good));
    const told: number[] = [];
    const { targets, teacher } = await all({ onProgress: ({ retries }) => told.push(retries) }, [['a']]);
    expect(asked).toHaveLength(3);
    expect(targets[0]!.rows).toBe(1);
    expect(teacher.progress).toMatchObject({ retries: 2, answered: 1 });
    expect(Math.max(...told)).toBe(2);
  });

  it('waits longer each time', async () => {
    handler = (_, response, count) => (count <= 4 ? json(response, {}, 503) : json(response, good));
    await all({ minDelay: 20 }, [['a']]);
    const gaps = asked.slice(1).map(({ at }, i) => at - asked[i]!.at);
    gaps.forEach((gap, i) => expect(gap).toBeGreaterThan(20 * 2 ** i - 3));
  });

  it('is given up on after the retries allowed, with its own words', async () => {
    handler = (_, response) => json(response, { error: { message: 'out of order' } }, 500);
    const error = await failure(all({ retries: 2 }, [['a']]));
    expect(error).toBeInstanceOf(EndpointError);
    expect(error).toMatchObject({ code: 'endpoint_failed', status: 500 });
    expect(error.message).toContain('out of order');
    expect(asked).toHaveLength(3);
  });

  it('is not asked again where that cannot help, and the key stays unsaid', async () => {
    handler = (_, response) => json(response, { error: { message: 'no such model' } }, 404);
    const error = await failure(all({ apiKey: 'secret', url: `${base}/v1/chat/completions?token=secret` }, [['a']]));
    expect(error).toMatchObject({ code: 'endpoint_refused', status: 404 });
    expect(error.message).toContain('no such model');
    expect(error.message).not.toContain('secret');
    expect(asked).toHaveLength(1);
  });

  it('that refuses single requests loses those alone with skip; a wrong key stops everything', async () => {
    const refusing =
      (status: number): Handler =>
      (body, response) =>
        (body['messages'] as { content: string }[])[0]!.content === 'bad'
          ? json(response, { error: 'too long' }, status)
          : json(response, good);
    handler = refusing(400);
    const { targets, teacher } = await all({ badAnswers: 'skip' }, [['a', 'bad', 'b']]);
    expect(targets[0]!.lengths).toEqual([1, 0, 1]);
    expect(teacher.report.problems[0]).toContain('too long');
    handler = refusing(401);
    expect(await failure(all({ badAnswers: 'skip' }, [['a', 'bad', 'b']]))).toMatchObject({ status: 401 });
  });

  it('is left alone for as long as it says, by every request', async () => {
    handler = (_, response, count) => (count === 1 ? json(response, {}, 429, { 'retry-after': '0.3' }) : json(response, good));
    await all({ concurrency: 1 }, [['a', 'b']]);
    expect(asked[1]!.at - asked[0]!.at).toBeGreaterThan(290);
    asked = [];
    const soon = new Date(Date.now() + 1900).toUTCString();
    handler = (_, response, count) => (count === 1 ? json(response, {}, 503, { 'retry-after': soon }) : json(response, good));
    await all({}, [['a']]);
    expect(asked[1]!.at - asked[0]!.at).toBeGreaterThan(800);
    handler = (_, response) => json(response, {}, 429, { 'retry-after': '3600' });
    const error = await failure(all({}, [['c']]));
    expect(error.message).toContain('3600 s');
  });

  it('that is slow runs into the timeout: silent, and drop by drop', async () => {
    handler = () => undefined;
    expect(await failure(all({ timeout: 60, retries: 1 }, [['a']]))).toMatchObject({ code: 'endpoint_timeout' });
    expect(asked).toHaveLength(2);
    handler = (_, response) => {
      response.writeHead(200);
      const timer = setInterval(() => response.write(' '), 10);
      response.on('close', () => clearInterval(timer));
    };
    expect(await failure(all({ timeout: 100, retries: 0 }, [['a']]))).toMatchObject({ code: 'endpoint_timeout' });
  });

  it('that never ends an answer is cut off', async () => {
    handler = (_, response) => response.writeHead(200).end(' '.repeat(5000));
    expect(await failure(all({ maxBytes: 1000 }, [['a']]))).toMatchObject({ code: 'endpoint_refused' });
  });

  it('that is not there', async () => {
    const error = await failure(all({ url: 'http://127.0.0.1:9/v1/completions', retries: 1 }, [['a']]));
    expect(error).toMatchObject({ code: 'endpoint_unreachable' });
  });

  it('is no longer asked once the signal says so', async () => {
    handler = () => undefined;
    const controller = new AbortController();
    const run = all({}, [['a', 'b']], controller.signal);
    setTimeout(() => controller.abort(new Error('enough')), 50);
    await expect(run).rejects.toThrow('enough');
    handler = (_, response) => json(response, {}, 500);
    const waiting = new AbortController();
    const pausing = all({ minDelay: 60_000, maxDelay: 100_000 }, [['a']], waiting.signal);
    setTimeout(() => waiting.abort(), 50);
    await expect(pausing).rejects.toThrow();
  });
});

const lies: [string, unknown, RegExp][] = [
  ['a log-probability above 0', chatOf([[' cat', 0.5]]), /at most 0: it is 0.5/],
  ['a log-probability that is text', chatOf([[' cat', 'NaN' as unknown as number]]), /must be a number: it is 'NaN'/],
  [
    'mass above 1',
    chatOf([
      [' cat', ln(0.7)],
      [' dog', ln(0.5)],
    ]),
    /sum to at most 1: they sum to 1.2/,
  ],
  [
    'a token twice with two probabilities',
    {
      choices: [
        {
          logprobs: {
            content: [
              {
                token: ' cat',
                logprob: -1,
                bytes: [32, 99, 97, 116],
                top_logprobs: [
                  { token: ' cat', logprob: -1, bytes: [32, 99, 97, 116] },
                  { token: ' cat', logprob: -2, bytes: [32, 99, 97, 116] },
                ],
              },
            ],
          },
        },
      ],
    },
    /must have one log-probability/,
  ],
  [
    'bytes that are none',
    { choices: [{ logprobs: { content: [{ token: 'x', logprob: -1, bytes: [300], top_logprobs: [] }] } }] },
    /bytes must be/,
  ],
  [
    'no log-probabilities',
    { choices: [{ message: { content: 'x' }, logprobs: null }] },
    /must hold log-probabilities: there are none \(ask for them/,
  ],
  ['an error with status 200', { error: { message: 'overloaded' } }, /overloaded/],
  ['a list', [1, 2], /must be an object/],
  ['no choices', { id: 1 }, /choices must be an array/],
  ['lists of different lengths', { choices: [{ logprobs: { tokens: ['the'], token_logprobs: [], top_logprobs: [{}] } }] }, /one length/],
];

describe('an endpoint that lies', () => {
  it.each(lies)('with %s is told so, and nothing is kept', async (_, answer, words_) => {
    handler = (body, response) => json(response, (body['messages'] as { content: string }[])[0]!.content === 'lie' ? answer : good);
    const journal = path.join(folder, 'answers.jsonl');
    const error = await failure(all({ journal, concurrency: 1 }, [['truth'], ['lie']]));
    expect(error.code).toBe('bad_answer');
    expect(error.message).toMatch(words_);
    const lines = readFileSync(journal, 'utf8').trim().split('\n');
    expect(lines).toHaveLength(2);
    expect(lines[1]).toContain('truth');
    asked = [];
    const { targets, teacher } = await all({ journal, badAnswers: 'skip' }, [['truth', 'lie', 'more']]);
    expect(targets[0]!.lengths).toEqual([1, 0, 1]);
    expect(teacher.report).toMatchObject({ answers: 2, skipped: 1, rows: 2 });
    expect(teacher.report.problems[0]).toMatch(words_);
    expect(asked).toHaveLength(2);
  });

  it.each([
    ['above the columns', { 99: { logprob: -1, decoded_token: '?' } }, /\[0, 6\): it is 99/],
    ['that are no numbers', { x1: { logprob: -1 } }, /whole number/],
    ['of other tokens', { 2: { logprob: -1, decoded_token: ' cat' } }, /2 is ' dog' there and ' cat' here/],
  ])('with ids %s is told so', async (_, entries, words_) => {
    handler = (__, response) => json(response, { choices: [{ prompt_logprobs: [null, entries] }] });
    const url = `${base}/v1/completions`;
    const error = await failure(all({ url, format: 'prompt_logprobs', ids: 'server' }, [['a']]));
    expect(error.code).toBe('bad_answer');
    expect(error.message).toMatch(words_);
  });

  it('with the same id twice is told so', async () => {
    const entry = (id: number, logprob: number) => ({ id, token: ' cat', bytes: [], logprob });
    handler = (_, response) =>
      json(response, { completion_probabilities: [{ ...entry(1, -1), top_logprobs: [entry(1, -1), entry(1, -1.5)] }] });
    const error = await failure(all({ url: `${base}/completion`, ids: 'server' }, [['a']]));
    expect(error.message).toMatch(/one log-probability/);
  });
});

describe('a journal', () => {
  const prompts = Array.from({ length: 10 }, (_, i) => `prompt ${i}`);
  const answerTo = (body: Body): unknown => {
    const i = Number((body['messages'] as { content: string }[])[0]!.content.slice(7));
    return chatOf([
      [' cat', ln(0.5 + i / 100)],
      [' dog', ln(0.3)],
    ]);
  };

  it('lets a run go on where one stopped, with the same targets and no request made twice', async () => {
    const journal = path.join(folder, 'answers.jsonl');
    handler = (body, response, count) => (count > 6 ? json(response, {}, 400) : json(response, answerTo(body)));
    await failure(all({ journal, concurrency: 1 }, [prompts.slice(0, 5), prompts.slice(5)]));
    handler = (body, response) => json(response, answerTo(body));
    const first = asked.filter((_, i) => i < 6).length;
    asked = [];
    const { targets, teacher } = await all({ journal }, [prompts.slice(0, 5), prompts.slice(5)]);
    expect(asked).toHaveLength(10 - first);
    expect(teacher.progress).toMatchObject({ answered: 10, fromJournal: 6 });
    asked = [];
    const again = await all({ journal }, [prompts.slice(0, 5), prompts.slice(5)]);
    expect(asked).toHaveLength(0);
    const fresh = await all({}, [prompts.slice(0, 5), prompts.slice(5)]);
    const numbers = (from: typeof targets) =>
      from.map(({ target }) => ('logProbs' in target ? Array.from(target.logProbs!.data as Float32Array) : []));
    expect(numbers(again.targets)).toEqual(numbers(fresh.targets));
    expect(numbers(targets)).toEqual(numbers(fresh.targets));
  });

  it('is a file of answers for the next vocabulary', async () => {
    const journal = path.join(folder, 'answers.jsonl');
    handler = (body, response) => json(response, answerTo(body));
    await all({ journal }, [prompts]);
    const other = answersTeacher({ vocabulary: vocabulary([' dog', ' cat']), k: 1 });
    let rows = 0;
    for await (const it of other.targets(readAnswers(journal, { batch: 4 }))) rows += it.rows;
    expect(rows).toBe(10);
  });

  it('asks once for the same thing at the same time', async () => {
    const journal = path.join(folder, 'answers.jsonl');
    handler = (_, response) => json(response, good);
    const { targets } = await all({ journal }, [['a', 'a', 'a']]);
    expect(targets[0]!.rows).toBe(3);
    expect(asked).toHaveLength(1);
  });

  it('serves two loops at once, one of which is left early', async () => {
    const journal = path.join(folder, 'answers.jsonl');
    handler = (body, response) => setTimeout(() => json(response, answerTo(body)), 5);
    const teacher = apiTeacher(options({ journal, concurrency: 2 }));
    const batches = prompts.map((prompt) => [prompt]);
    const early = async (): Promise<void> => {
      for await (const it of teacher.targets(batches)) if (it.batch[0] === prompts[2]) break;
    };
    let rows = 0;
    const whole = async (): Promise<void> => {
      for await (const it of teacher.targets(batches)) rows += it.rows;
    };
    await Promise.all([early(), whole()]);
    expect(rows).toBe(10);
    expect(asked).toHaveLength(10);
    await whole();
    expect(asked).toHaveLength(10);
    expect(readFileSync(journal, 'utf8').trim().split('\n')).toHaveLength(11);
  });

  it('loses nothing but the last line when a run is cut off anywhere', async () => {
    const journal = path.join(folder, 'answers.jsonl');
    handler = (body, response) => json(response, answerTo(body));
    await all({ journal, concurrency: 1 }, [prompts]);
    const whole = readFileSync(journal);
    const ends = [...whole].flatMap((byte, i) => (byte === 10 ? [i + 1] : []));
    for (let cut = 0; cut < whole.length; cut += 97) {
      writeFileSync(journal, whole);
      truncateSync(journal, cut);
      asked = [];
      await all({ journal }, [prompts]);
      const kept = Math.max(0, ends.filter((end) => end <= cut).length - 1);
      expect(asked, `cut at ${cut}`).toHaveLength(10 - kept);
    }
    expect(readFileSync(journal, 'utf8').trim().split('\n')).toHaveLength(11);
  });

  it('says which line is damaged', async () => {
    const journal = path.join(folder, 'answers.jsonl');
    handler = (body, response) => json(response, answerTo(body));
    await all({ journal, concurrency: 1 }, [prompts]);
    const lines = readFileSync(journal, 'utf8').split('\n');
    lines[4] = lines[4]!.replace('-0.6', '-0.5').replace(' cat', ' cot');
    writeFileSync(journal, lines.join('\n'));
    const error = await failure(all({ journal }, [prompts]));
    expect(error).toMatchObject({ code: 'bad_file' });
    expect(error.message).toContain('line 5');
    writeFileSync(journal, 'something else\n');
    expect((await failure(all({ journal }, [prompts]))).message).toContain('first line');
  });

  it('outlives kill −9', async () => {
    const journal = path.join(folder, 'answers.jsonl');
    handler = (body, response) => setTimeout(() => json(response, answerTo(body)), 15);
    const script = path.join(folder, 'run.mjs');
    const dist = pathToFileURL(path.resolve(import.meta.dirname, '../dist/teachers/index.js')).href;
    const settings = { url: `${base}/v1/chat/completions`, cols: 6, access: 'text', journal, concurrency: 1 };
    writeFileSync(
      script,
      `const { apiTeacher } = await import(${JSON.stringify(dist)});
       const teacher = apiTeacher({ ...${JSON.stringify(settings)}, tokenize: () => [1] });
       for await (const it of teacher.targets([${JSON.stringify(prompts)}])) process.stdout.write('done');`,
    );
    let output = '';
    let kills = 0;
    // Killed after two more answers each time, so that every run must get further than the one before.
    for (let runs = 0; output !== 'done' && runs < 20; runs++) {
      output = await new Promise<string>((resolve) => {
        const child = spawn(process.execPath, [script], { stdio: ['ignore', 'pipe', 'inherit'] });
        const enough = asked.length + 3;
        let text = '';
        child.stdout.on('data', (part: Buffer) => (text += part.toString()));
        const watch = setInterval(() => {
          if (asked.length >= enough && child.kill('SIGKILL')) clearInterval(watch);
        }, 1);
        child.on('close', (_, signal) => {
          clearInterval(watch);
          if (signal === 'SIGKILL') kills++;
          resolve(text);
        });
      });
    }
    expect(output).toBe('done');
    expect(kills).toBeGreaterThan(2);
    // Each kill costs at most the request that was on its way, and one whose answer was being written.
    expect(asked.length).toBeLessThanOrEqual(10 + 2 * kills);
    expect(readFileSync(journal, 'utf8').trim().split('\n')).toHaveLength(11);
  });
});
