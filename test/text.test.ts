// Text: byte pair encoding, corpora and their split, rows of tokens.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openText, type TextSource } from '../src/distill/data_text.js';
import { readVocabulary } from '../src/teachers/vocabulary.js';
import { makeSequences, readCorpus, readTokenizer, splitCorpus, trainBpe, type CorpusFile } from '../src/text/index.js';

interface FileParts {
  model: { type: string; merges: string[][]; vocab: Record<string, number> };
  normalizer: unknown;
  pre_tokenizer: unknown;
}

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'limbeck-text-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const sample =
  `interface Node { abcabc: string; abcd: string }\n\n\n  aaaa aaaaaaa banana bananas don't we'll café naïve 東京 東京都 1234 12345 // ---- ====\n\tif (x === y) return x; else return y;\n  // the the then there these\n`.repeat(
    2,
  );

describe('byte pair encoding', () => {
  // What Hugging Face's tokenizers 0.23.2 learns from the same text: BpeTrainer(vocab_size=330, min_frequency=2, byte-level alphabet).
  const merges =
    "a a|= =|h e|n a|t he|Ġ the|- -|a b|i n|r e|aa aa|ab c|/ /|1 2|3 4|a na|b ana|r n|r in|s e|s t|t u|± ä|º ¬|æ Ŀ|Ċ Ċ|Ċ Ġ|Ġ y|Ġ ==|Ġ re|Ġ aaaa|Ġ abc|Ġ //|Ġ 12|Ġ bana|Ġ st|Ġ æĿ|rin g|tu rn|±ä º¬|Ġre turn|Ġ12 34|Ġbana na|Ġst ring|ĠæĿ ±äº¬|' l|' t|N o|a c|a f|c af|d e|d o|e l|e r|f ac|i f|t er|v e|w e|¯ ve|Ã ©|Ã ¯ve|é ĥ|Ġ (|Ġ x|Ġ {|Ġ }|Ġ na|Ġ --|Ġ No|Ġ caf|Ġ do";

  it("learns the merges of Hugging Face's trainer and gives its ids", () => {
    const tokenizer = trainBpe([sample], { vocabulary: 330 });
    const file = JSON.parse(JSON.stringify(tokenizer)) as { model: { merges: [string, string][]; vocab: Record<string, number> } };
    expect(file.model.merges.map((pair) => pair.join(' ')).join('|')).toBe(merges);
    expect([...tokenizer.encode('banana 東京 in a café\n\n  aaaaaa')]).toEqual([
      273, 260, 301, 221, 265, 221, 65, 328, 318, 282, 221, 287, 257,
    ]);
    expect(tokenizer.size).toBe(330);
    expect(file.model.vocab['<|endoftext|>']).toBe(0);
  });

  it('gives any text back', () => {
    const tokenizer = trainBpe([sample], { vocabulary: 300 });
    const texts = [
      '',
      ' ',
      '\u0000\u0085\ufeff\u2028 \r\n\t',
      '👨‍👩‍👧 é 漢字 \u{10ffff}',
      "'s 't 'LL don't",
      '<|endoftext|>',
      'a'.repeat(5000),
      ' '.repeat(777),
    ];
    for (let seed = 1; seed <= 50; seed++) {
      let state = seed;
      const next = (most: number) => (state = (state * 48271) % 2147483647) % most;
      texts.push(String.fromCodePoint(...Array.from({ length: 40 }, () => [next(128), next(0xd800), 0xe000 + next(0x102000)][next(3)]!)));
    }
    for (const text of texts) expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
    expect(tokenizer.encode('a'.repeat(5000)).length).toBe(1250);
  });

  it('does not depend on the order of the texts, and stops where pairs are rare', () => {
    const parts = sample.split('\n').map((line) => `${line}\n`);
    const one = trainBpe(parts, { vocabulary: 400, minFrequency: 3 });
    expect(JSON.stringify(trainBpe([...parts].reverse(), { vocabulary: 400, minFrequency: 3 }))).toBe(JSON.stringify(one));
    expect(one.size).toBeLessThan(400);
    expect(trainBpe([], { special: [] }).size).toBe(256);
  });

  it('is saved and read again, by teachers too', async () => {
    const tokenizer = trainBpe([sample], { vocabulary: 320, special: ['<s>', '</s>'] });
    const path = join(folder, 'tokenizer.json');
    await tokenizer.save(path);
    const again = readTokenizer(path);
    expect(JSON.stringify(again)).toBe(JSON.stringify(tokenizer));
    expect(again.encode(sample)).toEqual(tokenizer.encode(sample));
    const words = readVocabulary(path);
    expect(words.size).toBe(320);
    for (const id of tokenizer.encode(sample)) expect(words.idOfBytes(tokenizer.bytesOf(id))).toBe(id);
    expect(tokenizer.decode([0, ...tokenizer.encode('ab'), 1])).toBe('ab');
  });

  it.each([
    ['a missing file', () => readTokenizer(join(folder, 'none.json')), /^Cannot read .*the file must be readable/],
    ['a vocabulary below the bytes', () => trainBpe([sample], { vocabulary: 256 }), 'vocabulary must be a whole number'],
    ['half a letter', () => trainBpe(['\ud800']), 'every text must be well-formed Unicode'],
    ['half a letter to encode', () => trainBpe([]).encode('a\udc00'), 'text must be well-formed Unicode'],
    ['what is no text', () => trainBpe([3 as never]), 'every text must be a string'],
    ['an id that there is not', () => trainBpe([]).decode([257]), 'every id must be a whole number in [0, 256]'],
    ['an option nobody reads', () => trainBpe([], { vocabularySize: 300 } as never), "'vocabularySize' is not"],
  ])('refuses %s', (_, call, text) => {
    expect(call).toThrow(text);
  });

  it.each([
    ['another model', (f: FileParts) => (f.model.type = 'Unigram'), 'its model must be BPE'],
    ['a normalizer', (f: FileParts) => (f.normalizer = { type: 'NFC' }), 'no normalizer'],
    ['other words', (f: FileParts) => (f.pre_tokenizer = { type: 'Whitespace' }), 'ByteLevel without a prefix space'],
    ['a merge of nothing', (f: FileParts) => (f.model.merges[3] = ['qq', 'zz']), 'merge 3 must make the next token'],
    ['a merge less', (f: FileParts) => f.model.merges.pop(), 'every token must be made by a merge'],
    ['gaps', (f: FileParts) => (f.model.vocab.a = 5000), 'without a gap'],
  ])('refuses a file with %s', (_, change, text) => {
    const file = JSON.parse(JSON.stringify(trainBpe([sample], { vocabulary: 300 }))) as FileParts;
    change(file);
    const path = join(folder, 'broken.json');
    writeFileSync(path, JSON.stringify(file));
    expect(() => readTokenizer(path)).toThrow(expect.objectContaining({ code: 'bad_file', message: expect.stringContaining(text) }));
  });
});

describe('a corpus', () => {
  const file = (domain: string, text: string): CorpusFile => ({ name: `${domain}.txt`, domain, text });
  const paragraphs = (from: number, count: number) =>
    Array.from({ length: count }, (_, i) => `line ${from + i} of many\nand a second ${(from + i) * 7}`);

  it('has nothing twice, and splits the same way whatever is beside it', () => {
    const files = [file('a', paragraphs(0, 300).join('\n\n')), file('b', paragraphs(200, 300).join('\r\n\r\n \n'))];
    const { train, test } = splitCorpus(files, { blockLength: 100 });
    const lines = [...train, ...test].flatMap(({ text }) => text.split('\n').filter((line) => line.startsWith('line')));
    expect(lines.length).toBe(500);
    expect(new Set(lines).size).toBe(500);
    expect(test.length / (train.length + test.length)).toBeGreaterThan(0.04);
    expect(test.length / (train.length + test.length)).toBeLessThan(0.2);
    const alone = splitCorpus(files.slice(0, 1), { blockLength: 100 });
    expect(alone.test).toEqual(test.filter(({ domain }) => domain === 'a'));
  });

  it('comes from folders, whose names are its domains', async () => {
    const corpus = join(folder, 'corpus');
    for (const name of ['code', 'prose']) {
      mkdirSync(join(corpus, name), { recursive: true });
      writeFileSync(join(corpus, name, 'b.txt'), `${name} b`);
      writeFileSync(join(corpus, name, 'a.txt'), `${name} ä`);
      writeFileSync(join(corpus, name, 'c.bin'), Uint8Array.from([0xff, 0xfe]));
    }
    const files = await readCorpus('corpus', { base: folder, extensions: ['.txt'] });
    expect(files.map(({ domain, text }) => [domain, text])).toEqual([
      ['code', 'code ä'],
      ['code', 'code b'],
      ['prose', 'prose ä'],
      ['prose', 'prose b'],
    ]);
    await expect(readCorpus('corpus', { base: folder })).rejects.toThrow('it must be text in UTF-8');
    await expect(readCorpus('corpus', { base: folder, extensions: ['.md'] })).rejects.toThrow('it must hold files that end in .md');
    await expect(readCorpus('nowhere', { base: folder })).rejects.toThrow(/^Cannot read .*nowhere: it must be a folder/);
  });

  it('that comes with npm packages has four domains and millions of letters', async () => {
    const files = await readCorpus('typescript');
    const letters = new Map<string, number>();
    for (const { domain, text } of files) letters.set(domain, (letters.get(domain) ?? 0) + text.length);
    expect([...letters.keys()].sort()).toEqual(['compiler', 'dom', 'es', 'node']);
    expect(Math.min(...letters.values())).toBeGreaterThan(400_000);
    const { train, test } = splitCorpus(files);
    const seen = new Set(train.flatMap(({ text }) => text.split('\n\n')).map((part) => part.trim()));
    expect(test.flatMap(({ text }) => text.split('\n\n')).filter((part) => part.trim() !== '' && seen.has(part.trim()))).toEqual([]);
  });
});

describe('text data', () => {
  let source: TextSource;
  beforeAll(async () => {
    source = await openText(
      { format: 'text', corpus: 'typescript', vocabulary: 512, context: 32, trainTokens: 6400, testTokens: 3200 },
      { device: 'cpu' },
    );
  });

  it('gives rows of tokens and what follows each', () => {
    expect([source.trainRows, source.testRows, source.rowsEach, source.cols]).toEqual([200, 100, 32, 512]);
    const { input, labels } = source.batch([5, 0, 5]);
    expect(input.shape).toEqual([3, 32]);
    expect(input.dtype).toBe('int32');
    const ids = input.data as Int32Array;
    expect([...ids.subarray(1, 32)]).toEqual([...labels.subarray(0, 31)]);
    expect([...ids.subarray(0, 32)]).toEqual([...ids.subarray(64, 96)]);
    expect([...ids.subarray(0, 32)]).toEqual([...(source.batch([5]).input.data as Int32Array)]);
    expect(() => source.batch([200])).toThrow('rows must be in [0, 199]');
    expect(() => source.batch([0], 1, 1)).toThrow('shift must be 0');
    input.dispose();
  });

  it('counts the bytes of the test labels', () => {
    const { labels } = source.test(0, source.testRows);
    expect(source.testBytes).toBe(source.tokenizer.decodeBytes(labels).length);
  });

  it('is the same again, and a sample of all domains', async () => {
    const again = await openText(
      { format: 'text', corpus: 'typescript', vocabulary: 512, context: 32, trainTokens: 6400, testTokens: 3200 },
      { device: 'cpu' },
    );
    expect(again.hash()).toBe(source.hash());
    const { domains, train } = source;
    expect(domains).toEqual(['compiler', 'dom', 'es', 'node']);
    for (const d of [0, 1, 2, 3]) expect(train.domains.filter((domain) => domain === d).length).toBeGreaterThan(5);
    await source.save(folder);
    expect(readFileSync(join(folder, 'tokenizer.json'), 'utf8')).toBe(`${JSON.stringify(source.tokenizer)}\n`);
  });

  it('cuts rows within a domain, blocks divided by the end token', () => {
    const tokenizer = trainBpe(['a b c'], { vocabulary: 257 });
    const blocks = [
      { domain: 'x', text: 'abcdef' },
      { domain: 'y', text: 'ABCDEFGHIJ' },
      { domain: 'x', text: 'ghijkl' },
    ];
    const { rows, tokens, domains, labelBytes } = makeSequences(blocks, tokenizer, { context: 4, domains: ['x', 'y'], seed: 1 });
    const texts = Array.from({ length: rows }, (_, i) => [
      domains[i],
      Array.from(tokens.subarray(i * 5, i * 5 + 5), (id) => (id === 0 ? '|' : tokenizer.decode([id]))).join(''),
    ]).sort();
    expect(texts).toEqual([
      [0, 'abcde'],
      [0, 'ef|gh'],
      [0, 'hijkl'],
      [1, 'ABCDE'],
      [1, 'EFGHI'],
    ]);
    expect(labelBytes).toBe(4 * 5 - 1);
  });

  it.each([
    [{ domains: ['dom', 'rust'] }, "'rust' is not"],
    [{ context: 0 }, 'context must be a whole number'],
    [{ trainTokens: 31 }, 'trainTokens must be a whole number of at least 32'],
    [{ testTokens: 3200, context: 1e7, trainTokens: undefined }, 'must'],
  ])('refuses %j', async (change, text) => {
    const spec = {
      format: 'text' as const,
      corpus: 'typescript',
      vocabulary: 300,
      context: 32,
      trainTokens: 640,
      testTokens: 320,
      ...change,
    };
    await expect(openText(spec, { device: 'cpu' })).rejects.toThrow(text);
  });
});
