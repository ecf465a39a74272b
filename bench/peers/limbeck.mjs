// Us, through the public functions: kdLoss, backward and zeroGrad, memory reused by tidy() as in a training loop.
import { K, TEMPERATURE } from './data.mjs';
import { serve, sumAbs, sumOf, sumSquares } from './serve.mjs';

const { captureTopK, crossEntropy, info, kdLoss, softmax, sparseTarget, tensor, tidy, topK } = await import('../../dist/index.js');

const at = { temperature: TEMPERATURE };

/** Loss and gradient; the gradient's memory goes back to the pool for the next call. */
function step(student, loss) {
  student.zeroGrad();
  tidy(() => loss(student).backward());
}

serve({
  name: `limbeck ${info().version} (${info().instructionSet}, ${info().threads} threads)`,
  prepare: ({ rows, cols, k, student, teacher, ids, probs }, sets) =>
    Array.from({ length: sets }, () => ({
      student: tensor(student.slice(), { shape: [rows, cols], requiresGrad: true }),
      plain: null,
      teacher: tensor(teacher.slice(), { shape: [rows, cols] }),
      labels: ids.filter((_, i) => i % k === 0),
      sparse: sparseTarget({
        indices: tensor(ids.slice(), { shape: [rows, k], dtype: 'int32' }),
        probs: tensor(probs.slice(), { shape: [rows, k] }),
        ...at,
        cols,
      }),
    })),
  release: (sets) => {
    for (const set of sets) {
      set.student.dispose();
      set.near?.dispose();
      set.teacher.dispose();
    }
  },
  variants: (task, sets) => {
    const gradient = (loss) => ({
      kdLoss: {
        run: (set) => step(sets[set].student, (student) => loss(student, sets[set])),
        check: () => {
          step(sets[0].student, (student) => loss(student, sets[0]));
          const total = sumAbs(sets[0].student.grad.data);
          sets[0].student.zeroGrad();
          return total;
        },
      },
    });
    const plain = (name, run, check) => ({
      [name]: { run: (set) => tidy(() => void run(sets[set])), check: () => tidy(() => check(run(sets[0]))) },
    });
    if (task.startsWith('near ')) {
      // The student's own noise, a fifteenth of it: the other way through the kernel.
      for (const set of sets)
        set.near ??= tensor(
          set.student.data.map((x, i) => set.teacher.data[i] + (x - 0.7 * set.teacher.data[i]) / 15),
          { shape: set.student.shape, requiresGrad: true },
        );
      const run = (set) => step(sets[set].near, (student) => kdLoss(student, sets[set].teacher, { divergence: task.slice(5), ...at }));
      return { kdLoss: { run } };
    }
    if (task.startsWith('dense ')) return gradient((student, set) => kdLoss(student, set.teacher, { divergence: task.slice(6), ...at }));
    if (task.startsWith('sparse ')) return gradient((student, set) => kdLoss(student, set.sparse, { residual: task.slice(7), ...at }));
    if (task === 'cross-entropy') return gradient((student, set) => crossEntropy(student, set.labels));
    if (task === 'softmax')
      return plain(
        'softmax',
        (set) => softmax(set.teacher, at),
        (y) => sumSquares(y.data),
      );
    // Beside the k best with exact log-probabilities this gives the log-mass of the tail; the others select only.
    if (task === 'top-k') {
      return {
        ...plain(
          'captureTopK',
          (set) => captureTopK(set.teacher, K, at),
          (target) => sumOf(target.indices.data),
        ),
        ...plain(
          'topK',
          (set) => topK(set.teacher, K),
          ({ indices }) => sumOf(indices.data),
        ),
      };
    }
    return undefined;
  },
});
