// Lion with decay, gradient scale and a mask, over several steps.
import { expectAll, expectClose, expectTrue } from '../compare.js';
import { normals } from '../random.js';
import { lion as reference, type LionOptions } from '../reference.js';
import { kernel, withMemory, type CaseFile, type Subject } from '../subject.js';
import { listChecks } from './many_tensors.js';

function step(subject: Subject, lists: (Float32Array | null)[], size: number, o: LionOptions): void {
  const numbers = [o.learningRate, o.beta1, o.beta2, o.weightDecay, o.gradientScale];
  kernel(subject, 'lion', ...lists.map((each) => [each]), [size], ...numbers);
}

function check(subject: Subject, size: number, o: LionOptions, masked: boolean): void {
  withMemory(subject, (memory) => {
    const start = normals(size, size);
    const mask = masked ? Float32Array.from({ length: size }, (_, i) => (i % 3 === 0 ? 0 : 1)) : undefined;
    const [parameter, momentum] = [memory.input(start), memory.input(new Float32Array(size))];
    const onDevice = mask === undefined ? null : memory.input(mask);
    const p = Float64Array.from(start);
    const m = new Float64Array(size);
    for (let i = 0; i < 5; i++) {
      const gradient = normals(size + i, size, 0.3);
      step(subject, [parameter, memory.input(gradient), momentum, onDevice], size, o);
      for (let j = 0; j < size; j++) [p[j], m[j]] = reference(p[j]!, gradient[j]!, m[j]!, mask?.[j] ?? 1, o);
    }
    expectClose(`size ${size}`, memory.read(parameter), p, (i) => 3e-6 * (1 + Math.abs(p[i]!)));
    expectClose(`size ${size}, momentum`, memory.read(momentum), m, 2e-6);
    const held = memory.read(parameter).filter((_, i) => mask?.[i] === 0);
    expectAll('masked', held, (value) => value === 0, 'exactly 0');
    expectTrue('as many as the mask says are held', held.length === (masked ? Math.ceil(size / 3) : 0));
  });
}

const PLAIN: LionOptions = { learningRate: 1e-2, beta1: 0.9, beta2: 0.99, weightDecay: 0, gradientScale: 1 };

export const lion: CaseFile = {
  op: 'lion',
  kernels: ['lion'],
  checks: [
    {
      name: 'with and without decay, scale and mask',
      run(subject) {
        for (const size of [1, 7, 33, 1025, 4097])
          for (const options of [PLAIN, { ...PLAIN, weightDecay: 0.1, gradientScale: 0.125 }, { ...PLAIN, beta1: 0 }])
            for (const masked of [false, true]) check(subject, size, options, masked);
      },
    },
    {
      name: 'a gradient of 0 leaves the weight where it is, one that is not finite makes it NaN',
      run(subject) {
        withMemory(subject, (memory) => {
          const start = Float32Array.of(1, 2, 3, 4, 5);
          const [parameter, momentum] = [memory.input(start), memory.input(new Float32Array(5))];
          step(subject, [parameter, memory.input(Float32Array.of(0, -1, NaN, Infinity, -Infinity)), momentum, null], 5, PLAIN);
          expectClose('weights', memory.read(parameter), [1, 2.01, NaN, NaN, NaN], 1e-6);
        });
      },
    },
    ...listChecks({ op: 'lion', buffers: 1, numbers: [0.01, 0.9, 0.99, 0.1, 0.5] }),
  ],
  bench: [{ rows: 1024, cols: 1024 }],
};
