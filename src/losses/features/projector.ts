// The learned map from the student's features to the teacher's width.
import { checkOptions, checkWhole } from '../../check.js';
import type { Device } from '../../device.js';
import { Linear, ReLU } from '../../nn/layers.js';
import { Module } from '../../nn/module.js';
import { deriveSeed } from '../../nn/seed.js';
import { freshSeed } from '../../random.js';
import type { Tensor } from '../../tensor.js';

/** Options of {@link FeatureProjector}. */
export interface FeatureProjectorOptions {
  /** Same seed, same weights, on every device. Default: a fresh one. */
  seed?: number;
  /** Default true. */
  bias?: boolean;
  /** Width of a hidden layer with ReLU; none by default: one matrix. */
  hidden?: number;
  device?: Device;
}

/**
 * P·h of the feature losses: a learned matrix (with a hidden layer where asked for) from the student's width to the teacher's.
 * Its parameters go to the optimiser with the student's; it is thrown away after training.
 *
 * @example
 * const projector = new FeatureProjector(128, 768, { seed: 1 });
 * const optimizer = new optim.AdamW([...student.parameters(), ...projector.parameters()], { learningRate: 1e-3 });
 * const loss = featureMse(hidden, teacherHidden, { projector });
 */
export class FeatureProjector extends Module {
  readonly layers: readonly Module[];

  /**
   * @param studentWidth width of the student's features, at least 1
   * @param teacherWidth width of the teacher's
   */
  constructor(studentWidth: number, teacherWidth: number, options?: FeatureProjectorOptions) {
    super();
    const action = 'make a FeatureProjector';
    const { seed = freshSeed(), bias = true, hidden, device } = checkOptions(action, options, ['seed', 'bias', 'hidden', 'device']);
    checkWhole(action, 'studentWidth', studentWidth, 1, 2 ** 31);
    checkWhole(action, 'teacherWidth', teacherWidth, 1, 2 ** 31);
    if (hidden !== undefined) checkWhole(action, 'hidden', hidden, 1, 2 ** 31);
    const shared = { bias, ...(device === undefined ? {} : { device }) };
    this.layers =
      hidden === undefined
        ? [new Linear(studentWidth, teacherWidth, { ...shared, seed })]
        : [
            new Linear(studentWidth, hidden, { ...shared, seed: deriveSeed(seed, 'hidden') }),
            new ReLU(),
            new Linear(hidden, teacherWidth, { ...shared, seed: deriveSeed(seed, 'output') }),
          ];
  }

  override forward(x: Tensor): Tensor {
    return this.layers.reduce((value, layer) => layer.forward(value), x);
  }
}
