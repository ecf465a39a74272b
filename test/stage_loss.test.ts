// What a stage learns from: every kind of target against the library's functions called by hand, who gets a gradient, and exact resume.
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { checkRecipe, type Recipe } from '../src/distill/recipe.js';
import {
  scheduledValue,
  stageLoss,
  targetNeeds,
  type CustomTargets,
  type StageBatch,
  type StageLoss,
  type TargetSpec,
  type TeacherTarget,
} from '../src/distill/stage_loss/index.js';
import { targetNumbers } from '../src/distill/stage_loss/numbers.js';
import * as limbeck from '../src/index.js';
import { tensor, tidy, type Tensor } from '../src/index.js';
import { random } from './random.js';

const rows = 12;
const cols = 7;

/** Logits from a seed. */
function logits(seed: number, spread = 2): Tensor {
  const next = random(seed);
  return tensor(
    Float32Array.from({ length: rows * cols }, () => spread * (2 * next() - 1)),
    { shape: [rows, cols] },
  );
}

const labels = Int32Array.from({ length: rows }, (_, r) => (3 * r) % cols);
const teachers: Record<string, Tensor> = { big: logits(1), other: logits(2), reference: logits(3), anchor: logits(4) };

/** The target as a recipe with its defaults filled in. */
async function completed(target: object, change: (recipe: Recipe) => void = () => undefined): Promise<TargetSpec> {
  const training = { epochs: 1, batchSize: 4, optimizer: { kind: 'sgd', learningRate: 0.1 } };
  const train = (name: string, once = true) => ({ kind: 'train', name, once, model: 'm', target: { kind: 'labels' }, training });
  const recipe = {
    name: 'x',
    data: { format: 'mnist' },
    models: { m: { hidden: [4] } },
    stages: [
      ...Object.keys(teachers).map((name) => train(name)),
      { kind: 'capture', name: 'file', from: 'big', k: 3, temperature: 2 },
      { ...train('student', false), target },
    ],
  };
  change(recipe as unknown as Recipe);
  const checked = await checkRecipe(recipe, 'x.json');
  return (checked.stages.at(-1) as { target: TargetSpec }).target;
}

function batch(step = 0, extra: Partial<StageBatch> = {}): StageBatch {
  return {
    rows: Int32Array.from({ length: rows }, (_, r) => r),
    labels,
    step,
    steps: 10,
    epoch: 0,
    seed: 100 + step,
    input: teachers['big']!,
    teacher: (name) => ({ logits: teachers[name]!, features: [] }),
    ...extra,
  };
}

/** The loss, held to telling the numbers that are known of its target before it runs. */
function held(loss: StageLoss, spec: TargetSpec): StageLoss {
  const of = loss.of.bind(loss);
  loss.of = (output, scene) => {
    const value = of(output, scene);
    const names = targetNumbers(spec, scene.peers);
    if (names !== null) expect(Object.keys(loss.numbers()).sort()).toEqual([...names].sort());
    return value;
  };
  return loss;
}

async function lossOf(target: object, custom?: CustomTargets): Promise<StageLoss> {
  const spec = await completed(target);
  const environment = {
    spec,
    device: 'cpu' as const,
    seed: 5,
    rows,
    cols,
    captured: () => ({ rows: () => limbeck.captureTopK(teachers['big']!, 3, { temperature: 2 }) }),
    custom,
  };
  return held(stageLoss(environment), spec);
}

/** Loss and gradient of a student's logits. */
function both(student: Tensor, loss: (student: Tensor) => Tensor): { loss: number; gradient: number[] } {
  return tidy(() => {
    const own = student.clone();
    own.requiresGrad = true;
    const value = loss(own);
    value.backward();
    return { loss: value.item(), gradient: own.grad === null ? [] : Array.from(own.grad.data as Float32Array) };
  });
}

function expectSame(a: { loss: number; gradient: number[] }, b: { loss: number; gradient: number[] }, digits = 6): void {
  expect(a.loss).toBeCloseTo(b.loss, digits);
  expect(a.gradient.some((value) => Math.abs(value) > 1e-6)).toBe(true);
  a.gradient.forEach((value, i) => expect(Math.abs(value - b.gradient[i]!), `gradient ${i}`).toBeLessThanOrEqual(10 ** -digits));
}

const student = logits(9);
const { big, other, reference, anchor } = teachers as { big: Tensor; other: Tensor; reference: Tensor; anchor: Tensor };
const probs = (x: Tensor) => limbeck.denseTarget({ probs: limbeck.softmax(x) });

const byHand: [string, object, (z: Tensor) => Tensor][] = [
  ['labels', { kind: 'labels', labelSmoothing: 0.1 }, (z) => limbeck.crossEntropy(z, labels, { labelSmoothing: 0.1 })],
  [
    'captured',
    { kind: 'captured', from: 'file', residual: 'tail_bucket', divergence: 'reverse_kl', hardWeight: 0.2 },
    (z) =>
      limbeck.kdLoss(z, limbeck.captureTopK(big, 3, { temperature: 2 }), {
        residual: 'tail_bucket',
        divergence: 'reverse_kl',
        labels,
        hardWeight: 0.2,
      }),
  ],
  ['a teacher', { kind: 'teacher', from: 'big', temperature: 3 }, (z) => limbeck.kdLoss(z, big, { temperature: 3 })],
  [
    'a divergence with parameters, and labels',
    {
      kind: 'teacher',
      from: 'big',
      temperature: 2,
      temperatureSquared: false,
      hardWeight: 0.3,
      labelSmoothing: 0.1,
      divergence: { kind: 'jensen_shannon', beta: 0.2 },
    },
    (z) =>
      limbeck.kdLoss(z, big, {
        temperature: 2,
        temperatureSquared: false,
        labels,
        hardWeight: 0.3,
        labelSmoothing: 0.1,
        divergence: { kind: 'jensen_shannon', beta: 0.2 },
      }),
  ],
  [
    'an assistant mixture',
    { kind: 'teacher', from: 'big', divergence: 'reverse_kl', assistant: { alpha: 1, lambda: 0.4 } },
    (z) => limbeck.kdLoss(z, big, { divergence: 'reverse_kl', assistant: { alpha: 1, lambda: 0.4 } }),
  ],
  [
    'access to probabilities',
    { kind: 'teacher', from: 'big', access: 'probs', temperature: 2 },
    (z) => limbeck.kdLoss(z, probs(big), { temperature: 2 }),
  ],
  [
    'access to the k best',
    { kind: 'teacher', from: 'big', access: 'topk', k: 2, residual: 'uniform', temperature: 2 },
    (z) => limbeck.kdLoss(z, limbeck.captureTopK(big, 2, { temperature: 2 }), { residual: 'uniform' }),
  ],
  [
    'access to draws',
    { kind: 'teacher', from: 'big', access: 'sampled', draws: 5, method: 'head_tail' },
    (z) => limbeck.kdLoss(z, limbeck.sampleTarget(big, 5, { method: 'head_tail', seed: 100 })),
  ],
  [
    'access to text',
    { kind: 'teacher', from: 'big', access: 'text', hardWeight: 0.25 },
    (z) => {
      const said = Int32Array.from(limbeck.argmax(big).data as Int32Array);
      return limbeck.add(limbeck.scale(limbeck.crossEntropy(z, said), 0.75), limbeck.scale(limbeck.crossEntropy(z, labels), 0.25));
    },
  ],
  [
    'text that a critic filters',
    { kind: 'teacher', from: 'big', access: 'text', text: { critic: 0.5 } },
    (z) => {
      const p = limbeck.softmax(big).data as Float32Array;
      const said = Int32Array.from(limbeck.argmax(big).data as Int32Array, (best, r) => (p[r * cols + best]! < 0.5 ? -100 : best));
      expect(new Set(said).has(-100)).toBe(true);
      return limbeck.crossEntropy(z, said);
    },
  ],
  [
    'drawn text',
    { kind: 'teacher', from: 'big', access: 'text', text: { draw: 'sample' } },
    (z) => limbeck.crossEntropy(z, Int32Array.from(limbeck.sampleTarget(big, 1, { seed: 100 }).indices.data as Int32Array)),
  ],
  [
    'two teachers, arithmetic',
    { kind: 'teacher', from: [{ name: 'big', weight: 3 }, { name: 'other' }], temperature: 2 },
    (z) =>
      limbeck.kdLoss(
        z,
        limbeck.mixTargets(
          [
            { target: big, weight: 0.75 },
            { target: other, weight: 0.25 },
          ],
          { temperature: 2 },
        ),
        { temperature: 2 },
      ),
  ],
  [
    'two teachers, geometric',
    { kind: 'teacher', from: [{ name: 'big' }, { name: 'other' }], mix: 'geometric', divergence: 'squared_hellinger' },
    (z) =>
      limbeck.kdLoss(
        z,
        limbeck.mixTargets(
          [
            { target: big, weight: 0.5 },
            { target: other, weight: 0.5 },
          ],
          { kind: 'geometric' },
        ),
        { divergence: 'squared_hellinger' },
      ),
  ],
  [
    'weights by entropy',
    { kind: 'teacher', from: [{ name: 'big' }, { name: 'other', weight: 2 }], mixWeights: 'entropy' },
    (z) => {
      const [a, b] = [limbeck.rowEntropy(big).data, limbeck.rowEntropy(other).data] as [Float32Array, Float32Array];
      const first = Float32Array.from(a, (h, r) => Math.exp(-h) / (Math.exp(-h) + 2 * Math.exp(-b[r]!)));
      const second = first.map((w) => 1 - w);
      const target = limbeck.mixTargets([
        { target: big, weight: tensor(first) },
        { target: other, weight: tensor(second) },
      ]);
      return limbeck.kdLoss(z, target);
    },
  ],
  [
    'weights by the batch',
    { kind: 'teacher', from: [{ name: 'big' }, { name: 'other' }], mixWeights: 'batch' },
    (z) => {
      const [a, b] = [limbeck.crossEntropy(big, labels).item(), limbeck.crossEntropy(other, labels).item()];
      const weight = Math.exp(-a) / (Math.exp(-a) + Math.exp(-b));
      return limbeck.kdLoss(
        z,
        limbeck.mixTargets([
          { target: big, weight },
          { target: other, weight: 1 - weight },
        ]),
      );
    },
  ],
  [
    'an anchor',
    { kind: 'teacher', from: 'big', anchor: { from: 'anchor', lambda: 0.3 } },
    (z) =>
      limbeck.kdLoss(
        z,
        limbeck.mixTargets([
          { target: anchor, weight: 0.3 },
          { target: big, weight: 0.7 },
        ]),
      ),
  ],
  [
    'a softening operator on the teacher',
    { kind: 'teacher', from: 'big', soften: { operator: 'odds', temperature: 3 } },
    (z) => limbeck.kdLoss(z, limbeck.denseTarget({ probs: limbeck.soften(limbeck.softmax(big), { operator: 'odds', temperature: 3 }) })),
  ],
  [
    'the power operator on both sides is the temperature',
    { kind: 'teacher', from: 'big', soften: { operator: 'power', temperature: 3, sides: 'both' } },
    (z) => limbeck.kdLoss(z, big, { temperature: 3 }),
  ],
  [
    'the truth mixed in',
    { kind: 'teacher', from: 'big', groundTruth: 0.35 },
    (z) => limbeck.kdLoss(z, limbeck.mixWithLabels(big, labels, { alpha: 0.35 })),
  ],
  [
    'a corrected teacher',
    { kind: 'teacher', from: 'big', labelCorrection: 'sort', temperature: 2 },
    (z) => limbeck.kdLoss(z, limbeck.correctTarget(big, labels, { method: 'sort' }), { temperature: 2 }),
  ],
  [
    'AdaKD: a temperature and a choice of rows',
    { kind: 'teacher', from: 'big', temperature: { rule: 'adakd', base: 2, strength: 0.4 }, select: { rule: 'adakd', keep: 0.5 } },
    (z) => {
      const scores = limbeck.rowHellinger(z.detach(), big);
      return limbeck.kdLoss(z, big, {
        temperature: limbeck.adaptiveTemperatures(scores, { base: 2, strength: 0.4 }),
        rowWeights: limbeck.topFractionMask(scores, 0.5),
        denominator: 'weights',
      });
    },
  ],
  [
    'AdaSPEC',
    { kind: 'teacher', from: 'big', select: { rule: 'adaspec', reference: 'reference', keep: 0.4 } },
    (z) =>
      limbeck.kdLoss(z, big, {
        rowWeights: limbeck.topFractionMask(limbeck.referenceGap(z.detach(), reference, big), 0.4),
        denominator: 'weights',
      }),
  ],
  [
    'SelecTKD',
    { kind: 'teacher', from: 'big', select: { rule: 'speckd', k: 2 } },
    (z) => limbeck.kdLoss(z, big, { rowWeights: limbeck.argmaxInTopK(z.detach(), big, 2, { otherwise: 0.01 }) }),
  ],
  [
    'rows of high entropy',
    { kind: 'teacher', from: 'big', select: { rule: 'entropy', keep: 0.25 } },
    (z) => limbeck.kdLoss(z, big, { rowWeights: limbeck.topFractionMask(limbeck.rowEntropy(z.detach()), 0.25), denominator: 'weights' }),
  ],
  [
    'TAID',
    { kind: 'teacher', from: 'big', taid: { tStart: 0.25 }, hardWeight: 0.5 },
    (z) => {
      const soft = limbeck.kdLoss(z, limbeck.interpolateTarget(z, big, { t: 0.25 }), { divergence: 'soft_cross_entropy' });
      return limbeck.add(limbeck.scale(soft, 0.5), limbeck.scale(limbeck.crossEntropy(z, labels), 0.5));
    },
  ],
  [
    'PLD',
    { kind: 'teacher', from: 'big', loss: 'pld', temperature: 2 },
    (z) => limbeck.plackettLuceLoss(z, big, { labels, temperature: 2 }),
  ],
  ['ListMLE', { kind: 'teacher', from: 'big', loss: 'listmle' }, (z) => limbeck.listMleLoss(z, big)],
  ['BiLD', { kind: 'teacher', from: 'big', loss: { kind: 'bild', k: 4 } }, (z) => limbeck.bildLoss(z, big, { k: 4 })],
  [
    'DBiLD with labels',
    { kind: 'teacher', from: 'big', loss: { kind: 'dbild', k: 3, lead: 'student' }, temperature: 2, hardWeight: 0.5 },
    (z) =>
      limbeck.add(
        limbeck.scale(limbeck.dbildLoss(z, big, { k: 3, lead: 'student', temperature: 2 }), 0.5),
        limbeck.scale(limbeck.crossEntropy(z, labels), 0.5),
      ),
  ],
  [
    'concrete scores',
    { kind: 'teacher', from: 'big', loss: { kind: 'concrete_score', weights: ['teacher', 'uniform'] } },
    (z) => limbeck.concreteScoreLoss(z, big, { weights: ['teacher', 'uniform'] }),
  ],
  [
    'squared error of logits',
    { kind: 'teacher', from: 'big', loss: { kind: 'logit_mse', centred: true } },
    (z) => limbeck.logitMseLoss(z, big, { centred: true }),
  ],
  [
    'DIST',
    { kind: 'teacher', from: 'big', loss: { kind: 'dist', gamma: 2 }, temperature: 4 },
    (z) => limbeck.distLoss(z, big, { gamma: 2, temperature: 4 }),
  ],
  ['DKD', { kind: 'teacher', from: 'big', loss: { kind: 'dkd', beta: 2 } }, (z) => limbeck.dkdLoss(z, big, labels, { beta: 2 })],
  [
    'OFA',
    { kind: 'teacher', from: 'big', loss: { kind: 'ofa', gamma: 1.4 } },
    (z) => limbeck.kdLoss(z, limbeck.ofaTarget(big, labels, { gamma: 1.4 }), { divergence: 'soft_cross_entropy' }),
  ],
  [
    'standardised logits',
    { kind: 'teacher', from: 'big', loss: 'standardized', divergence: 'reverse_kl' },
    (z) => limbeck.standardizedKdLoss(z, big, { divergence: 'reverse_kl' }),
  ],
  [
    'a sum',
    {
      kind: 'sum',
      parts: [
        { weight: 0.5, target: { kind: 'labels' } },
        { weight: { kind: 'linear', start: 2, end: 4 }, target: { kind: 'teacher', from: 'big' } },
      ],
    },
    (z) => limbeck.add(limbeck.scale(limbeck.crossEntropy(z, labels), 0.5), limbeck.scale(limbeck.kdLoss(z, big), 2)),
  ],
  [
    'a ratio',
    {
      kind: 'sum',
      parts: [
        { weight: 1, target: { kind: 'labels' } },
        { weight: 'ratio', target: { kind: 'teacher', from: 'big' } },
      ],
    },
    (z) => {
      const [hard, soft] = [limbeck.crossEntropy(z, labels), limbeck.kdLoss(z, big)];
      return limbeck.add(hard, limbeck.scale(soft, hard.item() / soft.item()));
    },
  ],
];

describe('a target', () => {
  it.each(byHand)('%s', async (_, target, hand) => {
    const loss = await lossOf(target);
    expectSame(
      both(student, (z) => loss.of({ logits: z, features: [] }, batch())),
      both(student, hand),
      5,
    );
    loss.dispose();
  });

  it('leaves out rows without a label, whatever compares them', async () => {
    const some = labels.map((label, r) => (r % 3 === 0 ? -100 : label));
    const kept = Int32Array.from({ length: rows }, (_, r) => r).filter((r) => some[r] !== -100);
    const part = (x: Tensor) => limbeck.gatherRows(x, kept);
    for (const target of [
      { kind: 'teacher', from: 'big', temperature: 2 },
      { kind: 'teacher', from: 'big', loss: { kind: 'bild', k: 4 } },
      { kind: 'teacher', from: 'big', loss: 'pld' },
      { kind: 'teacher', from: 'big', loss: 'standardized' },
      { kind: 'teacher', from: 'big', loss: { kind: 'logit_mse' }, hardWeight: 0.5 },
      { kind: 'teacher', from: 'big', select: { rule: 'entropy', keep: 0.5 } },
      { kind: 'teacher', from: 'big', access: 'text' },
      { kind: 'teacher', from: [{ name: 'big' }, { name: 'other' }], mixWeights: 'batch' },
    ]) {
      const loss = await lossOf(target);
      const all = both(student, (z) => loss.of({ logits: z, features: [] }, batch(0, { labels: some })));
      const few = await lossOf(target);
      const alone = both(student, (z) =>
        few.of(
          { logits: part(z), features: [] },
          batch(0, {
            labels: kept.map((r) => labels[r]!),
            teacher: (name) => ({ logits: part(teachers[name]!), features: [] }),
          }),
        ),
      );
      expectSame(all, alone, 5);
      some.forEach((label, r) => label === -100 && expect(all.gradient.slice(r * cols, (r + 1) * cols).every((g) => g === 0)).toBe(true));
    }
  });

  it('heads have targets and weights of their own, and exits may learn from the last', async () => {
    const loss = await lossOf({
      kind: 'heads',
      heads: [
        { head: 'final', target: { kind: 'labels' } },
        { head: 0, weight: 0.3, target: { kind: 'teacher', from: 'self', temperature: 2 } },
        { head: 1, weight: 0.5, target: { kind: 'teacher', from: 'big' } },
      ],
    });
    tidy(() => {
      const [last, first, second] = [student.clone(), logits(20), logits(21)];
      for (const each of [last, first, second]) each.requiresGrad = true;
      const value = loss.of({ logits: last, features: [], exits: [first, second] }, batch());
      value.backward();
      const hand = [
        both(student, (z) => limbeck.crossEntropy(z, labels)),
        both(first.detach(), (z) => limbeck.scale(limbeck.kdLoss(z, student, { temperature: 2 }), 0.3)),
        both(second.detach(), (z) => limbeck.scale(limbeck.kdLoss(z, big), 0.5)),
      ];
      expect(value.item()).toBeCloseTo(
        hand.reduce((sum, each) => sum + each.loss, 0),
        5,
      );
      [last, first, second].forEach((each, i) =>
        expectSame({ loss: 0, gradient: Array.from(each.grad!.data as Float32Array) }, { ...hand[i]!, loss: 0 }),
      );
      expect(() => loss.of({ logits: last, features: [], exits: [first] }, batch())).toThrow('head 1 must be one of the model');
    });
  });

  it('peers teach each other', async () => {
    const spec = { ...((await completed({ kind: 'teacher', from: 'big' })) as TeacherTarget), from: 'peers', hardWeight: 0.5 };
    const loss = stageLoss({ spec, device: 'cpu', seed: 0, rows, cols, captured: () => null! });
    const peers = batch(0, { peers: ['big', 'other'], student: (name) => ({ logits: teachers[name]!, features: [] }) });
    expectSame(
      both(student, (z) => loss.of({ logits: z, features: [] }, peers)),
      both(student, (z) => {
        const target = limbeck.mixTargets([
          { target: big, weight: 0.5 },
          { target: other, weight: 0.5 },
        ]);
        return limbeck.kdLoss(z, target, { labels, hardWeight: 0.5 });
      }),
    );
    expect(() => tidy(() => loss.of({ logits: student, features: [] }, batch(0, { peers: [] })))).toThrow('at least two students');
  });

  it('a program brings losses and builders along', async () => {
    const custom: CustomTargets = {
      targets: { sharper: (_, { teacher }, { factor }) => limbeck.scale(teacher('big').logits, factor as number) },
    };
    const loss = await lossOf({ kind: 'custom', target: 'sharper', options: { factor: 3 }, divergence: 'reverse_kl' }, custom);
    expectSame(
      both(student, (z) => loss.of({ logits: z, features: [] }, batch())),
      both(student, (z) => limbeck.kdLoss(z, limbeck.scale(big, 3), { divergence: 'reverse_kl' })),
    );
    await expect(lossOf({ kind: 'custom', target: 'sharpr' }, custom)).rejects.toThrow('did you mean "sharper"?');
    await expect(lossOf({ kind: 'custom', loss: 'mine' })).rejects.toThrow('custom.losses must hold it: there are none');
  });
});

describe('features', () => {
  const features = (seed: number, widths: number[]): Tensor[] =>
    widths.map((width, i) => {
      const next = random(seed + i);
      return tensor(
        Float32Array.from({ length: rows * width }, () => 2 * next() - 1),
        { shape: [rows, width] },
      );
    });
  const theirs = features(40, [5, 6]);
  const ours = features(50, [5, 4]);
  const seen = batch(0, { teacher: () => ({ logits: big, features: theirs }) });
  const learned = async (pairs: object[]): Promise<StageLoss> =>
    stageLoss({
      spec: await completed({ kind: 'features', from: 'big', pairs }),
      device: 'cpu',
      seed: 3,
      rows,
      cols,
      captured: () => null!,
      featureWidths: { student: [5, 4], teacher: () => [5, 6] },
    });

  it.each([
    ['mse', limbeck.featureMse],
    ['cosine', limbeck.featureCosine],
    ['huber', limbeck.featureHuber],
    ['contrastive', limbeck.infoNceLoss],
    ['gram', limbeck.gramLoss],
    ['relation', limbeck.relationKd],
    ['cka', limbeck.ckaLoss],
    ['attention_relation', limbeck.attentionRelationLoss],
  ] as const)('%s is the library’s, weighted', async (name, hand) => {
    const loss = await learned([{ student: 0, teacher: -2, loss: name, weight: 0.5 }]);
    expect(loss.parameters()).toEqual([]);
    expectSame(
      both(ours[0]!, (h) => loss.of({ logits: student, features: [h, ours[1]!] }, seen)),
      both(ours[0]!, (h) => limbeck.scale((hand as (a: Tensor, b: Tensor) => Tensor)(h, theirs[0]!), 0.5)),
    );
  });

  it('of other widths go through a projector, which learns, and comes back from its state', async () => {
    const pairs = [
      { student: 0, teacher: 0, loss: 'mse' },
      { student: 1, teacher: 1, loss: 'mse' },
      { student: 1, teacher: 0, loss: 'cka' },
    ];
    const loss = await learned(pairs);
    expect(loss.parameters().map(({ shape }) => [...shape])).toEqual([[6, 4], [6]]);
    const value = (from: StageLoss) => tidy(() => from.of({ logits: student, features: ours }, seen).item());
    const before = value(loss);
    for (let step = 0; step < 5; step++) {
      tidy(() => {
        const free = ours.map((each) => Object.assign(each.clone(), { requiresGrad: true }));
        loss.of({ logits: student, features: free }, seen).backward();
        for (const parameter of loss.parameters()) {
          (parameter.data as Float32Array).forEach((_, i, values) => (values[i]! -= 0.5 * (parameter.grad!.data as Float32Array)[i]!));
          parameter.zeroGrad();
        }
      });
    }
    expect(value(loss)).toBeLessThan(before);
    expect(Object.keys(loss.numbers())).toEqual(['pair0', 'pair1', 'pair2']);
    const resumed = await learned(pairs);
    expect(value(resumed)).toBe(before);
    resumed.restore(loss.state());
    expect(value(resumed)).toBe(value(loss));
    expect(() => resumed.restore({})).toThrow("the state must hold 'projector1.");
    loss.dispose();
    resumed.dispose();
  });

  it('that cannot be are refused by name', async () => {
    await expect(learned([{ student: 2, teacher: 0, loss: 'mse' }])).rejects.toThrow(
      'pairs[0].student must be the number of a layer, from -2 to 1: it is 2',
    );
    await expect(learned([{ student: 1, teacher: 1, loss: 'mse', projector: false }])).rejects.toThrow(
      'pairs[0].projector must not be false where the widths differ with loss "mse": they are 4 and 6',
    );
    await expect(learned([{ student: 0, teacher: 0, loss: 'gram', projector: true }])).rejects.toThrow(
      'stages[5].target.pairs[0].projector must not be true with loss "gram"',
    );
  });

  it('of images are averaged over their positions', async () => {
    const next = random(60);
    const image = (channels: number) =>
      tensor(
        Float32Array.from({ length: 2 * channels * 4 }, () => next()),
        { shape: [2, channels, 2, 2] },
      );
    const [own, other] = [image(5), image(5)];
    const loss = await learned([{ student: 0, teacher: 0, loss: 'mse' }]);
    const scene = batch(0, { labels: Int32Array.of(0, 1), teacher: () => ({ logits: big, features: [other, other] }) });
    const pooled = (x: Tensor) =>
      tensor(
        Float32Array.from({ length: 10 }, (_, i) => (x.data as Float32Array).slice(4 * i, 4 * i + 4).reduce((a, b) => a + b) / 4),
        { shape: [2, 5] },
      );
    expect(tidy(() => loss.of({ logits: student, features: [own, own] }, scene).item())).toBeCloseTo(
      limbeck.featureMse(pooled(own), pooled(other)).item(),
      6,
    );
  });
});

describe('the page of targets', () => {
  const page = readFileSync('docs/guides/targets-in-recipes.md', 'utf8');
  const examples = [...page.matchAll(/^```json\n([\s\S]*?)^```$/gm)].map((match) => JSON.parse(match[1]!) as { kind: string });

  it('has an example of every kind', () => {
    expect(new Set(examples.map(({ kind }) => kind))).toEqual(
      new Set(['labels', 'captured', 'teacher', 'features', 'sum', 'heads', 'custom']),
    );
  });

  it.each(examples.map((example) => [JSON.stringify(example), example] as const))('%s trains', async (_, example) => {
    const renamed = JSON.parse(
      JSON.stringify(example)
        .replaceAll('"from":"targets"', '"from":"file"')
        .replaceAll('"from":"teacher"', '"from":"big"')
        .replaceAll('"name":"teacher"', '"name":"big"')
        .replaceAll('"second"', '"other"'),
    ) as object;
    const spec = await completed(renamed);
    const environment = {
      spec,
      device: 'cpu' as const,
      seed: 1,
      rows,
      cols,
      captured: () => ({ rows: () => limbeck.captureTopK(big, 3, { temperature: 2 }) }),
      featureWidths: { student: [4, 4], teacher: () => [5, 5] },
      custom: {
        targets: { sharper: (_output, { teacher }, { factor }) => limbeck.scale(teacher('big').logits, factor as number) },
      } as CustomTargets,
    };
    const loss = held(stageLoss(environment), spec);
    const inner = (width: number) =>
      tensor(
        Float32Array.from({ length: rows * width }, (_value, i) => Math.sin(i)),
        { shape: [rows, width] },
      );
    const scene = batch(3, { teacher: (name) => ({ logits: teachers[name]!, features: [inner(5), inner(5)] }) });
    const hidden = inner(4);
    hidden.requiresGrad = true;
    const value = both(student, (z) => loss.of({ logits: z, features: [hidden, hidden], exits: [limbeck.scale(z, 0.5)] }, scene));
    expect(Number.isFinite(value.loss)).toBe(true);
    if (example.kind !== 'features') expect(value.gradient.some((g) => g !== 0)).toBe(true);
    else expect((hidden.grad!.data as Float32Array).some((g) => g !== 0)).toBe(true);
  });
});

describe('numbers that move', () => {
  it('follow their schedule and end where they shall', () => {
    const at = (kind: 'linear' | 'cosine' | 'exponential', step: number, until = 1) =>
      scheduledValue({ kind, start: 4, end: 1, until }, step, 11);
    expect([0, 5, 10].map((step) => at('linear', step))).toEqual([4, 2.5, 1]);
    expect(at('exponential', 5)).toBeCloseTo(2, 12);
    expect(at('cosine', 5)).toBeCloseTo(2.5, 12);
    expect([0, 5, 7].map((step) => at('linear', step, 0.5))).toEqual([4, 1, 1]);
    expect(scheduledValue(3, 5, 10)).toBe(3);
  });

  it('move temperature, hard weight and truth of a target', async () => {
    const line = (start: number, end: number) => ({ kind: 'linear', start, end });
    const loss = await lossOf({ kind: 'teacher', from: 'big', temperature: line(4, 1), hardWeight: line(0, 0.9) });
    for (const step of [0, 3, 9]) {
      const [temperature, hardWeight] = [4 - step / 3, step / 10];
      expectSame(
        both(student, (z) => loss.of({ logits: z, features: [] }, batch(step))),
        both(student, (z) => limbeck.kdLoss(z, big, { temperature, hardWeight, labels })),
        5,
      );
      expect(loss.numbers()['temperature']).toBeCloseTo(temperature, 6);
    }
    const truth = await lossOf({ kind: 'teacher', from: 'big', groundTruth: line(0, 0.9) });
    expectSame(
      both(student, (z) => truth.of({ logits: z, features: [] }, batch(5))),
      both(student, (z) => limbeck.kdLoss(z, limbeck.mixWithLabels(big, labels, { alpha: 0.5 }))),
    );
  });
});

describe('what a loss remembers', () => {
  const kinds: [string, object][] = [
    ['TAID', { kind: 'teacher', from: 'big', taid: { alpha: 0.2, beta: 0.5 } }],
    ['AdaKD', { kind: 'teacher', from: 'big', select: { rule: 'adakd', keep: 0.9 } }],
    ['learned weights', { kind: 'teacher', from: [{ name: 'big' }, { name: 'other' }], mixWeights: 'learned' }],
    [
      'parts of a sum',
      {
        kind: 'sum',
        parts: [
          { weight: 1, target: { kind: 'teacher', from: 'big', taid: { alpha: 0.3 } } },
          { weight: 0.5, target: { kind: 'teacher', from: [{ name: 'big' }, { name: 'other' }], mixWeights: 'learned' } },
        ],
      },
    ],
  ];

  /** Trains the logits themselves, and gives the loss of each step. */
  function train(loss: StageLoss, z: Float32Array, from: number, to: number): number[] {
    const losses: number[] = [];
    for (let step = from; step < to; step++) {
      tidy(() => {
        const own = tensor(z.slice(), { shape: [rows, cols], requiresGrad: true });
        const value = loss.of({ logits: own, features: [] }, batch(step));
        value.backward();
        losses.push(value.item());
        const gradient = own.grad!.data as Float32Array;
        gradient.forEach((g, i) => (z[i]! -= 3 * g));
        for (const parameter of loss.parameters()) {
          (parameter.data as Float32Array).forEach((_, i, values) => (values[i]! -= (parameter.grad!.data as Float32Array)[i]!));
          parameter.zeroGrad();
        }
      });
    }
    return losses;
  }

  it.each(kinds)('%s goes on with the same numbers', async (_, target) => {
    const whole = await lossOf(target);
    const z = Float32Array.from(student.data as Float32Array);
    const first = train(whole, z, 0, 4);
    const saved = JSON.stringify(whole.words());
    const state = whole.state();
    const half = z.slice();
    const rest = train(whole, z, 4, 9);
    const resumed = await lossOf(target);
    resumed.restore(state);
    resumed.restoreWords(JSON.parse(saved) as Record<string, unknown>);
    expect(train(resumed, half, 4, 9)).toEqual(rest);
    expect(half).toEqual(z);
    // A loss that starts anew at that point is another: there was something to remember.
    const anew = await lossOf(target);
    expect(train(anew, Float32Array.from(student.data as Float32Array), 0, 4)).toEqual(first);
    const forgetful = z.slice();
    const fresh = await lossOf(target);
    expect([train(fresh, forgetful, 4, 6), fresh.words(), fresh.state()]).not.toEqual([
      train(resumed, z.slice(), 4, 6),
      resumed.words(),
      resumed.state(),
    ]);
  });

  it('micro-batches of one step move schedules once', async () => {
    const loss = await lossOf({ kind: 'teacher', from: 'big', taid: { alpha: 0.5 } });
    const call = (step: number) => tidy(() => loss.of({ logits: student, features: [] }, batch(step)).item());
    call(0);
    call(1);
    const after = loss.words();
    call(1);
    expect(loss.words()).toEqual(after);
    call(2);
    expect(loss.words()).not.toEqual(after);
  });

  it('learned weights find the teacher that knows the labels', async () => {
    const right = tensor(
      Float32Array.from({ length: rows * cols }, (_, i) => (i % cols === labels[Math.floor(i / cols)] ? 3 : 0)),
      { shape: [rows, cols] },
    );
    const loss = await lossOf({ kind: 'teacher', from: [{ name: 'big' }, { name: 'other' }], mixWeights: 'learned' });
    const scene = batch(0, { teacher: (name) => ({ logits: name === 'big' ? right : other, features: [] }) });
    const [theta] = loss.parameters() as [Tensor];
    for (let step = 0; step < 20; step++) {
      tidy(() => {
        loss.of({ logits: student, features: [] }, scene).backward();
        (theta.data as Float32Array).forEach((_, i, values) => (values[i]! -= 2 * (theta.grad!.data as Float32Array)[i]!));
        theta.zeroGrad();
      });
    }
    expect(loss.numbers()['weight.big']).toBeGreaterThan(0.8);
    loss.dispose();
  });
});

describe('a target that cannot be', () => {
  const teacher = { kind: 'teacher', from: 'big' };
  const wrong: [object, string][] = [
    [
      { ...teacher, from: 'bgi' },
      'stages[5].target.from must name an earlier train, prune, recursion or mutual stage: it is "bgi", did you mean "big"?',
    ],
    [{ ...teacher, divergence: 'forward_lk' }, 'stages[5].target.divergence must be one of'],
    [{ ...teacher, divergence: { kind: 'jensen_shanon' } }, 'did you mean "jensen_shannon"?'],
    [{ ...teacher, los: 'pld' }, 'stages[5].target has no field "los": did you mean "loss"?'],
    [{ ...teacher, access: 'topk', residual: 'uniform' }, 'stages[5].target.k must be given'],
    [{ ...teacher, access: 'topk', k: 2 }, 'stages[5].target.residual must be given'],
    [{ ...teacher, k: 2 }, 'stages[5].target.k must not be given but with access "topk"'],
    [{ ...teacher, access: 'topk', k: 2, residual: 'uniform', taid: {} }, 'stages[5].target.taid must not be given with access "topk"'],
    [
      { ...teacher, access: 'topk', k: 2, residual: 'truncate', divergence: 'reverse_kl' },
      'stages[5].target.divergence must be forward_kl or soft_cross_entropy with residual "truncate"',
    ],
    [{ ...teacher, residual: 'uniform' }, 'stages[5].target.residual must not be given for a dense target'],
    [{ ...teacher, taid: {}, divergence: 'reverse_kl' }, 'stages[5].target.divergence must be forward_kl or soft_cross_entropy with taid'],
    [{ ...teacher, taid: { tStart: 0.9, tEnd: 0.5 } }, 'stages[5].target.taid.tEnd must be at least tStart'],
    [{ ...teacher, loss: 'listmle', temperature: 2 }, 'stages[5].target.temperature must be 1 with loss "listmle"'],
    [{ ...teacher, loss: 'bild', temperature: { rule: 'adakd' } }, 'stages[5].target.temperature must be a number with loss "bild"'],
    [{ ...teacher, loss: 'dkd', assistant: { alpha: 0, lambda: 0.5 } }, 'stages[5].target.assistant must not be given with loss "dkd"'],
    [{ ...teacher, mixWeights: 'learned' }, 'stages[5].target.mixWeights must be "fixed" with a single teacher'],
    [{ ...teacher, from: [{ name: 'big' }, { name: 'big' }] }, 'stages[5].target.from[1].name must differ from the other teachers'],
    [{ ...teacher, from: 'peers' }, 'stages[5].target.from must not be "peers" outside of a mutual stage'],
    [{ ...teacher, from: 'self' }, 'stages[5].target.from must not be "self"'],
    [{ ...teacher, soften: { operator: 'power', temperature: 2 }, temperature: 2 }, 'stages[5].target.temperature must be 1 with soften'],
    [{ ...teacher, soften: { operator: 'uniform_mix', temperature: 0.5 } }, 'soften.temperature must be at least 1'],
    [{ ...teacher, select: { rule: 'adaspec', reference: 'nobody', keep: 0.5 } }, 'stages[5].target.select.reference must name an earlier'],
    [{ ...teacher, select: { rule: 'adapsec', keep: 0.5 } }, 'did you mean "adaspec"?'],
    [{ ...teacher, hardWeight: { kind: 'exponential', start: 0, end: 1 } }, 'stages[5].target.hardWeight must start and end above 0'],
    [{ ...teacher, hardWeight: 1.5 }, 'stages[5].target.hardWeight must be <= 1'],
    [{ kind: 'captured', from: 'file' }, 'stages[5].target.residual must be given'],
    [{ kind: 'captured', from: 'big', residual: 'uniform' }, 'stages[5].target.from must name an earlier capture stage'],
    [{ kind: 'captured', from: 'file', residual: 'uniform', temperature: 3 }, 'stages[5].target.temperature must be left out'],
    [{ kind: 'captured', from: 'file', residual: 'renormalize', divergence: 'reverse_kl' }, 'must be finite where the teacher is 0'],
    [
      { kind: 'sum', parts: [{ weight: 'ratio', target: { kind: 'labels' } }] },
      'stages[5].target.parts[0].weight must be a number, for "ratio" compares with the first part',
    ],
    [
      { kind: 'sum', parts: [{ weight: 1, target: { kind: 'teacher', from: 'nobody' } }] },
      'stages[5].target.parts[0].target.from must name an earlier',
    ],
    [{ kind: 'custom' }, 'stages[5].target must have a loss or a target'],
    [{ kind: 'teachers', from: 'big' }, 'did you mean "teacher"?'],
  ];
  it.each(wrong)('%j', async (target, text) => {
    await expect(completed(target)).rejects.toThrow(text);
  });

  it('says what must be there for it', async () => {
    const target = await completed({
      kind: 'sum',
      parts: [
        { weight: 1, target: { kind: 'captured', from: 'file', residual: 'uniform' } },
        {
          weight: 1,
          target: { ...teacher, anchor: { from: 'anchor', lambda: 0.5 }, select: { rule: 'adaspec', reference: 'reference', keep: 1 } },
        },
        { weight: 1, target: { kind: 'features', from: 'other', pairs: [{ student: 0, teacher: 0, loss: 'cka' }] } },
      ],
    });
    expect(targetNeeds(target)).toEqual({
      teachers: ['big', 'anchor', 'reference', 'other'],
      captures: ['file'],
      features: true,
      peers: false,
    });
  });
});
