// Plain JavaScript over typed arrays: what a user writes by hand, with its output memory made once.
import { TEMPERATURE as T } from './data.mjs';
import { serve, sumAbs, sumOf, sumSquares } from './serve.mjs';

function maximum(x, from, to) {
  let max = -Infinity;
  for (let i = from; i < to; i += 1) if (x[i] > max) max = x[i];
  return max;
}

function softmax(x, { rows, cols }, out) {
  for (let r = 0; r < rows; r += 1) {
    const from = r * cols;
    const max = maximum(x, from, from + cols);
    let sum = 0;
    for (let i = from; i < from + cols; i += 1) sum += out[i] = Math.exp((x[i] - max) / T);
    for (let i = from; i < from + cols; i += 1) out[i] /= sum;
  }
}

function forwardKl(student, teacher, { rows, cols }, gradient, es, et) {
  let loss = 0;
  for (let r = 0; r < rows; r += 1) {
    const from = r * cols;
    const ms = maximum(student, from, from + cols);
    const mt = maximum(teacher, from, from + cols);
    let ss = 0;
    let st = 0;
    for (let j = 0; j < cols; j += 1) {
      ss += es[j] = Math.exp((student[from + j] - ms) / T);
      st += et[j] = Math.exp((teacher[from + j] - mt) / T);
    }
    const shift = Math.log(ss) - Math.log(st) + (ms - mt) / T;
    for (let j = 0; j < cols; j += 1) {
      const p = et[j] / st;
      loss += p * ((teacher[from + j] - student[from + j]) / T + shift);
      gradient[from + j] = ((es[j] / ss - p) * T) / rows;
    }
  }
  return (loss * T * T) / rows;
}

function sparse(student, { rows, cols, k, ids, probs }, gradient) {
  let loss = 0;
  for (let r = 0; r < rows; r += 1) {
    const from = r * cols;
    const max = maximum(student, from, from + cols);
    let sum = 0;
    for (let i = from; i < from + cols; i += 1) sum += gradient[i] = Math.exp((student[i] - max) / T);
    const scale = T / (sum * rows);
    for (let i = from; i < from + cols; i += 1) gradient[i] *= scale;
    for (let j = r * k; j < (r + 1) * k; j += 1) {
      const p = probs[j];
      if (p > 0) loss += p * (Math.log(p) - (student[from + ids[j]] - max) / T + Math.log(sum));
      gradient[from + ids[j]] -= (p * T) / rows;
    }
  }
  return (loss * T * T) / rows;
}

function topK(x, { rows, cols, k }, values, ids) {
  const heap = new Float32Array(k);
  const places = new Int32Array(k);
  const sift = (start, length) => {
    const value = heap[start];
    const place = places[start];
    let i = start;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= length) break;
      const next = child + 1;
      if (next < length && (heap[next] < heap[child] || (heap[next] === heap[child] && places[next] > places[child]))) child = next;
      if (heap[child] > value || (heap[child] === value && places[child] < place)) break;
      heap[i] = heap[child];
      places[i] = places[child];
      i = child;
    }
    heap[i] = value;
    places[i] = place;
  };
  for (let r = 0; r < rows; r += 1) {
    const from = r * cols;
    for (let j = 0; j < k; j += 1) {
      heap[j] = x[from + j];
      places[j] = j;
    }
    for (let i = (k >> 1) - 1; i >= 0; i -= 1) sift(i, k);
    for (let j = k; j < cols; j += 1) {
      if (x[from + j] <= heap[0]) continue;
      heap[0] = x[from + j];
      places[0] = j;
      sift(0, k);
    }
    for (let end = k - 1; end >= 0; end -= 1) {
      values[r * k + end] = heap[0];
      ids[r * k + end] = places[0];
      heap[0] = heap[end];
      places[0] = places[end];
      sift(0, end);
    }
  }
}

serve({
  name: 'plain JavaScript',
  prepare: (data, sets) => ({
    sets: Array.from({ length: sets }, () => ({ student: data.student.slice(), teacher: data.teacher.slice() })),
    out: new Float32Array(data.rows * data.cols),
    es: new Float64Array(data.cols),
    et: new Float64Array(data.cols),
    values: new Float32Array(data.rows * data.k),
    ids: new Int32Array(data.rows * data.k),
  }),
  variants: (task, { sets, out, es, et, values, ids }, data) => {
    const one = (run, check) => ({ loops: { run: (set) => run(sets[set]), check: () => (run(sets[0]), check()) } });
    if (task === 'dense forward_kl')
      return one(
        (set) => forwardKl(set.student, set.teacher, data, out, es, et),
        () => sumAbs(out),
      );
    if (task === 'sparse renormalize')
      return one(
        (set) => sparse(set.student, data, out),
        () => sumAbs(out),
      );
    if (task === 'softmax')
      return one(
        (set) => softmax(set.teacher, data, out),
        () => sumSquares(out),
      );
    if (task === 'top-k')
      return one(
        (set) => topK(set.teacher, data, values, ids),
        () => sumOf(ids),
      );
    return undefined;
  },
});
