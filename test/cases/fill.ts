// One value everywhere.
import { expectAll, expectThrows } from '../compare.js';
import { kernel, withMemory, type CaseFile } from '../subject.js';

export const fill: CaseFile = {
  op: 'fill',
  kernels: ['fill'],
  checks: [
    {
      name: 'float32 and int32, every size, bases off an aligned address',
      run(subject) {
        for (const size of [0, 1, 7, 33, 1025, 100_003])
          for (const type of [Float32Array, Int32Array])
            withMemory(subject, (memory) => {
              const y = memory.output<Float32Array | Int32Array>(type as never, size, size % 3);
              kernel(subject, 'fill', y, size, -3);
              expectAll(`size ${size}`, memory.read(y), (value) => value === -3, '−3');
            });
        withMemory(subject, (memory) => {
          const y = memory.output(Float32Array, 5);
          kernel(subject, 'fill', y, 5, NaN);
          expectAll('NaN', memory.read(y), Number.isNaN, 'NaN');
        });
      },
    },
    {
      name: 'a tensor too small is refused',
      run(subject) {
        withMemory(subject, (memory) =>
          expectThrows(
            'too small',
            () => kernel(subject, 'fill', memory.output(Float32Array, 5), 5000, 0),
            RangeError,
            /y must hold 5000 elements/,
          ),
        );
      },
    },
  ],
  bench: [{ rows: 1024, cols: 1024 }],
};
