// The same seeded float32 data for every peer, as files: teacher logits ~ 3·N(0,1), student 0.7·teacher + 1.5·N(0,1), and the teacher's
// 64 best with their probabilities at temperature 2, renormalised.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';

export const TEMPERATURE = 2;
export const K = 64;

function generator(seed) {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function gaussians(next, size) {
  const out = new Float32Array(size);
  for (let i = 0; i < size; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(1 - next()));
    const angle = 2 * Math.PI * next();
    out[i] = radius * Math.cos(angle);
    if (i + 1 < size) out[i + 1] = radius * Math.sin(angle);
  }
  return out;
}

/** Writes what is not there yet. */
export function prepare(folder, shapes) {
  mkdirSync(folder, { recursive: true });
  for (const [rows, cols] of shapes) {
    const file = (name) => path.join(folder, `${rows}x${cols}.${name}`);
    if (existsSync(file('probs.f32'))) continue;
    const next = generator(1234 + rows);
    const teacher = gaussians(next, rows * cols).map((value) => 3 * value);
    const student = gaussians(next, rows * cols).map((value, i) => 0.7 * teacher[i] + 1.5 * value);
    const k = Math.min(K, cols);
    const ids = new Int32Array(rows * k);
    const probs = new Float32Array(rows * k);
    for (let r = 0; r < rows; r += 1) {
      const row = teacher.subarray(r * cols, (r + 1) * cols);
      const order = Uint32Array.from(row, (_, i) => i).sort((a, b) => row[b] - row[a] || a - b);
      const e = Float64Array.from(order.subarray(0, k), (id) => Math.exp((row[id] - row[order[0]]) / TEMPERATURE));
      const sum = e.reduce((total, value) => total + value, 0);
      ids.set(order.subarray(0, k), r * k);
      probs.set(
        e.map((value) => value / sum),
        r * k,
      );
    }
    writeFileSync(file('student.f32'), student);
    writeFileSync(file('teacher.f32'), teacher);
    writeFileSync(file('ids.i32'), ids);
    writeFileSync(file('probs.f32'), probs);
  }
}

export function load(folder, rows, cols) {
  const read = (name, Type) => {
    const bytes = readFileSync(path.join(folder, `${rows}x${cols}.${name}`));
    return new Type(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
  };
  return {
    rows,
    cols,
    k: Math.min(K, cols),
    student: read('student.f32', Float32Array),
    teacher: read('teacher.f32', Float32Array),
    ids: read('ids.i32', Int32Array),
    probs: read('probs.f32', Float32Array),
  };
}
