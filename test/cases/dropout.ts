// Dropout: the mask comes from a counter, so it is known bit for bit and is the same on every device.
import { expectAll, expectClose, expectSameBits, expectThrows, expectTrue } from '../compare.js';
import { normals } from '../random.js';
import { counterUniform, philox } from '../reference.js';
import { kernel, withMemory, type CaseFile, type Subject } from '../subject.js';

function run(subject: Subject, x: Float32Array, probability: number, seed: number, offset: number, shift = 0): Float32Array {
  return withMemory(subject, (memory) => {
    const y = memory.output(Float32Array, x.length, shift);
    kernel(subject, 'dropout', memory.input(x, shift), y, x.length, probability, seed, offset);
    return memory.read(y);
  });
}

export const dropout: CaseFile = {
  op: 'dropout',
  kernels: ['dropout'],
  checks: [
    {
      name: 'the reference generator gives the published words',
      run() {
        expectTrue(
          'Philox4x32-10 of zeros',
          philox([0, 0, 0, 0], [0, 0])
            .map((word) => word.toString(16))
            .join() === '6627e8d5,e169c58d,bc57ac4c,9b00dbd8',
        );
        expectTrue(
          'Philox4x32-10 of ones',
          philox([0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff], [0xffffffff, 0xffffffff])
            .map((word) => word.toString(16))
            .join() === '408f276d,41c83b0e,a20bc7c6,6d5451fd',
        );
      },
    },
    {
      name: 'element by element as the generator says, any size, seed and offset',
      run(subject) {
        for (const [size, probability, seed, offset] of [
          [1, 0.5, 0, 0],
          [33, 0.25, 7, 0],
          [1025, 0.5, 123456789, 3],
          [1027, 0.9, 2 ** 40 + 5, 4097],
          [64, 0.1, 2 ** 53 - 1, 2 ** 33 + 1],
        ] as const) {
          const x = normals(size, size);
          const kept = Float64Array.from(x, (value, i) =>
            counterUniform(seed, offset + i) >= probability ? value / (1 - probability) : 0,
          );
          expectClose(
            `size ${size}, seed ${seed}, offset ${offset}`,
            run(subject, x, probability, seed, offset),
            kept,
            (i) => 3e-7 * Math.abs(kept[i] as number),
          );
        }
      },
    },
    {
      name: 'the share kept and the mean',
      run(subject) {
        const size = 100_000;
        for (const probability of [0.1, 0.5, 0.8]) {
          const y = run(subject, new Float32Array(size).fill(1), probability, 42, 0);
          const kept = y.reduce((count, value) => count + (value === 0 ? 0 : 1), 0) / size;
          const sigma = Math.sqrt((probability * (1 - probability)) / size);
          expectTrue(`kept ${kept} of 1 − ${probability}`, Math.abs(kept - (1 - probability)) <= 5 * sigma);
        }
      },
    },
    {
      name: 'probability 0 copies; a dropped NaN is 0; the same call, the same bits',
      run(subject) {
        const x = normals(3, 77);
        expectSameBits('0', run(subject, x, 0, 1, 0), x);
        const y = run(subject, new Float32Array(1000).fill(NaN), 0.5, 1, 0);
        expectAll('dropped or NaN', y, (value) => Number.isNaN(value) || value === 0, 'NaN or 0');
        expectTrue(
          'some are dropped',
          y.some((value) => value === 0),
        );
        for (const shift of [0, 1, 3]) expectSameBits(`shift ${shift}`, run(subject, x, 0.5, 9, 5, shift), run(subject, x, 0.5, 9, 5));
      },
    },
    {
      name: 'an offset goes on where a call ended',
      run(subject) {
        const x = new Float32Array(100).fill(1);
        const whole = run(subject, x, 0.5, 11, 0);
        for (const cut of [4, 37, 50]) expectSameBits(`from ${cut}`, run(subject, x.slice(cut), 0.5, 11, cut), whole.slice(cut));
      },
    },
    {
      name: 'probabilities outside [0, 1) are refused',
      run(subject) {
        for (const probability of [-0.1, 1, 1.5, NaN])
          expectThrows(
            String(probability),
            () => run(subject, new Float32Array(4), probability, 1, 0),
            RangeError,
            /probability must be in/,
          );
      },
    },
  ],
  bench: [{ rows: 1024, cols: 1024 }],
};
