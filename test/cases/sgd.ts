// SGD with momentum, Nesterov, weight decay and a mask, over several steps.
import { expectAll, expectClose, expectSameBits, expectThrows } from '../compare.js';
import { normals } from '../random.js';
import { sgd as reference, type SgdOptions } from '../reference.js';
import { listChecks } from './many_tensors.js';
import { kernel, withMemory, type CaseFile, type Subject } from '../subject.js';

const STEPS = 5;

function check(subject: Subject, size: number, o: SgdOptions, masked: boolean, buffered: boolean): void {
  withMemory(subject, (memory) => {
    const start = normals(size, size);
    const mask = masked ? Float32Array.from({ length: size }, (_, i) => (i % 3 === 0 ? 0 : 1)) : undefined;
    const parameter = memory.input(start);
    const velocity = buffered ? memory.input(new Float32Array(size)) : null;
    const onDevice = mask === undefined ? null : memory.input(mask);
    const p = Float64Array.from(start);
    const v = new Float64Array(size);
    for (let step = 0; step < STEPS; step++) {
      const gradient = normals(size + step, size);
      kernel(
        subject,
        'sgd',
        [parameter],
        [memory.input(gradient)],
        [velocity],
        [onDevice],
        [size],
        o.learningRate,
        o.momentum,
        o.weightDecay,
        o.nesterov,
        o.gradientScale,
      );
      for (let i = 0; i < size; i++)
        [p[i], v[i]] = reference(p[i] as number, gradient[i] as number, v[i] as number, mask?.[i] ?? 1, o) as [number, number];
    }
    // Five steps of a few roundings each.
    expectClose(`size ${size}`, memory.read(parameter), p, (i) => 3e-6 * (1 + Math.abs(p[i] as number)));
    if (velocity !== null) expectClose(`size ${size}, velocity`, memory.read(velocity), v, (i) => 3e-6 * (1 + Math.abs(v[i] as number)));
    if (mask !== undefined)
      expectAll(
        'masked',
        memory.read(parameter).filter((_, i) => i % 3 === 0),
        (value) => value === 0,
        'exactly 0',
      );
  });
}

const PLAIN: SgdOptions = { learningRate: 0.1, momentum: 0, weightDecay: 0, nesterov: false, gradientScale: 1 };

export const sgd: CaseFile = {
  op: 'sgd',
  kernels: ['sgd'],
  checks: [
    {
      name: 'plain, momentum, Nesterov, weight decay, gradient scale, mask',
      run(subject) {
        for (const size of [1, 7, 33, 1025, 4097])
          for (const options of [
            PLAIN,
            { ...PLAIN, weightDecay: 0.01, gradientScale: 0.25 },
            { ...PLAIN, momentum: 0.9 },
            { ...PLAIN, momentum: 0.9, nesterov: true, weightDecay: 1e-3, gradientScale: 2 },
          ])
            for (const masked of [false, true]) {
              check(subject, size, options, masked, true);
              if (options.momentum === 0) check(subject, size, options, masked, false);
            }
      },
    },
    {
      name: 'masked elements stay exactly 0 whatever their gradient',
      run(subject) {
        withMemory(subject, (memory) => {
          const parameter = memory.input(Float32Array.of(5, 6, 7, 8));
          const velocity = memory.input(Float32Array.of(1, 1, 1, 1));
          kernel(
            subject,
            'sgd',
            [parameter],
            [memory.input(Float32Array.of(NaN, 1, Infinity, 1))],
            [velocity],
            [memory.input(Float32Array.of(0, 1, 0, 1))],
            [4],
            0.5,
            0.9,
            0.1,
            false,
            1,
          );
          const p = memory.read(parameter);
          expectSameBits('masked', Float32Array.of(p[0] as number, p[2] as number), new Float32Array(2));
          expectAll('the others', [p[1] as number, p[3] as number], Number.isFinite, 'finite');
        });
      },
    },
    {
      name: 'momentum needs its buffer',
      run(subject) {
        withMemory(subject, (memory) =>
          expectThrows(
            'no buffer',
            () =>
              kernel(
                subject,
                'sgd',
                [memory.input(new Float32Array(4))],
                [memory.input(new Float32Array(4))],
                [null],
                [null],
                [4],
                0.1,
                0.9,
                0,
                false,
                1,
              ),
            TypeError,
            /momentum_buffers must be given/,
          ),
        );
      },
    },
    ...listChecks({ op: 'sgd', buffers: 1, numbers: [0.1, 0.9, 0.01, 1, 0.5] }),
  ],
  bench: [{ rows: 1024, cols: 1024 }],
};
