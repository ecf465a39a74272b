// AdamW with bias correction, decoupled decay and a mask, over several steps.
import { expectAll, expectClose, expectThrows } from '../compare.js';
import { normals } from '../random.js';
import { adamw as reference, type AdamWOptions } from '../reference.js';
import { listChecks } from './many_tensors.js';
import { kernel, withMemory, type CaseFile, type Subject } from '../subject.js';

function check(subject: Subject, size: number, first: number, options: Omit<AdamWOptions, 'step'>, masked: boolean): void {
  withMemory(subject, (memory) => {
    const start = normals(size, size);
    const mask = masked ? Float32Array.from({ length: size }, (_, i) => (i % 3 === 0 ? 0 : 1)) : undefined;
    const parameter = memory.input(start);
    const firstMoment = memory.input(new Float32Array(size));
    const secondMoment = memory.input(new Float32Array(size));
    const onDevice = mask === undefined ? null : memory.input(mask);
    const p = Float64Array.from(start);
    const m = new Float64Array(size);
    const v = new Float64Array(size);
    for (let step = first; step < first + 5; step++) {
      const gradient = normals(size + step, size, 0.3);
      const o = { ...options, step };
      kernel(
        subject,
        'adamw',
        [parameter],
        [memory.input(gradient)],
        [firstMoment],
        [secondMoment],
        [onDevice],
        [size],
        o.learningRate,
        o.beta1,
        o.beta2,
        o.epsilon,
        o.weightDecay,
        step,
        o.gradientScale,
      );
      for (let i = 0; i < size; i++)
        [p[i], m[i], v[i]] = reference(p[i] as number, gradient[i] as number, m[i] as number, v[i] as number, mask?.[i] ?? 1, o) as [
          number,
          number,
          number,
        ];
    }
    expectClose(`size ${size}`, memory.read(parameter), p, (i) => 5e-6 * (1 + Math.abs(p[i] as number)));
    expectClose(`size ${size}, first moment`, memory.read(firstMoment), m, 2e-6);
    expectClose(`size ${size}, second moment`, memory.read(secondMoment), v, (i) => 2e-6 * (v[i] as number) + 1e-12);
    if (mask !== undefined)
      expectAll(
        'masked',
        memory.read(parameter).filter((_, i) => i % 3 === 0),
        (value) => value === 0,
        'exactly 0',
      );
  });
}

const PLAIN = { learningRate: 1e-2, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.01, gradientScale: 1 };

export const adamw: CaseFile = {
  op: 'adamw',
  kernels: ['adamw'],
  checks: [
    {
      name: 'from the first step and from a late one, with decay, scale and mask',
      run(subject) {
        for (const size of [1, 7, 33, 1025, 4097])
          for (const options of [
            PLAIN,
            { ...PLAIN, weightDecay: 0, gradientScale: 0.125 },
            { ...PLAIN, beta1: 0, beta2: 0.95, epsilon: 1e-3 },
          ])
            for (const masked of [false, true]) for (const first of [1, 1000]) check(subject, size, first, options, masked);
      },
    },
    {
      name: 'steps count from 1',
      run(subject) {
        withMemory(subject, (memory) => {
          const part = (): Float32Array[] => [memory.input(new Float32Array(4))];
          expectThrows(
            'step 0',
            () => kernel(subject, 'adamw', part(), part(), part(), part(), [null], [4], 0.1, 0.9, 0.999, 1e-8, 0, 0, 1),
            RangeError,
            /step must be a whole number of at least 1/,
          );
        });
      },
    },
    ...listChecks({ op: 'adamw', buffers: 2, numbers: [0.01, 0.9, 0.999, 1e-8, 0.01, 3, 0.5] }),
  ],
  bench: [{ rows: 1024, cols: 1024 }],
};
