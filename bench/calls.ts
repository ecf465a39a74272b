// What a call from JavaScript costs: rows so small that the kernel's share of the time is next to nothing.
import { kdLoss, tensor, tidy } from '../src/index.js';
import * as raw from '../src/raw.js';

export interface CallTiming {
  call: string;
  /** Microseconds: the median over batches. */
  microseconds: number;
}

function perCall(call: () => void): number {
  const batches: number[] = [];
  for (let i = 0; i < 20_000; i += 1) call();
  for (let batch = 0; batch < 51; batch += 1) {
    const begin = performance.now();
    for (let i = 0; i < 1000; i += 1) call();
    batches.push(performance.now() - begin);
  }
  return batches.sort((a, b) => a - b)[25] as number;
}

export function benchCalls(): CallTiming[] {
  const values = () => Float32Array.from([1, 2, 3, 4]);
  const [x, t, out] = [values(), values(), { loss: new Float32Array(1), gradient: new Float32Array(4) }];
  const student = tensor(values(), { shape: [1, 4], requiresGrad: true });
  const teacher = tensor(values(), { shape: [1, 4] });
  return [
    { call: 'raw.kdLoss, 1 row of 4', microseconds: perCall(() => void raw.kdLoss(x, t, { rows: 1, cols: 4, temperature: 2, out })) },
    {
      call: 'kdLoss and backward, 1 row of 4',
      microseconds: perCall(() => {
        student.zeroGrad();
        tidy(() => kdLoss(student, teacher, { temperature: 2 }).backward());
      }),
    },
  ];
}
