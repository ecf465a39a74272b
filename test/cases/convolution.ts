// Convolution and pooling of images: windows as lines and back, the largest and the mean of windows.
import { expectClose, expectSameBits, expectThrows, expectTrue } from '../compare.js';
import { integers, normals } from '../random.js';
import { codeOf, kernel, withMemory, type CaseFile, type Subject } from '../subject.js';

interface Shape {
  images: number;
  channels: number;
  height: number;
  width: number;
  kernelHeight: number;
  kernelWidth: number;
  stride: number;
  padding: number;
}

const shape = (...[images, channels, height, width, kernelHeight, kernelWidth, stride, padding]: number[]): Shape =>
  ({ images, channels, height, width, kernelHeight, kernelWidth, stride, padding }) as Shape;

const SHAPES: Shape[] = [
  shape(1, 1, 1, 1, 1, 1, 1, 0),
  shape(2, 3, 7, 6, 3, 3, 1, 1),
  shape(1, 2, 9, 8, 3, 2, 2, 1),
  shape(3, 1, 5, 5, 5, 5, 1, 0),
  shape(1, 2, 8, 11, 2, 3, 3, 0),
  shape(2, 4, 14, 14, 3, 3, 1, 1),
];

const outHeight = (s: Shape): number => Math.floor((s.height + 2 * s.padding - s.kernelHeight) / s.stride) + 1;
const outWidth = (s: Shape): number => Math.floor((s.width + 2 * s.padding - s.kernelWidth) / s.stride) + 1;
const entries = (s: Shape): number => s.channels * s.kernelHeight * s.kernelWidth;
const extents = (s: Shape) => [s.images, s.channels, s.height, s.width, s.kernelHeight, s.kernelWidth, s.stride, s.padding] as const;

/** fn(index among the lines, index of the image's element, or −1 in the padding). */
function eachEntry(s: Shape, fn: (line: number, element: number) => void): void {
  let at = 0;
  for (let n = 0; n < s.images; n++)
    for (let y = 0; y < outHeight(s); y++)
      for (let x = 0; x < outWidth(s); x++)
        for (let c = 0; c < s.channels; c++)
          for (let a = 0; a < s.kernelHeight; a++)
            for (let b = 0; b < s.kernelWidth; b++) {
              const [row, col] = [y * s.stride + a - s.padding, x * s.stride + b - s.padding];
              const isInside = row >= 0 && row < s.height && col >= 0 && col < s.width;
              fn(at++, isInside ? ((n * s.channels + c) * s.height + row) * s.width + col : -1);
            }
}

/** conv2d by its definition, in float64. */
function convolved(x: ArrayLike<number>, weight: ArrayLike<number>, bias: ArrayLike<number>, outputs: number, s: Shape): Float64Array {
  const places = outHeight(s) * outWidth(s);
  const y = new Float64Array(s.images * outputs * places);
  eachEntry(s, (line, element) => {
    const [place, entry] = [Math.floor(line / entries(s)), line % entries(s)];
    const [image, within] = [Math.floor(place / places), place % places];
    for (let o = 0; o < outputs; o++) {
      const to = (image * outputs + o) * places + within;
      if (entry === 0) y[to]! += bias[o] as number;
      if (element >= 0) y[to]! += (x[element] as number) * (weight[o * entries(s) + entry] as number);
    }
  });
  return y;
}

const grad = async (t: { grad: { read(): Promise<unknown> } | null }): Promise<Float32Array> =>
  (await (t.grad as NonNullable<typeof t.grad>).read()) as Float32Array;

const POOLS: [number, number, number, number, number][] = [
  [1, 1, 1, 1, 1],
  [3, 4, 6, 2, 2],
  [2, 7, 5, 3, 1],
  [2, 7, 9, 2, 3],
];

export const convolution: CaseFile = {
  op: 'im2col',
  kernels: ['im2col', 'col2im', 'pool', 'pool_backward', 'transpose'],
  checks: [
    {
      name: 'windows as lines, and their sum back',
      run(subject) {
        for (const s of SHAPES) {
          const x = normals(s.height, s.images * s.channels * s.height * s.width);
          const lines = s.images * outHeight(s) * outWidth(s) * entries(s);
          const expected = new Float32Array(lines);
          eachEntry(s, (line, element) => {
            if (element >= 0) expected[line] = x[element] as number;
          });
          const columns = withMemory(subject, (memory) => {
            const to = memory.output(Float32Array, lines);
            kernel(subject, 'im2col', memory.input(x), to, ...extents(s));
            return memory.read(to);
          });
          expectSameBits(JSON.stringify(s), columns, expected);
          const g = normals(s.width, lines);
          const sums = new Float64Array(x.length);
          eachEntry(s, (line, element) => {
            if (element >= 0) sums[element]! += g[line] as number;
          });
          const back = withMemory(subject, (memory) => {
            const to = memory.output(Float32Array, x.length);
            kernel(subject, 'col2im', memory.input(g), to, ...extents(s));
            return memory.read(to);
          });
          expectClose(`${JSON.stringify(s)}, back`, back, sums, 1e-5);
        }
      },
    },
    {
      name: 'conv2d: values and all three gradients',
      async run({ limbeck, device }) {
        for (const s of SHAPES.slice(1, 4)) {
          const outputs = 3;
          const [xs, ws, bs] = [
            normals(1, s.images * s.channels * s.height * s.width),
            normals(2, outputs * entries(s)),
            normals(3, outputs),
          ];
          const make = (data: Float32Array, extent: number[]) =>
            limbeck.tensor(data.slice(), { shape: extent, device, requiresGrad: true });
          const x = make(xs, [s.images, s.channels, s.height, s.width]);
          const weight = make(ws, [outputs, s.channels, s.kernelHeight, s.kernelWidth]);
          const bias = make(bs, [outputs]);
          const y = limbeck.conv2d(x, weight, bias, { stride: s.stride, padding: s.padding });
          const expected = convolved(xs, ws, bs, outputs, s);
          expectTrue('shape', y.shape.join() === [s.images, outputs, outHeight(s), outWidth(s)].join());
          expectClose('y', (await y.read()) as Float32Array, expected, 2e-5);
          const g = normals(4, y.size);
          y.backward(limbeck.tensor(g.slice(), { shape: y.shape, device }));
          // y is linear in each argument: its gradient is the sum of g times what that argument's unit vectors give.
          const slope = (of: 'x' | 'w' | 'b', i: number): number => {
            const zero = (like: Float32Array): Float32Array => new Float32Array(like.length);
            const unit = (like: Float32Array): Float32Array => zero(like).fill(1, i, i + 1);
            const arguments_ =
              of === 'x'
                ? ([unit(xs), ws, zero(bs)] as const)
                : of === 'w'
                  ? ([xs, unit(ws), zero(bs)] as const)
                  : ([zero(xs), ws, unit(bs)] as const);
            return convolved(...arguments_, outputs, s).reduce((sum, v, j) => sum + v * (g[j] as number), 0);
          };
          for (const [name, tensor, size] of [
            ['x', x, xs.length],
            ['w', weight, ws.length],
            ['b', bias, bs.length],
          ] as const) {
            const actual = await grad(tensor);
            const some = Array.from(integers(size, Math.min(size, 12), 0, size));
            expectClose(
              `∂${name}`,
              some.map((i) => actual[i] as number),
              some.map((i) => slope(name, i)),
              5e-5,
            );
          }
        }
      },
    },
    ...(['max', 'mean'] as const).map((name) => ({
      name: `${name} of windows, forward and backward`,
      run(subject: Subject) {
        for (const [planes, height, width, size, stride] of POOLS) {
          const x = normals(height, planes * height * width);
          // Equals: the first is the one.
          if (x.length > 4) x[1] = x[0] as number;
          const [rows, cols] = [Math.floor((height - size) / stride) + 1, Math.floor((width - size) / stride) + 1];
          const pooled = planes * rows * cols;
          const y = new Float64Array(pooled);
          const g = normals(width, pooled);
          const back = new Float64Array(x.length);
          for (let i = 0; i < pooled; i++) {
            const [plane, row, col] = [Math.floor(i / (rows * cols)), Math.floor(i / cols) % rows, i % cols];
            const window: number[] = [];
            for (let a = 0; a < size; a++)
              for (let b = 0; b < size; b++) window.push((plane * height + row * stride + a) * width + col * stride + b);
            const values = window.map((at) => x[at] as number);
            if (name === 'max') {
              y[i] = Math.max(...values);
              back[window[values.indexOf(y[i] as number)] as number]! += g[i] as number;
            } else {
              y[i] = values.reduce((sum, v) => sum + v, 0) / values.length;
              for (const at of window) back[at]! += (g[i] as number) / values.length;
            }
          }
          withMemory(subject, (memory) => {
            const to = memory.output(Float32Array, pooled);
            const places = name === 'max' ? memory.output(Int32Array, pooled) : null;
            const code = codeOf(subject.native, 'pool_function', name);
            kernel(subject, 'pool', memory.input(x), to, places, planes, height, width, size, stride, code);
            expectClose(`${height}×${width}`, memory.read(to), y, 1e-6);
            const gradient = memory.output(Float32Array, x.length);
            kernel(subject, 'pool_backward', memory.input(g), places, gradient, planes, height, width, size, stride, code);
            expectClose(`${height}×${width}, backward`, memory.read(gradient), back, 1e-5);
          });
        }
      },
    })),
    {
      name: 'NaN is the largest of its window; windows that do not fit are refused',
      async run({ limbeck, device }) {
        const x = limbeck.tensor(Float32Array.of(1, NaN, 3, 4), { shape: [1, 1, 2, 2], device });
        expectTrue('NaN', Number.isNaN(((await limbeck.maxPool2d(x, { size: 2 }).read()) as Float32Array)[0]));
        expectThrows('pool', () => limbeck.maxPool2d(x, { size: 3 }), RangeError, /window must fit the image/);
        const weight = limbeck.zeros([1, 1, 5, 5], { device });
        expectThrows('conv', () => limbeck.conv2d(x, weight), RangeError, /window must fit the padded image/);
        expectThrows('channels', () => limbeck.conv2d(x, limbeck.zeros([1, 2, 1, 1], { device })), RangeError, /weight must have shape/);
        expectTrue('mean of planes', (await limbeck.globalAvgPool2d(limbeck.ones([2, 3, 4, 4], { device })).read())[5] === 1);
      },
    },
    {
      name: 'transpose, every side of a tile',
      run(subject) {
        for (const [batch, rows, cols] of [
          [1, 1, 1],
          [2, 3, 5],
          [3, 33, 31],
          [1, 32, 64],
          [2, 65, 1],
          [0, 3, 4],
        ] as const) {
          const x = normals(rows, batch * rows * cols);
          const expected = Float32Array.from(x, (_, i) => {
            const [plane, within] = [Math.floor(i / (rows * cols)), i % (rows * cols)];
            return x[plane * rows * cols + (within % rows) * cols + Math.floor(within / rows)] as number;
          });
          const y = withMemory(subject, (memory) => {
            const to = memory.output(Float32Array, x.length);
            kernel(subject, 'transpose', memory.input(x), to, batch, rows, cols);
            return memory.read(to);
          });
          expectSameBits(`${batch}×${rows}×${cols}`, y, expected);
        }
      },
    },
  ],
  bench: [{ rows: 1024, cols: 1024 }],
};
