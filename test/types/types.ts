// Compiled, never run: what the public types accept and refuse. `npm run types` fails where a refusal is missing.
import {
  captureTopK,
  correctTarget,
  crossEntropy,
  denseTarget,
  kdLoss,
  memory,
  mixTargets,
  nn,
  setDevice,
  soften,
  softmax,
  sparseTarget,
  TaidScheduler,
  tensor,
  tidy,
  topK,
  virtualTeacher,
  type DenseTarget,
  type Device,
  type DType,
  type SparseTarget,
  type Tensor,
} from '../../src/index.js';
import { kdLoss as rawKdLoss } from '../../src/raw.js';

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const same = <A, B>(_: Equal<A, B>): void => undefined;

const x: Tensor = tensor([[1, 2]], { dtype: 'float32', device: 'cpu', requiresGrad: true });
tensor(new Float32Array(4), { shape: [2, 2], device: 'cuda:1' });
tensor(new Uint16Array(4), { dtype: 'bfloat16' });
tensor(3);
// @ts-expect-error no such dtype
tensor([1], { dtype: 'float8' });
// @ts-expect-error no such device
tensor([1], { device: 'tpu' });
// @ts-expect-error a misspelt option
tensor([1], { requireGrad: true });
// @ts-expect-error strings are no data
tensor(['a']);

same<DType, 'float32' | 'float16' | 'bfloat16' | 'float64' | 'int32' | 'uint8'>(true);
same<Device, 'cpu' | 'cuda' | `cuda:${number}`>(true);
same<typeof x.shape, readonly number[]>(true);
same<typeof x.grad, Tensor | null>(true);
same<ReturnType<typeof x.item>, number>(true);
same<ReturnType<typeof softmax>, Tensor>(true);
same<ReturnType<typeof captureTopK>, SparseTarget>(true);
// @ts-expect-error the shape is not to be written
x.shape = [1];
// @ts-expect-error nor its extents
x.shape[0] = 1;
// @ts-expect-error there is no public constructor
new Tensor();

const target = captureTopK(x, 2, { temperature: 2 });
captureTopK(x, 2, { temperature: tensor([1, 2]) });
// @ts-expect-error k must be given
captureTopK(x);

const loss: Tensor = kdLoss(x, x);
kdLoss(x, target, { residual: 'tail_bucket', temperature: 2, reduction: 'none' });
kdLoss(x, denseTarget({ probs: x }), { divergence: { kind: 'skew_forward_kl', alpha: 0.1 } });
kdLoss(x, x, { divergence: 'reverse_kl', labels: new BigInt64Array(1), hardWeight: 0.5, denominator: 3 });
kdLoss(x, x, { labels: [1, 2], denominator: 'weights', rowWeights: tensor([1, 2]) });
// @ts-expect-error no such residual
kdLoss(x, target, { residual: 'tail' });
// @ts-expect-error no such divergence
kdLoss(x, x, { divergence: 'kl' });
// @ts-expect-error no such reduction
kdLoss(x, x, { reduction: 'batchmean' });
// @ts-expect-error a misspelt option
kdLoss(x, x, { temprature: 2 });
// @ts-expect-error a typed array is no tensor
kdLoss(new Float32Array(2), x);
// @ts-expect-error the kind of a divergence with parameters must be named
kdLoss(x, x, { divergence: { alpha: 0.1 } });
kdLoss(x, target, { assistant: { alpha: 0, lambda: 0.5 } });

crossEntropy(x, Int32Array.of(1), { labelSmoothing: 0.1, ignoreIndex: -1 });
// @ts-expect-error labels must be given
crossEntropy(x);

// @ts-expect-error one of logits, probs and logProbs
denseTarget({ values: x });
sparseTarget({ indices: [[1]], probs: [[1]], cols: 3 });
// @ts-expect-error indices must be given
sparseTarget({ probs: [[1]] });

soften(x, { operator: 'log_link', temperature: tensor([2]) });
// @ts-expect-error no such operator
soften(x, { operator: 'log' });
const dense = mixTargets(
  [
    { target: x, weight: 0.5 },
    { target: denseTarget({ probs: x }), weight: tensor([0.5]) },
  ],
  { temperature: 2 },
);
same<typeof dense, DenseTarget>(true);
const sparse = mixTargets([{ target, weight: 1 }]);
same<typeof sparse, SparseTarget>(true);
// @ts-expect-error a weight must be given
mixTargets([{ target: x }]);
// @ts-expect-error the rows must be whole
correctTarget(target, [1]);
// @ts-expect-error cols must be given
virtualTeacher([1], { correctProb: 0.9 });
// @ts-expect-error steps must be given
new TaidScheduler({ tStart: 0.4 });

const { values, indices } = topK(x, 1);
same<typeof values, Tensor>(true);
same<typeof indices, Tensor>(true);

loss.backward();
loss.backward(null, { retainGraph: true });
// @ts-expect-error a misspelt option
loss.backward(null, { retain: true });

const kept: number = tidy(() => loss.item());
same<typeof kept, number>(true);
const choice = setDevice('auto');
same<(typeof choice)['device'], Device>(true);
same<(typeof choice)['reason'], string>(true);
// @ts-expect-error no such device
setDevice('gpu');
const tensors: number = memory().cpu.tensors;
void tensors;

rawKdLoss(new Float32Array(4), new Float32Array(4), {
  rows: 2,
  cols: 2,
  out: { loss: new Float32Array(1), gradient: new Float32Array(4) },
});
// @ts-expect-error rows must be given
rawKdLoss(new Float32Array(4), new Float32Array(4), { cols: 2 });

const asynchronous: Promise<unknown> = x.read({ as: 'float64' });
void asynchronous;

const perceptron = nn.build({ kind: 'mlp', inputs: 2, hidden: [2], outputs: 2 });
same<typeof perceptron, nn.MLP>(true);
const any = nn.build({} as nn.ModelConfig);
same<typeof any, nn.Model>(true);
// @ts-expect-error the classes must be given
nn.build({ kind: 'cnn', inputShape: [1, 8, 8], channels: [2] });
// @ts-expect-error no such kind
nn.build({ kind: 'mpl' });
same<ReturnType<typeof perceptron.forwardWithFeatures>['exits'], Tensor[] | undefined>(true);
