// The student: a perceptron that sees 64 × 48 pixels around each of the teacher's 40 places, at half the resolution.
import { nn, tensor } from 'limbeck';
import { height, width } from './lines.mjs';

/** The teacher says something every 8 pixels. */
export const steps = width / 8;
const [small, wide, window] = [height / 2, width / 2, 32];
export const inputs = small * window;

/** Windows around each step, [pictures × steps, inputs]. */
export function forStudent(pictures) {
  const values = new Float32Array(pictures.length * steps * inputs);
  pictures.forEach((grey, n) => {
    const half = new Float32Array(small * wide);
    for (let y = 0; y < small; y++)
      for (let x = 0; x < wide; x++) {
        const at = 2 * y * width + 2 * x;
        half[y * wide + x] = (grey[at] + grey[at + 1] + grey[at + width] + grey[at + width + 1]) / 4;
      }
    for (let t = 0; t < steps; t++) {
      const row = (n * steps + t) * inputs;
      const first = 4 * t + 2 - window / 2;
      for (let y = 0; y < small; y++)
        for (let x = Math.max(0, -first); x < window && first + x < wide; x++) values[row + y * window + x] = half[y * wide + first + x];
    }
  });
  return tensor(values, { shape: [pictures.length * steps, inputs] });
}

export function makeStudent(classes, seed) {
  const [a, b, c] = [nn.deriveSeed(seed, 'a'), nn.deriveSeed(seed, 'b'), nn.deriveSeed(seed, 'c')];
  return new nn.Sequential(
    new nn.Linear(inputs, 256, { seed: a }),
    new nn.ReLU(),
    new nn.Linear(256, 96, { seed: b }),
    new nn.ReLU(),
    new nn.Linear(96, classes, { seed: c }),
  );
}
