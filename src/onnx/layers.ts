// Each module of nn in ONNX.
import { phrase, shapeText, valueError } from '../errors.js';
import * as nn from '../nn/index.js';
import { ExitHead } from '../nn/heads.js';
import type { OnnxBuilder, OnnxExtent, OnnxValue, Translation } from './builder.js';

type Constructor<T> = abstract new (...args: never[]) => T;

/** What a ready model computes; see `ModelOutput`. */
interface Computed {
  logits: OnnxValue;
  features: OnnxValue[];
  hidden: OnnxValue;
}

const layers = new Map<unknown, Translation>();
const models = new Map<unknown, (builder: OnnxBuilder, model: never, x: OnnxValue) => Computed>();

function layer<M extends nn.Module>(constructor: Constructor<M>, translate: (builder: OnnxBuilder, module: M, x: OnnxValue) => OnnxValue) {
  layers.set(constructor, translate as Translation);
}

function model<M extends nn.Model>(constructor: Constructor<M>, translate: (builder: OnnxBuilder, module: M, x: OnnxValue) => Computed) {
  models.set(constructor, translate as never);
}

/** How a module is translated. The class itself counts: one derived from it may compute something else. */
export function translationOf(module: nn.Module): Translation | undefined {
  const known = layers.get(module.constructor);
  if (known !== undefined) return known;
  return models.has(module.constructor) || module instanceof nn.MultiExit || module instanceof nn.DualHead
    ? (builder, module: nn.Model, x) => outputsOf(builder, module, x)['logits']!
    : undefined;
}

/** The outputs of a ready model by name: logits, and the heads where there are several. */
export function outputsOf(builder: OnnxBuilder, module: nn.Module, x: OnnxValue): Record<string, OnnxValue> {
  if (module.constructor === nn.MultiExit) {
    const { model, heads, exits } = module as nn.MultiExit;
    const { logits, features } = computed(builder, 'model', model, x);
    const early = exits.map((feature, i) => [`exit_${i}`, builder.module(`heads.${i}`, heads[i]!, features[feature]!)] as const);
    return { logits, ...Object.fromEntries(early) };
  }
  if (module.constructor === nn.DualHead) {
    const dual = module as nn.DualHead;
    const { logits: first, hidden } = computed(builder, 'model', dual.model, x);
    const second = builder.module('second', dual.second, hidden);
    return { logits: mixture(builder, dual, first, second), head_0: first, head_1: second };
  }
  if (models.has(module.constructor)) return { logits: computed(builder, '', module as nn.Model, x).logits };
  return { logits: builder.module('', module, x) };
}

function computed(builder: OnnxBuilder, name: string, module: nn.Model, x: OnnxValue): Computed {
  const translate = models.get(module.constructor);
  return builder.within(name, () => {
    if (translate === undefined) throw builder.unknown(module);
    return translate(builder, module as never, x);
  });
}

function through(builder: OnnxBuilder, names: string, modules: readonly nn.Module[], x: OnnxValue): OnnxValue {
  return modules.reduce((value, each, i) => builder.module(`${names}.${i}`, each, value), x);
}

const elementwise =
  (operator: string) =>
  (builder: OnnxBuilder, _: nn.Module, x: OnnxValue): OnnxValue =>
    builder.node(operator, [x], x.shape);

const scalar = (builder: OnnxBuilder, value: number): OnnxValue => builder.constant([value], []);

function times(builder: OnnxBuilder, x: OnnxValue, by: OnnxValue): OnnxValue {
  return builder.node('Mul', [x, by], x.shape);
}

function productOf(extents: readonly OnnxExtent[]): number {
  const product = extents.reduce<number>((size, extent) => (typeof extent === 'number' ? size * extent : NaN), 1);
  if (Number.isNaN(product)) {
    const shape = shapeText(extents as number[]);
    throw valueError('export a model', 'dimensions that are flattened must be known', phrase(`they are ${shape}`));
  }
  return product;
}

function linear(builder: OnnxBuilder, x: OnnxValue, weight: OnnxValue, bias: OnnxValue | null): OnnxValue {
  const [outputs, inputs] = weight.shape as [number, number];
  builder.checkWidth(x, inputs);
  const shape = [...x.shape.slice(0, -1), outputs];
  if (x.shape.length === 2) return builder.node('Gemm', bias === null ? [x, weight] : [x, weight, bias], shape, { transB: 1 });
  const turned = builder.once(`transposed ${weight.name}`, () => builder.node('Transpose', [weight], [inputs, outputs], { perm: [1, 0] }));
  const product = builder.node('MatMul', [x, turned], shape);
  return bias === null ? product : builder.node('Add', [product, bias], shape);
}

layer(nn.Linear, (builder, { weight, bias }, x) => linear(builder, x, builder.weight(weight), bias === null ? null : builder.weight(bias)));

layer(nn.Embedding, (builder, { weight }, ids) => embedding(builder, builder.weight(weight), ids));

function embedding(builder: OnnxBuilder, weight: OnnxValue, ids: OnnxValue): OnnxValue {
  return builder.nodes('Gather', [weight, ids], [[...ids.shape, weight.shape[1]!]], { axis: 0 }, 'float32')[0]!;
}

layer(nn.ReLU, elementwise('Relu'));
layer(nn.Tanh, elementwise('Tanh'));
layer(nn.GELU, (builder, _, x) => gelu(builder, x));
layer(nn.SiLU, (builder, _, x) => times(builder, x, builder.node('Sigmoid', [x], x.shape)));

// x·(1 + erf(x/√2))/2, which runtimes know to fuse.
function gelu(builder: OnnxBuilder, x: OnnxValue): OnnxValue {
  const inner = builder.node('Erf', [builder.node('Div', [x, scalar(builder, Math.SQRT2)], x.shape)], x.shape);
  const factor = builder.node('Add', [inner, scalar(builder, 1)], x.shape);
  return times(builder, times(builder, x, factor), scalar(builder, 0.5));
}

// What is exported is the model in evaluation: nothing is dropped.
layer(nn.Dropout, (_, __, x) => x);

layer(nn.Flatten, (builder, _, x) => flatten(builder, x));

function flatten(builder: OnnxBuilder, x: OnnxValue): OnnxValue {
  return builder.node('Flatten', [x], [x.shape[0]!, productOf(x.shape.slice(1))], { axis: 1 });
}

layer(nn.Sequential, (builder, { layers }, x) => through(builder, 'layers', layers, x));

layer(nn.Residual, (builder, { inner, shortcut }, x) => {
  const changed = builder.module('inner', inner, x);
  const kept = shortcut === null ? x : builder.module('shortcut', shortcut, x);
  return builder.node('Add', [kept, changed], changed.shape);
});

layer(nn.LayerNorm, (builder, { weight, bias, epsilon }, x) => {
  builder.checkWidth(x, weight.shape[0]!);
  const inputs = [x, builder.weight(weight), ...(bias === null ? [] : [builder.weight(bias)])];
  return builder.node('LayerNormalization', inputs, x.shape, { axis: -1, epsilon: { float: epsilon } });
});

layer(nn.RMSNorm, (builder, { weight, epsilon }, x) => {
  const width = weight.shape[0]!;
  builder.checkWidth(x, width);
  const column = [...x.shape.slice(0, -1), 1];
  const sum = builder.node('ReduceSum', [times(builder, x, x), builder.whole(-1)], column, { keepdims: 1 });
  const mean = builder.node('Div', [sum, scalar(builder, width)], column);
  const root = builder.node('Sqrt', [builder.node('Add', [mean, scalar(builder, epsilon)], column)], column);
  return times(builder, builder.node('Div', [x, root], x.shape), builder.weight(weight));
});

function windows(x: OnnxValue, channels: number, size: readonly [number, number], stride: number, padding: number): OnnxExtent[] {
  const [height, width] = [0, 1].map((axis) => {
    const extent = x.shape[2 + axis]!;
    return typeof extent === 'number' ? Math.floor((extent + 2 * padding - size[axis]!) / stride) + 1 : `${extent}/${stride}`;
  });
  return [x.shape[0]!, channels, height!, width!];
}

layer(nn.Conv2d, (builder, { weight, bias, stride, padding }, x) => {
  const [outputs, , height, width] = weight.shape as [number, number, number, number];
  const inputs = [x, builder.weight(weight), ...(bias === null ? [] : [builder.weight(bias)])];
  return builder.node('Conv', inputs, windows(x, outputs, [height, width], stride, padding), {
    kernel_shape: [height, width],
    strides: [stride, stride],
    pads: [padding, padding, padding, padding],
  });
});

for (const [constructor, operator] of [
  [nn.MaxPool2d, 'MaxPool'],
  [nn.AvgPool2d, 'AveragePool'],
] as const) {
  layer<nn.MaxPool2d | nn.AvgPool2d>(constructor, (builder, { size, stride }, x) =>
    builder.node(operator, [x], windows(x, x.shape[1] as number, [size, size], stride, 0), {
      kernel_shape: [size, size],
      strides: [stride, stride],
    }),
  );
}

layer(nn.GlobalAvgPool2d, (builder, _, x) => globalAvgPool(builder, x));

function globalAvgPool(builder: OnnxBuilder, x: OnnxValue): OnnxValue {
  return flatten(builder, builder.node('GlobalAveragePool', [x], [x.shape[0]!, x.shape[1]!, 1, 1]));
}

layer(nn.CausalSelfAttention, (builder, { qkv, projection, heads, headWidth }, x) => {
  const [batch, tokens] = x.shape as [OnnxExtent, OnnxExtent];
  const inner = heads * headWidth;
  const packed = builder.module('qkv', qkv, x);
  const parts = builder.nodes('Split', [packed, builder.whole(inner, inner, inner)], Array(3).fill([batch, tokens, inner]), { axis: -1 });
  const [q, k, v] = parts.map((part) => builder.node('Reshape', [part, builder.whole(0, 0, heads, headWidth)], [batch, tokens, heads, headWidth])); // prettier-ignore
  const rows = [batch, heads, tokens, headWidth];
  const square = [batch, heads, tokens, tokens];
  const queries = builder.node('Transpose', [q!], rows, { perm: [0, 2, 1, 3] });
  const keys = builder.node('Transpose', [k!], [batch, heads, headWidth, tokens], { perm: [0, 2, 3, 1] });
  const values = builder.node('Transpose', [v!], rows, { perm: [0, 2, 1, 3] });
  const scores = times(builder, builder.node('MatMul', [queries, keys], square), scalar(builder, 1 / Math.sqrt(headWidth)));
  const masked = builder.node('Add', [scores, causalMask(builder, x)], square);
  const weighted = builder.node('MatMul', [builder.node('Softmax', [masked], square, { axis: -1 }), values], rows);
  const side = builder.node('Transpose', [weighted], [batch, tokens, heads, headWidth], { perm: [0, 2, 1, 3] });
  return builder.module('projection', projection, builder.node('Reshape', [side, builder.whole(0, 0, inner)], [batch, tokens, inner]));
});

/** −∞ above the diagonal, 0 elsewhere, for as many tokens as there are. */
function causalMask(builder: OnnxBuilder, x: OnnxValue): OnnxValue {
  const tokens = x.shape[1]!;
  return builder.once(`causal mask ${tokens}`, () => {
    const count = builder.extent(x, 1);
    const both = builder.node('Concat', [count, count], [2], { axis: 0 });
    const full = builder.nodes('Expand', [builder.constant([-Infinity], [1, 1]), both], [[tokens, tokens]])[0]!;
    return builder.node('Trilu', [full, builder.constant([1], [], 'int64')], [tokens, tokens], { upper: 1 });
  });
}

layer(ExitHead, (builder, { norm, output }, x) => {
  const rows = x.shape.length === 4 ? globalAvgPool(builder, x) : x;
  return builder.module('output', output, norm === null ? rows : builder.module('norm', norm, rows));
});

layer(nn.GPTBlock, (builder, { norm1, attention, norm2, up, down }, x) => {
  const attended = builder.module('attention', attention, builder.module('norm1', norm1, x));
  const between = builder.node('Add', [x, attended], x.shape);
  const raised = gelu(builder, builder.module('up', up, builder.module('norm2', norm2, between)));
  return builder.node('Add', [between, builder.module('down', down, raised)], x.shape);
});

model(nn.MLP, (builder, { layers, inputShape }, x) => {
  let value = x.shape.length === 2 ? x : flatten(builder, x);
  builder.checkWidth(value, inputShape[0]!);
  let hidden = value;
  const features: OnnxValue[] = [];
  layers.forEach((each, i) => {
    hidden = value;
    value = builder.module(`layers.${i}`, each, value);
    if (!(each instanceof nn.Linear) && !(each instanceof nn.Dropout)) features.push(value);
  });
  return { logits: value, features, hidden };
});

model(nn.CNN, (builder, { convolutions, pool, hidden: layers, output, inputShape }, x) => {
  const features: OnnxValue[] = [];
  const image = [x.shape[0]!, ...inputShape];
  if (x.shape.length !== 4) builder.checkWidth(x, productOf(inputShape));
  let value = x.shape.length === 4 ? x : builder.node('Reshape', [x, builder.whole(0, ...inputShape)], image);
  convolutions.forEach((each, i) => {
    const convolved = builder.module(`convolutions.${i}`, each, value);
    value = builder.module('pool', pool, builder.node('Relu', [convolved], convolved.shape));
    features.push(value);
  });
  value = flatten(builder, value);
  layers.forEach((each, i) => {
    const raised = builder.module(`hidden.${i}`, each, value);
    value = builder.node('Relu', [raised], raised.shape);
    features.push(value);
  });
  return { logits: builder.module('output', output, value), features, hidden: value };
});

model(nn.GPT, (builder, gpt, ids) => {
  const positions = builder.weight(gpt.positions.weight);
  const width = gpt.hiddenWidth;
  const here = builder.node('Slice', [positions, builder.whole(0), builder.extent(ids, 1), builder.whole(0)], [ids.shape[1]!, width]);
  const tokens = builder.weight(gpt.tokens.weight);
  const embedded = embedding(builder, tokens, ids);
  let value = builder.node('Add', [embedded, here], embedded.shape);
  const features = gpt.blocks.map((block, i) => (value = builder.module(`blocks.${i}`, block, value)));
  const hidden = builder.module('norm', gpt.norm, value);
  return { logits: linear(builder, hidden, builder.weight(gpt.outputWeight), null), features, hidden };
});

/** ln(alpha·softmax(z₁) + (1 − alpha)·softmax(z₂/beta)); see DualHead. */
function mixture(builder: OnnxBuilder, { alpha, beta }: nn.DualHead, first: OnnxValue, second: OnnxValue): OnnxValue {
  const { shape } = first;
  const logSoftmax = (x: OnnxValue): OnnxValue => builder.node('LogSoftmax', [x], shape, { axis: -1 });
  const cooled = builder.node('Div', [second, scalar(builder, beta)], shape);
  if (alpha === 1) return logSoftmax(first);
  if (alpha === 0) return logSoftmax(cooled);
  const a = builder.node('Add', [logSoftmax(first), scalar(builder, Math.log(alpha))], shape);
  const b = builder.node('Add', [logSoftmax(cooled), scalar(builder, Math.log(1 - alpha))], shape);
  return builder.node('Add', [a, builder.node('Softplus', [builder.node('Sub', [b, a], shape)], shape)], shape);
}
