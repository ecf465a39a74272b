// scale_tensors and ema: many tensors in one call give the bits of each by itself, on addresses that are aligned and not.
import { expectClose, expectEqual, expectSameBits, expectThrows } from '../compare.js';
import { normals } from '../random.js';
import { kernel, withMemory, type CaseFile, type Subject } from '../subject.js';

const SHARE = 0.3;

/** Averages after an update towards the parameters; null is no mask. */
function averaged(
  subject: Subject,
  averages: Float32Array[],
  parameters: Float32Array[],
  masks: (Float32Array | null)[],
  share = SHARE,
): Float32Array[] {
  return withMemory(subject, (memory) => {
    const out = averages.map((each, i) => memory.input(each, i % 3));
    const given = parameters.map((each) => memory.input(each));
    const kept = masks.map((each) => (each === null ? null : memory.input(each)));
    const sizes = averages.map(({ length }) => length);
    kernel(subject, 'ema', out, given, kept as never, sizes, share);
    return out.map((each) => memory.read(each));
  });
}

function scaled(subject: Subject, lists: Float32Array[], factor: number): Float32Array[] {
  return withMemory(subject, (memory) => {
    const tensors = lists.map((each, i) => memory.input(each, i % 3));
    kernel(subject, 'scale_tensors', tensors, lists.map(({ length }) => length), factor); // prettier-ignore
    return tensors.map((each) => memory.read(each));
  });
}

/** Empty ones, ones around a block's share, more than one launch takes. */
const lengths = [4097, 0, 1, 12_289, 4096, ...Array.from({ length: 320 }, (_, i) => i % 7)];

export const scale_and_average: CaseFile = {
  op: 'scale_and_average',
  kernels: ['scale_tensors', 'ema'],
  checks: [
    {
      name: 'each tensor by itself, scaled',
      run(subject) {
        const lists = lengths.map((size, i) => normals(i, size, 3));
        const got = scaled(subject, lists, 0.37);
        lists.forEach((list, i) => {
          expectClose(`tensor ${i}`, got[i]!, list.map((v) => Math.fround(0.37) * v), (j) => 6.1e-8 * Math.abs(got[i]![j]!)); // prettier-ignore
          if (i < 9) expectSameBits(`tensor ${i} alone`, scaled(subject, [list], 0.37)[0]!, got[i]!);
        });
        expectEqual('infinities and NaN', scaled(subject, [Float32Array.of(Infinity, NaN, -2)], 0.5)[0]!.join(), 'Infinity,NaN,-1');
      },
    },
    {
      name: 'averages move by their share; masked ones are 0, weights that do not move leave them, a share of 1 is a copy',
      run(subject) {
        const averages = lengths.map((size, i) => normals(i, size));
        const parameters = lengths.map((size, i) => (i % 5 === 4 ? normals(i, size) : normals(1000 + i, size)));
        const masks = lengths.map((size, i) => (i % 2 === 0 ? null : Float32Array.from({ length: size }, (_, j) => Number(j % 3 !== 0))));
        const got = averaged(subject, averages, parameters, masks);
        lengths.forEach((_, i) => {
          const [a, p, kept] = [averages[i]!, parameters[i]!, masks[i]!];
          const exact = Float64Array.from(a, (v, j) => (kept?.[j] === 0 ? 0 : v + Math.fround(SHARE) * (p[j]! - v)));
          expectClose(`tensor ${i}`, got[i]!, exact, (j) => (kept?.[j] === 0 ? 0 : 1.3e-7 * (Math.abs(a[j]!) + Math.abs(p[j]!))));
          if (i % 5 === 4 && kept === null) expectSameBits(`tensor ${i} stays`, got[i]!, a);
          if (i < 9) expectSameBits(`tensor ${i} alone`, averaged(subject, [a], [p], [kept])[0]!, got[i]!);
        });
        averaged(subject, averages, parameters, lengths.map(() => null), 1).forEach((each, i) => expectSameBits(`tensor ${i} copied`, each, parameters[i]!)); // prettier-ignore
      },
    },
    {
      name: 'lists that do not fit are refused',
      run(subject) {
        withMemory(subject, (memory) => {
          const x = memory.input(new Float32Array(4));
          expectThrows(
            'counts',
            () => kernel(subject, 'scale_tensors', [x, x], [4], 2),
            RangeError,
            /tensors must have 1 entries: it has 2/,
          );
          expectThrows('size', () => kernel(subject, 'ema', [x], [x], [null] as never, [1000], 0.5), RangeError, /averages\[0\] must hold 1000 elements/); // prettier-ignore
          expectThrows('share', () => kernel(subject, 'ema', [x], [x], [null] as never, [4], 2), RangeError, /share must be in \[0, 1\]/);
          const ids = memory.input(new Int32Array(4));
          expectThrows('dtype', () => kernel(subject, 'scale_tensors', [ids], [4], 2), TypeError, /tensors\[0\] must be float32/);
        });
      },
    },
  ],
  bench: [],
};
